"""How the build's cost grows with the corpus and with the workers, with the fitted exponent.

python -m benchmarks.scaling                         # 1, 2, 4 and 8 times the clips, 1 and 2 workers
python -m benchmarks.scaling --times=[1,2] --clips=8 # a quick look
"""

from __future__ import annotations

import csv
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.pipeline import Measured, copies_of, measure
from fer_tf.config import parse, run_command
from fer_tf.errors import InputError


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures builds of growing size.

    Attributes:
      videos_root: a folder of clips with annotations.csv.
      clips: clips of the smallest build, spread evenly over the folder.
      times: how many times the smallest build's clips the others have.
      workers: numbers of workers.
      max_keyframes: the most frames of a clip.
    """

    videos_root: str = "samples"
    clips: int = 48
    times: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    workers: list[int] = field(default_factory=lambda: [1, 2])
    max_keyframes: int = 8

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise InputError(f"`clips` must be at least 1. Received: {self.clips}.")
        for name in ("times", "workers"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise InputError(f"`{name}` must be numbers from 1 on. Received: {getattr(self, name)}.")


def some_of(source: Path, target: Path, clips: int) -> None:
    """Writes a corpus of some of the clips, as links."""
    with open(source / "annotations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = rows[:: max(1, len(rows) // clips)][:clips]
    with open(target / "annotations.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    for row in chosen:
        (target / row["video"]).parent.mkdir(parents=True, exist_ok=True)
        os.symlink((source / row["video"]).resolve(), target / row["video"])


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Returns b of cost = a * size ** b, by least squares of the logarithms; 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def compare(config: BenchmarkConfig) -> None:
    """Builds every size with every number of workers and prints the table.

    Each worker has one core, so far as there are any: a worker decodes ahead in a second process and would fill two
    cores alone, which would hide what the second worker gives.
    """
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; as many cores as workers\n"
    )
    print(
        "| clips | faces | workers | wall, s | CPU, s | faces/s | CPU after start-up, ms a face | worker's peak, MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    runs: dict[int, list[Measured]] = {workers: [] for workers in config.workers}
    with tempfile.TemporaryDirectory() as base:
        some_of(Path(config.videos_root), Path(base), config.clips)
        for times in config.times:
            with tempfile.TemporaryDirectory() as folder:
                annotations = copies_of(Path(base), Path(folder), times)
                for workers in config.workers:
                    found = measure(annotations, Path(folder), workers, config.max_keyframes, cores=workers)
                    runs[workers].append(found)
                    print(
                        f"| {config.clips * times} | {found.faces} | {workers} | {found.wall:.0f} | "
                        f"{found.cpu:.0f} | {found.rate:.1f} | {1000 * found.steady_cpu / found.faces:.0f} | "
                        f"{found.worker_mib:.0f} |",
                        flush=True,
                    )
    for workers, found in runs.items():
        if len(config.times) > 1:
            print(f"\n{workers} worker(s): " + ", ".join(growth(config.times, found)))
    first = config.workers[0]
    for workers in config.workers[1:]:
        one, more = runs[first][-1], runs[workers][-1]
        print(
            f"\n{workers} workers against {first}, largest build: {more.rate / one.rate:.2f} times the faces/s, "
            f"{one.wall / more.wall:.2f} times by the whole command's seconds"
        )


def growth(times: Sequence[int], found: Sequence[Measured]) -> list[str]:
    """Returns the fitted exponents in words."""
    costs = {
        "the command's time": [run.wall for run in found],
        "CPU time": [run.cpu for run in found],
        "CPU time after start-up": [run.steady_cpu for run in found],
        "a worker's peak memory": [run.worker_mib for run in found],
    }
    return [f"{name} grows as clips ** {exponent(times, values):.2f}" for name, values in costs.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.scaling", description=__doc__)
    compare(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
