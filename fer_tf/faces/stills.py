"""Pictures, still and moving, by Pillow: JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC, AVIF and their like."""

from __future__ import annotations

import contextlib
import io
import itertools
import pathlib
import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces import tiff_pages
from fer_tf.faces.frame import ClipError, Frame, Limits

# Pillow knows more formats: documents, some that start other programs, and some that are not told by their content.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF", "JPEG2000", "PPM", "SGI", "QOI", "PSD")
# Those whose frames follow each other in time; the pages of a TIFF or the two eyes of an MPO do not.
MOVING = ("GIF", "WEBP", "PNG", "AVIF")
# Browsers hold a frame that states no time, or less than a hundredth, for so long.
NO_DELAY_S, LEAST_DELAY_S = 0.1, 0.011
# EXIF's orientations as quarter turns counterclockwise after a flip from left to right.
ORIENTATIONS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}
_ORIENTATION_TAG = 0x0112
# White of 8, 10, 12, 14 and 16 bits.
WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_ROWS = 256
_lock = threading.Lock()


def identified(source: str | bytes) -> Any:
    """Returns the opened Pillow image, its pixels not yet decoded, or None when it is no picture that Pillow reads."""
    pillow = _pillow()
    # Pillow's own bound is one for all files and lies below what phones make: ours is checked before decoding. Pillow
    # takes it from nowhere else, and to silence its warning instead would change what all threads are warned of.
    with _lock:
        bound, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
        try:
            return pillow.open(source if isinstance(source, str) else io.BytesIO(source), formats=FORMATS)
        except Exception:  # A damaged header makes the plugins raise whatever they stumble over.
            return None
        finally:
            pillow.MAX_IMAGE_PIXELS = bound


@cache
def _pillow() -> Any:
    import pi_heif
    from PIL import Image

    pi_heif.register_heif_opener(thumbnails=False)
    Image.init()
    return Image


def from_pixels(pixels: np.ndarray) -> Any:
    """Returns pixels, uint8 (h, w), (h, w, 3) or (h, w, 4), as an image; raises InputError when they are others."""
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise InputError(f"pixels must be uint8 (h, w), (h, w, 3) or (h, w, 4). Received: {pixels.dtype} {shape}.")
    if not pixels.size:
        raise InputError(f"an image needs at least one pixel. Received: {shape}.")
    return _pillow().fromarray(np.ascontiguousarray(pixels))


def is_moving(image: Any) -> bool:
    """Returns whether the picture has frames that follow each other."""
    return image.format in MOVING and _frames_of(image) != 1


def _frames_of(image: Any) -> int | None:
    """How many frames a picture has; None when it is damaged behind its first one, so that they cannot be counted."""
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # The plugins raise whatever they stumble over.
        return None


class Still:
    """One picture.

    Args:
      image: the opened Pillow image.
      source: what it was opened from, a path or bytes.
      path: the file's name for errors.
      limits: how large it may be.

    Attributes:
      still: True; a Clip's is False.
      note: a word and a sentence where the file holds more than is looked at; None elsewhere.

    Raises:
      ClipError: it is too large, or has no pixel.
    """

    still = True

    def __init__(self, image: Any, source: str | bytes, path: str, limits: Limits):
        self.path, self._image, self._source = path, image, source
        # Of an image that a caller opened, the page at which it stands.
        self.note, self._noted = tiff_pages.turn_to_best(image) if source and image.format == "TIFF" else (None, 1)
        if not all(image.size):
            raise ClipError("empty_file", path, "a picture of {} x {} pixels".format(*image.size))
        limits.check(path, *image.size, picture=True)

    def close(self) -> None:
        """Closes the file."""
        self._image.close()

    def frame(self, max_side: int = 0) -> Frame:
        """Returns the picture upright.

        Args:
          max_side: a longer picture is shrunk to this long side, pixels, a JPEG while it is decoded; 0 keeps its size.

        Raises:
          ClipError: it cannot be decoded.
        """
        side = max(self._image.size)
        if max_side and side > max_side:
            share = max_side / side
            self._image.draft("RGB", tuple(max(1, round(length * share)) for length in self._image.size))
        with damage_named(self.path):
            rgb = shrunk(pixels(self._image, self._source), max_side)
        turns = max(orientation(self._image, self._source), self._noted)
        return Frame(turned(rgb, turns), 0, 0.0, max(rgb.shape[:2]) / side)


class Animation:
    """The frames of a moving GIF, WebP, PNG or AVIF.

    Args:
      image: the opened Pillow image.
      source: what it was opened from, a path or bytes.
      path: the file's name for errors.
      limits: how large its frames may be.
    """

    def __init__(self, image: Any, source: str | bytes, path: str, limits: Limits):
        self.path, self.size, self._image, self._source = path, image.size, image, source
        limits.check(path, *image.size)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yields each frame's duration in seconds and its pixels, uint8 (h, w, 3); may be repeated.

        Raises:
          ClipError: a frame cannot be decoded.
        """
        count = _frames_of(self._image)
        # Where the damage lies, decoding tells.
        for number in itertools.count() if count is None else range(count):
            with damage_named(self.path):
                self._image.seek(number)
                rgb = pixels(self._image)
                rgb = turned(rgb, orientation(self._image, self._source))
                delay = float(self._image.info.get("duration") or 0) / 1000
            yield delay if delay >= LEAST_DELAY_S else NO_DELAY_S, rgb

    def close(self) -> None:
        """Closes the file."""
        self._image.close()


@contextlib.contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Turns whatever a damaged picture makes Pillow raise into a ClipError."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise ClipError("truncated", path, f"a picture that is cut off or damaged: {error}") from error
    except MemoryError:
        raise ClipError("too_large", path, "there is not enough memory for it") from None
    except Exception as error:
        raise ClipError("not_a_video", path, f"a damaged picture: {type(error).__name__}: {error}") from error


def pixels(image: Any, source: str | bytes = b"") -> np.ndarray:
    """Returns an image's pixels as stored, uint8 (h, w, 3); deeper ones lose their lowest bits, transparency goes.

    Where more than 8 bits are stored, nothing says how many of them a camera fills: `white_of` tells.

    Args:
      image: the Pillow image.
      source: the path or bytes that it was opened from, for colours of 16 bits, of which Pillow reads the upper 8.
    """
    if image.mode.startswith("I") or image.mode == "F":
        grey = to_8_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, 2)
    has_16_bits = image.mode.startswith("RGB") and ";16" in str([tile[3] for tile in getattr(image, "tile", ())])
    deep = _deep_colours(image, source) if has_16_bits else None
    return np.asarray(image.convert("RGB")) if deep is None else to_8_bits(deep)


def to_8_bits(deep: np.ndarray) -> np.ndarray:
    """Returns pixels of any depth as uint8, white where their own white is; what is no number is black."""
    found = np.empty(deep.shape, np.uint8)
    factor = np.float32(255 / white_of(deep))
    for top in range(0, len(deep), _ROWS):  # As many as float32 pixels of a large picture would be a few GB.
        rows = np.nan_to_num(deep[top : top + _ROWS].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        found[top : top + _ROWS] = (rows * factor).clip(0, 255).round()
    return found


def white_of(deep: np.ndarray) -> float:
    """The value of white: that of the fewest bits, 8, 10, 12, 14 or 16, that hold the largest; 1 for shares."""
    is_float = deep.dtype.kind == "f"
    most = float(deep.max(initial=0, where=np.isfinite(deep))) if is_float else float(deep.max(initial=0))
    if is_float and 0 < most <= 1:
        return 1.0
    return next((white for white in WHITES if most <= white), most)


def _deep_colours(image: Any, source: str | bytes) -> np.ndarray | None:
    """uint16 (h, w, 3) of a PNG or of a TIFF's first page; None where OpenCV reads something else."""
    import cv2

    if not source or image.format not in ("PNG", "TIFF"):
        return None
    data = np.fromfile(source, np.uint8) if isinstance(source, str) else np.frombuffer(source, np.uint8)
    try:
        found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[1::-1] != image.size:
        return None
    return found[..., 2::-1]


def shrunk(rgb: np.ndarray, max_side: int) -> np.ndarray:
    """Returns an image whose long side is at most `max_side` pixels, averaged; 0 bounds nothing."""
    share = max_side / max(rgb.shape[:2]) if max_side else 1.0
    if share >= 1:
        return rgb
    import cv2

    size = max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image upright that a camera stored with an EXIF orientation, 1 to 8."""
    if orientation not in ORIENTATIONS:
        return rgb
    flip, turns = ORIENTATIONS[orientation]
    return np.ascontiguousarray(np.rot90(rgb[:, ::-1] if flip else rgb, turns))


def orientation(image: Any, source: str | bytes) -> int:
    """Returns the EXIF orientation that a decoded image still needs; 1 when there is none, or none that can be read."""
    try:
        noted = int(image.getexif().get(_ORIENTATION_TAG) or 1)
        # Pillow notes what an AVIF's boxes say and leaves the turning to the caller; libheif turns by itself.
        if noted != 1 or image.format not in ("HEIF", "AVIF"):
            return noted
        return _noted_in_heif(source)
    except Exception:  # An optional note: whatever is wrong with it must not cost the picture.
        return 1


def _noted_in_heif(source: str | bytes) -> int:
    """HEIF pictures are turned by the boxes `irot` and `imir`; only without these EXIF's note is all there is."""
    data = pathlib.Path(source).read_bytes() if isinstance(source, str) else source
    if b"irot" in data or b"imir" in data:
        return 1
    found = re.search(rb"II\*\0|MM\0\*", data)
    if not found:
        return 1
    exif = _pillow().Exif()
    exif.load(data[found.start() : found.start() + (1 << 16)])
    return int(exif.get(_ORIENTATION_TAG) or 1)
