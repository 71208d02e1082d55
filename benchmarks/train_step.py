"""Images a second of Fa-Net's training step: float32 and bfloat16, XLA on and off, fused and plain batch norm.

python -m benchmarks.train_step                      # LightCNN-9 at 44 and 128 pixels, about 5 minutes on two cores
python -m benchmarks.train_step --image_sizes=[128] --rounds=5
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_tf.config import EXIT_OK, parse, run_command


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the training step.

    Attributes:
      variant: the backbone.
      image_sizes: sides of the input, pixels.
      batch_size: images in a step.
      rounds: how often each side is timed, in turn.
      steps: steps in one timing.
    """

    variant: str = "light_cnn_9"
    image_sizes: list[int] = field(default_factory=lambda: [44, 128])
    batch_size: int = 64
    rounds: int = 3
    steps: int = 3


# Name, number format, XLA, fused batch norm.
SIDES = (
    ("float32", "float32", False, True),
    ("float32, XLA", "float32", True, True),
    ("bfloat16", "mixed_bfloat16", False, True),
    ("bfloat16, XLA", "mixed_bfloat16", True, True),
    ("bfloat16, plain batch norm", "mixed_bfloat16", False, False),
)


def build(config: BenchmarkConfig, image_size: int, policy: str, xla: bool, fused: bool) -> Any:
    """Returns a compiled network."""
    import keras

    from fer_tf.models import light_cnn as networks
    from fer_tf.models.precision import dtype_policy

    class Plain(keras.layers.BatchNormalization):
        pass

    ours = networks.FusedBatchNormalization
    with dtype_policy(policy):
        networks.FusedBatchNormalization = ours if fused else Plain
        try:
            model = networks.light_cnn(config.variant, 7, image_size)
        finally:
            networks.FusedBatchNormalization = ours
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=xla)
    return model


def measure(config: BenchmarkConfig, image_size: int) -> dict[str, list[float]]:
    """Returns images a second by side, one number a round; sides take turns."""
    import numpy as np

    rng = np.random.default_rng(0)
    faces = rng.random((config.batch_size, image_size, image_size, 1), np.float32)
    labels = rng.integers(0, 7, config.batch_size)
    models = {}
    for name, *options in SIDES:
        models[name] = build(config, image_size, *options)
        # The first step traces and, with XLA, compiles.
        models[name].train_on_batch(faces, labels)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for _, (name, model) in itertools.product(range(config.rounds), models.items()):
        started = time.perf_counter()
        for _ in range(config.steps):
            model.train_on_batch(faces, labels)
        rates[name].append(config.steps * config.batch_size / (time.perf_counter() - started))
    return rates


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.train_step", description=__doc__ or "")
    import keras
    import tensorflow as tf

    from trainer.runtime import cpu_prefers_bfloat16

    prefers = "bfloat16" if cpu_prefers_bfloat16() else "float32"
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, auto takes {prefers}")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {config.variant}, batch {config.batch_size}")
    for image_size in config.image_sizes:
        print(f"\n{image_size} x {image_size} grey\n{'side':<28}{'images/s':>10}{'spread':>16}{'ratio':>8}")
        rates = measure(config, image_size)
        base = statistics.median(rates["float32"])
        for name, values in rates.items():
            middle = statistics.median(values)
            print(f"{name:<28}{middle:>10.1f}{f'{min(values):.1f}-{max(values):.1f}':>16}{middle / base:>8.2f}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
