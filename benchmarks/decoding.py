"""What a clip's keyframes cost beside FFmpeg's own decoding, CPU seconds: `python -m benchmarks.decoding CLIP...`

ffmpeg decodes each frame on one thread and drops it. PyAV does the same from Python. Judged: every frame is looked at
for the keyframe rule too. Kept: what a user pays for the keyframes as RGB in this process, decoder and pipe included.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import av
import numpy as np

from fer_tf.faces import media
from fer_tf.faces.decoder import Judge
from fer_tf.faces.frame import Limits
from fer_tf.faces.video import Decoder

ROUNDS = 3
TICK = os.sysconf("SC_CLK_TCK")


def by_ffmpeg(path: str) -> float:
    """Returns the CPU seconds of the program ffmpeg, which decodes a clip's pictures on one thread."""
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "-f", "null", "-"], check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_pyav(path: str) -> float:
    """Returns the CPU seconds of decoding a clip as FFmpeg does on one thread."""
    start = time.process_time()
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - start


def judged(path: str) -> float:
    """Returns the CPU seconds of decoding a clip and collecting what the keyframe rules need."""
    start, judge = time.process_time(), Judge()
    with contextlib.closing(media.open(path)) as clip:
        for seen in clip.frames():
            judge.add(seen.time, seen.grey())
    judge.stats()
    return time.process_time() - start


class Kept:
    """Returns the CPU seconds of this and the decoder's process for a clip's keyframes; the process is warm."""

    def __init__(self, rule: str = "apex", limit: int = 40) -> None:
        self.decoder = Decoder(60.0, Limits(), 1920)
        self._rule, self._limit = rule, limit

    def __call__(self, path: str) -> float:
        before = self._spent()
        for _ in self.decoder.keyframes(path, self._rule, self._limit):
            pass
        return self._spent() - before

    def _spent(self) -> float:
        if self.decoder.pid is None:
            return time.process_time()
        with open(f"/proc/{self.decoder.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / TICK


def main(paths: Sequence[str]) -> int:
    """Prints a line a clip, each number the median of the rounds, and the sums' shares of ffmpeg's."""
    kept = Kept()
    ways: dict[str, Callable[[str], float]] = {"PyAV": by_pyav, "judged": judged, "kept": kept}
    if shutil.which("ffmpeg"):
        ways = {"ffmpeg": by_ffmpeg, **ways}
    try:
        kept(paths[0])  # Starts the decoder's process.
        spent = np.array([[[way(path) for way in ways.values()] for path in paths] for _ in range(ROUNDS)])
    finally:
        kept.decoder.close()
    medians = np.median(spent, axis=0)
    for path, row in zip(paths, medians, strict=True):
        print(path, *(f"{name} {value:.2f} s" for name, value in zip(ways, row, strict=True)), sep=", ")
    for name, column in zip(ways, spent.sum(1).T, strict=True):
        shares = column / spent.sum(1)[:, 0]
        low, middle, high = np.quantile(shares, (0, 0.5, 1))
        print(f"{name}: {np.median(column):.2f} s, {middle:.2f} times ({low:.2f} to {high:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
