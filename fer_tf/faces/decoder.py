"""The decoder's process: reads clips with PyAV and writes their keyframes to a pipe.

`fer_tf.faces.video` starts it as `python -m fer_tf.faces.decoder`. It imports numpy and av alone, so it starts
fast and stays small, and a decoder that hangs or crashes takes nothing with it. One request is one JSON line on
standard input; the answer is a sequence of messages, each one JSON line, a frame's followed by its RGB bytes.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

import av
import numpy as np

from fer_tf.faces import keyframes, media
from fer_tf.faces.media import Clip, ClipError, Frame, Limits, Still

# A clip is decoded once when its frames fit in here as the codec left them, else twice.
CACHE_BYTES = 32 << 20
BEAT_SECONDS = 0.5
# The resting frame is chosen among so many.
FIRST_FRAMES = 8
# A file that makes a codec ask for more than this is refused; 8K frames need about one eighth.
MEMORY_BYTES = 8 << 30


class Judge:
    """Collects the keyframe rules' numbers frame by frame."""

    def __init__(self) -> None:
        self._rows = array.array("d")
        self._first: list[tuple[float, np.ndarray]] = []
        self._rest: Any = None
        self._before: Any = None

    def add(self, at: float, image: np.ndarray) -> None:
        """Looks at the next frame: its time in seconds and its float grey image."""
        if self._rest is None and (not self._first or image.shape == self._first[0][1].shape):
            self._first.append((at, image))
            if len(self._first) < FIRST_FRAMES:
                return
            self._settle()
        else:
            self._settle()
            self._judge(at, image)

    def _settle(self) -> None:
        """Chooses the resting frame among the first ones and judges these."""
        if self._rest is None and self._first:
            self._rest = self._first[keyframes.first_at_rest([image for _, image in self._first])][1]
            self._before = self._first[0][1]
            for at, image in self._first:
                self._judge(at, image)

    def _judge(self, at: float, image: np.ndarray) -> None:
        if image.shape != self._rest.shape:
            self._rest = self._before = image
        detail = np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()
        self._rows.extend((at, np.abs(image - self._rest).mean(), np.abs(image - self._before).mean(), detail))
        self._before = image

    def stats(self) -> keyframes.FrameStats:
        """Returns what was seen."""
        self._settle()
        return keyframes.FrameStats(*np.array(self._rows).reshape(-1, 4).T)


def answer(request: dict[str, Any], out: BinaryIO) -> None:
    """Decodes one file and writes its keyframes and its end message; raises ClipError."""
    limits = Limits(request["max_pixels"], request["max_picture_pixels"])
    with contextlib.closing(media.open(request["path"], limits)) as file:
        if isinstance(file, Still):
            send_frame(out, file.frame(request["max_side"]))
            send(out, {"kind": "end", "decoded": 1, "kept": 1, "duration": 0.0, "corrupt": 0})
        else:
            answer_video(file, request, out)


def answer_video(clip: Clip, request: dict[str, Any], out: BinaryIO) -> None:
    """Writes a video's keyframes; the rule sees every frame before the first is written."""
    judge, cache, cached_bytes = Judge(), [], 0
    beat = time.monotonic()
    for seen in clip.frames():
        judge.add(seen.time, seen.grey())
        if cache is not None:
            cached_bytes += seen.bytes
            cache.append(seen)
            if cached_bytes > CACHE_BYTES:
                cache = None
        if time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            send(out, {"kind": "beat"})
    stats = judge.stats()
    decoded = len(stats)
    if not decoded:
        reason = "truncated" if clip.corrupt or clip.declared else "no_frames"
        raise ClipError(reason, clip.path, "no frame could be decoded")
    if decoded > 1:
        clip.check_whole()
    kept = set(keyframes.choose(stats, request["rule"], request["limit"]).tolist())
    if cache is None:
        clip.rewind()
    for seen in cache if cache is not None else clip.frames():
        if seen.index in kept:
            send_frame(out, seen.frame(request["max_side"]))
        elif time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            send(out, {"kind": "beat"})
    send(
        out, {"kind": "end", "decoded": decoded, "kept": len(kept), "duration": clip.duration, "corrupt": clip.corrupt}
    )


def send_frame(out: BinaryIO, frame: Frame) -> None:
    """Writes one frame's message and bytes."""
    message = {"kind": "frame", "index": frame.index, "time": frame.time, "shape": frame.rgb.shape}
    send(out, message | {"shrink": frame.shrink})
    out.write(np.ascontiguousarray(frame.rgb).data)
    out.flush()


def send(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _leave_with_parent() -> None:
    """Ends the process when its parent is gone, even while a decoder hangs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Answers requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _leave_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    av.logging.set_level(av.logging.PANIC)
    send(out, {"kind": "ready"})
    for line in sys.stdin:
        try:
            answer(json.loads(line), out)
        except ClipError as failure:
            send(out, {"kind": "error", "reason": failure.reason, "detail": failure.detail})
        except BrokenPipeError:
            return 1
        except MemoryError:
            detail = f"its codec asks for more than {MEMORY_BYTES >> 30} GiB of memory"
            send(out, {"kind": "error", "reason": "too_large", "detail": detail})
        except Exception as error:  # Whatever a broken file makes the decoder raise is that file's error.
            send(out, {"kind": "error", "reason": "not_a_video", "detail": f"{type(error).__name__}: {error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
