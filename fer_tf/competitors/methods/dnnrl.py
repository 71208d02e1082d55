"""`dnnrl`: relativity learning, inception modules and an exponential triplet loss (Guo et al. 2016; FER2013 70.6 %).

The source's: a network of inception modules that maps faces to points whose distances say how alike two expressions
are, learned from triplets with an exponential loss, by which a hard triplet weighs more than an easy one. Ours: which
modules, the points' 128 numbers and unit length, all triplets of a batch, and a softmax beside them that names the
expression, both losses with the same weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fer_tf.competitors.networks import Network, inceptions

NAMES = ("3a", "3b", "4a", "4b")
POINT = 128


def exponential_triplets(points: Any, labels: Any) -> Any:
    """Returns the mean of exp(d(anchor, same) - d(anchor, other)) over all triplets of a batch, d the squared distance.

    Its derivative by a distance is the triplet's own loss: the harder, the more it weighs.

    Args:
      points: float (B, D), of length 1.
      labels: int (B,).
    """
    ops = keras.ops
    squared = 2.0 - 2.0 * ops.matmul(points, ops.transpose(points))  # (B, B)
    alike = labels[:, None] == labels[None]
    other = ops.cast(ops.logical_not(alike), points.dtype)
    same = ops.cast(alike, points.dtype) - ops.eye(ops.shape(points)[0], dtype=points.dtype)
    # The sum over pairs of a same and an other face is the product of two sums.
    lost = ops.sum(same * ops.exp(squared), 1) * ops.sum(other * ops.exp(-squared), 1)
    return ops.sum(lost) / ops.maximum(ops.sum(ops.sum(same, 1) * ops.sum(other, 1)), 1.0)


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1), and behind them the faces' points."""
    layers = keras.layers
    point = layers.Dense(POINT)(inceptions(x, NAMES))
    logits = layers.Dense(num_classes)(layers.Dropout(0.5)(layers.ReLU()(point)))
    return layers.Concatenate()([logits, layers.UnitNormalization()(point)])


class Dnnrl(Network):
    """See the module."""

    architecture = staticmethod(architecture)

    def loss(self) -> Callable:
        num_classes = self._work.num_classes

        def loss(labels: Any, answers: Any) -> Any:
            logits, points = answers[:, :num_classes], answers[:, num_classes:]
            labels = keras.ops.reshape(labels, (-1,))
            named = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            return keras.ops.mean(named) + exponential_triplets(points, labels)

        return loss
