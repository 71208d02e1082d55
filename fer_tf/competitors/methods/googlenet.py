"""`googlenet`: Inception v1 and a softmax (Giannopoulos, Perikos and Hatzilygeroudis 2018; FER2013 65.2 %).

The source's: the network of Szegedy et al. (2015), its nine modules with their widths, a softmax over the expressions.
Ours: faces of 48 pixels instead of 224 from the same strides on, so that the last maps have 2 x 2 places; batch
normalization instead of the local response's, which also takes the place of the two auxiliary classifiers; random
weights to begin with; Adam.
"""

from __future__ import annotations

from typing import Any

import keras

from fer_tf.competitors.networks import MODULES, Network, inceptions

NAMES = tuple(MODULES)


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    return layers.Dense(num_classes)(layers.Dropout(0.4)(inceptions(x, NAMES, reduced=64)))


class Googlenet(Network):
    """See the module."""

    architecture = staticmethod(architecture)
