"""MTCNN's three networks (Zhang et al. 2016, arXiv 1604.02878) with the `mtcnn` package's weights, in stock operations.

`fer_tf.faces.detect` finds faces by them; an export holds the last one, to say whether it was shown a face crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fer_tf.resources import in_package


class Networks:
    """The package's three networks as traced functions on uint8 images."""

    def __init__(self, threads: int):
        import tensorflow as tf

        if threads:
            _limit_threads(tf, threads)
        self._tf = tf

    def propose(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box regression (b, y, x, 4) and face probability (b, y, x)."""
        regression, score = self._propose(images)
        return regression.numpy(), score.numpy()

    def refine(self, images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box offsets (n, 4) and face probability (n,) of windows."""
        offsets, score = self._refine(images, *self._crops(images, rows))
        return offsets.numpy(), score.numpy()

    def output(self, images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Box offsets (n, 4), keypoints (n, 10; five x, five y, shares of the window) and probability (n,)."""
        offsets, points, score = self._output(images, *self._crops(images, rows))
        return offsets.numpy(), points.numpy(), score.numpy()

    @staticmethod
    def _crops(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = images.shape[1:3]
        boxes = rows[:, [2, 1, 4, 3]] / (height, width, height, width)
        return boxes.astype(np.float32), rows[:, 0].astype(np.int32)

    @cached_property
    def _propose(self) -> Any:
        tf, w = self._tf, _weights("pnet")

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)], autograph=False)
        def propose(images: Any) -> Any:
            x = _normalized(tf, images)
            x = tf.nn.max_pool2d(_conv(tf, x, w[0:3]), 2, 2, "SAME")
            x = _conv(tf, _conv(tf, x, w[3:6]), w[6:9])
            return _conv(tf, x, w[9:11]), tf.nn.softmax(_conv(tf, x, w[11:13]))[..., 1]

        return propose

    @cached_property
    def _refine(self) -> Any:
        tf, w = self._tf, _weights("rnet")

        @tf.function(input_signature=_crop_signature(tf), autograph=False)
        def refine(images: Any, boxes: Any, owners: Any) -> Any:
            x = _normalized(tf, tf.image.crop_and_resize(images, boxes, owners, (24, 24), extrapolation_value=127.5))
            x = tf.nn.max_pool2d(_conv(tf, x, w[0:3]), 3, 2, "SAME")
            x = tf.nn.max_pool2d(_conv(tf, x, w[3:6]), 3, 2, "VALID")
            x = _dense(tf, _flat(tf, _conv(tf, x, w[6:9])), w[9:12])
            return _dense(tf, x, w[12:14]), tf.nn.softmax(_dense(tf, x, w[14:16]))[:, 1]

        return refine

    @cached_property
    def _output(self) -> Any:
        tf, w = self._tf, _weights("onet")

        @tf.function(input_signature=_crop_signature(tf), autograph=False)
        def output(images: Any, boxes: Any, owners: Any) -> Any:
            return output_network(face_windows(images, boxes, owners), w)

        return output


def output_weights() -> list[np.ndarray]:
    """Returns the weights of MTCNN's last network, for `output_network`."""
    return _weights("onet")


def face_windows(images: Any, boxes: Any, owners: Any) -> Any:
    """Returns what MTCNN's last network sees of windows, float32 (n, 48, 48, 3).

    Args:
      images: uint8 (b, h, w, 3), RGB.
      boxes: float32 (n, 4), top, left, bottom, right as shares of the image.
      owners: int32 (n,), each box's image.
    """
    import tensorflow as tf

    return _normalized(tf, tf.image.crop_and_resize(images, boxes, owners, (48, 48), extrapolation_value=127.5))


def output_network(windows: Any, weights: Sequence[Any]) -> tuple[Any, Any, Any]:
    """MTCNN's last network, in stock TensorFlow operations.

    Args:
      windows: float32 (n, 48, 48, 3), of `face_windows`.
      weights: of `output_weights`, or variables that hold them.

    Returns:
      tuple: box offsets (n, 4), keypoints (n, 10) and the probability that the window is a face's box (n,), float32.
    """
    import tensorflow as tf

    w = weights
    x = tf.nn.max_pool2d(_conv(tf, windows, w[0:3]), 3, 2, "SAME")
    x = tf.nn.max_pool2d(_conv(tf, x, w[3:6]), 3, 2, "VALID")
    x = tf.nn.max_pool2d(_conv(tf, x, w[6:9]), 2, 2, "SAME")
    x = _dense(tf, _flat(tf, _conv(tf, x, w[9:12])), w[12:15])
    return _dense(tf, x, w[15:17]), _dense(tf, x, w[17:19]), tf.nn.softmax(_dense(tf, x, w[19:21]))[:, 1]


def _crop_signature(tf: Any) -> list[Any]:
    images = tf.TensorSpec([None, None, None, 3], tf.uint8)
    return [images, tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int32)]


def _normalized(tf: Any, images: Any) -> Any:
    return (tf.cast(images, tf.float32) - 127.5) / 128.0


def _conv(tf: Any, x: Any, weights: Sequence[np.ndarray]) -> Any:
    x = tf.nn.bias_add(tf.nn.conv2d(x, weights[0], 1, "VALID"), weights[1])
    return x if len(weights) == 2 else _prelu(tf, x, weights[2])


def _dense(tf: Any, x: Any, weights: Sequence[np.ndarray]) -> Any:
    x = tf.nn.bias_add(x @ weights[0], weights[1])
    return x if len(weights) == 2 else _prelu(tf, x, weights[2])


def _prelu(tf: Any, x: Any, alpha: np.ndarray) -> Any:
    return tf.nn.relu(x) - alpha * tf.nn.relu(-x)


def _flat(tf: Any, x: Any) -> Any:
    # The weights come from a framework that stores the width before the height.
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [tf.shape(x)[0], x.shape[1] * x.shape[2] * x.shape[3]])


def _weights(network: str) -> list[np.ndarray]:
    import joblib

    return joblib.load(in_package("mtcnn", "assets", "weights", f"{network}.lz4"))


def package_version() -> str:
    """Returns the version of the package that holds the weights."""
    from importlib.metadata import version

    return version("mtcnn")


def _limit_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow runs already; its owner has chosen.
        return
