"""The one reader of pictures and videos, whatever they are called: `media.open("a.heic")` gives a Still or a Clip.

with contextlib.closing(media.open("holiday.jpg")) as file:
    frames = [file.frame(1920)] if file.still else [seen.frame(1920) for seen in file.frames()]
"""

from __future__ import annotations

import builtins
import mmap
import os
import re
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces import stills
from fer_tf.faces.clips import Clip, ClipFrame
from fer_tf.faces.frame import ClipError, Frame, Limits
from fer_tf.faces.stills import Animation, Still

__all__ = [
    "JPEG_QUALITY",
    "Clip",
    "ClipError",
    "ClipFrame",
    "Frame",
    "Limits",
    "Still",
    "decode",
    "encode_jpeg",
    "encode_png",
    "open",
]

# Of records' faces, real and synthetic, and of those that a network is asked about: it sees what it learned from.
JPEG_QUALITY = 95
# Brands of HEIF files whose main content is a sequence coded as a video.
_SEQUENCES = (b"ftyphevc", b"ftyphevx", b"ftypmsf1")
# What comes instead of a picture or video, by its beginning.
_OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS to the file: get the file itself with `git lfs pull`"),
    (b"<", "a web page, SVG or other XML; a download without login gives one"),
    (b"{", "JSON; a download without login may give one"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive or an office document: unpack it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
)


def open(source: Any, limits: Limits | None = None) -> Still | Clip:
    """Opens a picture or a video; what it is, its content tells and not its name.

    Args:
      source: a path, a file's bytes, a Pillow image, or pixels: uint8 (h, w), (h, w, 3) RGB or (h, w, 4) RGBA.
      limits: how large it may be.

    Raises:
      ClipError: it cannot be read; its `reason` says why.
      InputError: the source is of another kind.
    """
    limits = limits or Limits()
    if isinstance(source, np.ndarray):
        return Still(stills.from_pixels(source), b"", "array", limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _opened(bytes(source), "bytes", limits)
    if isinstance(source, (str, os.PathLike)):
        return _opened(_checked(os.fspath(source)), os.fspath(source), limits)
    if hasattr(source, "getexif"):
        return Still(source, b"", getattr(source, "filename", "") or "image", limits)
    raise InputError(f"`source` must be a path, bytes, an image or uint8 pixels. Received: {type(source).__name__}.")


def open_picture(source: str | bytes, limits: Limits) -> Still | None:
    """Opens a picture that needs no video codec; None for a clip, and for formats that only FFmpeg reads.

    Args:
      source: a path, or a file's bytes.
      limits: how large it may be.

    Raises:
      ClipError: it cannot be read; its `reason` says why.
    """
    path = _checked(source) if isinstance(source, str) else "bytes"
    image = _identified(source, path)
    return None if image is None or stills.is_moving(image) else Still(image, source, path, limits)


def decode(encoded: bytes, channels: int = 3) -> np.ndarray:
    """Returns a record's image, uint8 (h, w, 3) RGB or with `channels` 1 grey (h, w).

    Records hold small JPEGs and PNGs that this project wrote: no turning, no limits, and OpenCV's speed.

    Raises:
      InputError: it cannot be decoded.
    """
    import cv2

    flag = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag) if encoded else None
    if image is None:
        raise InputError(f"an image of {len(encoded)} bytes cannot be decoded; it begins with {encoded[:8]!r}.")
    return image


def encode_jpeg(rgb: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Returns an image, uint8 (h, w, 3) RGB, as JPEG of a quality from 0 to 100."""
    import cv2

    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """Returns an image, uint8 (h, w, 3) RGB or grey (h, w), as PNG."""
    import cv2

    return cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def _checked(path: str) -> str:
    if not os.path.exists(path):
        raise ClipError("missing", path, "no such file")
    if not os.access(path, os.R_OK):
        raise ClipError("missing", path, "it may not be read")
    if not os.path.isfile(path):
        raise ClipError("missing", path, "not a file")
    return path


def _opened(source: str | bytes, path: str, limits: Limits) -> Still | Clip:
    image = _identified(source, path)
    if image is None:
        return _film_or_picture(source, path, limits)
    if stills.is_moving(image):
        return Clip(Animation(image, source, path, limits), path, limits)
    return Still(image, source, path, limits)


def _identified(source: str | bytes, path: str) -> Any:
    """The opened Pillow image of a picture, or None; raises ClipError for an empty file."""
    if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
        raise ClipError("empty_file", path, "0 bytes")
    return None if _is_video(source) else stills.identified(source)


def _film_or_picture(source: str | bytes, path: str, limits: Limits) -> Still | Clip:
    what = _other_kind(source)
    if what:
        raise ClipError("not_a_video", path, what)
    clip = Clip(source, path, limits)
    if not clip.is_picture:
        return clip
    for first in clip.frames():
        return Still(stills.from_pixels(first.frame().rgb), b"", path, limits)
    raise ClipError("not_a_video", path, "a picture that cannot be decoded")


def _other_kind(source: str | bytes) -> str:
    """What a file is that is no picture and no video; empty where its beginning does not tell."""
    head = source[:64] if isinstance(source, bytes) else b""
    if isinstance(source, str):
        with builtins.open(source, "rb") as file:
            head = file.read(64)
    return next((what for begin, what in _OTHERS if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(begin)), "")


def _is_video(source: str | bytes) -> bool:
    """Whether it begins like a picture but is one of many: a HEIF sequence, or JPEGs joined to a film."""
    if isinstance(source, bytes):
        return _begins_a_sequence(source)
    with builtins.open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _begins_a_sequence(data)


def _begins_a_sequence(data: Any) -> bool:
    if data[4:12] in _SEQUENCES:
        return True
    # A photo may bring a second JPEG, of which its MPF block tells; a film brings many and no such block.
    is_jpeg = data[:3] == b"\xff\xd8\xff"
    return is_jpeg and b"MPF\0" not in data[: 1 << 16] and bool(re.search(b"\xff\xd9\xff\xd8\xff", data))
