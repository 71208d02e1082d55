"""What can be looked at: files, folders, patterns, arrays, encoded bytes and Pillow's images, one after another."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.faces import media, stills
from fer_tf.faces.media import ClipError, Frame, Limits
from fer_tf.faces.video import Told
from fer_tf.filesystems import as_local

if TYPE_CHECKING:
    from fer_tf.faces.extractor import FaceExtractor
    from fer_tf.recognition.given import GivenFaces

# An array has no clock: frames of a second stand for it, at a usual rate.
ARRAY_RATE = 25.0
# Photos are shrunk to this long side: more pixels cost memory and show no face that is not found.
PICTURE_SIDE = 4000
# Bytes that a path may have.
LONGEST_PATH = 4096


@dataclass(frozen=True, eq=False)
class Source:
    """One picture or clip.

    Attributes:
      name: the file's path, or `array 3` for the fourth of the inputs.
      value: the path, the encoded bytes, or pixels: uint8 (H, W), (H, W, 3), (H, W, 4) or, of a clip, (N, H, W, 3);
        of a Pillow image that cannot be decoded, the ClipError.
    """

    name: str
    value: Any = field(repr=False)

    @contextmanager
    def path(self) -> Iterator[str]:
        """A local file with the source's bytes, of one in a bucket a copy; not for arrays.

        Raises:
          ClipError: the bucket does not give it.
        """
        if isinstance(self.value, str):
            with ExitStack() as copied:
                try:
                    path = copied.enter_context(files.local_copy(self.value))
                except OSError as error:
                    raise ClipError("missing", self.name, error.strerror or str(error)) from None
                yield path
            return
        with tempfile.NamedTemporaryFile(prefix="fer_tf-") as file:
            file.write(self.value)
            file.flush()
            yield file.name


def pictures_of(source: Source, extractor: FaceExtractor | GivenFaces) -> Iterator[Told]:
    """Yields a source's frames, not yet converted; a clip is decoded in the extractor's process for that.

    Args:
      source: what to read.
      extractor: whose options say how large frames may be and how long a decoder may be silent.

    Raises:
      ClipError: when it cannot be read, or no frame of it.
    """
    value = source.value
    if isinstance(value, np.ndarray) and value.ndim == 4:
        yield from _pictures_of_array(value)
        return
    if isinstance(value, str) and not files.is_local(value):
        with source.path() as path:
            yield from pictures_of(Source(source.name, path), extractor)
        return
    try:
        if isinstance(value, ClipError):
            raise value
        open_still = media.open if isinstance(value, np.ndarray) else media.open_picture
        still = open_still(value, extractor.options.limits)
        if still:
            with closing(still):
                yield Told(0, 0.0, lambda: still.frame(PICTURE_SIDE), still=True, note=still.note)
            return
        number = -1
        with (
            source.path() as path,
            extractor.decoder.free() as decoder,
            closing(decoder.frames(path, PICTURE_SIDE)) as frames,
        ):
            for told in frames:
                number = told.number
                yield told
    except ClipError as error:
        raise ClipError(error.reason, source.name, error.detail) from None
    if number < 0:
        raise ClipError("no_frames", source.name)


def _pictures_of_array(frames: np.ndarray) -> Iterator[Told]:
    seconds = len(frames) / ARRAY_RATE
    for number, rgb in enumerate(frames):
        time = number / ARRAY_RATE
        yield Told(number, time, partial(Frame, np.ascontiguousarray(rgb), number, time, 1.0), seconds=seconds)


def sources_of(inputs: Any, limits: Limits | None = None) -> list[Source]:
    """Returns the sources that a caller means.

    Args:
      inputs: one of these or a list of them: the path of a file, of a folder (searched to its depths; hidden files are
        left out) or a pattern such as `clips/*.mp4`, here or in a bucket; uint8 RGB or grey arrays (H, W), (H, W, 3)
        or, for a clip, (N, H, W, 3); encoded bytes, as a uint8 array (N,) too, or opened files; Pillow images, of a
        moving one the frame at which it stands. Names may also be bytes, as `os.listdir(b".")` and tensors hold them.
      limits: how large a Pillow image may be.

    Raises:
      InputError: when there is nothing, or something of another kind.
    """
    if _is_one(inputs):
        inputs = [inputs]
    elif hasattr(inputs, "__array__"):  # A table's column.
        inputs = _column(np.asarray(inputs))
    if not isinstance(inputs, Iterable) or isinstance(inputs, Mapping):
        raise _not_an_input(inputs, None)
    found: list[Source] = []
    for number, value in enumerate(inputs):
        found += _sources_of_one(value, number, limits)
    if not found:
        raise InputError("`inputs` names no picture and no clip")
    return found


def _is_one(value: Any) -> bool:
    """Whether it is one input; an array of names is several."""
    if isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(value, "read"):
        return True
    return _is_pillow(value) or (hasattr(value, "__array__") and np.asarray(value).dtype.kind not in "OSU")


def _column(array: np.ndarray) -> list[Any]:
    if array.ndim > 1:
        raise InputError(f"`inputs`: give one column of names, such as table['image']. Received: {array.shape} values.")
    return array.reshape(-1).tolist()


def _is_name(value: bytes) -> bool:
    """Whether bytes are a file's name: it exists, or ends as names do; no picture is without control bytes."""
    if len(value) > LONGEST_PATH or re.search(rb"[\x00-\x1f]", value):
        return False
    return os.path.lexists(value) or bool(re.search(rb"\.\w{2,5}$", value))


def _sources_of_one(value: Any, number: int, limits: Limits | None) -> list[Source]:
    if isinstance(value, bytes) and _is_name(value):
        value = os.fsdecode(value)
    if isinstance(value, (str, os.PathLike)):
        return [Source(path, path) for path in _files_of(os.fsdecode(value))]
    if _is_pillow(value):
        return [Source(f"image {number}", _decoded(value, f"image {number}", limits))]
    if hasattr(value, "read"):  # An opened file.
        value = _content(value, f"bytes {number}")
        if isinstance(value, ClipError):
            return [Source(f"bytes {number}", value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [Source(f"bytes {number}", bytes(value))]
    if not hasattr(value, "__array__"):
        raise _not_an_input(value, number)
    array = np.asarray(value)
    if array.dtype.kind in "OSU":  # A tensor with a name.
        return [source for name in _column(array) for source in _sources_of_one(name, number, limits)]
    if array.ndim == 1 and array.dtype == np.uint8 and array.size:  # As cv2.imencode gives a file's bytes.
        return [Source(f"bytes {number}", array.tobytes())]
    array = _checked(array)
    # A buffer may hold the next frame when this one's turn comes; a clip, which may be an hour, is not copied.
    return [Source(f"array {number}", array if array.ndim == 4 else array.copy())]


def _files_of(path: str) -> list[str]:
    if not path:
        raise InputError("`inputs` holds an empty path; '.' is the current folder.")
    path = as_local(path)
    try:
        found = files.listed(path)
    except OSError as error:
        raise InputError(f"`inputs`: {path!r} cannot be reached ({error}).") from None
    if not found and os.path.isdir(path):
        raise InputError(f"`inputs`: the folder {path!r} holds no file that is not hidden.")
    if not found and files.folder_and_pattern(path)[1]:
        raise InputError(f"`inputs`: no file matches {path!r}")
    # A missing file is one input's error and listed with the others.
    return found or [path]


def _content(file: Any, name: str) -> bytes | ClipError:
    """All bytes of an opened file, wherever another reader left it."""
    # Of one that was opened as text, the bytes lie below.
    file = getattr(file, "buffer", file) if isinstance(file, io.TextIOBase) else file
    if getattr(file, "closed", False):
        return ClipError("missing", name, "the file was closed before it was read: give its path, or keep it open")
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    content = file.read()
    if isinstance(content, str):
        raise InputError("`inputs`: a file was opened as text; open pictures and clips with open(path, 'rb').")
    return content


def _decoded(image: Any, name: str, limits: Limits | None) -> np.ndarray | ClipError:
    # At once: when its turn comes, its file may be closed, as after a `with`, or another of its frames be sought.
    core = getattr(image, "_im", None)
    if type(core).__name__ == "DeferredError" or (core is None and hasattr(image, "fp") and image.fp is None):
        return ClipError("missing", name, "the image was closed before it was read: give its path, or keep it open")
    try:
        return media.open(image, limits).frame().rgb
    except ClipError as error:
        return error


def _checked(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shape = array.shape
    fits = array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4)) or (array.ndim == 4 and shape[3] == 3)
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputError(
            "`inputs`: arrays must be uint8 RGB, (H, W, 3) or for a clip (N, H, W, 3), or grey (H, W). "
            f"Received: {array.dtype} {shape}{_conversion(array, fits)}."
        )
    return array


def _conversion(array: np.ndarray, fits: bool) -> str:
    """How an array of a usual other kind becomes one that is read."""
    if not array.size:
        return ", which holds no pixel"
    if not fits and array.ndim in (3, 4) and array.shape[-3] in (1, 3):
        order = "(1, 2, 0)" if array.ndim == 3 else "(0, 2, 3, 1)"
        frames = "; where it is a clip of grey frames: np.stack([array] * 3, axis=-1)" if array.ndim == 3 else ""
        return f"; where the channels come first: array.transpose{order}{frames}"
    if array.ndim == 3 and not fits:
        return "; where it is a clip of grey frames: np.stack([array] * 3, axis=-1)"
    if array.dtype.kind not in "fiu" or not fits:
        return ""
    if not np.isfinite(array).all():
        return (
            "; some are nan or infinite: say what those show, with 0 for black np.nan_to_num(array, posinf=0, neginf=0)"
        )
    least, most = array.min(), array.max()
    if array.dtype.kind == "f" and least >= -1 and most <= 1:
        if least < 0:
            return "; where -1 is black and 1 white: ((array + 1) * 127.5).round().astype('uint8')"
        return "; where 1 is white: (255 * array).round().astype('uint8')"
    if array.dtype == np.uint16:
        white = round(stills.white_of(array))
        return f"; where {white} is white: (array * (255 / {white})).round().astype('uint8')"
    if least < 0 or most > 255:
        return f"; its values are {least} to {most}: bring black to 0 and white to 255"
    return "; where 255 is white: array.astype('uint8')"


def _is_pillow(value: Any) -> bool:
    # Not imported for this alone: whoever has such an image has the library.
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def _not_an_input(value: Any, number: int | None) -> InputError:
    empty = value is None or value != value
    at = "" if number is None else f" at position {number}{', where a table has no value' if empty else ''}"
    return InputError(
        f"`inputs` takes paths, arrays, bytes and Pillow images, alone or in a list. Received: {type(value).__name__}"
        f"{at}."
    )
