"""`vgg_svm`: local learning on a VGG's features (Georgescu, Ionescu and Popescu 2018; FER2013 66.3 %).

The source's: what a fully connected layer of a VGG gives of a face, and for each face an SVM (C = 100) on its 200
nearest neighbours by the cosine. Our reading: the VGG. It has thirteen layers at half their width, batch normalization
and dense layers of 512, and is trained from random weights on the same faces as the SVMs, since no weights are
downloaded; the source's were trained on other pictures first.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fer_tf.competitors import local_learning
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work
from fer_tf.competitors.networks import Network, convolved

NEIGHBOURS, PENALTY = 200, 100.0
# Filters of each pair of convolutions; a pooling follows.
PAIRS = (32, 64, 128, 256, 256)
DENSE = 512


class VggSvm:
    """A network, and an SVM of its own for each face.

    Args:
      work: classes, seed, epochs.
    """

    side, landmarks = 0, False

    def __init__(self, work: Work) -> None:
        self._work = work
        self._network = Vgg(work)

    def fit(self, train: Faces) -> dict[str, Any]:
        trained = self._network.fit(train)
        self._train, self._labels = self._network.features(train, "features"), train.labels
        return {**trained, "neighbours": NEIGHBOURS, "C": PENALTY}

    def logits(self, faces: Faces) -> np.ndarray:
        found = self._network.features(faces, "features")
        return local_learning.logits(self._train, self._labels, found, NEIGHBOURS, PENALTY, self._work.num_classes)


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    for filters in PAIRS:
        x = layers.MaxPooling2D(2)(convolved(convolved(x, filters, 3), filters, 3))
    x = layers.Dropout(0.5)(layers.Dense(DENSE, "relu")(layers.Flatten()(x)))
    x = layers.Dense(DENSE, "relu", name="features")(x)
    return layers.Dense(num_classes)(layers.Dropout(0.5)(x))


class Vgg(Network):
    """See the module."""

    architecture = staticmethod(architecture)
