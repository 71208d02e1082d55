"""What every reader of pictures and videos hands on, and how it refuses a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_tf.errors import InputError

# A video's frames: 8K. A photo may be larger, because there is one of it: the largest phones make 200 megapixels.
MAX_PIXELS = 7680 * 4320
MAX_PICTURE_PIXELS = 250_000_000
# What is listed beside what was left out, and leaves nothing out: how a clip or picture was looked at.
NOTES = frozenset(("turned", "other_pages", "preview"))


class ClipError(InputError):
    """A picture or video that gives no faces at all.

    Attributes:
      reason: `missing`, `empty_file`, `not_a_video`, `truncated`, `too_large`, `no_frames`, `decoder_timeout`
        or `decoder_died`; of a copy that is drawn, `not_drawn`.
      path: the file.
      detail: what was seen, in words.
    """

    def __init__(self, reason: str, path: str, detail: str = ""):
        super().__init__(f"`{path}`: {reason.replace('_', ' ')}" + (f" ({detail})" if detail else ""))
        self.reason, self.path, self.detail = reason, path, detail

    def __reduce__(self) -> tuple:
        return type(self), (self.reason, self.path, self.detail)


@dataclass(frozen=True)
class Limits:
    """How much a file may ask for; a decompression bomb asks for more.

    Attributes:
      max_pixels: the most pixels of a video's frame.
      max_picture_pixels: the most pixels of a picture.
    """

    max_pixels: int = MAX_PIXELS
    max_picture_pixels: int = MAX_PICTURE_PIXELS

    def check(self, path: str, width: int, height: int, picture: bool = False) -> None:
        """Raises ClipError `too_large` when an image of this size must not be decoded."""
        name = "max_picture_pixels" if picture else "max_pixels"
        if width * height > getattr(self, name):
            detail = f"{width} x {height} pixels are {width * height:,}; `{name}` allows {getattr(self, name):,}"
            raise ClipError("too_large", path, detail)


@dataclass(frozen=True)
class Frame:
    """One upright frame with square pixels.

    Attributes:
      rgb: uint8 (h, w, 3).
      index: the frame's number in the file, from 0.
      time: seconds from the file's first frame.
      shrink: pixels of `rgb` to one pixel of the file: 1 when the frame was not scaled on the way here. Where the
        frame size changes inside of a video, the file's pixel is that of its first frame, so that places in all
        frames, divided by their `shrink`, are in one unit.
    """

    rgb: np.ndarray
    index: int
    time: float
    shrink: float
