"""A clip's keyframes, or its frames one by one, as RGB arrays, decoded in a process of their own."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import select
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fer_tf.faces import child
from fer_tf.faces.frame import ClipError, Frame, Limits

T = TypeVar("T")


@dataclass(frozen=True)
class ClipEnd:
    """What the decoder knows after a clip's last frame: counts, seconds, and packets that were damaged."""

    decoded: int
    kept: int
    duration: float
    corrupt: int


@dataclass(frozen=True)
class Told:
    """A frame that is not yet converted: those that nobody looks at cost nothing.

    Attributes:
      number: the frame's number, from 0.
      time: seconds from the first frame.
      frame: makes the upright pixels; before the next frame is told.
      still: whether the file is one picture and no clip.
      seconds: how long the clip says that it is, 0 when it does not say.
      note: a word and a sentence where the file holds more than is looked at.
    """

    number: int
    time: float
    frame: Callable[[], Frame]
    still: bool = False
    seconds: float = 0.0
    note: tuple[str, str] | None = None


def ahead(items: Generator[T, None, None], count: int, cancel: Callable[[], None]) -> Generator[T, None, None]:
    """Yields the items while a thread fetches up to `count` more, so that decoding overlaps the caller's work.

    Args:
      items: a generator; the thread runs it and closes it.
      count: how many items may wait.
      cancel: called when the caller stops early, to free a thread that waits for the next item.
    """
    ready: queue.Queue = queue.Queue(count)
    stop = threading.Event()

    def fetch() -> None:
        try:
            for item in items:
                if not _put(ready, (item, None), stop):
                    return
            _put(ready, (None, StopIteration()), stop)
        except BaseException as error:  # Handed to the caller, who asked for the items.
            _put(ready, (None, error), stop)
        finally:
            items.close()

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    over = False
    try:
        while True:
            item, error = ready.get()
            over = error is not None
            if isinstance(error, StopIteration):
                return
            if over:
                raise error
            yield item
    finally:
        stop.set()
        if not over:
            cancel()
        thread.join()


def _put(ready: queue.Queue, entry: tuple, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(entry, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


# Starting Python and importing the codecs, on a machine that is busy otherwise.
_START_SECONDS = 120.0
# Decoding a frame more, before a process that is not needed further is ended rather than waited for.
_LEAVE_SECONDS = 2.0


class Decoder:
    """Owns the decoder's process: starts it, talks to it, and replaces it when it hangs or dies.

    Args:
      timeout_s: how long the process may be silent; it speaks at least twice a second while it works.
      limits: how large a file may be.
      max_side: longer frames are shrunk to this long side, pixels.
    """

    def __init__(self, timeout_s: float, limits: Limits, max_side: int):
        # No system waits for longer.
        self.timeout_s, self.limits, self.max_side = min(timeout_s, threading.TIMEOUT_MAX), limits, max_side
        self._process: subprocess.Popen | None = None
        self._buffer = b""
        self._guard = threading.Lock()
        self._others: list[Decoder] = []
        self._working: list[Decoder] = []

    @contextlib.contextmanager
    def free(self) -> Iterator[Decoder]:
        """Gives this decoder, or while it works on another file a further one, which ends with this one."""
        with self._guard:
            others = [self, *self._others]
            chosen = next((other for other in others if other not in self._working), None)
            if chosen is None:
                chosen = Decoder(self.timeout_s, self.limits, self.max_side)
                self._others.append(chosen)
            self._working.append(chosen)
        try:
            yield chosen
        finally:
            with self._guard:
                self._working.remove(chosen)

    @property
    def working(self) -> int:
        """How many processes of this decoder's and its further ones are lent, each to a file that is being read."""
        with self._guard:
            return len(self._working)

    def keyframes(self, path: str, rule: str, limit: int) -> Generator[Frame | ClipEnd, None, None]:
        """Yields the clip's keyframes as they are decoded, then one ClipEnd.

        Raises:
          ClipError: the clip cannot be decoded; the next clip finds a working decoder again.
        """
        finished = False
        try:
            with self._told_of(path):
                self._send(self._request(path) | {"rule": rule, "limit": limit})
                while not finished:
                    kind, message = self._message(path)
                    finished = kind == "end"
                    if kind == "end":
                        yield ClipEnd(**message)
                    elif kind == "frame":
                        yield self._frame(message)
        finally:
            if not finished:
                self.close()

    def frames(self, path: str, picture_side: int) -> Generator[Told, None, None]:
        """Yields each frame of a clip, or a picture as one, before it is converted.

        Args:
          path: the file.
          picture_side: a larger picture is shrunk to this long side, pixels.

        Raises:
          ClipError: the file cannot be decoded, or no further; the next one finds a working decoder again.
        """
        finished = False
        # Of the frame that was told last: its number, and whether it is not asked for, on its way, or here.
        told, state = -1, "told"

        def take(number: int) -> Frame:
            nonlocal state
            if (number, state) != (told, "told"):
                raise RuntimeError("a frame is made once, before the next one is told")
            state = "on its way"
            with self._told_of(path):
                self._write("1")
                frame = self._frame(self._message(path)[1])
            state = "here"
            return frame

        try:
            with self._told_of(path):
                self._send(self._request(path) | {"picture_side": picture_side})
                while not finished:
                    kind, message = self._message(path)
                    finished = kind == "end"
                    if kind == "seen":
                        told, state = message["number"], "told"
                        yield Told(frame=partial(take, told), **message)
                        if state == "told":
                            self._write("0")
        except GeneratorExit:
            finished = state != "on its way" and self._left(path, state == "told")
            raise
        finally:
            if not finished:
                self.close()

    def _left(self, path: str, is_asked: bool) -> bool:
        """Has the process stop in the middle of a file; returns whether it has, soon enough, for the next file."""
        patience, self.timeout_s = self.timeout_s, min(self.timeout_s, _LEAVE_SECONDS)
        try:
            kind = "seen" if is_asked else self._message(path)[0]
            if kind == "seen":
                self._write("stop")
                kind = self._message(path)[0]
            return kind == "end"
        except (OSError, EOFError, ClipError):
            return False
        finally:
            self.timeout_s = patience

    def _request(self, path: str) -> dict[str, Any]:
        return {"path": os.path.abspath(path), **asdict(self.limits), "max_side": self.max_side}

    def _message(self, path: str) -> tuple[str, dict[str, Any]]:
        """Returns the process's next message, kind and content; raises ClipError where it tells of one."""
        message = json.loads(self._line())
        kind = message.pop("kind")
        if kind == "error":
            raise ClipError(message["reason"], path, message["detail"])
        return kind, message

    @contextlib.contextmanager
    def _told_of(self, path: str) -> Iterator[None]:
        """Turns what happens to the process into the file's error."""
        try:
            yield
        except TimeoutError:
            raise ClipError("decoder_timeout", path, f"silent for {self.timeout_s:g} s, stopped") from None
        except (EOFError, BrokenPipeError):
            raise ClipError("decoder_died", path, self._how_it_died()) from None

    @property
    def pid(self) -> int | None:
        """The decoder's process id, or None while none runs."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Kills the process while another thread may wait for it; that thread then closes it."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Ends the process, and those that helped it; who still waits for a frame is told that the decoder died."""
        for other in self._others:
            other.close()
        process, self._process, self._buffer = self._process, None, b""
        if process is None:
            return
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()

    def _send(self, request: dict[str, Any]) -> None:
        for _ in range(2):  # A process that died between clips is nobody's fault: the second is a fresh one.
            if self._process is None:
                self._start()
            try:
                self._write(json.dumps(request))
                return
            except BrokenPipeError:
                self.close()
        raise EOFError

    def _write(self, line: str) -> None:
        with self._open() as process:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    @contextlib.contextmanager
    def _open(self) -> Iterator[subprocess.Popen]:
        """Gives the process; EOFError where another thread has closed it, before or in the block."""
        process = self._process
        if process is None:
            raise EOFError
        try:
            yield process
        except ValueError:  # Of a pipe that is closed.
            raise EOFError from None
        except OSError as error:
            if error.errno == errno.EBADF:
                raise EOFError from None
            raise

    def _start(self) -> None:
        self._process = child.start("fer_tf.faces.decoder", pipesize=1 << 20)
        self._buffer = b""
        self._line(_START_SECONDS)

    def _frame(self, message: dict[str, Any]) -> Frame:
        rgb = np.empty(message["shape"], np.uint8)
        view = memoryview(rgb).cast("B")
        have = min(len(self._buffer), len(view))
        view[:have] = self._buffer[:have]
        self._buffer = self._buffer[have:]
        while have < len(view):
            with self._ready() as process:
                count = process.stdout.readinto(view[have:])
            if not count:
                raise EOFError
            have += count
        return Frame(rgb, message["index"], message["time"], message["shrink"])

    def _line(self, timeout_s: float | None = None) -> bytes:
        while b"\n" not in self._buffer:
            with self._ready(timeout_s) as process:
                data = os.read(process.stdout.fileno(), 4096)
            if not data:
                raise EOFError
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    @contextlib.contextmanager
    def _ready(self, timeout_s: float | None = None) -> Iterator[subprocess.Popen]:
        """Gives the process once it has said something; TimeoutError when it is silent, EOFError when it is closed."""
        with self._open() as process:
            if not select.select([process.stdout], [], [], timeout_s or self.timeout_s)[0]:
                raise TimeoutError
            yield process

    def _how_it_died(self) -> str:
        process = self._process
        if process is None:
            return "it was closed"
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"signal {-code}" if code < 0 else f"exit code {code}"
