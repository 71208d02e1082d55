"""What a network says about a face, and what every way of asking one has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fer_tf.faces import media

# Below it, an answer is marked as probably not about a face crop: docs/serving.md has what that finds and misses.
IS_FACE = 0.5


@dataclass(frozen=True)
class Answer:
    """What the network sees in one face.

    Attributes:
      expressions: the label names.
      probabilities: float32 (len(expressions),), calibrated, sum 1.
      version: the model's version that answered; 0 where there are no versions.
      unsure_below: the probability of the best expression below which the answer counts as unsure; 0 for never.
      is_face: probability that what the network was shown is a face crop, 0 to 1; None where it does not say.
    """

    expressions: tuple[str, ...]
    probabilities: np.ndarray
    version: int = 0
    unsure_below: float = 0.0
    is_face: float | None = None

    @property
    def unsure(self) -> bool:
        """Whether the best expression is less probable than `unsure_below`."""
        return bool(self.probabilities.max() < self.unsure_below)

    @property
    def doubtful(self) -> bool:
        """Whether the network was probably shown no face crop, so that its expressions mean nothing."""
        return self.is_face is not None and self.is_face < IS_FACE

    def best(self, count: int = 1) -> list[tuple[str, float]]:
        """The most probable expressions, surest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.expressions[index], float(self.probabilities[index])) for index in order]


class Network(Protocol):
    """A way of asking: a Fa-Net in this process, an exported one, or a server.

    Attributes:
      name: where the network comes from, for people.
      expressions: the label names; a class's id is its position.
      landmark_model: what aligned the faces that it learned from; `none` for a public set's own pictures, empty where
        nobody can tell.
      picture_share: side of a picture that was cut as its training pictures were, as a share of the side of an aligned
        face; 1 where it learned from aligned ones, or nobody can tell.
    """

    name: str
    expressions: tuple[str, ...]
    landmark_model: str
    picture_share: float

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns an answer for each aligned face, uint8 (H, W, 3) RGB."""

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the 256 features of each aligned face, float32 (N, 256)."""

    def live(self) -> tuple[Any, Any]:
        """Returns the Keras model and its FaNetSpec; raises InputError where the weights are not at hand."""

    def close(self) -> None:
        """Lets go of what the network holds."""


class OneView(Network, Protocol):
    """A way of asking about each face as it is, which may come as a server would get it."""

    def classify_encoded(self, faces: Sequence[bytes]) -> list[Answer]:
        """Returns an answer for each JPEG or PNG of an aligned face."""


def mean_is_face(answers: Sequence[Answer]) -> float | None:
    """Returns the mean `is_face` of answers about one face; None where none of them says."""
    seen = [answer.is_face for answer in answers if answer.is_face is not None]
    return float(np.mean(seen)) if seen else None


def encode_face(face: np.ndarray) -> bytes:
    """Returns a face as the JPEG that a network gets.

    Args:
      face: uint8 (H, W, 3), RGB.
    """
    return media.encode_jpeg(face)


def rounded(answer: Answer) -> dict[str, Any]:
    """Returns an answer as plain values, for JSON; `unsure` if asked for, `is_face` if known."""
    asked = {} if answer.is_face is None else {"is_face": round(answer.is_face, 4)}
    scores = (round(float(value), 6) for value in answer.probabilities)
    return {
        "expression": answer.best()[0][0],
        **({"unsure": answer.unsure} if answer.unsure_below else {}),
        "probabilities": dict(zip(answer.expressions, scores, strict=True)),
        **asked,
    }
