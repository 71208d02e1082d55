"""How long the report takes and where the time goes, and what each saliency method takes beside tf-keras-vis by itself.

    python -m benchmarks.report [--runs=runs] [--data=data/faces] [--repeats=3] [--images=100] [--image_size=64]

The report is written into a temporary folder, with saliency maps and without. For each part stand the seconds on the
clock and, because a machine is seldom idle, the processor's. Saliency runs on faces made of noise and a fresh network,
whose values do not change the work; both sides take turns, with the same samples, channels and steps.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fer_tf.config import EXIT_OK, parse, run_command

ACTIVATION = "activation maximization"
CLASSES, STEPS = 7, 100


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

    keras.config.disable_interactive_logging()
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
    from fer_tf.reports import report

    for title, faces in (("with saliency", {}), ("without saliency", {"saliency_faces": 0})):
        walls: dict[str, list[float]] = {}
        processors: dict[str, list[float]] = {}
        for _ in range(config.repeats):
            with tempfile.TemporaryDirectory() as folder:
                clock = report.write_report(report.ReportConfig(config.runs, config.data, folder, **faces))
            for part, seconds in clock.seconds.items():
                walls.setdefault(part, []).append(seconds)
                processors.setdefault(part, []).append(clock.processor_seconds[part])
        walls["whole report"] = [sum(values) for values in zip(*walls.values(), strict=True)]
        processors["whole report"] = [sum(values) for values in zip(*processors.values(), strict=True)]
        print(f"\nreport on {config.data} {title}, median of {config.repeats} (and the first, which loads libraries):")
        print("                                   wall s (first)   processor s")
        for part, seconds in walls.items():
            median = statistics.median(seconds)
            print(
                f"  {part:30s} {median:8.1f} {seconds[0]:7.1f} {statistics.median(processors[part]):13.1f}", flush=True
            )


def saliency_methods(config: BenchmarkConfig) -> None:
    """Prints seconds for a class of faces by method, and for one input of each class by activation maximization."""
    import numpy as np

    from fer_tf.evaluation import saliency
    from fer_tf.models.light_cnn import light_cnn

    model = light_cnn("light_cnn_9", CLASSES, config.image_size)
    size = (config.images, config.image_size, config.image_size, 1)
    images = np.random.default_rng(0).uniform(size=size).astype(np.float32)
    classes = [index % CLASSES for index in range(config.images)]

    def ours(method: str, count: int, steps: int) -> None:
        if method == ACTIVATION:
            saliency.activation_maximization(model, range(CLASSES), steps=steps)
        else:
            saliency.saliency_maps(model, images[:count], classes[:count], method)

    def alone(method: str, count: int, steps: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _tf_keras_vis(method, model, images[:count], classes[:count], steps)

    def timed(run: Callable, method: str) -> tuple[float, float]:
        wall, used = time.monotonic(), time.process_time()
        run(method, config.images, STEPS)
        return time.monotonic() - wall, time.process_time() - used

    print(
        f"\n{config.images} faces of {config.image_size} pixels ({ACTIVATION}: {CLASSES} inputs, {STEPS} steps),",
        end=" ",
    )
    print(f"median of {config.repeats}:")
    print("  method                   here: wall s  processor s   tf-keras-vis alone: wall s  processor s   ratio")
    for method in (*saliency.METHODS, ACTIVATION):
        ours(method, saliency.BATCH, 2)
        alone(method, 2, 2)
        pairs = [(timed(ours, method), timed(alone, method)) for _ in range(config.repeats)]
        here, there = (
            [statistics.median(times) for times in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
        )
        print(f"  {method:24s} {here[0]:12.1f} {here[1]:12.1f} {there[0]:28.1f} {there[1]:12.1f}", end=" ")
        print(f"{there[1] / here[1]:7.2f}", flush=True)


def _tf_keras_vis(method: str, model: object, images: object, classes: list[int], steps: int) -> None:
    """The library as its documentation calls it, in the same batches; Score-CAM chooses its channels image by image."""
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    from fer_tf.evaluation import saliency

    layer = {"penultimate_layer": saliency.CAM_LAYER, "seek_penultimate_conv_layer": False}
    smooth = {"smooth_samples": saliency.SMOOTH_SAMPLES, "smooth_noise": saliency.SMOOTH_NOISE}
    calls = {
        "smoothgrad": (Saliency, smooth, saliency.BATCH),
        "gradcam++": (GradcamPlusPlus, layer, saliency.BATCH),
        "scorecam": (Scorecam, {**layer, "max_N": saliency.SCORE_CHANNELS}, 1),
        "layercam": (Layercam, layer, saliency.BATCH),
    }
    if method == ACTIVATION:
        scores = CategoricalScore(list(range(CLASSES)))
        start = images[:1].repeat(CLASSES, 0)
        ActivationMaximization(model)(scores, seed_input=start, input_range=(0.0, 1.0), steps=steps)
        return
    visualization, options, batch = calls[method]
    explain = visualization(model)
    for start in range(0, len(images), batch):
        explain(CategoricalScore(classes[start : start + batch]), images[start : start + batch], **options)


if __name__ == "__main__":
    sys.exit(run_command(main))
