"""dlib's face descriptor in TensorFlow: who a face is, for many faces at once.

dlib's own network takes 76 ms of one core a face, in a batch too, because its convolutions are plain loops. Its weights
(King 2017, `dlib_face_recognition_resnet_model_v1.dat`, a ResNet of 29 convolutions after He et al. 2016) are read from
dlib's serialization, which takes a moment, and give the same 128 numbers to 1e-3 here.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from typing import Any

import numpy as np

from fer_tf.errors import InputError

MODEL = "dlib_face_recognition_resnet_model_v1"
CHIP_SIZE = 150
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
    # The package itself cannot be imported: it needs pkg_resources.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise InputError("the package face_recognition_models is missing; run `make` to install it")
    return os.path.join(spec.submodule_search_locations[0], "models", f"{MODEL}.dat")


@functools.cache
def packaged_network() -> IdentityNetwork:
    """Returns the packaged network, one for the process."""
    return IdentityNetwork()


class IdentityNetwork:
    """dlib's descriptor network, on whatever device TensorFlow has.

        descriptors = IdentityNetwork()(chips)  # chips of dlib.get_face_chip, uint8 (B, 150, 150, 3)

    Args:
      path: a file of dlib's; empty for the packaged one.

    Raises:
      InputError: when the file is missing or holds another network.
    """

    def __init__(self, path: str = "") -> None:
        import tensorflow as tf

        convolutions, head = _weights_of(path or model_path())
        self._convolutions = [(tf.constant(kernel), tf.constant(bias)) for kernel, bias in convolutions]
        self._head = tf.constant(head)
        self._run = tf.function(self._descriptors, input_signature=[tf.TensorSpec([None, CHIP_SIZE, CHIP_SIZE, 3])])

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        """Returns descriptors, float32 (B, 128), of aligned faces, uint8 or float (B, 150, 150, 3), RGB 0 to 255."""
        return self._run(np.asarray(chips, np.float32)).numpy()

    def _descriptors(self, chips: Any) -> Any:
        import tensorflow as tf

        layers = iter(self._convolutions)
        maps = tf.nn.relu(_convolve((chips - MEAN_RGB) * SCALE, *next(layers), stride=2))
        maps = tf.nn.max_pool2d(maps, 3, 2, "VALID")  # (B, 35, 35, 32)
        for _, halves in BLOCKS:
            short = tf.nn.avg_pool2d(maps, 2, 2, "VALID") if halves else maps
            deep = tf.nn.relu(_convolve(maps, *next(layers), stride=2 if halves else 1))
            maps = tf.nn.relu(_sum(_convolve(deep, *next(layers)), short))
        return tf.reduce_mean(maps, [1, 2]) @ self._head


def _convolve(maps: Any, kernel: Any, bias: Any, stride: int = 1) -> Any:
    """dlib pads a convolution that halves by nothing, and any other to keep the side."""
    import tensorflow as tf

    return tf.nn.conv2d(maps, kernel, stride, "SAME" if stride == 1 else "VALID") + bias


def _sum(first: Any, second: Any) -> Any:
    """Adds maps as dlib does: where one has fewer rows, columns or channels, zeros stand for the missing ones."""
    import tensorflow as tf

    shape = [max(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True)]
    grown = [
        tf.pad(maps, [(0, 0), *((0, wanted - has) for wanted, has in zip(shape, maps.shape[1:], strict=True))])
        for maps in (first, second)
    ]
    return grown[0] + grown[1]


def _weights_of(path: str) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Returns kernel (H, W, in, out) and bias (out,) of each convolution from the input on, and the head (256, 128)."""
    if not os.path.exists(path):
        raise InputError(f"the face descriptor's weights {path!r} are missing")
    tensors = _tensors(path)
    shapes = [(7, 3, FIRST)]
    for filters, _ in BLOCKS:
        shapes += [(3, shapes[-1][2], filters), (3, filters, filters)]
    sizes = [size for side, inner, outer in shapes for size in (side * side * inner * outer + outer, 2 * outer)]
    if [tensor.size for tensor in tensors] != [*sizes, shapes[-1][2] * FEATURES]:
        raise InputError(f"{path} is not dlib's {MODEL}: it has other layers")
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
