"""Ten million annotation rows through the build's own review, split and leak check, without a video.

python -m benchmarks.ten_million_rows                  # writes about 3 GB below --folder and removes it
python -m benchmarks.ten_million_rows --rows=1000000

Every phase is a process of its own, so each has its own peak of memory. Rows, hashes and planted near-duplicates are
made in code; the leak check must find the planted ones, all of them.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from beam_pipelines import assign, chunks
from beam_pipelines.assign import Corpus
from beam_pipelines.chunks import FACE_INDEX, Census
from fer_tf import files, start_up
from fer_tf.config import parse, run_command
from fer_tf.data.annotations import AnnotationOptions
from fer_tf.data.tasks import TaskOptions, stable_hash
from fer_tf.errors import InputError
from fer_tf.labels import POSES, TASKS

EXPRESSIONS = tuple(f"expression_{number:02d}" for number in range(54))
CLIPS_PER_PERSON = 1000
# One row in so many disagrees with its reviewers, stands there twice, or has an unknown pose.
DISAGREE, TWICE, UNKNOWN = 10, 1000, 1001
# In each chunk one clip in so many looks almost like the one before it.
PLANTED = 500


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the metadata's way through a build.

    Attributes:
      rows: annotation rows.
      folder: where the files go; empty for a temporary folder.
    """

    rows: int = 10_000_000
    folder: str = ""

    def __post_init__(self) -> None:
        if self.rows < 1000:
            raise InputError(f"`rows` must be at least 1000. Received: {self.rows}.")


def write_rows(folder: str, rows: int) -> str:
    """Writes annotations.csv; each person has `CLIPS_PER_PERSON` clips over all labels and poses."""
    path = os.path.join(folder, "annotations.csv")
    with open(path, "w") as file:
        file.write("video,person,gender,age,expression,pose,take,reviewer_1,reviewer_2,reviewer_3\n")
        for row in range(rows):
            person, number = divmod(row, CLIPS_PER_PERSON)
            expression, pose = EXPRESSIONS[number // 4 % 54], POSES[number % 4]
            last = EXPRESSIONS[0] if row % DISAGREE == 3 else expression
            shown = "upside_down" if row % UNKNOWN == 5 else pose
            take = number // 216
            line = (
                f"take_{take}/p{person:06d}/{expression}/{pose}.mp4,p{person:06d},female,30,{expression},{shown},"
                f"{take},{expression},{expression},{last}\n"
            )
            file.write(line if row % TWICE != 7 else line + line)
    return f"{os.path.getsize(path) / 1e9:.2f} GB"


def review(folder: str) -> Census:
    """Reviews the rows as the build does, into chunks."""
    return chunks.partition(os.path.join(folder, "annotations.csv"), folder, AnnotationOptions())


def write_faces(folder: str, census: Census) -> int:
    """Writes what extraction would: one face for each clip, with hashes drawn from the chunk's number."""
    planted = 0
    for chunk in census.chunks:
        clips = chunks.read_clips(folder, chunk)
        draw = np.random.default_rng(chunk)
        index = np.zeros(len(clips), FACE_INDEX)
        index["clip"] = np.arange(len(clips))
        index["image"] = [stable_hash(f"{clip.clip_id}#000000") for clip in clips]
        index["perceptual"], index["pixels"] = draw.integers(1 << 64, size=(2, len(clips)), dtype=np.uint64)
        copies = np.arange(PLANTED, len(clips), PLANTED)
        index["perceptual"][copies] = index["perceptual"][copies - 1] ^ np.uint64(0b101)
        files.write_bytes(chunks.index_path(folder, chunk), index.tobytes())
        planted += len(copies)
    return planted


def split(folder: str, census: Census) -> dict[str, dict[str, int]]:
    """Splits all faces for all tasks."""
    _, splits = assign.all_splits(assign.load(folder, census), census.labels, TaskOptions())
    return {task: {name: int((splits[task] == code).sum()) for code, name in _PARTS} for task in TASKS}


def leak_check(folder: str, census: Census) -> dict[str, tuple[int, int]]:
    """Returns, for each split, the near-duplicate faces that the leak check found and those that were planted."""
    corpus = assign.load(folder, census)
    _, splits = assign.all_splits(corpus, census.labels, TaskOptions())
    found = assign.check_leaks(corpus, splits)
    first = _planted(corpus)
    result = {}
    for name, parts in splits.items():
        crossing = (parts[first] != parts[first - 1]) & (parts[first] >= 0) & (parts[first - 1] >= 0)
        result[name] = (found[name].counts["near_duplicate_faces"], 2 * int(crossing.sum()))
    return result


_PARTS = ((0, "train"), (1, "val"), (2, "test"))


def _planted(corpus: Corpus) -> np.ndarray:
    ends = zip(corpus.starts[:-1], corpus.starts[1:], strict=True)
    return np.concatenate([np.arange(start + PLANTED, end, PLANTED) for start, end in ends])


@dataclass(frozen=True)
class Phase:
    """What one phase cost: wall and CPU seconds, peak memory in MB, and its result."""

    wall: float
    cpu: float
    peak_mb: float
    result: Any


def measured(step_fn: Callable[..., Any], *arguments: Any) -> Phase:
    """Runs a phase in this process and measures it."""
    start_up.quiet()
    wall, cpu = time.monotonic(), time.process_time()
    result = step_fn(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Phase(time.monotonic() - wall, time.process_time() - cpu, peak, result)


def alone(step_fn: Callable[..., Any], *arguments: Any) -> Phase:
    """Runs a phase in a process of its own, whose peak is that phase's."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, step_fn, *arguments).result()


def run(folder: str, rows: int) -> None:
    """Runs all phases and prints the table."""
    idle = alone(int)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{rows:,} rows; a process that has only imported the build's modules holds {idle.peak_mb:.0f} MB\n")
    print("| phase | wall, s | CPU, s | us a row | peak, MB |\n| --- | --- | --- | --- | --- |", flush=True)

    def show(name: str, phase: Phase) -> Any:
        cost = phase.cpu / rows * 1e6
        print(f"| {name} | {phase.wall:.0f} | {phase.cpu:.0f} | {cost:.2f} | {phase.peak_mb:.0f} |", flush=True)
        return phase.result

    size = show("write the rows", alone(write_rows, folder, rows))
    census = show("review", alone(review, folder))
    planted = show("write the hashes", alone(write_faces, folder, census))
    # Phases need labels and chunk numbers alone.
    census = replace(census, persons={})
    parts = show("load and split", alone(split, folder, census))
    leaks = show("load, split and leak check", alone(leak_check, folder, census))
    print(
        f"\nannotations.csv {size}; kept {census.clips:,} clips in {len(census.chunks)} chunks; {dict(census.rejected)}"
    )
    print(f"splits: {parts}")
    print(f"{planted:,} near-duplicates planted; found of those that cross a split:")
    for name, (found, expected) in leaks.items():
        print(f"  {name}: {found:,} of {expected:,} faces")
    if any(found < expected for found, expected in leaks.values()):
        raise InputError("the leak check missed a planted near-duplicate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.ten_million_rows", description=__doc__)
    folder = tempfile.mkdtemp(prefix="ten_million_rows_", dir=config.folder or None)
    try:
        run(folder, config.rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
