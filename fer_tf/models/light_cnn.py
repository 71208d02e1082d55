"""LightCNN with Max-Feature-Map, the backbone of Fa-Net (section 4.2; Wu et al., arXiv 1511.02683)."""

from __future__ import annotations

from typing import Any

import keras

from fer_tf.errors import InputError, not_one_of

FEATURE_SIZE = 256
FEATURE_DENSE_LAYER = "feature_dense"
FEATURES_LAYER = "features"
LOGITS_LAYER = "logits"
# Feature maps that others look at, from contours to expressions; the last ones still tell places within the face.
MAPS_LAYERS = ("maps1", "maps2", "maps3", "maps4")

# Output channels of the four stages after the stem, each followed by one pooling but the third.
STAGES = ((96, True), (192, True), (128, False), (128, True))
STEM_CHANNELS = 48
# Residual blocks before each stage's group; LightCNN-9 has none.
RESIDUAL_BLOCKS = {"light_cnn_9": (0, 0, 0, 0), "light_cnn_29": (1, 2, 3, 4), "light_cnn_29_v2": (1, 2, 3, 4)}
VARIANTS = tuple(RESIDUAL_BLOCKS)
# Four poolings halve the side; below this the last map would be empty.
MIN_IMAGE_SIZE = 16


@keras.saving.register_keras_serializable(package="fer_tf")
class MaxFeatureMap(keras.layers.Layer):
    """Halves the channels by the element-wise maximum of their two halves (Wu et al., equation 2)."""

    def call(self, inputs: Any) -> Any:
        first, second = keras.ops.split(inputs, 2, axis=-1)
        return keras.ops.maximum(first, second)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] // 2)


@keras.saving.register_keras_serializable(package="fer_tf")
class GaussianBlur(keras.layers.Layer):
    """Blurs images a little, so that how sharp they were taken or resized matters less.

    Args:
      sigma: standard deviation, pixels; the kernel is 3 x 3, so above 1 it is no longer Gaussian.
    """

    def __init__(self, sigma: float, **options: Any) -> None:
        super().__init__(**options)
        self.sigma = sigma

    def call(self, inputs: Any) -> Any:
        # Keras pads with black, which would darken the border.
        padded = keras.ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        blurred = keras.ops.image.gaussian_blur(padded, (3, 3), (self.sigma,) * 2, data_format="channels_last")
        return blurred[:, 1:-1, 1:-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sigma": self.sigma}


@keras.saving.register_keras_serializable(package="fer_tf")
class ImageStandardization(keras.layers.Layer):
    """Gives each image mean 0 and variance 1, so that light and contrast need not be learned."""

    # Keeps the noise of an almost constant image from being blown up; variance of values 0 to 1.
    EPSILON = 1e-3

    def call(self, inputs: Any) -> Any:
        inputs = keras.ops.cast(inputs, "float32")
        mean = keras.ops.mean(inputs, axis=(1, 2, 3), keepdims=True)
        centred = inputs - mean
        variance = keras.ops.mean(keras.ops.square(centred), axis=(1, 2, 3), keepdims=True)
        return keras.ops.cast(centred * keras.ops.rsqrt(variance + self.EPSILON), self.compute_dtype)


@keras.saving.register_keras_serializable(package="fer_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization through TensorFlow's fused kernel, which trains 1.5 times as fast on one replica.

    With several replicas it is Keras' synchronized layer, so that two replicas equal one on the same global batch.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "synchronized": True})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        import tensorflow as tf

        if not training or not self.trainable or tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        # The kernel returns the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance = variance * (count - 1.0) / count
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return outputs


def light_cnn(
    variant: str,
    num_classes: int,
    image_size: int = 128,
    channels: int = 1,
    *,
    batch_norm: bool = True,
    blur: float = 0.0,
    standardize: bool = False,
    dropout: float = 0.5,
    kernel_variance: tuple[float, float] = (2.0, 2.0),
    seed: int = 0,
) -> keras.Model:
    """Returns the functional Keras model from a face crop to logits.

    The layer `features` holds the 256-d face feature (float32) and `logits` the head (float32).

    Args:
      variant: `light_cnn_9`, `light_cnn_29` or `light_cnn_29_v2`.
      num_classes: number of expressions, at least 2.
      image_size: side of the square input, pixels; 128 in the paper.
      channels: 1 (grey) or 3 (RGB).
      batch_norm: whether a batch normalization follows each convolution. The published network has none and needs
        a slow warm-up; its parameter counts are those of `batch_norm=False`.
      blur: standard deviation, pixels, of a Gaussian that the network begins with; 0 blurs nothing.
      standardize: whether it then gives each image mean 0 and variance 1.
      dropout: rate before the head, 0 to 1.
      kernel_variance: variance of a fresh kernel's weights times the number of its inputs, of convolutions and of the
        feature layer; 2 is He et al.'s, 1/3 PyTorch's default. A batch-normalized kernel computes the same at any
        scale, but learns faster when it is small (van Laarhoven 2017, arXiv 1706.05350).
      seed: seed of the initial weights and of dropout.

    Returns:
      keras.Model: float32 (B, image_size, image_size, channels), values 0 to 1, to float32 (B, num_classes).

    Raises:
      InputError: for an unknown variant, fewer than 2 classes or an image below 16 pixels.
    """
    if variant not in RESIDUAL_BLOCKS:
        raise not_one_of("variant", variant, VARIANTS)
    check_sizes(num_classes, image_size)
    build = Builder(batch_norm, kernel_variance, seed)
    second_version = variant.endswith("v2")
    inputs = keras.Input((image_size, image_size, channels), name="face")
    x = begin(inputs, blur, standardize)
    x = build.mfm_conv(x, STEM_CHANNELS, 5, "stem")  # (B, S, S, 48)
    x = build.pool(x, second_version, "stem_pool")
    previous = STEM_CHANNELS
    for stage, ((width, pooled), blocks) in enumerate(zip(STAGES, RESIDUAL_BLOCKS[variant], strict=True), 1):
        for block in range(1, blocks + 1):
            x = build.residual(x, previous, f"stage{stage}_block{block}")
        x = build.mfm_conv(x, previous, 1, f"stage{stage}_reduce")
        x = build.mfm_conv(x, width, 3, f"stage{stage}_conv", maps=MAPS_LAYERS[stage - 1])
        if pooled:
            x = build.pool(x, second_version, f"stage{stage}_pool")
        previous = width
    # (B, S/16, S/16, 128)
    return keras.Model(inputs, build.head(x, num_classes, dropout, second_version), name=variant)


def check_sizes(num_classes: int, image_size: int) -> None:
    """Raises InputError for fewer than 2 classes or an image below 16 pixels."""
    if num_classes < 2:
        raise InputError(f"`num_classes` must be at least 2. Received: {num_classes}.")
    if image_size < MIN_IMAGE_SIZE:
        raise InputError(f"`image_size` must be at least {MIN_IMAGE_SIZE} pixels. Received: {image_size}.")


def convolution_name(name: str) -> str:
    """Returns the name of the convolution whose batch normalization is `{name}_norm`."""
    return name if name.endswith("conv") else f"{name}_conv"


def begin(faces: Any, blur: float, standardize: bool) -> Any:
    """Returns what a network's convolutions see of faces; see `light_cnn` for the arguments."""
    x = GaussianBlur(blur, dtype="float32", name="blur")(faces) if blur else faces
    return ImageStandardization(dtype="float32", name="standardize")(x) if standardize else x


def can_grow(shallow: str, deep: str) -> bool:
    """Returns whether `deep` is `shallow` with more residual blocks, which add nothing while they are fresh.

    That they add nothing holds under batch normalization. No network but a LightCNN can.
    """
    if not {shallow, deep} <= RESIDUAL_BLOCKS.keys():
        return False
    blocks = zip(RESIDUAL_BLOCKS[shallow], RESIDUAL_BLOCKS[deep], strict=True)
    return shallow.endswith("v2") == deep.endswith("v2") and all(few <= many for few, many in blocks)


class Builder:
    """Adds the network's parts; each kernel gets its own seed so that a seed gives the same weights."""

    def __init__(self, batch_norm: bool, kernel_variance: tuple[float, float], seed: int) -> None:
        self._batch_norm = batch_norm
        self._conv_variance, self._dense_variance = kernel_variance
        self._seed = seed * 1000

    def next_seed(self) -> int:
        """Returns a seed that no other part of the network has."""
        self._seed += 1
        return self._seed

    def _fresh_kernel(self, variance: float) -> keras.initializers.Initializer:
        return keras.initializers.VarianceScaling(
            variance, mode="fan_in", distribution="truncated_normal", seed=self.next_seed()
        )

    def mfm_conv(self, x: Any, width: int, kernel: int, name: str, gamma: str = "ones", maps: str = "") -> Any:
        """Returns a convolution with Max-Feature-Map, normalized where the network is; (B, H, W, width).

        Args:
          x: maps (B, H, W, C).
          width: channels that are left after the maximum of two.
          kernel: side of the kernel, pixels.
          name: of the layers.
          gamma: how the normalization's scale begins, an initializer's name.
          maps: another name of the last layer.
        """
        x = keras.layers.Conv2D(
            2 * width,
            kernel,
            padding="same",
            use_bias=not self._batch_norm,
            kernel_initializer=self._fresh_kernel(self._conv_variance),
            name=convolution_name(name),
        )(x)
        if self._batch_norm:
            x = FusedBatchNormalization(momentum=0.9, gamma_initializer=gamma, name=f"{name}_norm")(x)
        return MaxFeatureMap(name=maps or f"{name}_mfm")(x)

    def conv(self, x: Any, width: int, kernel: int, name: str, stride: int = 1) -> Any:
        """Returns a plain convolution with a bias."""
        fresh = self._fresh_kernel(self._conv_variance)
        return keras.layers.Conv2D(width, kernel, stride, "same", kernel_initializer=fresh, name=name)(x)

    def residual(self, x: Any, width: int, name: str) -> Any:
        """Returns maps (B, H, W, width) with two convolutions of theirs added."""
        y = self.mfm_conv(x, width, 3, f"{name}_a")
        # A fresh block adds nothing (Goyal et al. 2017, arXiv 1706.02677), so a deep network begins as a shallow one.
        y = self.mfm_conv(y, width, 3, f"{name}_b", gamma="zeros")
        return keras.layers.Add(name=f"{name}_add")([x, y])

    def pool(self, x: Any, with_average: bool, name: str) -> Any:
        """Returns maps of half the side, rounded up: of 2 x 2 places the maximum, plus their mean if asked for."""
        # "same" rounds odd sides up, as the published network's ceil_mode does.
        pooled = keras.layers.MaxPooling2D(2, padding="same", name=name)(x)
        if not with_average:
            return pooled
        average = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_average")(x)
        return keras.layers.Add(name=f"{name}_add")([pooled, average])

    def head(self, x: Any, num_classes: int, dropout: float, second_version: bool = False) -> Any:
        """Returns the logits of maps, over the layer `features`; the second version has no MFM and no bias there."""
        x = keras.layers.Flatten(name="flatten")(x)
        if second_version:
            features = self.dense(x, FEATURE_SIZE, FEATURE_DENSE_LAYER)
            features = keras.layers.Activation("linear", dtype="float32", name=FEATURES_LAYER)(features)
        else:
            features = self.dense(x, 2 * FEATURE_SIZE, FEATURE_DENSE_LAYER)
            features = MaxFeatureMap(dtype="float32", name=FEATURES_LAYER)(features)
        x = keras.layers.Dropout(dropout, seed=self.next_seed(), name="head_dropout")(features)
        return keras.layers.Dense(
            num_classes,
            use_bias=not second_version,
            # Small, so that training begins near equal probabilities instead of confident mistakes.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=self.next_seed()),
            dtype="float32",
            name=LOGITS_LAYER,
        )(x)

    def dense(self, x: Any, width: int, name: str) -> Any:
        """Returns a dense layer's values (B, width) of (B, C)."""
        return keras.layers.Dense(
            width,
            kernel_initializer=self._fresh_kernel(self._dense_variance),
            name=name,
        )(x)
