"""From stored face crops to what Fa-Net reads: the one definition for training, evaluation, export and the demo."""

from __future__ import annotations

from typing import Any

# ITU-R BT.601 luma, as JPEG and OpenCV use it.
LUMA = (0.299, 0.587, 0.114)


def preprocess(images: Any, image_size: int, channels: int = 1, crop: float = 1.0) -> Any:
    """Returns face crops as the network's input.

    Stock TensorFlow ops only, so that the exported model holds exactly this.

    Args:
      images: uint8 or float (B, H, W, 1 or 3), values 0 to 255, RGB when there are three channels.
      image_size: side of the square output, pixels.
      channels: 1 for grey (section 4.2's LightCNN) or 3 for RGB.
      crop: share of the side that is kept around the centre, above 0; above 1 the edge is repeated around the face.

    Returns:
      float32 (B, image_size, image_size, channels), values 0 to 1.
    """
    import tensorflow as tf

    images = tf.cast(images, tf.float32) / 255.0
    if crop < 1.0:
        images = central_crop(images, crop)
    elif crop > 1.0:
        images = widened(images, crop)
    depth = images.shape[-1]
    if channels == 1 and depth == 3:
        images = tf.tensordot(images, tf.constant(LUMA, tf.float32)[:, None], axes=[[-1], [0]])
    elif channels == 3 and depth == 1:
        images = tf.repeat(images, 3, axis=-1)
    size = (image_size, image_size)
    if images.shape[-3:-1] != size:
        # Antialiasing matters when 256 becomes 48: without it, thin contours flicker between frames.
        images = tf.image.resize(images, size, antialias=True)
    return tf.ensure_shape(images, (None, image_size, image_size, channels))


def widened(images: Any, share: float) -> Any:
    """Returns images (B, H, W, C) with their edge repeated around them, `share` of their side, rounded half up."""
    import tensorflow as tf

    for axis in (1, 2):
        side = tf.shape(images)[axis]
        margin = tf.cast(tf.floor(tf.cast(side, tf.float32) * (share - 1.0) / 2.0 + 0.5), tf.int32)
        images = tf.gather(images, tf.clip_by_value(tf.range(-margin, side + margin), 0, side - 1), axis=axis)
    return images


def central_crop(images: Any, crop: Any) -> Any:
    """Cuts the same number of pixels off each side, rounded half up; `crop` may be a tensor.

    `tf.image.central_crop` cuts 48 pixels to 44 where the shape is known and to 46 where it is not (11 / 12 of the
    side), so a served model would see another picture than the live one.
    """
    import tensorflow as tf

    shape = tf.shape(images)
    margins = tf.cast(tf.floor(tf.cast(shape[1:3], tf.float32) * (1.0 - crop) / 2.0 + 0.5), tf.int32)
    top, left = margins[0], margins[1]
    return images[:, top : shape[1] - top, left : shape[2] - left, :]
