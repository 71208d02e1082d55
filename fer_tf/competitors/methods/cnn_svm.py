"""`cnn_svm`: an SVM on a network's features (Shima and Omori 2018; JAFFE 95.3 %, trained and tested on the whole set).

The source's: features of a convolutional network, an SVM. Ours: the network, a small one trained on the same training
part (the source takes one that was trained on other pictures), and the split, on which no tested face is trained.
"""

from __future__ import annotations

from typing import Any

import keras

from fer_tf.competitors import classifiers
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work
from fer_tf.competitors.networks import Network, convolved


class CnnSvm:
    """A network, and an SVM on its last map but one.

    Args:
      work: classes, seed, epochs.
    """

    side, landmarks = 0, False

    def __init__(self, work: Work) -> None:
        self._work = work
        self._network = SmallCnn(work)

    def fit(self, train: Faces) -> dict[str, Any]:
        trained = self._network.fit(train)
        found, work = self._network.features(train, "features"), self._work
        self._svm = classifiers.fit("svm", found, train.labels, train.persons, work.num_classes, work.seed)
        return {**trained, **self._svm.chosen}

    def logits(self, faces: Faces) -> Any:
        return self._svm.logits(self._network.features(faces, "features"))


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    for filters in (32, 64, 128):
        x = layers.MaxPooling2D(2)(convolved(convolved(x, filters, 3), filters, 3))
    x = layers.Dense(256, "relu", name="features")(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(num_classes)(layers.Dropout(0.5)(x))


class SmallCnn(Network):
    """Three pairs of convolutions."""

    architecture = staticmethod(architecture)
