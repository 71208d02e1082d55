"""What a discriminator may see changed so that it cannot learn few faces by heart (Zhao et al. 2020, arXiv 2006.10738).

Real and generated faces are changed alike, and the change has a gradient: the generator is told of the faces that it
made, not of changed ones, so that changes do not leak into them. A face's mask moves with it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# As published: light by up to 0.5 of half the range, saturation 0 to 2 times, contrast 0.5 to 1.5 times, moves of up to
# an eighth of the side, and a square of half the side that is blanked.
BRIGHTNESS, SATURATION, CONTRAST, SHIFT, BLANK = 0.5, 1.0, 0.5, 0.125, 0.5


def changed(faces: Any, masks: Any, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns faces and their masks, each pair changed at random.

    Args:
      faces: float (B, S, S, 3), values -1 to 1.
      masks: float (B, S, S, 1), values 0 to 1.
      seed: int (2,): the same seed gives the same changes.

    Returns:
      The same shapes and types; what is blanked or moves in is 0, which is grey in a face. Changed light may leave -1
      to 1.
    """
    count, size = tf.shape(faces)[0], tf.cast(tf.shape(faces)[1], tf.float32)
    # Light, saturation, contrast; the move and the blanked square's middle, each in x and in y.
    drawn = tf.random.stateless_uniform((7, count), seed)
    light, saturation, contrast = tf.unstack(drawn[:3, :, None, None, None])
    x = tf.cast(faces, tf.float32) + (2 * light - 1) * BRIGHTNESS
    grey = tf.reduce_mean(x, 3, keepdims=True)
    x = grey + (x - grey) * (1 + (2 * saturation - 1) * SATURATION)
    mean = tf.reduce_mean(x, (1, 2, 3), keepdims=True)
    x = mean + (x - mean) * (1 + (2 * contrast - 1) * CONTRAST)
    x = tf.concat([x, tf.cast(masks, tf.float32)], 3)
    x = _moved(x, tf.round((2 * drawn[3:5] - 1) * SHIFT * size))
    x *= _kept(drawn[5:7] * size, size)
    return tf.cast(x[..., :3], faces.dtype), tf.cast(x[..., 3:], masks.dtype)


def _moved(x: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Images moved by whole pixels, (2, B) in x and in y; nothing moves in."""
    one, none = tf.ones_like(by[0]), tf.zeros_like(by[0])
    transforms = tf.stack([one, none, -by[0], none, one, -by[1], none, none], 1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=transforms,
        output_shape=tf.shape(x)[1:3],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )


def _kept(middle: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """1 outside a square of BLANK's side around each image's middle (2, B), pixels, and 0 in it; (B, S, S, 1)."""
    places = tf.range(size) + 0.5
    far = tf.abs(places - middle[..., None]) > BLANK * size / 2  # (2, B, S)
    outside = far[0][:, None, :] | far[1][:, :, None]
    return tf.cast(outside, tf.float32)[..., None]
