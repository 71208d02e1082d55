"""dlib's face descriptor network: its published weights, and Fa-Net on its convolutions instead of LightCNN's.

The network (King 2017, a ResNet of 29 convolutions after He et al. 2016) learned from three million pictures who a face
is, so its maps know eyes, mouths and poses before a Fa-Net sees its first expression.
"""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any

import keras
import numpy as np

from fer_tf.errors import InputError
from fer_tf.models.light_cnn import MAPS_LAYERS, Builder, begin

VARIANT = "dlib_resnet"
PACKAGED = "dlib_face_recognition_resnet_model_v1"
FEATURES = 128
# The published structure: filters of the first convolution, then of each residual block and whether it halves the side.
FIRST = 32
BLOCKS = (
    *((32, False),) * 3,
    *((64, True), *((64, False),) * 3),
    *((128, True), *((128, False),) * 2),
    *((256, True), *((256, False),) * 2),
    (256, True),
)
MEAN_RGB, SCALE = (122.782, 117.001, 104.298), 1 / 256
# Fa-Net goes without the last block, which sees 1 x 1 maps: nothing tells there where a mouth's corner is.
OWN_BLOCKS = BLOCKS[:-1]
# The blocks whose maps are `light_cnn.MAPS_LAYERS`.
MAPS_BLOCKS = dict(zip((3, 7, 9, 10), MAPS_LAYERS, strict=True))
# Standard deviation of what the published network takes of a face whose grey levels deviate by 56.
TYPICAL_DEVIATION = 56 * SCALE
# Smaller faces are enlarged by the network itself, up to this side: its kernels were learned on faces of 150 pixels,
# and pictures of 48 pixels stay as sharp in training as aligned faces are in use.
ENLARGED_SIDE = 96
MIN_IMAGE_SIZE = 16
# Variance of the fresh feature layer's weights times the number of its inputs (see `light_cnn`), PyTorch's default; of
# the convolutions He et al.'s, for who trains without the published ones.
FRESH = (2.0, 1 / 3)
# Of dlib's serialization: the names of the layers that have weights, each after its length.
_LAYER = re.compile(rb"\x01(?:\x05con_\d|\x07affine_|\x04fc_\d)")


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
    if num_classes < 2:
        raise InputError(f"`num_classes` must be at least 2. Received: {num_classes}.")
    if image_size < MIN_IMAGE_SIZE:
        raise InputError(f"`image_size` must be at least {MIN_IMAGE_SIZE} pixels. Received: {image_size}.")
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


def begin_with_published(model: keras.Model, path: str = "") -> None:
    """Gives a fresh `dlib_resnet` the published convolutions; its head stays fresh.

    Args:
      model: any size; of a grey one the first kernels are summed over red, green and blue.
      path: a file of dlib's; empty for the packaged one.

    Raises:
      InputError: when the file is missing or holds another network.
    """
    convolutions, _ = weights_of(path or model_path())
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


def model_path() -> str:
    """Returns where the weights lie; raises InputError when the package that brings them is missing."""
    # The package itself cannot be imported: it needs pkg_resources.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise InputError("the package face_recognition_models is missing; run `make` to install it")
    return os.path.join(spec.submodule_search_locations[0], "models", f"{PACKAGED}.dat")


def weights_of(path: str) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Returns kernel (H, W, in, out) and bias (out,) of each convolution from the input on, and the head (256, 128)."""
    if not os.path.exists(path):
        raise InputError(f"the face descriptor's weights {path!r} are missing")
    tensors = _tensors(path)
    shapes = [(7, 3, FIRST)]
    for filters, _ in BLOCKS:
        shapes += [(3, shapes[-1][2], filters), (3, filters, filters)]
    sizes = [size for side, inner, outer in shapes for size in (side * side * inner * outer + outer, 2 * outer)]
    if [tensor.size for tensor in tensors] != [*sizes, shapes[-1][2] * FEATURES]:
        raise InputError(f"{path} is not dlib's {PACKAGED}: it has other layers")
    convolutions = []
    for (side, inner, outer), weights, affine in zip(shapes, tensors[0:-1:2], tensors[1:-1:2], strict=True):
        kernel = weights[:-outer].reshape(outer, inner, side, side).transpose(2, 3, 1, 0)
        gain, shift = affine[:outer], affine[outer:]
        # The scale and shift that follow each convolution are part of it.
        convolutions.append((kernel * gain, weights[-outer:] * gain + shift))
    return convolutions, tensors[-1].reshape(shapes[-1][2], FEATURES)


def _tensors(path: str) -> list[np.ndarray]:
    """Returns the numbers of each layer that has some, float32 (N,), in the order of dlib's file: from the input on."""
    with open(path, "rb") as file:
        content = file.read()
    found, position = [], 0
    while match := _LAYER.search(content, position):
        position = match.end()
        # A head names its outputs and inputs first; then come the tensor's version and its four sizes.
        skipped = 3 if b"fc_" in match[0] else 1
        numbers = []
        for _ in range(skipped + 4):
            value, position = _integer(content, position)
            numbers.append(value)
        count = int(np.prod(numbers[skipped:], dtype=np.int64))
        if not 0 < count <= (len(content) - position) // 4:
            raise InputError(f"{path} is damaged at byte {position}")
        found.append(np.frombuffer(content, "<f4", count, position))
        position += 4 * count
    return found


def _integer(content: bytes, position: int) -> tuple[int, int]:
    """Returns a whole number of dlib's serialization, a byte that tells its length and then its bytes, and its end."""
    length = content[position] & 0x0F
    return int.from_bytes(content[position + 1 : position + 1 + length], "little"), position + 1 + length
