"""Faces cut out of their inputs once more, and only of what they were found in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces import align
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.recognition.face import Face
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.sources import Source, pictures_of

# A file's size, bytes, and the time of its last change, nanoseconds.
Stamp = tuple[int, int]


def stamp_of(source: Source) -> Stamp | None:
    """What tells a file from another one under its name; None for what is no file on this machine."""
    try:
        found = os.stat(source.value) if isinstance(source.value, str) else None
    except (OSError, ValueError):
        return None
    return found and (found.st_size, found.st_mtime_ns)


def check_unchanged(source: Source, stamp: Stamp | None) -> None:
    """Raises InputError when a file is another than when it was looked at; of one that is gone, its reader tells."""
    if stamp and (now := stamp_of(source)) and now != stamp:
        raise InputError(f"{source.name!r} has changed since its faces were found: recognise it again.")


def crops_of(
    source: Source, faces: list[Face], extractor: FaceExtractor | GivenFaces, stamp: Stamp | None
) -> Iterator[np.ndarray]:
    """Yields the crops of one source's faces, uint8 (256, 256, 3).

    Args:
      source: what to read.
      faces: in order of its frames.
      extractor: how it is read.
      stamp: its file's when the faces were found.

    Raises:
      InputError: when it has changed since.
    """
    check_unchanged(source, stamp)
    waiting = iter(faces)
    face = next(waiting, None)
    for picture in pictures_of(source, extractor):
        if face is None:
            return
        if picture.number != face.frame:
            continue
        pixels = picture.frame()
        while face is not None and face.frame == picture.number:
            yield align.warp(pixels.rgb, align.scaled(face.transform, 1 / pixels.shrink))
            face = next(waiting, None)
