"""The decoder's process: reads clips with PyAV and writes their keyframes, or each frame that is asked for, to a pipe.

`fer_tf.faces.video` starts it as `python -m fer_tf.faces.decoder`. It imports numpy and av alone, so it starts
fast and stays small, and a decoder that hangs or crashes takes nothing with it. One request is one JSON line on
standard input; the answer is a sequence of messages, each one JSON line, a frame's followed by its RGB bytes. Without
a rule each frame is told first; a line with 1 then asks for its bytes, one with 0 for the next, and stop ends it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, BinaryIO

import av
import numpy as np

from fer_tf.faces import keyframes, media
from fer_tf.faces.child import MEMORY_BYTES, confine, leave_with_parent
from fer_tf.faces.media import Clip, ClipError, ClipFrame, Frame, Limits, Still

# A clip is decoded once: so many bytes of frames, or so many times as many frames as can be kept, wait as the codec
# left them, and of more those stay that the rule would keep of what came so far. Where that takes more than the most,
# the clip is decoded twice.
WAITING_BYTES, WAITING_TIMES, STAYING_TIMES, MOST_WAITING_BYTES = 32 << 20, 3, 2.5, 400 << 20
BEAT_SECONDS = 0.5
# The resting frame is chosen among so many.
FIRST_FRAMES = 8


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
    """Decodes one file and writes its keyframes, or each frame, and its end message; raises ClipError."""
    limits = Limits(request["max_pixels"], request["max_picture_pixels"])
    with contextlib.closing(media.open(request["path"], limits)) as file:
        if "rule" not in request:
            answer_each(file, request, out)
        elif isinstance(file, Still):
            send_frame(out, file.frame(request["max_side"]))
            send(out, {"kind": "end", "decoded": 1, "kept": 1, "duration": 0.0, "corrupt": 0})
        else:
            answer_video(file, request, out)


class Candidates:
    """The frames of a clip that may still be kept, in memory that does not grow with the clip.

    Args:
      judge: what was seen of all frames.
      rule, limit: how frames are chosen, and how many.
    """

    def __init__(self, judge: Judge, rule: str, limit: int) -> None:
        self._judge, self._rule, self._limit = judge, rule, limit
        self._waiting: dict[int, ClipFrame] = {}
        self._bytes = 0
        # Whether some frames went, and whether all did.
        self._thinned = self._given_up = False

    def add(self, seen: ClipFrame) -> None:
        """Takes the next frame, which was judged."""
        if self._given_up:
            return
        self._waiting[seen.index] = seen
        self._bytes += seen.bytes
        room = max(WAITING_BYTES, max(WAITING_TIMES * self._limit, FIRST_FRAMES + 1) * seen.bytes)
        if room > MOST_WAITING_BYTES:
            room = WAITING_BYTES
            self._given_up = self._bytes > room
        if self._bytes > room:
            self._thin()

    def _thin(self) -> None:
        self._thinned = True
        staying = round(STAYING_TIMES * self._limit)
        chosen = keyframes.thin(self._judge.stats(), self._rule, staying, self._waiting) if not self._given_up else ()
        self._waiting = {number: self._waiting[number] for number in map(int, chosen)}
        self._bytes = sum(seen.bytes for seen in self._waiting.values())

    def kept(self) -> tuple[list[int], list[ClipFrame] | None]:
        """Returns the numbers of the frames to keep, and the frames, or None when they must be decoded again."""
        stats, among = self._judge.stats(), self._waiting if self._thinned else None
        numbers = keyframes.choose(stats, self._rule, self._limit, among).tolist()
        if numbers:
            return numbers, [self._waiting[number] for number in numbers]
        return keyframes.choose(stats, self._rule, self._limit).tolist(), None


def answer_video(clip: Clip, request: dict[str, Any], out: BinaryIO) -> None:
    """Writes a video's keyframes; the rule sees every frame before the first is written."""
    judge = Judge()
    candidates = Candidates(judge, request["rule"], request["limit"])
    beat = time.monotonic()
    for seen in clip.frames():
        judge.add(seen.time, seen.grey())
        candidates.add(seen)
        beat = _beat(out, beat)
    decoded = len(judge.stats())
    if not decoded:
        reason = "truncated" if clip.corrupt or clip.declared else "no_frames"
        raise ClipError(reason, clip.path, "no frame could be decoded")
    if decoded > 1:
        clip.check_whole()
    numbers, frames = candidates.kept()
    if frames is None:
        clip.rewind()
    wanted = set(numbers)
    for seen in clip.frames() if frames is None else frames:
        if seen.index in wanted:
            send_frame(out, seen.frame(request["max_side"]))
            wanted.remove(seen.index)
        beat = _beat(out, beat)
        if not wanted:
            break
    end = {"decoded": decoded, "kept": len(numbers), "duration": clip.duration, "corrupt": clip.corrupt}
    send(out, {"kind": "end", **end})


def answer_each(file: Clip | Still, request: dict[str, Any], out: BinaryIO) -> None:
    """Tells of each frame before it is converted, and writes those that the other side asks for."""
    if isinstance(file, Still):
        told: Iterable = [(0, 0.0, 0.0, lambda: file.frame(request["picture_side"]))]
    else:
        clip, side = file, request["max_side"]
        told = ((seen.index, seen.time, clip.declared, partial(seen.frame, side)) for seen in clip.frames())
    for index, at, seconds, frame in told:
        send(out, {"kind": "seen", "number": index, "time": at, "seconds": seconds, "still": isinstance(file, Still)})
        asked = sys.stdin.readline().strip()
        if not asked:
            raise BrokenPipeError
        if asked == "stop":
            break
        if asked == "1":
            send_frame(out, frame())
    send(out, {"kind": "end"})


def _beat(out: BinaryIO, last: float) -> float:
    """Says twice a second that the process works; returns when it last did."""
    now = time.monotonic()
    if now - last <= BEAT_SECONDS:
        return last
    send(out, {"kind": "beat"})
    return now


def send_frame(out: BinaryIO, frame: Frame) -> None:
    """Writes one frame's message and bytes."""
    message = {"kind": "frame", "index": frame.index, "time": frame.time, "shape": frame.rgb.shape}
    send(out, message | {"shrink": frame.shrink})
    out.write(np.ascontiguousarray(frame.rgb).data)
    out.flush()


def send(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def main() -> int:
    """Answers requests until standard input closes."""
    confine()
    leave_with_parent()
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
