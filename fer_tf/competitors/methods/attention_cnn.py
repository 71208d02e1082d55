"""`attention_cnn`: a small network behind a spatial transformer (Minaee and Abdolrashidi 2019; 70.0 and 92.8 %).

The source's: four 3 x 3 convolutions of 10 filters, two poolings, a dense layer of 50, a spatial transformer (Jaderberg
et al. 2015) before them, weights drawn with a standard deviation of 0.05, Adam. Ours: its rate, the changes of faces.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fer_tf.competitors.networks import Network

SIGMA = 0.05


class AffineSampler(keras.layers.Layer):
    """Samples an image where an affine map of its coordinates (-1 to 1) points, bilinearly."""

    def call(self, inputs: Any) -> Any:
        """Returns images (B, S, S, C) of images and maps (B, 6), row by row of the 2 x 3 matrix."""
        import tensorflow as tf

        images, maps = inputs
        side = images.shape[1]
        line = np.linspace(-1.0, 1.0, side, dtype=np.float32)
        grid = np.stack([*np.meshgrid(line, line), np.ones((side, side), np.float32)], -1).reshape(-1, 3)
        points = tf.einsum("pk,bjk->bpj", tf.constant(grid), tf.reshape(maps, (-1, 2, 3)))  # (B, P, 2): x, y
        places = tf.clip_by_value((points + 1.0) * (side - 1) / 2.0, 0.0, side - 1.0)
        low = tf.minimum(tf.floor(places), side - 2.0)
        share = places - low
        first = tf.cast(low, tf.int32)
        flat = tf.reshape(images, (tf.shape(images)[0], side * side, images.shape[-1]))

        def at(right: int, down: int) -> Any:
            return tf.gather(flat, (first[..., 1] + down) * side + first[..., 0] + right, batch_dims=1)

        x, y = share[..., :1], share[..., 1:]
        top = at(0, 0) * (1 - x) + at(1, 0) * x
        bottom = at(0, 1) * (1 - x) + at(1, 1) * x
        return tf.reshape(top * (1 - y) + bottom * y, tf.shape(images))

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]


def architecture(x: Any, num_classes: int) -> Any:
    """Returns the logits of faces (B, S, S, 1)."""
    layers = keras.layers
    start = {"kernel_initializer": keras.initializers.RandomNormal(stddev=SIGMA)}
    where = layers.ReLU()(layers.MaxPooling2D(2)(layers.Conv2D(8, 7, **start)(x)))
    where = layers.ReLU()(layers.MaxPooling2D(2)(layers.Conv2D(10, 5, **start)(where)))
    where = layers.Dense(32, "relu", **start)(layers.Flatten()(where))
    # It begins with looking at the face as it is.
    identity = keras.initializers.Constant(np.array([1, 0, 0, 0, 1, 0], np.float32))
    seen = AffineSampler()([x, layers.Dense(6, kernel_initializer="zeros", bias_initializer=identity)(where)])
    y = layers.ReLU()(layers.Conv2D(10, 3, **start)(seen))
    y = layers.ReLU()(layers.MaxPooling2D(2)(layers.Conv2D(10, 3, **start)(y)))
    y = layers.ReLU()(layers.Conv2D(10, 3, **start)(y))
    y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(10, 3, **start)(y))
    y = layers.Dropout(0.2)(layers.ReLU()(layers.MaxPooling2D(2)(y)))
    y = layers.Dense(50, "relu", **start)(layers.Flatten()(y))
    return layers.Dense(num_classes, **start)(y)


class AttentionCnn(Network):
    """See the module."""

    epochs = 60
    architecture = staticmethod(architecture)
