"""What a browser is given to play: the clip itself where it can, else a copy that is made once and kept."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import av

from fer_tf.faces import decoder

_LOGGER = logging.getLogger("serving.review")

# A decoder that is silent for longer is given up, seconds; starting Python on a busy machine takes some of them.
SILENCE_SECONDS = 60.0
PICTURE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
FORM_TYPES = {"mp4": "video/mp4", "webm": "video/webm", "jpg": "image/jpeg"}
# What the browsers of computers, tablets and phones play: H.264 in 8 bit 4:2:0, and the codecs of WebM.
_MP4_PROFILES = ("Baseline", "Constrained Baseline", "Main", "High")
_WEBM_CODECS = ("vp8", "vp9", "av1")


@dataclass(frozen=True)
class Playable:
    """What can be told of a clip now.

    Attributes:
      state: `waiting`, `working`, `ready` or `failed`.
      share: how much is done while working, 0 to 1, or None when the file does not tell its length.
      path: the file to send, when ready.
      media_type: of that file, when ready.
      problem: why it cannot be played, when failed.
    """

    state: str
    share: float | None = None
    path: str = ""
    media_type: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Job:
    source: str
    target: str
    form: str


class Playback:
    """Finds or makes what a browser can play, one clip at a time in the background.

    Args:
      root: the videos' root; nothing outside is opened.
      cache: folder of the copies.
      max_pixels: frames with more pixels are refused.
    """

    def __init__(self, root: str, cache: str, max_pixels: int):
        self._root, self.cache, self._max_pixels = os.path.realpath(root), Path(cache), max_pixels
        self.cache.mkdir(exist_ok=True)
        for unfinished in self.cache.glob(".partial-*"):
            unfinished.unlink()
        self._lock = threading.Lock()
        self._known: dict[str, Playable] = {}
        self._own: dict[tuple, str] = {}
        # Clips on somebody's screen go before those that are made ready for later.
        self._jobs: queue.PriorityQueue = queue.PriorityQueue()
        self._count = 0
        self._process: subprocess.Popen | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the copy that is being made; the next start makes it anew."""
        with self._lock:
            self._closed = True
            if self._process:
                self._process.kill()
        self._jobs.put((0, 0, None))
        self._thread.join()

    def find(self, clip_id: str, code: str, *, form: str = "", urgent: bool = True) -> Playable:
        """Returns what there is to play, and begins to make it where there is nothing.

        Args:
          clip_id: the clip's path below the root.
          code: the clip's opaque name, which its copies bear.
          form: `mp4` or `webm` for a copy in that form; empty for the clip itself where a browser plays it.
          urgent: whether somebody waits for it.
        """
        source = os.path.realpath(os.path.join(self._root, clip_id))
        if os.path.commonpath([source, self._root]) != self._root:
            return Playable("failed", problem="the path leads out of the videos' root")
        try:
            facts = os.stat(source)
        except OSError as error:
            return Playable("failed", problem=error.strerror or "no such file")
        version = (source, facts.st_size, facts.st_mtime_ns)
        own = self._own_type(version)
        if own.startswith("failed:"):
            return Playable("failed", problem=own.removeprefix("failed:"))
        if own in FORM_TYPES.values() and not form:
            return Playable("ready", path=source, media_type=own)
        if own in PICTURE_TYPES.values():
            return Playable("ready", path=source, media_type=own)
        form = "jpg" if own == "image" else form or "mp4"
        target = str(self.cache / f"{code}-{facts.st_size:x}-{facts.st_mtime_ns:x}.{form}")
        return self._copy(_Job(source, target, form), urgent)

    def _own_type(self, version: tuple) -> str:
        with self._lock:
            known = self._own.get(version)
        if known is None:
            known = own_type(version[0], self._max_pixels)
            with self._lock:
                self._own[version] = known
        return known

    def _copy(self, job: _Job, urgent: bool) -> Playable:
        with self._lock:
            known = self._known.get(job.target)
            if known is None and os.path.exists(job.target):
                known = self._known[job.target] = _ready(job)
            if known is not None and (known.state != "waiting" or not urgent):
                return known
            known = self._known[job.target] = Playable("waiting")
            self._count += 1
            self._jobs.put((0 if urgent else 1, self._count, job))
            return known

    def _work(self) -> None:
        while True:
            _, _, job = self._jobs.get()
            if job is None or self._closed:
                return
            with self._lock:
                if self._known[job.target].state != "waiting":
                    continue
                self._known[job.target] = Playable("working", share=0.0)
            try:
                result = self._transcode(job)
            except Exception as error:
                _LOGGER.exception("a copy failed")
                result = Playable("failed", problem=str(error))
            with self._lock:
                self._known[job.target] = result

    def _transcode(self, job: _Job) -> Playable:
        partial = os.path.join(os.path.dirname(job.target), f".partial-{os.path.basename(job.target)}")
        command = [
            sys.executable,
            "-m",
            "serving.review.transcode",
            job.source,
            partial,
            job.form,
            str(self._max_pixels),
        ]
        root = str(Path(__file__).parent.parent.parent)
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        with self._lock:
            if self._closed:
                return Playable("waiting")
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        process = self._process
        try:
            message = self._follow(process, job)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if message["kind"] == "end":
            os.replace(partial, job.target)
            return _ready(job)
        Path(partial).unlink(missing_ok=True)
        return Playable("failed", problem=f"{message['reason'].replace('_', ' ')} ({message['detail']})")

    def _follow(self, process: subprocess.Popen, job: _Job) -> dict:
        buffer = b""
        while True:
            if not select.select([process.stdout], [], [], SILENCE_SECONDS)[0]:
                return {"kind": "error", "reason": "decoder_timeout", "detail": f"silent for {SILENCE_SECONDS:g} s"}
            block = os.read(process.stdout.fileno(), 4096)
            if not block:
                return {"kind": "error", "reason": "decoder_died", "detail": "the decoder crashed"}
            *lines, buffer = (buffer + block).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["kind"] != "progress":
                    return message
                with self._lock:
                    self._known[job.target] = replace(self._known[job.target], share=message["share"])


def _ready(job: _Job) -> Playable:
    return Playable("ready", path=job.target, media_type=FORM_TYPES[job.form])


def own_type(path: str, max_pixels: int) -> str:
    """Returns the media type of a file that browsers play, `image` or `video` for one to copy, or `failed:` and why."""
    try:
        clip = decoder.Clip(path, max_pixels)
    except decoder.Failure as failure:
        return f"failed:{failure.reason.replace('_', ' ')} ({failure.detail})"
    except av.error.FFmpegError as error:
        return f"failed:{error}"
    still = clip.still
    try:
        first = next(clip.frames(), None)
    finally:
        clip.close()
    with av.open(path, options={"protocol_whitelist": "file"}) as container:
        stream = container.streams.video[0]
        codec, name = stream.codec_context, container.format.name
        if still:
            return PICTURE_TYPES.get(codec.name, "image")
        # Browsers choose among several streams by rules of their own, and do not mirror.
        plain = codec.pix_fmt == "yuv420p" and len(container.streams.video) == 1
        plain = plain and first is not None and decoder.display_matrix(first[2]) is None
        if "mp4" in name and codec.name == "h264" and plain and codec.profile in _MP4_PROFILES:
            return "video/mp4"
        # The same reader opens Matroska, which not every browser plays.
        if (
            path.lower().endswith(".webm")
            and "webm" in name
            and codec.name.removeprefix("lib") in _WEBM_CODECS
            and plain
        ):
            return "video/webm"
    return "video"
