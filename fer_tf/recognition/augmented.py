"""A network asked about several views of each face for one answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fer_tf.data.tta import TTA, Tta, TtaName
from fer_tf.recognition.answers import Answer, Network, mean_is_face


def augmented(network: Network, tta: TtaName) -> Network:
    """Returns the way of asking about the views of each face; the same one where there is but one view."""
    return network if tta == "none" else AugmentedNetwork(network, TTA[tta])


class AugmentedNetwork:
    """Another way of asking the same network: the mean of its logits for the views of a face.

    Args:
      network: the way of asking.
      tta: the views.
    """

    def __init__(self, network: Network, tta: Tta) -> None:
        self._network, self._tta = network, tta
        self.name, self.expressions = network.name, network.expressions
        self.landmark_model, self.picture_share = network.landmark_model, network.picture_share

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns the mean answer to the views of each aligned face, uint8 (H, W, 3) RGB."""
        # One view of all faces after the other: only one is held in memory.
        views = zip(*map(self._tta.of, faces), strict=True)
        return mean_of_views(map(self._network.classify, views))

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the 256 features of each aligned face as it is, float32 (N, 256)."""
        return self._network.embed(faces)

    def live(self) -> tuple[Any, Any]:
        """Returns the Keras model and its FaNetSpec; raises InputError where the weights are not at hand."""
        return self._network.live()

    def close(self) -> None:
        """Lets go of what the network holds."""
        self._network.close()


def mean_of_views(answers: Iterable[Sequence[Answer]]) -> list[Answer]:
    """Returns each face's answer by the mean of its logits, from the answers to all faces in each view."""
    return [_mean(of_one) for of_one in zip(*answers, strict=True)]


def _mean(answers: Sequence[Answer]) -> Answer:
    if len(answers) == 1:
        return answers[0]
    # The softmax of the mean logits, by the temperature that made the probabilities.
    logits = np.mean([np.log(np.maximum(answer.probabilities, 1e-12)) for answer in answers], axis=0)
    powers = np.exp(logits - logits.max())
    return Answer(
        answers[0].expressions,
        (powers / powers.sum()).astype(np.float32),
        answers[0].version,
        is_face=mean_is_face(answers),
    )
