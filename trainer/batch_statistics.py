"""Batch-norm statistics for averaged weights: they belong to the weights that made them, and an average made none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class BatchStatistics:
    """Measures a network's batch-norm statistics anew on training faces.

    Without this, averaged weights are judged with the statistics of the latest ones, which costs two points of
    accuracy in the middle of a training.

    Args:
      model: a network on one device; its statistics are overwritten.
      batches: (faces, labels) batches; all are used at each call, so about 30.
    """

    def __init__(self, model: keras.Model, batches: Iterable[Any]) -> None:
        self._layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        self._batches = batches

        @tf.function(reduce_retracing=True, autograph=False)
        def forward(faces: Any) -> None:
            model(faces, training=True)

        self._forward = forward

    def refresh(self) -> None:
        """Sets each layer's moving mean and variance to the mean over the batches."""
        variables = [variable for layer in self._layers for variable in (layer.moving_mean, layer.moving_variance)]
        if not variables:
            return
        # Momentum 0 makes the moving statistics those of the latest batch alone; it is read while tracing.
        momenta = [layer.momentum for layer in self._layers]
        for layer in self._layers:
            layer.momentum = 0.0
        sums, count = [np.zeros(variable.shape, np.float64) for variable in variables], 0
        for faces, _ in self._batches:
            self._forward(faces)
            sums = [total + variable.numpy() for total, variable in zip(sums, variables, strict=True)]
            count += 1
        for layer, momentum in zip(self._layers, momenta, strict=True):
            layer.momentum = momentum
        for variable, total in zip(variables, sums, strict=True):
            variable.assign(total / count)
