"""What a training step takes of a GPU's memory, calculated from the networks' layers, and on a CPU measured beside it.

python -m benchmarks.gpu_memory                   # the table of docs/gpu.md, in seconds
python -m benchmarks.gpu_memory --measure=true    # and the growth of a process's memory with the batch, in minutes

Calculated are weights, gradients and optimizer slots (float32 always), and for each image every layer's output, which
the backward pass needs again, and the largest one's gradient. What CUDA, cuDNN and XLA take for themselves is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fer_tf.config import EXIT_OK, parse, run_command

MIB = 2**20
# Of a GPU's memory, for activations and weights: the rest is CUDA's context, cuDNN's work space and fragmentation.
USABLE = 0.8
GPUS = {"8 GB": 8e9, "16 GB": 16e9, "24 GB": 24e9, "80 GB": 80e9}


@dataclass(frozen=True)
class BenchmarkConfig:
    """Calculates a training step's memory.

    Attributes:
      measure: also trains a few steps on this CPU at two batch sizes, each in a process of its own.
      batches: the two batch sizes that are measured.
    """

    measure: bool = False
    batches: tuple[int, int] = (32, 96)


@dataclass(frozen=True)
class Step:
    """A training step's memory.

    Attributes:
      fixed: bytes whatever the batch.
      image: bytes for each image of the batch.
      batch: the recipe's batch size.
    """

    fixed: int
    image: int
    batch: int

    @property
    def total(self) -> int:
        """Bytes at the recipe's batch size."""
        return self.fixed + self.batch * self.image

    def largest_batch(self, memory: float) -> int:
        """Returns the largest power of two of images that fits a GPU of that many bytes; 0 when none does."""
        images = int((memory * USABLE - self.fixed) // self.image)
        return 1 << (images.bit_length() - 1) if images > 0 else 0


def step_of(networks: Iterable[tuple[Any, int]], batch: int, bytes_each: int, slots: int) -> Step:
    """Returns a step's memory.

    Args:
      networks: Keras models with how often the step keeps the layers' outputs of one image.
      batch: images in a step.
      bytes_each: of an activation, 4 in float32 and 2 in mixed formats.
      slots: numbers that the optimizer keeps for each weight.
    """
    fixed = image = largest = 0
    for model, passes in networks:
        fixed += 4 * model.count_params() * (2 + slots)
        sizes = [_elements(output) for layer in model.layers for output in _outputs(layer)]
        image += bytes_each * passes * sum(sizes)
        largest = max(largest, bytes_each * passes * max(sizes))
    return Step(fixed, image + largest, batch)


def _outputs(layer: Any) -> list[Any]:
    return layer.output if isinstance(layer.output, list) else [layer.output]


def _elements(output: Any) -> int:
    count = 1
    for side in output.shape[1:]:
        count *= side
    return count


def steps() -> dict[str, tuple[Step, Step]]:
    """Returns what each recipe's step takes, in float32 and in a mixed format, by what a person calls it."""
    from fer_tf.models import fape_gan
    from fer_tf.models.light_cnn import light_cnn
    from trainer.fape_gan import SCHEDULES

    found = {}
    for variant, size in (("light_cnn_9", 44), ("light_cnn_9", 128), ("light_cnn_29", 128)):
        model = light_cnn(variant, 54, size)
        # AdamW's two slots and the averaged weights.
        found[f"Fa-Net, {variant}, {size} pixels"] = _both([(model, 1)], 128, 3)
    for recipe in fape_gan.RECIPES:
        schedule = SCHEDULES[recipe]
        spec = fape_gan.spec_of(recipe, schedule.image_size, schedule.channels)
        # The discriminator sees real and generated faces together.
        networks = [(fape_gan.generator(spec), 1), (fape_gan.discriminator(spec), 2)]
        found[f"FaPE-GAN, {recipe}, {spec.image_size} pixels"] = _both(networks, schedule.batch_size, 2)
    return found


def _both(networks: list[tuple[Any, int]], batch: int, slots: int) -> tuple[Step, Step]:
    return step_of(networks, batch, 4, slots), step_of(networks, batch, 2, slots)


def measured(variant: str, size: int, batches: Sequence[int]) -> float:
    """Returns by how many bytes an image of the batch enlarges a process that trains in float32 on this CPU."""
    peaks = []
    for batch in batches:
        command = [sys.executable, "-c", _STEPS, json.dumps([variant, size, batch])]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return (peaks[1] - peaks[0]) / (batches[1] - batches[0])


_STEPS = """
import json, resource, sys
import keras, numpy as np
from fer_tf.models.light_cnn import light_cnn
variant, size, batch = json.loads(sys.argv[1])
model = light_cnn(variant, 54, size)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.AdamW(use_ema=True), loss, jit_compile=False)
for _ in range(3):
    model.train_on_batch(np.zeros((batch, size, size, 1), "float32"), np.zeros(batch, int))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.gpu_memory", description=__doc__ or "")
    heads = ["a step of", "batch", "float32", "mixed", "an image, float32 / mixed"]
    print(_row(*heads, f"largest batch, mixed, on {', '.join(GPUS)}"))
    print("|---|---|---|---|---|---|")
    for name, (plain, mixed) in steps().items():
        fitting = ", ".join(str(mixed.largest_batch(memory)) for memory in GPUS.values())
        totals = [f"{step.total / 1e9:.2f} GB" for step in (plain, mixed)]
        print(_row(name, plain.batch, *totals, f"{plain.image / MIB:.1f} / {mixed.image / MIB:.1f} MiB", fitting))
    if config.measure:
        for variant, size in (("light_cnn_9", 44), ("light_cnn_9", 128)):
            calculated = steps()[f"Fa-Net, {variant}, {size} pixels"][0].image
            real = measured(variant, size, config.batches)
            print(
                f"{variant}, {size} pixels, float32: an image takes {real / MIB:.2f} MiB more, measured on this CPU; "
                f"calculated {calculated / MIB:.2f} MiB, ratio {real / calculated:.2f}"
            )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
