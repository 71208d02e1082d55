"""How long the report takes and where the time goes, and what graph-compiled saliency saves over tf-keras-vis alone.

    python -m benchmarks.report [--runs=runs] [--data=data/faces] [--repeats=3] [--images=100] [--image_size=64]

The report is written into a temporary folder. For each part stand the seconds on the clock and, because a machine is
seldom idle, the processor's. Saliency runs on faces made of noise and a fresh network, whose values do not change the
work; both sides take turns.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fer_tf.config import EXIT_OK, parse, run_command


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure.

    Attributes:
      runs: folder of run folders for the report.
      data: data folder for the report; when there is none, saliency alone is measured.
      repeats: how often each side runs; medians are shown.
      images: faces for the saliency maps.
      image_size: their side, pixels.
    """

    runs: str = "runs"
    data: str = "data/faces"
    repeats: int = 3
    images: int = 100
    image_size: int = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    import keras
    import matplotlib
    import tensorflow as tf

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load}; Python", end=" ")
    print(f"{platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}, matplotlib", end=" ")
    print(matplotlib.__version__)
    if os.path.exists(os.path.join(config.data, "dataset.json")):
        report_parts(config)
    else:
        print(f"no data folder at {config.data}: the report is not measured")
    saliency_methods(config)
    return EXIT_OK


def report_parts(config: BenchmarkConfig) -> None:
    """Prints the report's seconds by part: medians over the repeats, the first of which also loads libraries."""
    from fer_tf.evaluation import report

    walls: dict[str, list[float]] = {}
    processors: dict[str, list[float]] = {}
    for _ in range(config.repeats):
        with tempfile.TemporaryDirectory() as folder:
            clock = report.write_report(report.ReportConfig(config.runs, config.data, folder))
        for part, seconds in clock.seconds.items():
            walls.setdefault(part, []).append(seconds)
            processors.setdefault(part, []).append(clock.processor_seconds[part])
    print(f"\nreport on {config.data}, median of {config.repeats}:          wall s   processor s")
    for part, seconds in walls.items():
        print(f"  {part:30s} {statistics.median(seconds):10.1f} {statistics.median(processors[part]):10.1f}")
    total = [sum(values) for values in zip(*walls.values(), strict=True)]
    used = [sum(values) for values in zip(*processors.values(), strict=True)]
    print(f"  {'whole report':30s} {statistics.median(total):10.1f} {statistics.median(used):10.1f}")


def saliency_methods(config: BenchmarkConfig) -> None:
    """Prints seconds for a class of faces by method, with the network compiled and as tf-keras-vis calls it."""
    import numpy as np

    from fer_tf.evaluation import saliency
    from fer_tf.models.light_cnn import light_cnn

    model = light_cnn("light_cnn_9", 7, config.image_size)
    size = (config.images, config.image_size, config.image_size, 1)
    images = np.random.default_rng(0).uniform(size=size).astype(np.float32)
    classes = [index % 7 for index in range(config.images)]
    compiled = saliency.compiled

    def run(method: str, wrap: Callable) -> tuple[float, float]:
        saliency.compiled = wrap
        try:
            wall, used = time.monotonic(), time.process_time()
            saliency.saliency_maps(model, images, classes, method)
            return time.monotonic() - wall, time.process_time() - used
        finally:
            saliency.compiled = compiled

    print(f"\nsaliency of {config.images} faces of {config.image_size} pixels, median of {config.repeats}:")
    print("  method        compiled: wall s  processor s   eager: wall s  processor s  ratio")
    for method in saliency.METHODS:
        saliency.saliency_maps(model, images[: saliency.BATCH], classes[: saliency.BATCH], method)
        pairs = [(run(method, compiled), run(method, _Eager)) for _ in range(config.repeats)]
        ours, theirs = (
            [statistics.median(times) for times in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
        )
        print(f"  {method:12s} {ours[0]:17.1f} {ours[1]:12.1f} {theirs[0]:15.1f} {theirs[1]:12.1f}", end=" ")
        print(f"{theirs[1] / ours[1]:6.2f}")


class _Eager:
    """The model as tf-keras-vis would call it, without a graph."""

    def __init__(self, model: object) -> None:
        self._model = model
        self.inputs, self.outputs, self.layers = model.inputs, model.outputs, model.layers

    def __call__(self, inputs: list, training: bool = False) -> object:
        return self._model(inputs[0], training=training)

    def predict(self, inputs: list, batch_size: int) -> object:
        return self._model.predict(inputs[0], batch_size=batch_size, verbose=0)


if __name__ == "__main__":
    sys.exit(run_command(main))
