"""Several networks asked for one answer: the mean of their probabilities.

Networks that learned in different ways err on different faces, so their mean is often right where one of them is not
(Dietterich 2000, Ensemble Methods in Machine Learning). It takes as long as all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.recognition.answers import Answer, OneView, encode_face, mean_is_face
from fer_tf.run_folder import PLUS


class JoinedNetwork:
    """Some ways of asking as one.

    Args:
      networks: at least two, with the same labels in the same order, for faces that are aligned and cut alike.

    Raises:
      InputError: when they differ in these.
    """

    def __init__(self, networks: Sequence[OneView]) -> None:
        first, *others = self._networks = tuple(networks)
        for name in ("expressions", "landmark_model", "picture_share"):
            for other in others:
                own, its = getattr(first, name), getattr(other, name)
                same = np.isclose(own, its, atol=1e-3) if isinstance(own, float) else own == its
                if not same:
                    raise InputError(
                        f"`source` joins networks that answer one question about one crop. {first.name!r} has the "
                        f"{name} {own!r}, {other.name!r} has {its!r}; ask them one by one."
                    )
        self.name = PLUS.join(network.name for network in self._networks)
        self.expressions, self.landmark_model = first.expressions, first.landmark_model
        self.picture_share = first.picture_share

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns the mean answer to each aligned face, uint8 (H, W, 3) RGB."""
        return self.classify_encoded([encode_face(face) for face in faces])

    def classify_encoded(self, faces: Sequence[bytes]) -> list[Answer]:
        """Returns the mean answer to each JPEG or PNG."""
        answers = (network.classify_encoded(faces) for network in self._networks)
        return [_mean(of_one) for of_one in zip(*answers, strict=True)]

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Raises InputError."""
        raise self._is_one("gives features")

    def live(self) -> tuple[Any, Any]:
        """Raises InputError."""
        raise self._is_one("is explained")

    def _is_one(self, what: str) -> InputError:
        return InputError(f"what {what} is one network; `source` joins {len(self._networks)}: {self.name!r}.")

    def close(self) -> None:
        """Lets go of what the networks hold."""
        for network in self._networks:
            network.close()


def _mean(answers: Sequence[Answer]) -> Answer:
    return Answer(
        answers[0].expressions,
        np.mean([answer.probabilities for answer in answers], axis=0),
        is_face=mean_is_face(answers),
    )
