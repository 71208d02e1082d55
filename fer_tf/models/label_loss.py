"""Fa-Net's loss: cross-entropy with labels that may be shares, may say nothing of a class, and may be unbalanced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class LabelCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with targets whose negative entries say nothing about their class.

    A class of which a face's set says nothing takes no part in that face's softmax, so that neither the face nor the
    class pulls at the other.

    Args:
      label_smoothing: share of a target that is spread over the classes that it knows.
      prior: each class's share of the training faces; its logarithm is added to the logits while training, so that
        the network itself answers as if all classes were equally frequent (balanced softmax, Ren et al. 2020, arXiv
        2007.10740; logit adjustment, Menon et al. 2021, arXiv 2007.07314). None adds nothing.
      strength: what the logarithm is multiplied with; at 0.5 the network answers as if the classes' shares were the
        square roots of their own, which spares it a class that is hardly ever true.
    """

    def __init__(
        self, label_smoothing: float = 0.0, prior: Sequence[float] | None = None, strength: float = 1.0
    ) -> None:
        super().__init__(name="label_crossentropy")
        self._smoothing = label_smoothing
        # A class without a face keeps a finite logit.
        self._adjustment = None if prior is None else strength * np.log(np.maximum(prior, 1e-6)).astype(np.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns float32 (B,).

        Args:
          y_true: float (B, num_classes), shares that sum to 1 over the known classes, or negative.
          y_pred: logits (B, num_classes).
        """
        known = y_true >= 0
        shares = tf.where(known, tf.cast(y_true, tf.float32), 0.0)
        if self._smoothing:
            count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1, keepdims=True)
            total = tf.reduce_sum(shares, axis=1, keepdims=True)
            shares = tf.where(known, shares * (1.0 - self._smoothing) + total * self._smoothing / count, 0.0)
        logits = tf.cast(y_pred, tf.float32)
        if self._adjustment is not None:
            logits += self._adjustment
        log_probabilities = tf.nn.log_softmax(tf.where(known, logits, -1e9))
        return -tf.reduce_sum(tf.where(known, shares * log_probabilities, 0.0), axis=1)
