"""dlib's face descriptor network as published: its structure, and its weights out of dlib's own file.

King 2017, `dlib_face_recognition_resnet_model_v1.dat`: a ResNet of 29 convolutions after He et al. 2016. It is read
without TensorFlow, so that worker processes which judge faces begin without.
"""

from __future__ import annotations

import os
import re

import numpy as np

from fer_tf.errors import InputError
from fer_tf.resources import in_package

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
# Of dlib's serialization: the names of the layers that have weights, each after its length.
_LAYER = re.compile(rb"\x01(?:\x05con_\d|\x07affine_|\x04fc_\d)")


def model_path() -> str:
    """Returns where the weights lie; raises InputError when the package that brings them is missing."""
    return in_package("face_recognition_models", "models", f"{PACKAGED}.dat")


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
