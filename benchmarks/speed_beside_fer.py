"""Faces and speed beside the PyPI package `fer`, which has an environment of its own: nothing here depends on it.

    python -m venv fer_venv && fer_venv/bin/pip install fer==21.0.6    # newer ones want PyTorch
    taskset -c 0 python -m benchmarks.speed_beside_fer PHOTO... CLIP... --fer_python=fer_venv/bin/python
    taskset -c 0,1 python -m benchmarks.speed_beside_fer PHOTO... CLIP... --fer_python=fer_venv/bin/python

Both look at the same pixels: the pictures, and each clip's frames at one rate, decoded before the clock starts. Ours is
asked once by the same frames and once as a user asks, by the file's name: decoded, followed and smoothed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fer_tf.config import parse, run_command
from fer_tf.errors import InputError
from fer_tf.faces import media

MAX_SIDE = 1920
# Runs in fer's environment: one line of JSON a round, from one .npz of frames.
THEIRS = """
import json, resource, sys, time
import numpy as np
try:
    from fer import FER
except ImportError:  # Since 25.10.
    from fer.fer import FER
detector = FER(mtcnn=sys.argv[3] == "mtcnn")
frames = [array[..., ::-1].copy() for array in np.load(sys.argv[1]).values()]
detector.detect_emotions(frames[0])
for _ in range(int(sys.argv[2])):
    clock, cpu = time.perf_counter(), time.process_time()
    faces = [len(detector.detect_emotions(frame)) for frame in frames]
    spent = time.perf_counter() - clock, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"faces": faces, "s": spent[0], "cpu_s": spent[1], "peak_kb": peak}), flush=True)
"""


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures beside fer.

    Attributes:
      inputs: pictures and clips.
      fer_python: the Python of an environment that has the package fer.
      fer_detector: how it finds faces: mtcnn, or its default, the cascade (haar).
      frames_per_second: frames of a clip's second that both look at.
      rounds: how often each side looks, in turn.
    """

    inputs: list[str] = field(default_factory=list)
    fer_python: str = ""
    fer_detector: Literal["mtcnn", "haar"] = "mtcnn"
    frames_per_second: float = 5.0
    rounds: int = 3

    def __post_init__(self) -> None:
        if not self.inputs or not self.fer_python:
            raise InputError("name pictures or clips, and the Python that has fer (--fer_python)")


def frames_of(path: str, frames_per_second: float) -> list[np.ndarray]:
    """Returns a picture, or a clip's frames at a rate, uint8 (h, w, 3) each."""
    with contextlib.closing(media.open(path)) as file:
        if file.still:
            return [file.frame(MAX_SIDE).rgb]
        frames, due = [], 0.0
        for seen in file.frames():
            if seen.time >= due:
                frames.append(seen.frame(MAX_SIDE).rgb)
                due += 1 / frames_per_second
        return frames


def theirs(config: BenchmarkConfig, frames: Sequence[np.ndarray]) -> list[dict]:
    """Returns what fer found and took, a row a round."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "frames.npz")
        np.savez(path, *frames)
        command = [config.fer_python, "-c", THEIRS, path, str(config.rounds), config.fer_detector]
        # This project's modules are none of its business.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        printed = subprocess.run(command, env=env, check=True, text=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def ours(config: BenchmarkConfig, frames: Sequence[np.ndarray]) -> tuple[list[dict], list[dict]]:
    """Returns what the Recognizer found and took, by frames and by files, a row a round each."""
    from fer_tf import Recognizer

    by_frames, by_files = [], []
    with Recognizer.load("pretrained") as recognize:
        list(recognize(frames[0]))
        for _ in range(config.rounds):
            for inputs, rows in ((list(frames), by_frames), (config.inputs, by_files)):
                clock, cpu = time.perf_counter(), time.process_time()
                table = recognize(inputs, frames_per_second=config.frames_per_second).table()
                spent = time.perf_counter() - clock, time.process_time() - cpu
                rows.append({"faces": [len(table)], "s": spent[0], "cpu_s": spent[1]})
    return by_frames, by_files


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a row a side."""
    config, _ = parse(
        BenchmarkConfig, argv, prog="python -m benchmarks.speed_beside_fer", description=__doc__, positional="inputs"
    )
    frames = [frame for path in config.inputs for frame in frames_of(path, config.frames_per_second)]
    cores = len(os.sched_getaffinity(0))
    print(f"{len(frames)} frames of {len(config.inputs)} inputs, {cores} core(s), median of {config.rounds} rounds")
    by_frames, by_files = ours(config, frames)
    sides = {
        f"fer, {config.fer_detector}": theirs(config, frames),
        "Recognizer, frames": by_frames,
        "Recognizer, files": by_files,
    }
    for name, rows in sides.items():
        wall, cpu = (float(np.median([row[key] for row in rows])) for key in ("s", "cpu_s"))
        faces = sum(rows[0]["faces"])
        speed = f"{len(frames) / wall:8.1f} frames/s {1000 * cpu / len(frames):8.1f} CPU ms a frame"
        print(f"{name:20} {faces:5d} faces {speed}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
