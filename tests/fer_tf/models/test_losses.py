"""The GAN's losses against numbers worked out by hand from equations 1 to 3."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.models import losses

LN3 = math.log(3.0)  # the logit whose sigmoid is 3/4


def patches(*values: float) -> tf.Tensor:
    """One verdict map of 1 x 2 patches per pair of values."""
    return tf.reshape(tf.constant(values, tf.float32), (-1, 1, 2, 1))


def test_the_discriminator_loss_is_equation_1_and_2_with_the_sign_turned() -> None:
    # D(I) = 3/4 and 1/2, D(G) = 1/4 and 1/2: the mean over patches of -log D(I) - log(1 - D(G)).
    loss = losses.discriminator_adversarial(patches(LN3, 0.0), patches(-LN3, 0.0))
    by_hand = (-math.log(3 / 4) - math.log(1 / 2)) / 2 + (-math.log(3 / 4) - math.log(1 / 2)) / 2
    np.testing.assert_allclose(loss, [by_hand], rtol=1e-6)


def test_a_discriminator_that_cannot_tell_costs_log_four() -> None:
    loss = losses.discriminator_adversarial(patches(0.0, 0.0), patches(0.0, 0.0))
    np.testing.assert_allclose(loss, [math.log(4)], rtol=1e-6)


def test_the_generator_loss_is_minus_log_of_the_verdict_on_its_face() -> None:
    loss = losses.generator_adversarial(patches(LN3, -LN3, 0.0, 0.0))
    np.testing.assert_allclose(loss, [-(math.log(3 / 4) + math.log(1 / 4)) / 2, math.log(2)], rtol=1e-6)


def test_the_generator_still_gets_a_gradient_when_the_discriminator_wins() -> None:
    logits = tf.Variable(patches(-30.0, -30.0))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses.generator_adversarial(logits))
    # log(1 - D(G)), as equation 2 is printed, would give sigmoid(-30), about 1e-13.
    np.testing.assert_allclose(tape.gradient(loss, logits), np.full((1, 1, 2, 1), -0.5), rtol=1e-6)


def test_extreme_verdicts_stay_finite() -> None:
    huge = patches(1e4, -1e4)
    for loss in (losses.generator_adversarial(huge), losses.discriminator_adversarial(huge, huge)):
        assert np.isfinite(loss).all()


def test_l1_is_the_mean_over_all_pixels_and_channels_of_one_image() -> None:
    target = np.zeros((2, 1, 2, 3), np.float32)
    generated = target.copy()
    generated[0, 0, 0] = (1.0, -0.5, 0.0)
    np.testing.assert_allclose(losses.l1(target, generated), [1.5 / 6, 0.0], rtol=1e-6)


def test_feature_matching_averages_over_the_layers() -> None:
    real = [np.zeros((1, 2, 2, 1), np.float32), np.zeros((1, 1, 1, 4), np.float32)]
    fake = [np.full((1, 2, 2, 1), 2.0, np.float32), np.full((1, 1, 1, 4), -1.0, np.float32)]
    np.testing.assert_allclose(losses.feature_matching(real, fake), [(2.0 + 1.0) / 2], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_are_computed_in_float32_whatever_the_networks_give(dtype: str) -> None:
    logits = tf.cast(patches(LN3, 0.0), dtype)
    assert losses.generator_adversarial(logits).dtype == tf.float32
    assert losses.l1(logits, logits).dtype == tf.float32


def test_two_replicas_shares_add_up_to_the_mean_over_the_global_batch() -> None:
    per_image = tf.constant([1.0, 2.0, 3.0, 6.0])
    shares = losses.global_mean(per_image[:2], 2) + losses.global_mean(per_image[2:], 2)
    np.testing.assert_allclose(shares, losses.global_mean(per_image, 1))
    np.testing.assert_allclose(shares, 3.0)
