"""How fast the reviewers' page answers with a list of the paper's 5,418 clips.

python -m benchmarks.review                    # on the sample clips, each listed many times
"""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.review_setup import Served, ask, playable, vote
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.resources import resource
from serving.review.study import StudyOptions


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the reviewers' page.

    Attributes:
      clips: length of the list.
      votes: how many votes to cast through the page's addresses.
      reviewers: how many reviewers the study has; all but the first have answered every clip.
    """

    clips: int = 5418
    votes: int = 200
    reviewers: int = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.review", description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        measure(config, Path(folder))
    return EXIT_OK


def measure(config: BenchmarkConfig, folder: Path) -> None:
    """Serves a study and times its answers."""
    start = time.perf_counter()
    options = study_options(config, folder)
    with contextlib.closing(Served(options, folder)) as served:
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        print(f"{config.clips} clips: read and served after {time.perf_counter() - start:.2f} s")
        fill(served, config)
        link = served.link(options.reviewers[0])
        times: dict[str, list[float]] = {"page": [], "state": [], "vote": [], "clip": []}
        for _ in range(config.votes):
            with timed(times["page"]), urllib.request.urlopen(link) as answer:
                answer.read()
            with timed(times["state"]):
                state = ask(f"{link}state")[1]
            playable(link, state["clip"]["code"])
            with timed(times["clip"]), urllib.request.urlopen(f"{link}clip/{state['clip']['code']}") as answer:
                answer.read()
            with timed(times["vote"]):
                status, _ = vote(link, state["labels"][0]["name"], state)
            assert status == 200
    print("| answer | median ms | 99th percentile ms | slowest ms |\n|---|---|---|---|")
    for name, seconds in times.items():
        ranked = [1000 * value for value in sorted(seconds)]
        late = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
        print(f"| {name} | {statistics.median(ranked):.1f} | {late:.1f} | {ranked[-1]:.1f} |")


def study_options(config: BenchmarkConfig, folder: Path) -> StudyOptions:
    """Copies the sample clips under as many names as are wanted, and lists them."""
    samples = Path(resource("samples"))
    with open(samples / "annotations.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    root = folder / "videos"
    with open(folder / "annotations.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("video", "person", "expression", "pose"), extrasaction="ignore")
        writer.writeheader()
        for place in range(config.clips):
            row = rows[place % len(rows)]
            name = f"copy_{place // len(rows)}/{row['video']}"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((samples / row["video"]).read_bytes())
            writer.writerow({**row, "video": name})
    reviewers = tuple(f"r{number}" for number in range(1, config.reviewers + 1))
    return StudyOptions(str(folder / "annotations.csv"), str(root), reviewers)


def fill(served: Served, config: BenchmarkConfig) -> None:
    """Casts every vote of all reviewers but the first."""
    clips = list(served.study.clips)
    rows = [
        (name, clip_id, served.study.clips[clip_id].expression, f"{name}/{clip_id}", 6.0 * place)
        for name in served.study.reviewers[1:]
        for place, clip_id in enumerate(clips)
    ]
    with contextlib.closing(sqlite3.connect(served.store.path)) as database, database:
        database.executemany(
            "INSERT INTO votes (reviewer, clip, round, choice, remark, request, at) VALUES (?, ?, 1, ?, '', ?, ?)", rows
        )


@contextlib.contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Adds the block's time."""
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(run_command(main))
