"""What Keras has not of FaPE-GAN's parts: a stateless spectral convolution, self-attention, inputs not looked at."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="fer_tf")
class SpectralConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is divided by an estimate of its largest singular value (Miyato et al., 1802.05957).

    The power iteration starts from the same vector each time: no state, so replicas and a resumed run agree. Its few
    rounds end below the true value, at 0.91 to 0.94 of it for fresh kernels of 32 to 256 channels, whose values lie
    close together (30 rounds: 0.97 to 1), and near it once one direction leads: norms begin at up to 1.1, not at 1.
    """

    ITERATIONS = 4

    def call(self, inputs: Any) -> Any:
        kernel = tf.cast(self.kernel, tf.float32)
        flat = tf.reshape(kernel, (-1, kernel.shape[-1]))
        right = tf.fill((flat.shape[-1], 1), flat.shape[-1] ** -0.5)
        fixed = tf.stop_gradient(flat)
        for _ in range(self.ITERATIONS):
            left = tf.math.l2_normalize(fixed @ right)
            right = tf.math.l2_normalize(tf.matmul(fixed, left, transpose_a=True))
        sigma = tf.matmul(left, flat @ right, transpose_a=True)
        kernel = tf.cast(kernel / sigma, inputs.dtype)
        outputs = tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())
        return tf.nn.bias_add(outputs, tf.cast(self.bias, outputs.dtype)) if self.use_bias else outputs


@keras.saving.register_keras_serializable(package="fer_tf")
class First(keras.layers.Layer):
    """Hands on the first of its inputs. The others count as used: Keras 3.12 and older refuse a network else."""

    def call(self, inputs: Any) -> Any:
        return inputs[0]

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="fer_tf")
class SelfAttention(keras.layers.Layer):
    """Adds to each position what the others hold, weighted by likeness: a face part can move across the image."""

    def __init__(self, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.seed = seed

    def build(self, input_shape: tuple) -> None:
        width = input_shape[-1]
        shapes = {"query": (width, width // 8 or 1), "key": (width, width // 8 or 1), "value": (width, width)}
        weights = [
            self.add_weight(shape=shape, initializer=keras.initializers.GlorotUniform(self.seed + place), name=name)
            for place, (name, shape) in enumerate(shapes.items())
        ]
        self.query, self.key, self.value = weights
        # Zero at first: the network starts as if there was no attention.
        self.gain = self.add_weight(shape=(), initializer="zeros", name="gain")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        height, width, channels = inputs.shape[1:]
        x = ops.reshape(inputs, (-1, height * width, channels))
        query, key, value = (ops.matmul(x, ops.cast(w, x.dtype)) for w in (self.query, self.key, self.value))
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / query.shape[-1] ** 0.5
        mixed = ops.matmul(ops.softmax(scores, axis=-1), value)
        return inputs + ops.cast(self.gain, x.dtype) * ops.reshape(mixed, (-1, height, width, channels))
