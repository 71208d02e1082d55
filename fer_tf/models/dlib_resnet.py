"""Fa-Net on the convolutions of dlib's face descriptor instead of LightCNN's.

That network (`fer_tf.models.dlib_weights`) learned from three million pictures who a face is, so its maps know eyes,
mouths and poses before a Fa-Net sees its first expression.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fer_tf.models.dlib_weights import BLOCKS, FIRST, MEAN_RGB, SCALE, model_path, weights_of
from fer_tf.models.light_cnn import MAPS_LAYERS, Builder, begin, check_sizes

VARIANT = "dlib_resnet"
# Fa-Net goes without the last block, which sees 1 x 1 maps: nothing tells there where a mouth's corner is.
OWN_BLOCKS = BLOCKS[:-1]
# The blocks whose maps are `light_cnn.MAPS_LAYERS`.
MAPS_BLOCKS = dict(zip((3, 7, 9, 10), MAPS_LAYERS, strict=True))
# Standard deviation of what the published network takes of a face whose grey levels deviate by 56.
TYPICAL_DEVIATION = 56 * SCALE
# Smaller faces are enlarged by the network itself, up to this side: its kernels were learned on faces of 150 pixels,
# and pictures of 48 pixels stay as sharp in training as aligned faces are in use.
ENLARGED_SIDE = 96
# Variance of the fresh feature layer's weights times the number of its inputs (see `light_cnn`), PyTorch's default; of
# the convolutions He et al.'s, for who trains without the published ones.
FRESH = (2.0, 1 / 3)


def dlib_resnet(
    num_classes: int,
    image_size: int,
    channels: int = 1,
    *,
    blur: float = 0.0,
    standardize: bool = False,
    dropout: float = 0.5,
    seed: int = 0,
) -> keras.Model:
    """Returns the functional Keras model from a face crop to logits; its weights are fresh, see `begin_with_published`.

    There is no batch normalization: what the published network learned of it is part of its kernels. Layers `features`
    and `logits` and the arguments are those of `light_cnn`.

    Raises:
      InputError: for fewer than 2 classes or an image below 16 pixels.
    """
    check_sizes(num_classes, image_size)
    build = Builder(False, FRESH, seed)
    inputs = keras.Input((image_size, image_size, channels), name="face")
    x = begin(inputs, blur, standardize)
    if (times := ENLARGED_SIDE // image_size) > 1:
        x = keras.layers.UpSampling2D(times, interpolation="bilinear", name="enlarge")(x)
    x = build.conv(x, FIRST, 7, "conv0", stride=2)
    x = keras.layers.ReLU(name="conv0_relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)  # (B, S/4, S/4, 32)
    for block, (filters, halves) in enumerate(OWN_BLOCKS, 1):
        name = f"block{block}"
        deep = build.conv(x, filters, 3, f"{name}_a", stride=2 if halves else 1)
        deep = build.conv(keras.layers.ReLU(name=f"{name}_a_relu")(deep), filters, 3, f"{name}_b")
        if halves:
            x = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")(x)
        if missing := filters - x.shape[-1]:
            # As dlib adds maps of fewer channels: zeros stand for the missing ones.
            x = MoreChannels(missing, name=f"{name}_zeros")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, deep])
        x = keras.layers.ReLU(name=MAPS_BLOCKS.get(block, f"{name}_relu"))(x)
    # (B, S/32, S/32, 256)
    return keras.Model(inputs, build.head(x, num_classes, dropout), name=VARIANT)


@keras.saving.register_keras_serializable(package="fer_tf")
class MoreChannels(keras.layers.Layer):
    """Appends channels of zeros.

    Args:
      channels: how many.
    """

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(**options)
        self.channels = channels

    def call(self, inputs: Any) -> Any:
        return keras.ops.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, self.channels)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] + self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


def begin_with_published(model: keras.Model) -> None:
    """Gives a fresh `dlib_resnet` the published convolutions; its head stays fresh.

    Args:
      model: any size; of a grey one the first kernels are summed over red, green and blue.

    Raises:
      InputError: when the package that brings dlib's file is missing.
    """
    convolutions, _ = weights_of(model_path())
    names = ["conv0", *(f"block{block}_{half}" for block in range(1, len(OWN_BLOCKS) + 1) for half in "ab")]
    for name, (kernel, bias) in zip(names, convolutions[: len(names)], strict=True):
        layer = model.get_layer(name)
        if name == "conv0":
            standardized = any(one.name == "standardize" for one in model.layers)
            kernel, bias = _first(kernel, bias, layer.kernel.shape[2], standardized)
        layer.set_weights([kernel, bias])


def _first(kernel: np.ndarray, bias: np.ndarray, channels: int, standardized: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first convolution for this project's faces, values 0 to 1 or standardized, grey or RGB."""
    if standardized:
        kernel = kernel * TYPICAL_DEVIATION
    else:
        bias = bias - np.einsum("hwio,i->o", kernel, np.array(MEAN_RGB, np.float32) * SCALE)
        kernel = kernel * 255 * SCALE
    return (kernel.sum(axis=2, keepdims=True) if channels == 1 else kernel), bias
