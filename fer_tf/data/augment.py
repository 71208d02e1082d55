"""Random changes of a batch of faces, seeded: the same seed gives the same batch on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Augmentation:
    """How much a training face may change; the defaults change nothing.

    Attributes:
      flip: whether half of the faces are mirrored.
      rotation: largest turn to either side, degrees.
      scale: largest relative change of size, 0.1 for 90 % to 110 %.
      shift: largest move in x and in y, share of the side.
      contrast: largest relative change of contrast.
      brightness: largest change of brightness, share of white.
      erase: share of the faces in which a random rectangle is blanked.
      enlarge: how many times the faces are enlarged (bicubic) before they are moved, so that moving blurs them less:
        stripes four pixels wide lose up to 29 % of their contrast at 1, 14 % at 3. Odd numbers leave an unmoved face
        as it is.
      framing: smallest and largest share of the side that a face keeps, drawn for each face in the place of the one
        share; None draws none.
      mixup: alpha of the beta distribution of two mixed faces' weights; 0 mixes none.
    """

    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0
    enlarge: int = 1
    mixup: float = 0.0
    framing: tuple[float, float] | None = None


# Sides of an erased rectangle, share of the image's side.
ERASE_SIDES = (0.15, 0.45)


def augment(images: Any, labels: Any, image_size: int, crop: float, seed: Any, options: Augmentation) -> Any:
    """Returns a changed batch; for use inside tf.data, on a whole batch at a time.

    With no change asked for it is the centre crop that `preprocess` makes, up to interpolation.

    Args:
      images: float32 (B, H, H, C), values 0 to 1.
      labels: float32 (B, num_classes), shares of the classes that sum to 1, and -1 for a class that a face's set does
        not have.
      image_size: side of the output, pixels.
      crop: share of the side that an unchanged face keeps around its centre, 0 < crop <= 1.
      seed: int (2,), the batch's own seed.
      options: what may change.

    Returns:
      (images, labels): float32 (B, image_size, image_size, C), values 0 to 1, and float32 (B, num_classes) alike.
    """
    import tensorflow as tf

    draws = _Draws(tf.shape(images)[0], seed)
    images = _warp(images, image_size, crop, draws, options)
    if options.contrast or options.brightness:
        gain = draws.around(1.0, options.contrast)[:, None, None, None]
        offset = draws.around(0.0, options.brightness)[:, None, None, None]
        mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        images = tf.clip_by_value((images - mean) * gain + mean + offset, 0.0, 1.0)
    if options.erase:
        images = _erase(images, image_size, draws, options.erase)
    if options.mixup:
        images, labels = _mixup(images, labels, draws, options.mixup)
    return images, labels


class _Draws:
    """Random numbers for a batch; each call has its own seed, counted on from the batch's."""

    def __init__(self, batch: Any, seed: Any) -> None:
        self._batch, self._seed, self._count = batch, seed, 0

    def uniform(self, low: float, high: float) -> Any:
        import tensorflow as tf

        return tf.random.stateless_uniform([self._batch], self._own_seed(), low, high)

    def gamma(self, alpha: float) -> Any:
        import tensorflow as tf

        return tf.random.stateless_gamma([self._batch], self._own_seed(), alpha)

    def _own_seed(self) -> Any:
        import tensorflow as tf

        self._count += 1
        return tf.random.experimental.stateless_fold_in(tf.cast(self._seed, tf.int64), self._count)

    def around(self, centre: float, reach: float) -> Any:
        return self.uniform(centre - reach, centre + reach)


def _warp(images: Any, image_size: int, crop: float, draws: _Draws, options: Augmentation) -> Any:
    """Samples each output pixel where rotation, scale, shift and mirror put it: one interpolation for all."""
    import tensorflow as tf

    if options.enlarge > 1:
        size = tf.shape(images)[1:3] * options.enlarge
        images = tf.clip_by_value(tf.image.resize(images, size, "bicubic"), 0.0, 1.0)
    side = tf.cast(tf.shape(images)[1], tf.float32)
    angle = draws.around(0.0, options.rotation) * (3.14159265 / 180.0)
    kept = draws.uniform(*options.framing) if options.framing else crop
    zoom = draws.around(1.0, options.scale) * (side * kept / image_size)
    mirror = tf.where(draws.uniform(0.0, 1.0) < (0.5 if options.flip else 0.0), -1.0, 1.0)
    centre_x = (side - 1.0) / 2.0 + draws.around(0.0, options.shift) * side
    centre_y = (side - 1.0) / 2.0 + draws.around(0.0, options.shift) * side
    cosine, sine, middle = tf.cos(angle) * zoom, tf.sin(angle) * zoom, (image_size - 1.0) / 2.0
    zero = tf.zeros_like(angle)
    # Source x = cx + mirror * cos * (x - m) - sin * (y - m); source y alike: eight numbers an image.
    transforms = tf.stack(
        [
            mirror * cosine,
            -sine,
            centre_x - mirror * cosine * middle + sine * middle,
            mirror * sine,
            cosine,
            centre_y - mirror * sine * middle - cosine * middle,
            zero,
            zero,
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[image_size, image_size],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def _erase(images: Any, image_size: int, draws: _Draws, share: float) -> Any:
    import tensorflow as tf

    chosen = draws.uniform(0.0, 1.0) < share
    inside = tf.ones([1, 1, 1], tf.bool)
    for axis in (1, 2):
        side = draws.uniform(*ERASE_SIDES) * image_size
        start = draws.uniform(0.0, 1.0) * (image_size - side)
        places = tf.range(image_size, dtype=tf.float32)[None]
        within = (places >= start[:, None]) & (places < (start + side)[:, None])
        inside = inside & tf.expand_dims(within, 3 - axis)
    grey = draws.uniform(0.0, 1.0)[:, None, None, None]
    return tf.where((inside & chosen[:, None, None])[..., None], grey, images)


def _mixup(images: Any, labels: Any, draws: _Draws, alpha: float) -> Any:
    import tensorflow as tf

    # The ratio of two gamma draws is a beta(alpha, alpha) draw. Where float32 holds neither of them, one face is shown.
    a, b = draws.gamma(alpha), draws.gamma(alpha)
    weight = tf.math.divide_no_nan(a, a + b)
    weight = tf.maximum(weight, 1.0 - weight)
    other = tf.reverse(images, [0])
    pixel_weight = weight[:, None, None, None]
    mixed = images * pixel_weight + other * (1.0 - pixel_weight)
    return mixed, mixed_labels(labels, tf.reverse(labels, [0]), weight[:, None])


def mixed_labels(first: Any, second: Any, weight: Any) -> Any:
    """Returns targets mixed by `weight` and 1 - `weight`; what one of them does not know, the mixture does not either.

    Args:
      first, second: float32 (B, num_classes), negative for a class that a face's set does not have.
      weight: float32, of the first.
    """
    import tensorflow as tf

    known = (first >= 0) & (second >= 0)
    mixed = tf.where(known, first * weight + second * (1.0 - weight), 0.0)
    # What fell to a class that the other does not know is shared out.
    mixed = tf.math.divide_no_nan(mixed, tf.reduce_sum(mixed, axis=1, keepdims=True))
    return tf.where(known, mixed, -1.0)
