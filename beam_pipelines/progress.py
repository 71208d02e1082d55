"""How far a build is: workers write small counter files, the driver adds them up and says so now and then."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid

from fer_tf import files

_LOGGER = logging.getLogger(__name__)

WORKER_SECONDS = 2.0


class WorkerProgress:
    """One worker's counters, written to a file of its own at most every two seconds.

    Args:
      folder: where the driver looks for them.
    """

    def __init__(self, folder: str):
        self._path = files.join(folder, f"{uuid.uuid4().hex[:12]}.json")
        self._counts = {"clips": 0, "detected": 0, "faces": 0}
        self._written = 0.0

    def add(self, faces: int, detected: bool) -> None:
        """Counts one finished clip."""
        self._counts["clips"] += 1
        self._counts["detected"] += detected
        self._counts["faces"] += faces if detected else 0
        if time.monotonic() - self._written > WORKER_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._written = time.monotonic()
        # A counter that cannot be written must not stop the work that it counts.
        with contextlib.suppress(OSError):
            files.write_bytes(self._path, json.dumps(self._counts).encode())


class ProgressLog(threading.Thread):
    """Logs clips done, faces a second and time left while the block runs.

    Args:
      folder: the workers' counter files.
      clips: how many clips there are.
      seconds: between two lines.
    """

    def __init__(self, folder: str, clips: int, seconds: float):
        super().__init__(daemon=True)
        # No system waits for longer.
        self._folder, self._clips, self._seconds = folder, clips, min(seconds, threading.TIMEOUT_MAX)
        self._done = threading.Event()
        # Set when the first clip is done: start-up says nothing about the rate.
        self._first: tuple[float, dict[str, int]] | None = None

    def __enter__(self) -> ProgressLog:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        last = ""
        while not self._done.wait(self._seconds):
            with contextlib.suppress(OSError, ValueError):
                line = self.line()
                if line != last:
                    _LOGGER.info("%s", line)
                last = line

    def counts(self) -> dict[str, int]:
        """Returns the sum of the workers' counters."""
        total = {"clips": 0, "detected": 0, "faces": 0}
        for path in files.matching(self._folder, "*.json"):
            for key, value in files.read_json(path).items():
                total[key] += value
        return total

    def line(self) -> str:
        """Returns the progress in words."""
        now, counts = time.monotonic(), self.counts()
        # A task that a runner starts again counts its clips again.
        text = f"extract: {min(counts['clips'], self._clips)} of {self._clips} clips"
        if counts["clips"] > counts["detected"]:
            text += f" ({counts['clips'] - counts['detected']} were done before)"
        if self._first is None and counts["detected"]:
            self._first = now, counts
        if self._first is None or now == self._first[0]:
            return text
        seconds, before = now - self._first[0], self._first[1]
        if counts["detected"] > before["detected"]:
            text += f", {(counts['faces'] - before['faces']) / seconds:.1f} faces/s"
            left = (self._clips - counts["clips"]) * seconds / (counts["detected"] - before["detected"])
            text += f", about {_words(left)} left" if counts["clips"] < self._clips else ""
        return text


def _words(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
