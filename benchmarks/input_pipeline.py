"""Images a second of Fa-Net's input pipeline alone, beside the fastest training step on the same machine.

python -m benchmarks.input_pipeline            # 256 x 256 JPEG records as the build writes, to 128 and 64 pixels
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.train_step import BenchmarkConfig as StepConfig
from benchmarks.train_step import build
from fer_tf.config import EXIT_OK, parse, run_command


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the input pipeline.

    Attributes:
      faces: records to make in code, spread over eight shards.
      image_sizes: sides of the network's input, pixels.
      batch_size: images in a batch.
      batches: batches in one timing.
      rounds: how often each side is timed, in turn.
    """

    faces: int = 2000
    image_sizes: list[int] = field(default_factory=lambda: [64, 128])
    batch_size: int = 64
    batches: int = 20
    rounds: int = 3


def write_records(folder: str, count: int) -> list[str]:
    """Writes faces of smooth noise, about as many bytes as real ones; returns the shards."""
    import cv2
    import numpy as np
    import tensorflow as tf

    from fer_tf.data import schema
    from fer_tf.data.schema import FaceRecord
    from fer_tf.faces import media

    rng = np.random.default_rng(0)
    blank = media.encode_png(np.zeros((256, 256), np.uint8))
    paths = [os.path.join(folder, f"faces-{shard:05d}-of-00008.tfrecord") for shard in range(8)]
    writers = [tf.io.TFRecordWriter(path) for path in paths]
    for number in range(count):
        image = cv2.resize(rng.integers(0, 256, (40, 40, 3), np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
        record = FaceRecord(
            image_id=f"clip{number}#000000",
            image=media.encode_jpeg(image, 92),
            image_format="jpeg",
            height=256,
            width=256,
            mask=blank,
            expression="e",
            expression_id=number % 7,
            pose="front",
            pose_id=0,
            person="P",
            clip_id=f"clip{number}",
            er_ss="train",
        )
        writers[number % 8].write(schema.encode(record))
    for writer in writers:
        writer.close()
    return paths


def stream(part: Any, image_size: int, batch_size: int) -> Any:
    """Returns the training batches of the `best` recipe."""
    from fer_tf.data import inputs
    from trainer.recipes import STRONG

    return inputs.training_batches(
        part,
        7,
        image_size=image_size,
        channels=1,
        crop=0.9,
        batch_size=batch_size,
        steps_per_epoch=len(part) // batch_size,
        augmentation=STRONG,
        seed=0,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.input_pipeline", description=__doc__ or "")
    import tensorflow as tf

    from fer_tf.data.parts import survey
    from trainer.runtime import cpu_prefers_bfloat16

    policy = "mixed_bfloat16" if cpu_prefers_bfloat16() else "float32"
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, TensorFlow {tf.__version__}")
    print(f"\n{'side':<8}{'pipeline images/s':>18}{'per CPU second':>16}{'step images/s':>15}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        part = survey(write_records(folder, config.faces), "er_ss", 7)["train"]
        for image_size in config.image_sizes:
            _row(config, part, image_size, policy)
    return EXIT_OK


def _row(config: BenchmarkConfig, part: Any, image_size: int, policy: str) -> None:
    batches = iter(stream(part, image_size, config.batch_size))
    faces, labels = next(batches)
    labels = labels.numpy().argmax(1)
    model = build(StepConfig(batch_size=config.batch_size), image_size, policy, False, True)
    model.train_on_batch(faces, labels)
    rates, cpu, steps = [], [], []
    images = config.batches * config.batch_size
    for _ in range(config.rounds):
        wall, busy = time.perf_counter(), time.process_time()
        for _ in range(config.batches):
            next(batches)
        rates.append(images / (time.perf_counter() - wall))
        cpu.append(images / (time.process_time() - busy))
        wall = time.perf_counter()
        for _ in range(3):
            model.train_on_batch(faces, labels)
        steps.append(3 * config.batch_size / (time.perf_counter() - wall))
    pipeline, step = statistics.median(rates), statistics.median(steps)
    print(f"{image_size:<8}{pipeline:>18.0f}{statistics.median(cpu):>16.0f}{step:>15.1f}{pipeline / step:>8.1f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
