"""Builds a corpus of F2ED's size from clips, finding every face: by two workers on one machine, and by a Flink of two.

python -m benchmarks.f2ed_build                          # a tenth: 542 clips, 22,000 frames, after a hundredth
python -m benchmarks.f2ed_build --runners=[direct]       # without Flink, which needs Java 17 and Maven
python -m benchmarks.f2ed_build --scale=1                # 5,418 clips; the files are removed at the end

The clips are the samples', played to and fro under a camera that moves, encoded again and repeated under the names of
119 persons, 54 expressions and 4 poses. Every runner must write the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.f2ed_size import CLIPS, FACES, labels
from benchmarks.pipeline import family_of, play_to_and_fro
from benchmarks.ten_million_rows import EXPRESSIONS
from cluster.flink import FlinkCluster, FlinkConfig
from fer_tf.config import EXIT_INCOMPLETE, EXIT_OK, parse, run_command
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import F2ED_POSES
from fer_tf.resources import samples_folder

ROOT = Path(__file__).parent.parent
RUNNERS = ("direct", "flink")
FRAMES = math.ceil(FACES / CLIPS)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Builds a share of a corpus of F2ED's size, after a tenth of that share.

    Attributes:
      scale: share of F2ED's clips.
      runners: direct (two worker processes), flink (two task managers), or both.
      folder: where the files go; empty for a temporary folder.
    """

    scale: float = 0.1
    runners: list[str] = field(default_factory=lambda: list(RUNNERS))
    folder: str = ""

    def __post_init__(self) -> None:
        if not 0.01 <= self.scale <= 1:
            raise InputError(f"`scale` must be from 0.01 to 1. Received: {self.scale}.")
        for runner in self.runners:
            if runner not in RUNNERS:
                raise not_one_of("runners", runner, RUNNERS)


@dataclass(frozen=True)
class Built:
    """One build.

    Attributes:
      faces: faces found.
      wall: seconds of the whole command.
      cpu: CPU seconds of the command and of all that worked for it.
      peak_mib: the most memory that all of them held at one time.
      shards: a hash for each record file.
    """

    faces: int
    wall: float
    cpu: float
    peak_mib: float
    shards: dict[str, str]


def write_clip(source: Path, target: Path) -> Path:
    """Writes a sample clip anew, long enough for the faces of one of F2ED's; returns its path."""
    play_to_and_fro(source, target, FRAMES, moved, preset="veryfast")
    return target


def moved(frame: np.ndarray, phase: float) -> np.ndarray:
    """Returns the frame as a camera sees it that circles a little and comes nearer: no two frames are alike."""
    height, width = frame.shape[:2]
    scale, turn = 1 + 0.08 * phase, 2 * np.pi * phase
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 3 * np.sin(turn), scale)
    matrix[:, 2] += 0.02 * width * np.array([np.cos(turn), np.sin(turn)])
    return cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def write_corpus(folder: Path, clips: int, samples: Sequence[Path]) -> Path:
    """Writes so many clips and their annotations; returns the annotations' path."""
    folder.mkdir()
    with open(folder / "annotations.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("video", "person", "expression", "pose", "take"))
        for clip in range(clips):
            person, expression, pose = labels(clip)
            name = f"clip_{clip:05d}.mp4"
            shutil.copyfile(samples[clip % len(samples)], folder / name)
            writer.writerow((name, person, EXPRESSIONS[expression], F2ED_POSES[pose], clip // len(F2ED_POSES)))
    return folder / "annotations.csv"


@contextlib.contextmanager
def runner_flags(runner: str) -> Iterator[list[str]]:
    """The flags that send a build to two workers, with Flink running meanwhile where it is meant."""
    if runner == "direct":
        yield ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    else:
        with FlinkCluster(FlinkConfig(task_managers=2, folder=str(ROOT / ".cluster"))) as cluster:
            yield cluster.flags()


def build(annotations: Path, output: Path, flags: Sequence[str]) -> Built:
    """Builds from nothing and looks meanwhile at all processes that work for it."""
    command = [sys.executable, "-m", "beam_pipelines.build", f"--annotations={annotations}", f"--output={output}"]
    command += [f"--videos_root={annotations.parent}", f"--max_keyframes={FRAMES}", "--review=none", *flags]
    output.mkdir()
    log = output.with_suffix(".log")
    peak, before, start = 0.0, cpu_seconds(), time.monotonic()
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        try:
            while process.poll() is None:
                peak = max(peak, sum(map(resident_mib, set(family_of(os.getpid())) - {os.getpid()})))
                time.sleep(1)
        finally:
            process.kill()
    process.wait()
    wall, cpu = time.monotonic() - start, cpu_seconds() - before
    if process.returncode not in (EXIT_OK, EXIT_INCOMPLETE):
        raise InputError(f"the build failed: {log.read_text()[-2000:]}")
    faces = json.loads((output / "dataset.json").read_text())["counts"]["faces"]
    paths = [*output.glob("records/*.tfrecord"), *output.glob("pairs/*.tfrecord")]
    shards = {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return Built(faces, wall, cpu, peak, shards)


def cpu_seconds() -> float:
    """Returns the CPU seconds so far of this process and all that it started."""
    return sum(family_of(os.getpid()).values())


def resident_mib(pid: int) -> float:
    """Returns what a process holds in memory alone, not shared with others, MiB; 0 when it has gone."""
    with contextlib.suppress(OSError, IndexError):
        pages, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
        return (int(pages) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.f2ed_build", description=__doc__ or "")
    folder = Path(tempfile.mkdtemp(prefix="f2ed_build_", dir=config.folder or None))
    try:
        print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version[:7]}")
        sources = sorted(Path(samples_folder()).rglob("*.mp4"))
        samples = [write_clip(source, folder / f"sample_{number:03d}.mp4") for number, source in enumerate(sources)]
        print("| runner | clips | faces | wall, s | CPU, s | faces/s | CPU, ms a face | peak of all, MiB |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        found: dict[tuple[str, int], Built] = {}
        sizes = [round(CLIPS * config.scale * share) for share in (0.1, 1)]
        for clips in sizes:
            annotations = write_corpus(folder / f"clips_{clips}", clips, samples)
            for runner in config.runners:
                with runner_flags(runner) as flags:
                    one = found[runner, clips] = build(annotations, folder / f"{runner}_{clips}", flags)
                print(
                    f"| {runner} | {clips:,} | {one.faces:,} | {one.wall:.0f} | {one.cpu:.0f} | "
                    f"{one.faces / one.wall:.1f} | {1000 * one.cpu / one.faces:.1f} | {one.peak_mib:.0f} |",
                    flush=True,
                )
            if len({json.dumps(found[runner, clips].shards, sort_keys=True) for runner in config.runners}) > 1:
                raise InputError(f"the runners wrote other bytes, for {clips} clips.")
        for runner in config.runners:
            few, many = (found[runner, clips] for clips in sizes)
            steady = 1000 * (many.cpu - few.cpu) / (many.faces - few.faces)
            rate = (many.faces - few.faces) / (many.wall - few.wall)
            print(f"\n{runner}: after start-up {rate:.1f} faces/s and {steady:.1f} ms of CPU a face")
        if len(config.runners) > 1:
            print("\nThe record files of the runners are equal byte for byte.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
