"""What can be looked at: files, folders, patterns, arrays, encoded bytes and Pillow's images, one after another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.media import ClipError, Frame, Limits

# An array has no clock: frames of a second stand for it, at a usual rate.
ARRAY_RATE = 25.0
# Photos are shrunk to this long side: more pixels cost memory and show no face that is not found.
PICTURE_SIDE = 4000


@dataclass(frozen=True, eq=False)
class Source:
    """One picture or clip.

    Attributes:
      name: the file's path, or `array 3` for the fourth of the inputs.
      value: the path, the encoded bytes, or pixels: uint8 (H, W), (H, W, 3), (H, W, 4) or, of a clip, (N, H, W, 3).
    """

    name: str
    value: Any = field(repr=False)

    @contextmanager
    def path(self) -> Iterator[str]:
        """A local file with the source's bytes; not for arrays."""
        if isinstance(self.value, str):
            yield self.value
            return
        with tempfile.NamedTemporaryFile(prefix="fer_tf-") as file:
            file.write(self.value)
            file.flush()
            yield file.name


@dataclass(frozen=True)
class Picture:
    """One frame that is not yet converted: those that nobody looks at cost nothing.

    Attributes:
      number: the frame's number, from 0.
      time: seconds from the first frame.
      frame: makes the upright pixels.
      still: whether the source is one picture and no clip.
      seconds: how long the clip says that it is, 0 when it does not say.
    """

    number: int
    time: float
    frame: Callable[[], Frame]
    still: bool = False
    seconds: float = 0.0


def pictures_of(source: Source, limits: Limits, max_side: int) -> Iterator[Picture]:
    """Yields a source's frames.

    Args:
      source: what to read.
      limits: how large its frames may be.
      max_side: longer frames of a clip are shrunk to this long side, pixels.

    Raises:
      ClipError: when it cannot be read, or no frame of it.
    """
    if isinstance(source.value, np.ndarray) and source.value.ndim == 4:
        yield from _pictures_of_array(source.value)
        return
    try:
        with closing(media.open(source.value, limits)) as file:
            if isinstance(file, media.Still):
                yield Picture(0, 0.0, lambda: file.frame(PICTURE_SIDE), still=True)
                return
            number = -1
            for seen in file.frames():
                number = seen.index
                yield Picture(seen.index, seen.time, partial(seen.frame, max_side), seconds=file.declared)
    except ClipError as error:
        raise ClipError(error.reason, source.name, error.detail) from None
    if number < 0:
        raise ClipError("no_frames", source.name)


def _pictures_of_array(frames: np.ndarray) -> Iterator[Picture]:
    seconds = len(frames) / ARRAY_RATE
    for number, rgb in enumerate(frames):
        time = number / ARRAY_RATE
        yield Picture(number, time, partial(Frame, np.ascontiguousarray(rgb), number, time, 1.0), seconds=seconds)


def sources_of(inputs: Any) -> list[Source]:
    """Returns the sources that a caller means.

    Args:
      inputs: one of these or a list of them: the path of a file, of a folder (searched to its depths; hidden files are
        left out) or a pattern such as `clips/*.mp4`; uint8 RGB or grey arrays (H, W), (H, W, 3) or, for a clip,
        (N, H, W, 3); encoded bytes; Pillow images.

    Raises:
      InputError: when there is nothing, or something of another kind.
    """
    if isinstance(inputs, (str, os.PathLike, bytes, bytearray, np.ndarray)) or _is_pillow(inputs):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise _not_an_input(inputs)
    found: list[Source] = []
    for number, value in enumerate(inputs):
        found += _sources_of_one(value, number)
    if not found:
        raise InputError("`inputs` names no picture and no clip")
    return found


def _sources_of_one(value: Any, number: int) -> list[Source]:
    if isinstance(value, (str, os.PathLike)):
        return [Source(path, path) for path in _files_of(os.fspath(value))]
    if isinstance(value, (bytes, bytearray)):
        return [Source(f"bytes {number}", bytes(value))]
    if _is_pillow(value):
        return [Source(f"image {number}", media.open(value).frame().rgb)]
    if isinstance(value, np.ndarray):
        return [Source(f"array {number}", _checked(value))]
    raise _not_an_input(value)


def _files_of(path: str) -> list[str]:
    found = files.listed(path)
    if not found and (files.folder_and_pattern(path)[1] or os.path.isdir(path)):
        raise InputError(f"`inputs`: no file matches {path!r}")
    # A missing file is one input's error and listed with the others.
    return found or [path]


def _checked(array: np.ndarray) -> np.ndarray:
    shape = array.shape
    fits = array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4)) or (array.ndim == 4 and shape[3] == 3)
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputError(
            "`inputs`: arrays must be uint8 RGB, (H, W, 3) or for a clip (N, H, W, 3), or grey (H, W). "
            f"Received: {array.dtype} {shape}."
        )
    return array


def _is_pillow(value: Any) -> bool:
    # Not imported for this alone: whoever has such an image has the library.
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def _not_an_input(value: Any) -> InputError:
    return InputError(
        f"`inputs` takes paths, arrays, bytes and Pillow images, alone or in a list. Received: {type(value).__name__}."
    )
