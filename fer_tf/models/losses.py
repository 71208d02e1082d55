"""The losses of FaPE-GAN (section 4.2, equations 1 to 3); each gives one number per image."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# What takes the place of equation 3's single scalar: how far each term may pull.
L1_WEIGHT = 10.0


def generator_adversarial(fake_logits: Any) -> tf.Tensor:
    """Returns how well the discriminator tells the generated faces: -log D(G(I, P)), the mean over the patches.

    Equation 2 has log(1 - D(G)), whose gradient vanishes while the discriminator wins; this is the non-saturating
    form of Goodfellow et al. with the same fixed point.

    Args:
      fake_logits: (B, h, w, 1), the discriminator's verdict on generated faces, any float type.

    Returns:
      float32 (B,).
    """
    return per_image_mean(tf.nn.softplus(-_float32(fake_logits)))


def discriminator_adversarial(real_logits: Any, fake_logits: Any) -> tf.Tensor:
    """Returns -[log D(I) + log(1 - D(G(I, P)))], the mean over the patches (equations 1 and 2).

    Args:
      real_logits: (B, h, w, 1), the verdict on real faces.
      fake_logits: (B, h, w, 1), the verdict on generated faces.

    Returns:
      float32 (B,).
    """
    return per_image_mean(tf.nn.softplus(-_float32(real_logits))) + per_image_mean(
        tf.nn.softplus(_float32(fake_logits))
    )


def l1(target: Any, generated: Any) -> tf.Tensor:
    """Returns the mean absolute difference of each image (equation 3's second term).

    Args:
      target: (B, S, S, 3), values -1 to 1.
      generated: the same shape.

    Returns:
      float32 (B,), 0 to 2.
    """
    return per_image_mean(tf.abs(_float32(target) - _float32(generated)))


def feature_matching(real_features: list[Any], fake_features: list[Any]) -> tf.Tensor:
    """Returns the mean absolute difference of the discriminator's inner maps over its layers; float32 (B,)."""
    terms = [
        per_image_mean(tf.abs(tf.stop_gradient(_float32(real)) - _float32(fake)))
        for real, fake in zip(real_features, fake_features, strict=True)
    ]
    return tf.add_n(terms) / len(terms)


def global_mean(per_image: Any, replicas: int) -> tf.Tensor:
    """Returns this replica's share of the mean over the global batch.

    Gradients are summed over replicas: the division by their number happens once, here.

    Args:
      per_image: float32 (B,), this replica's images.
      replicas: number of replicas that hold equally many images.
    """
    return tf.reduce_mean(per_image) / replicas


def _float32(values: Any) -> tf.Tensor:
    return tf.cast(values, tf.float32)


def per_image_mean(values: tf.Tensor) -> tf.Tensor:
    """Returns each image's mean; (B, ...) to (B,)."""
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
