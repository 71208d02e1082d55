"""Videos by FFmpeg (PyAV), and moving pictures as if they were videos: frames with their times, one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fer_tf.faces.frame import ClipError, Frame, Limits

T = TypeVar("T")

# Frames are judged on a grey image of this long side: faces still show, codec noise does not.
JUDGE_SIDE = 96
# A clip that ends before this share of its declared length was cut off.
WHOLE_SHARE = 0.9
# A clock that goes back by more than this was set anew; less is disorder of the frames. Forwards, as FFmpeg's own
# programs have it, only in formats whose clocks may jump.
BACK_S, FORWARD_S = 0.2, 10.0
# FFmpeg's dispositions of streams that are no film: attached_pic, timed_thumbnails, dependent (tiles of a picture).
NO_FILM = 1 << 10 | 1 << 11 | 1 << 19
# Lists of other files. A file is read for what it holds: a list that somebody hands in must not show what lies here.
LISTS = ("hls", "concat", "dash", "imf")
# Beside a film, a stream of one of these holds previews.
PICTURE_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff", "gif")


def optional(look_up: Callable[[], T], default: T) -> T:
    """Returns what a look-up gives that the work can do without.

    FFmpeg names more kinds of side data, flags and colours than PyAV knows, and PyAV raises at each it does not know.
    """
    try:
        return look_up()
    except Exception:
        return default


@dataclass(frozen=True)
class ClipFrame:
    """A decoded frame that is not yet converted: most frames of a clip are only judged.

    Attributes:
      index: the frame's number in the clip, from 0.
      time: seconds from the clip's first frame.
      image: as the codec left it.
      aspect: a pixel's width by its height; seldom other than 1.
      unit_side: the long side of the clip's first frame, pixels: the clip's unit.
      to_grey, to_rgb: the clip's converters; making one anew for each frame costs more than converting.
    """

    index: int
    time: float
    image: av.VideoFrame
    aspect: float
    unit_side: float
    to_grey: VideoReformatter
    to_rgb: VideoReformatter

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return sum(plane.buffer_size for plane in self.image.planes)

    def grey(self) -> np.ndarray:
        """Returns a small float32 grey image of the frame as stored, for judging it."""
        scale = JUDGE_SIDE / max(self.image.width, self.image.height)
        width, height = max(8, round(self.image.width * scale)), max(8, round(self.image.height * scale))
        grey = self.to_grey.reformat(self.image, width, height, "gray", interpolation="AREA")
        return grey.to_ndarray().astype(np.float32)

    def frame(self, max_side: int = 0) -> Frame:
        """Returns the frame as upright RGB with square pixels, its long side at most `max_side` (0 for any)."""
        wide, high = self.image.width * self.aspect, self.image.height
        share = min(1.0, max_side / max(wide, high)) if max_side else 1.0
        width, height = max(1, round(wide * share)), max(1, round(high * share))
        how = "AREA" if share < 1 else "BILINEAR"
        rgb = self.to_rgb.reformat(self.image, width, height, "rgb24", interpolation=how).to_ndarray()
        shrink = share * max(wide, high) / self.unit_side
        return Frame(upright(rgb, display_matrix(self.image)), self.index, self.time, shrink)


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


def display_matrix(image: av.VideoFrame) -> np.ndarray | None:
    """The four rotation terms (a, b, c, d) of a frame's display matrix, or None when it is upright."""
    try:
        side = image.side_data.get("DISPLAYMATRIX")
    except Exception:
        # One kind that PyAV does not know hides all of them; the angle alone has a way of its own.
        angle = np.deg2rad(optional(lambda: image.rotation, 0))
        a, b, c, d = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    else:
        if side is None:
            return None
        a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5] / 65536.0
    return None if a > 0 and d > 0 and abs(a) > abs(b) else np.array([a, b, c, d])


class Clip:
    """One open video, or the frames of a moving picture.

    Args:
      source: a path, a video's bytes, or a `stills.Animation`.
      path: the file's name for errors.
      limits: how large its frames may be.

    Attributes:
      still: False; a Still's is True.
      declared: the length that the file states, seconds; 0 when it states none.
      duration: the length that the last pass decoded, seconds.
      corrupt: how many packets of the last pass were damaged.

    Raises:
      ClipError: it cannot be opened, or has no video.
    """

    still = False

    def __init__(self, source: Any, path: str, limits: Limits):
        self.path, self._limits = path, limits
        self.duration, self.corrupt = 0.0, 0
        self._film = (_Film if isinstance(source, (str, bytes)) else _Flipbook)(source, path)
        limits.check(path, *self._film.size)
        self.declared = self._film.declared

    @property
    def is_picture(self) -> bool:
        """Whether it is one picture of a format that only FFmpeg reads."""
        return self._film.is_picture

    def close(self) -> None:
        """Closes the file."""
        self._film.close()

    def rewind(self) -> None:
        """Opens the file again: not every format can seek back to its first frame."""
        self._film = self._film.again()

    def frames(self) -> Iterator[ClipFrame]:
        """Yields every frame; once per opening.

        Raises:
          ClipError: a frame is too large.
        """
        clock = _Clock(self._film.may_jump)
        unit_side, converters = 0.0, (VideoReformatter(), VideoReformatter())
        for number, (image, at, lasting) in enumerate(self._film):
            self._limits.check(self.path, image.width, image.height)
            unit_side = unit_side or max(image.width * self._film.aspect, image.height)
            yield ClipFrame(number, clock.tick(at, lasting), image, self._film.aspect, unit_side, *converters)
        self.corrupt, self.duration = self._film.corrupt, clock.end

    def check_whole(self) -> None:
        """Raises ClipError `truncated` when the pass that just ended met less than the file declares."""
        if self.duration < WHOLE_SHARE * self._film.promised and not self._film.all_packets_came:
            detail = f"{self.duration:.2f} s of {self._film.promised:.2f} s could be decoded"
            raise ClipError("truncated", self.path, detail)


class _Clock:
    """Makes one time line of frames whose own clock may be missing, stand still, or start anew."""

    def __init__(self, may_jump: bool):
        self._may_jump, self._shift, self._last, self.end = may_jump, None, 0.0, 0.0

    def tick(self, at: float | None, lasting: float) -> float:
        """Returns the time of the next frame from its own clock, seconds; its length gives the end."""
        if at is None:
            time = self.end
        elif self._shift is None:
            self._shift, time = -at, 0.0
        else:
            time = at + self._shift
            if time < self._last - BACK_S or (self._may_jump and time > self.end + FORWARD_S):
                self._shift += self.end - time
                time = self.end
        self._last = max(self._last, time)
        self.end = max(self.end, self._last + lasting)
        return self._last


class _Film:
    """A video's best stream."""

    def __init__(self, source: str | bytes, path: str):
        self._source, self._path = source, path
        self._container = _opened(source, path)
        name = self._container.format.name
        if name in LISTS:
            self.close()
            raise ClipError("not_a_video", path, f"a list of other files ({name}): name those")
        self._stream = _best_stream(self._container, path)
        context = self._stream.codec_context
        self.size = context.width, context.height
        timeless = self._stream.frames == 1 and not self._stream.duration and not self._container.duration
        self.is_picture = name in ("image2", "ico") or name.endswith("_pipe") or timeless
        self.may_jump = bool(self._container.format.flags & av.format.Flags.ts_discont.value)
        seconds = float(self._stream.duration * self._stream.time_base) if self._stream.duration else 0.0
        # Where clocks may jump, FFmpeg guesses the length from the first and the last.
        self.promised = 0.0 if self.may_jump else seconds
        self.declared = seconds or (self._container.duration or 0) / av.time_base
        self.aspect = float(optional(lambda: self._stream.sample_aspect_ratio, None) or 1)
        self.corrupt, self._packets = 0, 0

    @property
    def all_packets_came(self) -> bool:
        """Whether every frame that the file lists was there: the last one may be held for long."""
        return not self.corrupt and 0 < WHOLE_SHARE * self._stream.frames <= self._packets

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, float | None, float]]:
        self._stream.codec_context.thread_count = 1
        usual = float(1 / (self._stream.average_rate or 25))
        for image in self._decoded():
            lasting = optional(lambda image=image: float(image.duration * image.time_base), 0.0)
            yield image, optional(lambda image=image: image.time, None), lasting or usual

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decodes packet by packet, so that one damaged packet costs only its own frames."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                # The container itself is damaged here: what follows cannot be found.
                self.corrupt += 1
                return
            if packet is None:
                return
            self._packets += packet.size > 0
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self.corrupt += 1

    def again(self) -> _Film:
        self.close()
        return _Film(self._source, self._path)

    def close(self) -> None:
        self._container.close()


class _Flipbook:
    """A moving picture as a video's stream."""

    aspect, may_jump, is_picture, all_packets_came = 1.0, False, False, False
    declared = promised = 0.0

    def __init__(self, animation: Any, path: str):
        self._animation, self.size, self.corrupt = animation, animation.size, 0

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, float | None, float]]:
        at = Fraction(0)
        try:
            for lasting, rgb in self._animation:
                yield av.VideoFrame.from_ndarray(rgb, "rgb24"), float(at), lasting
                at += Fraction(lasting).limit_denominator(1000)
        except ClipError:
            self.corrupt += 1  # As in a video, what came before the damage counts.

    def again(self) -> _Flipbook:
        return _Flipbook(self._animation, "")

    def close(self) -> None:
        self._animation.close()


def _opened(source: str | bytes, path: str) -> Any:
    # With its protocol, a colon in a file's name is none. A playlist under a video's name must not make FFmpeg fetch
    # what it lists. Words in a foreign coding are no reason to refuse a video.
    file = f"file:{source}" if isinstance(source, str) else io.BytesIO(source)
    try:
        return av.open(file, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ClipError(*_why_not_open(source, path, error)) from error


def _why_not_open(source: str | bytes, path: str, error: Exception) -> tuple[str, str, str]:
    head = source[:12]
    if isinstance(source, str):
        with open(source, "rb") as file:
            head = file.read(12)
    if head[4:8] == b"ftyp":
        return "truncated", path, "an MP4 or MOV file without its index (the moov atom)"
    # Without FFmpeg's number of the error and the file's name.
    told = getattr(error, "strerror", "") or str(error)
    return "not_a_video", path, told.split(":", 1)[0].strip() or type(error).__name__


def _best_stream(container: Any, path: str) -> Any:
    """The stream with the most to see, pixels times seconds; covers, thumbnails and tiles do not count."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    films = [stream for stream in streams if not _flags(stream) & NO_FILM]
    if not films:
        container.close()
        covers = f"its {len(streams)} pictures are covers or parts of another" if streams else "no video stream"
        raise ClipError("not_a_video", path, covers)
    return max(films, key=lambda stream: (*_to_see(stream, container), _flags(stream) & 1, -stream.index))


def _flags(stream: Any) -> int:
    return optional(lambda: int(stream.disposition.value), 0)


def _to_see(stream: Any, container: Any) -> tuple[bool, float]:
    """Whether it is moving pictures, and pixels times seconds."""
    context = stream.codec_context
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not seconds and stream.frames:
        seconds = stream.frames / float(stream.average_rate or 25)
    seconds = seconds or (container.duration or av.time_base) / av.time_base
    moving = stream.frames != 1 and context.name not in PICTURE_CODECS
    return moving, max(context.width, 1) * max(context.height, 1) * seconds
