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
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np

from fer_tf.faces import keyframes

# A clip is decoded once when its frames fit in here as the codec left them, else twice.
CACHE_BYTES = 32 << 20
BEAT_SECONDS = 0.5
# A file that makes a codec ask for more than this is refused; 8K frames need about one eighth.
MEMORY_BYTES = 8 << 30
# Frames are judged on a grey image of this long side: faces still show, codec noise does not.
JUDGE_SIDE = 96
# A clip that ends before this share of its declared length was cut off.
WHOLE_SHARE = 0.9


class Failure(Exception):
    """A clip that cannot be used; `reason` is a ClipError reason."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def upright(rgb: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turns an image as its display matrix (2 x 2, signs only) says: quarter turns and mirror images."""
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if abs(b) > abs(a):
        rgb = rgb.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """The four rotation terms (a, b, c, d) of a frame's display matrix, or None when it is upright."""
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5] / 65536.0
    return None if a > 0 and d > 0 and abs(a) > abs(b) else np.array([a, b, c, d])


class Clip:
    """One open video or still image.

    Args:
      path: a local file.
      max_pixels: frames with more pixels are refused.

    Attributes:
      still: whether the file is one image and no video.
      declared: the length that the file states, seconds; 0 when it states none.
      duration: the length that the last pass decoded, seconds.
      corrupt: how many packets of the last pass were damaged.
      aspect: a pixel's width by its height; seldom other than 1.
    """

    def __init__(self, path: str, max_pixels: int):
        self.path, self.max_pixels = path, max_pixels
        self.duration, self.corrupt = 0.0, 0
        self._container = _opened(path)
        stream = self._container.streams.video[0]
        self._refuse_large(stream.codec_context)
        name = self._container.format.name
        self.still = name == "image2" or name.endswith("_pipe")
        self.declared = float(stream.duration * stream.time_base) if stream.duration else 0.0
        self.aspect = float(stream.sample_aspect_ratio or 1)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def rewind(self) -> None:
        """Opens the file again: not every format can seek back to its first frame."""
        self._container.close()
        self._container = _opened(self.path)

    def frames(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Yields every frame with its number and its time in seconds from the clip's first frame; once per opening."""
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate = float(stream.average_rate or 25)
        self.corrupt, number, start, last = 0, 0, None, 0.0
        for frame in self._decoded(stream):
            self._refuse_large(frame)
            at = frame.time if frame.time is not None else number / rate
            start = at if start is None else start
            last = max(last, at - start)
            yield number, last, frame
            number += 1
        self.duration = last + 1 / rate if number else 0.0

    def _refuse_large(self, size: Any) -> None:
        if size.width * size.height > self.max_pixels:
            raise Failure("too_large", f"{size.width} x {size.height} pixels")

    def _decoded(self, stream: Any) -> Iterator[av.VideoFrame]:
        """Decodes packet by packet, so that one damaged packet costs only its own frames."""
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                # The container itself is damaged here: what follows cannot be found.
                self.corrupt += 1
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                self.corrupt += 1


def _opened(path: str) -> Any:
    if not os.path.isfile(path):
        raise Failure("missing", "not a file" if os.path.exists(path) else "no such file")
    try:
        # A playlist under a video's name must not make the decoder fetch what it lists.
        container = av.open(path, options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise Failure(*_why_not_open(path, error)) from error
    if not container.streams.video:
        container.close()
        raise Failure("not_a_video", "no video stream")
    return container


def _why_not_open(path: str, error: Exception) -> tuple[str, str]:
    if os.path.getsize(path) == 0:
        return "empty_file", "0 bytes"
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "truncated", "an MP4 or MOV file without its index (the moov atom)"
    return "not_a_video", str(error).split(":", 1)[0].strip() or type(error).__name__


def read_still(path: str) -> np.ndarray:
    """An image as upright uint8 RGB; OpenCV knows the mirrored EXIF orientations too, which PyAV does not."""
    import cv2

    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise Failure("not_a_video", "an image that cannot be decoded")
    return image


def grey(frame: av.VideoFrame) -> np.ndarray:
    """A small float32 grey image of the frame as stored, for judging it."""
    scale = JUDGE_SIDE / max(frame.width, frame.height)
    width, height = max(8, round(frame.width * scale)), max(8, round(frame.height * scale))
    return frame.reformat(width, height, "gray", interpolation="AREA").to_ndarray().astype(np.float32)


class Judge:
    """Collects the keyframe rules' numbers frame by frame."""

    def __init__(self) -> None:
        self._rows = array.array("d")
        self.rest = self.before = None

    def add(self, at: float, image: np.ndarray) -> None:
        if self.rest is None or image.shape != self.rest.shape:
            self.rest = self.before = image
        detail = np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()
        self._rows.extend((at, np.abs(image - self.rest).mean(), np.abs(image - self.before).mean(), detail))
        self.before = image

    def stats(self) -> keyframes.FrameStats:
        return keyframes.FrameStats(*np.array(self._rows).reshape(-1, 4).T)

    def __len__(self) -> int:
        return len(self._rows) // 4


def answer(request: dict[str, Any], out: BinaryIO) -> None:
    """Decodes one clip and writes its keyframes and its end message; raises Failure."""
    with contextlib.closing(Clip(request["path"], request["max_pixels"])) as clip:
        (answer_still if clip.still else answer_video)(clip, request, out)


def answer_still(clip: Clip, request: dict[str, Any], out: BinaryIO) -> None:
    """Writes an image as a clip of one frame."""
    import cv2

    rgb = read_still(clip.path)
    shrink = min(1.0, request["max_side"] / max(rgb.shape[:2]))
    if shrink < 1:
        size = (round(rgb.shape[1] * shrink), round(rgb.shape[0] * shrink))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    send_frame(out, 0, 0.0, rgb, shrink)
    send(out, {"kind": "end", "decoded": 1, "kept": 1, "duration": 0.0, "corrupt": 0})


def answer_video(clip: Clip, request: dict[str, Any], out: BinaryIO) -> None:
    """Writes a video's keyframes; the rule sees every frame before the first is written."""
    judge, cache, cached_bytes = Judge(), [], 0
    beat = time.monotonic()
    for number, at, frame in clip.frames():
        judge.add(at, grey(frame))
        if cache is not None:
            cached_bytes += sum(plane.buffer_size for plane in frame.planes)
            cache.append((number, at, frame))
            if cached_bytes > CACHE_BYTES:
                cache = None
        if time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            send(out, {"kind": "beat"})
    decoded = len(judge)
    if not decoded:
        raise Failure("truncated" if clip.corrupt or clip.declared else "no_frames", "no frame could be decoded")
    if decoded > 1 and clip.duration < WHOLE_SHARE * clip.declared:
        raise Failure("truncated", f"{clip.duration:.2f} s of {clip.declared:.2f} s could be decoded")
    kept = set(keyframes.choose(judge.stats(), request["rule"], request["limit"]).tolist())
    if cache is None:
        clip.rewind()
    for number, at, frame in cache if cache is not None else clip.frames():
        if number in kept:
            send_frame(out, number, at, *rgb_of(frame, request["max_side"], clip.aspect))
        elif time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            send(out, {"kind": "beat"})
    send(
        out, {"kind": "end", "decoded": decoded, "kept": len(kept), "duration": clip.duration, "corrupt": clip.corrupt}
    )


def rgb_of(frame: av.VideoFrame, max_side: int, aspect: float = 1.0) -> tuple[np.ndarray, float]:
    """Returns a frame as upright RGB with square pixels and by how much it was shrunk to fit `max_side`."""
    wide = frame.width * aspect
    shrink = min(1.0, max_side / max(wide, frame.height))
    width, height = max(1, round(wide * shrink)), max(1, round(frame.height * shrink))
    rgb = frame.reformat(width, height, "rgb24", interpolation="AREA" if shrink < 1 else "BILINEAR").to_ndarray()
    return upright(rgb, display_matrix(frame)), shrink


def send_frame(out: BinaryIO, number: int, at: float, rgb: np.ndarray, shrink: float) -> None:
    """Writes one frame's message and bytes."""
    send(out, {"kind": "frame", "index": number, "time": at, "shape": rgb.shape, "shrink": shrink})
    out.write(np.ascontiguousarray(rgb).data)
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
        except Failure as failure:
            send(out, {"kind": "error", "reason": failure.reason, "detail": failure.detail})
        except BrokenPipeError:
            return 1
        except Exception as error:  # Whatever a broken file makes the decoder raise is that file's error.
            send(out, {"kind": "error", "reason": "not_a_video", "detail": f"{type(error).__name__}: {error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
