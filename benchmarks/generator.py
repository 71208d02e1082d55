"""FaPE-GAN's images a second, in training and in synthesis, float32 against bfloat16.

python -m benchmarks.generator                       # 64 pixels, both recipes
python -m benchmarks.generator --image_size=128 --channels=64 --recipes=[paper]
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.config import parse, run_command

POLICIES = ("float32", "mixed_bfloat16")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures FaPE-GAN's speed on random images.

    Attributes:
      image_size: side of the images, pixels.
      channels: channels of the widest maps.
      batch_size: images in a step.
      recipes: which recipes, paper and best.
      repeats: how often each side runs, in turn.
      threads: threads of TensorFlow; 0 for as many as there are cores.
    """

    image_size: int = 64
    channels: int = 32
    batch_size: int = 16
    recipes: list[str] = field(default_factory=lambda: ["paper", "best"])
    repeats: int = 7
    threads: int = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints a table."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.generator", description=__doc__)
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(config.threads)
    tf.config.threading.set_inter_op_parallelism_threads(config.threads)
    machine = f"{platform.platform()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    print(f"{machine}; {config.image_size} pixels, {config.channels} channels, batches of {config.batch_size}")
    print("CPU seconds, median of alternating runs; a second of one core where TensorFlow has one thread\n")
    print("| recipe | what | float32, images/s | bfloat16, images/s | ratio |\n| --- | --- | --- | --- | --- |")
    for recipe in config.recipes:
        for what, seconds in measure(config, recipe).items():
            full, half = (config.batch_size / statistics.median(seconds[policy]) for policy in POLICIES)
            print(f"| {recipe} | {what} | {full:.1f} | {half:.1f} | {half / full:.2f} |", flush=True)
    return 0


def measure(config: BenchmarkConfig, recipe: str) -> dict[str, dict[str, list[float]]]:
    """Returns the CPU seconds of each run of training and of synthesis, by format."""
    sides = {policy: _sides(config, recipe, policy) for policy in POLICIES}
    seconds: dict[str, dict[str, list[float]]] = {
        what: {policy: [] for policy in POLICIES} for what in sides[POLICIES[0]]
    }
    for repeat in range(config.repeats + 1):
        for policy in POLICIES:
            for what, step in sides[policy].items():
                start = time.process_time()
                step()
                # The first run traces the graph.
                if repeat:
                    seconds[what][policy].append(time.process_time() - start)
    return seconds


def _sides(config: BenchmarkConfig, recipe: str, policy: str) -> dict[str, Callable[[], Any]]:
    """Returns one step of training and one of synthesis in a format."""
    import tensorflow as tf

    from fer_tf.models.precision import dtype_policy
    from trainer import fape_gan
    from trainer.config import GanOptions

    options = GanOptions(recipe=recipe, image_size=config.image_size, channels=config.channels)
    with dtype_policy(policy):
        gan = fape_gan.build(options, 0)
        gan.compile()
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.image_size, config.image_size)
    faces = {name: tf.constant(rng.uniform(-1, 1, (*shape, 3)), tf.float32) for name in ("source", "target")}
    batch = {**faces, "mask": tf.constant(rng.uniform(0, 1, (*shape, 1)), tf.float32)}
    train, generate = tf.function(gan.train_step), tf.function(gan)
    return {"training": lambda: train(batch), "synthesis": lambda: generate(batch)}


if __name__ == "__main__":
    sys.exit(run_command(main))
