"""dlib's face descriptor in TensorFlow: who a face is, for many faces at once.

dlib's own network takes 76 ms of one core a face, in a batch too, because its convolutions are plain loops. Its weights
(King 2017, `dlib_face_recognition_resnet_model_v1.dat`, a ResNet of 29 convolutions after He et al. 2016) are read from
dlib's serialization, which takes a moment, and give the same 128 numbers to 1e-3 here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fer_tf.models.dlib_weights import BLOCKS, MEAN_RGB, SCALE, model_path, weights_of

CHIP_SIZE = 150


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

        convolutions, head = weights_of(path or model_path())
        self._convolutions = [(tf.constant(kernel), tf.constant(bias)) for kernel, bias in convolutions]
        self._head = tf.constant(head)
        chips = tf.TensorSpec([None, CHIP_SIZE, CHIP_SIZE, 3])
        self._run = tf.function(self._descriptors, input_signature=[chips], autograph=False)

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
