"""What a browser is given to play: the clip itself where it can, else a copy that is made once and kept."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fer_tf.data.located import as_it_is_called
from fer_tf.faces import child
from fer_tf.files import UNFINISHED

_LOGGER = logging.getLogger("serving.review")

# Files that are looked at or copied at the same time.
WORKERS = 2
# A decoder that is silent for longer is given up, seconds; starting Python on a busy machine takes some of them.
SILENCE_SECONDS = 60.0
# A full disk, or too little memory, is forgotten after so long.
AGAIN_SECONDS = 60.0
TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Playable:
    """What can be told of a clip now.

    Attributes:
      state: `waiting`, `working`, `ready` or `failed`.
      share: how much is done while working, 0 to 1, or None when the file does not tell its length.
      path: the file to send, when ready.
      media_type: of that file, when ready.
      problem: why it cannot be played, when failed.
      again: when it is tried again, where the server and not the clip is to blame, by `time.monotonic`.
    """

    state: str
    share: float | None = None
    path: str = ""
    media_type: str = ""
    problem: str = ""
    again: float | None = None


def _in_vain(problem: str, passing: bool) -> Playable:
    return Playable("failed", problem=problem, again=time.monotonic() + AGAIN_SECONDS if passing else None)


@dataclass(frozen=True)
class _Job:
    """One clip in one form; `target` is the copy's path without its suffix."""

    source: str
    target: str
    form: str


class Playback:
    """Finds or makes what a browser can play, in the background.

    Args:
      root: the videos' root; nothing outside is opened.
      cache: folder of the copies.
    """

    def __init__(self, root: str, cache: str):
        self._root, self.cache = os.path.realpath(root), Path(cache)
        self.cache.mkdir(exist_ok=True)
        for unfinished in self.cache.glob(f"{UNFINISHED}*"):
            unfinished.unlink()
        self._lock = threading.Lock()
        self._known: dict[_Job, Playable] = {}
        self._problems: dict[str, str] = {}
        # Clips on somebody's screen go before those that are made ready for later.
        self._jobs: queue.PriorityQueue = queue.PriorityQueue()
        self._count = 0
        self._workers = [_Worker() for _ in range(WORKERS)]
        self._threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends what is being done; the next start does it anew."""
        for worker in self._workers:
            worker.close()
        for _ in self._threads:
            self._jobs.put((-1, 0, None))
        for thread in self._threads:
            thread.join()

    def find(self, clip_id: str, code: str, *, form: str = "", urgent: bool = True) -> Playable:
        """Returns what there is to play, and begins to look for it where that is not known.

        Args:
          clip_id: the clip's path below the root.
          code: the clip's opaque name, which its copies bear.
          form: `mp4` or `webm` for a copy in that form; empty for the clip itself where a browser plays it.
          urgent: whether somebody waits for it.
        """
        found = self._find(clip_id, code, form, urgent)
        with self._lock:
            self._problems.pop(clip_id, None)
            if found.state == "failed":
                self._problems[clip_id] = found.problem
        return found

    def _find(self, clip_id: str, code: str, form: str, urgent: bool) -> Playable:
        # As the build finds it: annotations and disks spell a name in different ways.
        source = os.path.realpath(as_it_is_called(self._root, clip_id))
        if os.path.commonpath([source, self._root]) != self._root:
            return Playable("failed", problem="the path leads out of the videos' root")
        try:
            facts = os.stat(source)
        except OSError as error:
            return Playable("failed", problem=error.strerror or "no such file")
        # Another size or time is another clip.
        job = _Job(source, str(self.cache / f"{code}-{facts.st_size:x}-{facts.st_mtime_ns:x}"), form)
        with self._lock:
            known = self._known.get(job)
            if known is None or (known.again is not None and time.monotonic() > known.again):
                known = self._kept(job)
            if known is None or (known.state == "waiting" and urgent):
                known = Playable("waiting")
                self._count += 1
                self._jobs.put((0 if urgent else 1, self._count, job))
            self._known[job] = known
            return known

    def problems(self) -> list[tuple[str, str]]:
        """Returns the clips that were asked for last time in vain, each with why it cannot be played."""
        with self._lock:
            return sorted(self._problems.items())

    def _kept(self, job: _Job) -> Playable | None:
        """Returns the copy that an earlier start made."""
        for suffix in (f".{job.form}",) if job.form else TYPES:
            # That a browser asked for WebM does not mean that the next one does.
            if suffix != ".webm" or job.form:
                path = job.target + suffix
                if os.path.exists(path):
                    return Playable("ready", path=path, media_type=TYPES[suffix])
        return None

    def _work(self, worker: _Worker) -> None:
        while True:
            _, _, job = self._jobs.get()
            if job is None:
                worker.close()
                return
            with self._lock:
                if self._known[job].state != "waiting":
                    continue
                self._known[job] = Playable("working", share=0.0)
            try:
                result = self._result(worker, job)
            except Exception as error:
                _LOGGER.exception("a clip could not be made playable")
                # Its words may hold a path.
                reason = isinstance(error, OSError) and error.strerror
                result = _in_vain(reason or type(error).__name__, passing=True)
            with self._lock:
                self._known[job] = result

    def _result(self, worker: _Worker, job: _Job) -> Playable:
        folder, name = os.path.split(job.target)
        # A worker that copies for one form must not meet another that copies for the next.
        partial = os.path.join(folder, f"{UNFINISHED}{name}-{job.form}")
        told = {}
        for told in worker.steps({"source": job.source, "target": partial, "form": job.form}):
            if told["kind"] == "progress":
                with self._lock:
                    self._known[job] = replace(self._known[job], share=told["share"])
        if told["kind"] == "own":
            return Playable("ready", path=job.source, media_type=told["type"])
        if told["kind"] == "end":
            path = job.target + told["suffix"]
            os.replace(partial + told["suffix"], path)
            return Playable("ready", path=path, media_type=TYPES[told["suffix"]])
        for unfinished in self.cache.glob(f"{os.path.basename(partial)}.*"):
            unfinished.unlink()
        return _in_vain(told["problem"], told.get("passing", False))


class _Worker:
    """Owns a process that looks at clips; a new one takes the place of one that hangs or dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._closed = False

    def steps(self, request: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yields what the process says of a request, the last message last."""
        process, buffer = self._started(), b""
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            while True:
                if not select.select([process.stdout], [], [], SILENCE_SECONDS)[0]:
                    process.kill()
                    problem = f"the decoder was silent for {SILENCE_SECONDS:g} s"
                    yield {"kind": "error", "problem": problem, "passing": True}
                    return
                block = os.read(process.stdout.fileno(), 4096)
                if not block:
                    yield {"kind": "error", "problem": "the decoder crashed"}
                    return
                *lines, buffer = (buffer + block).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    yield message
                    if message["kind"] != "progress":
                        return
        except BrokenPipeError:
            yield {"kind": "error", "problem": "the decoder crashed"}

    def close(self) -> None:
        """Ends the process, whatever it does; no other is started."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()

    def _started(self) -> subprocess.Popen:
        with self._lock:
            if self._closed:
                raise RuntimeError("the page is being closed")
            if self._process is not None and self._process.poll() is None:
                return self._process
            self._process = child.start("serving.review.transcode")
            return self._process
