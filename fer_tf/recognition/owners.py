"""Whose face each is: whose other faces an answer is compared with, where nobody has labelled them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import numpy as np

from fer_tf.recognition.face import Face
from fer_tf.recognition.sources import Source

# Whose other faces a face's answer can be relative to.
RelativeTo = Literal["nobody", "person", "folder", "all"]
RELATIVE_TO = get_args(RelativeTo)


def owners_of(faces: Iterable[Face], to: RelativeTo) -> np.ndarray:
    """Returns whose face each is, by number, str (N,); empty where nobody knows."""
    key_of: dict[str, Callable[[Face], Any]] = {
        "nobody": lambda face: None,
        "person": lambda face: (id(face.source), face.number),
        "folder": lambda face: _folder(face.source),
        "all": lambda face: "all",
    }
    numbers: dict[Any, int] = {}
    keys = map(key_of[to], faces)
    return np.array(["" if key is None else str(numbers.setdefault(key, len(numbers))) for key in keys], str)


def _folder(source: Source) -> str | None:
    return os.path.dirname(os.path.abspath(source.value)) if isinstance(source.value, str) else None
