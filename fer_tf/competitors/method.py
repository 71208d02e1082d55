"""What a method is given and what it must offer, and how a fitted one is kept."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fer_tf import files
from fer_tf.competitors.faces import Faces
from fer_tf.errors import InputError

FILE = "method.joblib"


@dataclass(frozen=True)
class Work:
    """What a method needs beside faces.

    Attributes:
      num_classes: length of its answers.
      cache: folder where features are kept between runs; empty computes them each time.
      seed: of everything random.
      epochs: passes of a network over the training part; 0 takes the method's own.
      folder: where a network keeps its checkpoints, to go on after a stop; empty keeps none.
    """

    num_classes: int
    cache: str = ""
    seed: int = 0
    epochs: int = 0
    folder: str = ""


class Method(Protocol):
    """One way to recognize an expression.

    Attributes:
      side: of the grey square faces that it reads, pixels; 0 takes what the data has.
      landmarks: whether it needs the 68 points of each face.
    """

    side: int
    landmarks: bool

    def fit(self, train: Faces) -> dict[str, Any]:
        """Learns from faces, choosing what is to be chosen among them alone; returns what it chose."""

    def logits(self, faces: Faces) -> np.ndarray:
        """Returns a score of each class, float (N, num_classes); the highest is the answer."""


def save(method: Method, folder: str) -> int:
    """Writes a fitted method into a folder; returns its size in bytes."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(method, buffer, compress=3)
    files.write_bytes(files.join(folder, FILE), buffer.getvalue())
    return buffer.tell()


def load(folder: str) -> Method:
    """Returns a fitted method; its file is Python's pickle, so load only what you trained or trust.

    Raises:
      InputError: when there is none, or it was written by other versions of the libraries.
    """
    import joblib

    path = files.join(folder, FILE)
    if not files.exists(path):
        raise InputError(f"{folder} has no {FILE}; train first: python -m trainer.task --method=NAME.")
    try:
        return joblib.load(io.BytesIO(files.read_bytes(path)))
    except (AttributeError, ImportError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} cannot be loaded ({error!r}); take another --run_dir to train anew.") from error
