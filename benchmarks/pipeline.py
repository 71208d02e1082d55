"""What a second worker gives the build, and how much memory a worker takes.

python -m benchmarks.pipeline                       # one and two workers in turn, on the samples
python -m benchmarks.pipeline --part=memory         # a worker's peak with a clip ten times as long
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_tf.config import parse, run_command
from fer_tf.errors import InputError, not_one_of

PARTS = ("all", "workers", "memory")
ROOT = Path(__file__).parent.parent
WORKER, DECODER = "sdk_worker_main", "fer_tf.faces.decoder"


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the build.

    Attributes:
      part: all, workers or memory.
      videos_root: a folder of clips with annotations.csv.
      copies: how often each clip is taken, under another name; more clips make the rate steadier.
      rounds: how often one and two workers run, in turn.
      max_keyframes: the most frames of a clip.
      seconds: length of the short clip of the memory part; the long one has ten times as much.
    """

    part: str = "all"
    videos_root: str = "samples"
    copies: int = 2
    rounds: int = 3
    max_keyframes: int = 12
    seconds: int = 20

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise not_one_of("part", self.part, PARTS)


@dataclass(frozen=True)
class Measured:
    """One build.

    Attributes:
      faces: faces found.
      rate: faces a second, from the first finished clip to the last.
      wall: seconds of the whole command, start-up and writing included.
      cpu: CPU seconds of the whole command.
      steady_cores: cores in use from the first finished clip to the last.
      worker_mib, decoder_mib: the largest peak of a worker's and of a decoder's process.
    """

    faces: int
    rate: float
    wall: float
    cpu: float
    steady_cores: float
    worker_mib: float
    decoder_mib: float

    @property
    def steady_cpu(self) -> float:
        """CPU seconds for all faces at the pace between the first finished clip and the last."""
        return self.steady_cores / self.rate * self.faces if self.rate else float("nan")


def measure(annotations: Path, root: Path, workers: int, max_keyframes: int, cores: int = 0) -> Measured:
    """Builds once from nothing and looks at the workers' processes meanwhile.

    Args:
      annotations: the CSV.
      root: the clips' folder.
      workers: worker processes.
      max_keyframes: the most frames of a clip.
      cores: how many of this process's cores the build may use; 0 for all.
    """
    allowed = sorted(os.sched_getaffinity(0))[: cores or None]
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "beam_pipelines.build", f"--annotations={annotations}"]
        command += [f"--videos_root={root}", f"--output={output}", f"--max_keyframes={max_keyframes}", "--review=none"]
        command += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
        start, before = time.monotonic(), os.times()
        with open(Path(output) / "log", "w") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
            os.sched_setaffinity(process.pid, allowed)
            peaks, used = {WORKER: 0.0, DECODER: 0.0}, []
            try:
                while process.poll() is None:
                    used.append((time.time(), _watch(process.pid, peaks)))
                    time.sleep(0.25)
            finally:
                process.kill()
        wall, after = time.monotonic() - start, os.times()
        if process.returncode not in (0, 3):
            raise InputError(f"the build failed: {(Path(output) / 'log').read_text()[-2000:]}")
        faces = json.loads((Path(output) / "dataset.json").read_text())["counts"]["faces"]
        done = sorted(path.stat().st_mtime for path in (Path(output) / ".extracted").rglob("*.tfrecord"))
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        # From the first finished clip to the last: start-up is told apart in the wall time.
        rate = faces * (len(done) - 1) / len(done) / (done[-1] - done[0]) if len(done) > 1 else 0.0
        steady = _cores(used, done[0], done[-1])
        return Measured(faces, rate, wall, cpu, steady, peaks[WORKER], peaks[DECODER])


def _cores(used: list[tuple[float, float]], start: float, end: float) -> float:
    """Cores in use between two times, from (time, CPU seconds so far)."""
    inside = [(at, cpu) for at, cpu in used if start <= at <= end]
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]) if len(inside) > 1 else 0.0


def _watch(root_pid: int, peaks: dict[str, float]) -> float:
    """Notes the peak resident size of the build's descendants, from /proc; returns their CPU seconds so far."""
    family = family_of(root_pid)
    del family[root_pid]
    for pid in family:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text()
            for name in peaks:
                if name in words:
                    peaks[name] = max(peaks[name], _peak_mib(pid))
    return sum(family.values())


def family_of(root_pid: int) -> dict[int, float]:
    """Returns the CPU seconds so far of a process and its descendants, by their numbers, from /proc."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                # User and system time, with those of children that ended.
                ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    family, queue = [], [root_pid]
    while queue:
        family.append(queue.pop())
        queue += children.get(family[-1], [])
    return {pid: ticks.get(pid, 0) / os.sysconf("SC_CLK_TCK") for pid in family}


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def compare_workers(config: BenchmarkConfig) -> None:
    """Prints the rate of one worker on one core, two on two, and one on two, on the same clips.

    A worker decodes ahead in a process of its own, so one worker alone fills more than one core: where cores are
    few, only workers with a core each tell how the work divides.
    """
    settings = {"one worker, one core": (1, 1), "two workers, two cores": (2, 2), "one worker, two cores": (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        annotations = copies_of(Path(config.videos_root), Path(folder), config.copies)
        runs: dict[str, list[Measured]] = {name: [] for name in settings}
        for number in range(config.rounds):
            for name, (workers, cores) in settings.items():
                found = measure(annotations, Path(folder), workers, config.max_keyframes, cores)
                runs[name].append(found)
                print(
                    f"round {number + 1}, {name}: {found.rate:.1f} faces/s, {found.wall:.0f} s in all, "
                    f"worker {found.worker_mib:.0f} MiB, decoder {found.decoder_mib:.0f} MiB, "
                    f"{found.steady_cores:.2f} cores used after start-up, "
                    f"{1000 * found.cpu / found.faces:.0f} ms of CPU a face",
                    flush=True,
                )
    rates = [statistics.median(run.rate for run in found) for found in runs.values()]
    walls = [statistics.median(run.wall for run in found) for found in runs.values()]
    for number in (0, 2):
        print(
            f"two workers against {list(settings)[number]}: {rates[1] / rates[number]:.2f} times the faces/s, "
            f"{walls[number] / walls[1]:.2f} times by the whole command's seconds"
        )
    print(f"peak of a worker: {max(run.worker_mib for found in runs.values() for run in found):.0f} MiB")


def copies_of(source: Path, target: Path, copies: int) -> Path:
    """Writes annotations that name every clip `copies` times, each time as a copy of its own; returns their path."""
    with open(source / "annotations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(target / "annotations.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for copy in range(copies):
            for row in rows:
                path = target / f"copy_{copy}" / row["video"]
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / row["video"], path)
                writer.writerow({**row, "video": str(path.relative_to(target))})
    return target / "annotations.csv"


def compare_lengths(config: BenchmarkConfig) -> None:
    """Prints a worker's peak with a clip and with one ten times as long."""
    peaks = []
    for times in (1, 10):
        with tempfile.TemporaryDirectory() as folder:
            annotations = long_clip(Path(config.videos_root), Path(folder), config.seconds * times)
            found = measure(annotations, Path(folder), 1, config.max_keyframes)
        peaks.append(found)
        print(
            f"a clip of {config.seconds * times} s: worker {found.worker_mib:.0f} MiB, "
            f"decoder {found.decoder_mib:.0f} MiB, {found.wall:.0f} s in all",
            flush=True,
        )
    short, long = (run.worker_mib + run.decoder_mib for run in peaks)
    print(f"ten times the length: {100 * (long / short - 1):+.1f} % of memory")


def play_to_and_fro(
    source: Path, target: Path, count: int, change: Callable | None = None, preset: str = "medium"
) -> None:
    """Writes so many frames of a clip, forwards and backwards in turn, at 25 a second.

    Args:
      source: the clip.
      target: where the new one is written, H.264.
      count: frames of the new one.
      change: of a frame, uint8 (h, w, 3), and its place from 0 to 1; gives the frame that is written.
      preset: libx264's.
    """
    import av

    with av.open(str(source)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": preset})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            picture = frames[order[number % len(order)]]
            picture = picture if change is None else change(picture, number / count)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def long_clip(source: Path, target: Path, seconds: int) -> Path:
    """Plays one sample to and fro for a while, at 25 frames a second; returns the annotations' path."""
    with open(source / "annotations.csv", newline="") as file:
        row = next(csv.DictReader(file))
    play_to_and_fro(source / row["video"], target / "long.mp4", 25 * seconds)
    with open(target / "annotations.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow({**row, "video": "long.mp4"})
    return target / "annotations.csv"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts asked for."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.pipeline", description=__doc__.split("\n")[0])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if config.part in ("all", "workers"):
        compare_workers(config)
    if config.part in ("all", "memory"):
        compare_lengths(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
