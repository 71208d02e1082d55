"""The distance of faces on a Fa-Net's inner maps, and that FaPE-GAN learns from it without changing the Fa-Net."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.face_features import FaceFeatures
from fer_tf.models.fape_gan import FapeGan, spec_of
from tests.fer_tf.models.test_fape_gan import SIZE, batch_of

SPEC = FaNetSpec(("calm", "happy"), image_size=24, crop=0.9, standardize=True)


@pytest.fixture(scope="module")
def features() -> FaceFeatures:
    return FaceFeatures(fa_net.build(SPEC, seed=3), SPEC)


def test_a_face_has_no_distance_to_itself_and_more_to_a_more_changed_one(features: FaceFeatures) -> None:
    faces = batch_of()["target"]
    noise = tf.random.stateless_normal(faces.shape, (1, 2))
    distances = [features.distance(faces, faces + share * noise).numpy() for share in (0.0, 0.05, 0.5)]
    assert distances[0].shape == (len(faces),) and distances[0].dtype == np.float32
    np.testing.assert_array_equal(distances[0], 0)
    assert (distances[1] > 0).all() and (distances[2] > distances[1]).all()


def test_aligned_faces_are_compared_in_the_window_of_aligned_faces() -> None:
    """Of a network that was trained on tighter pictures than an aligned face."""
    spec = dataclasses.replace(SPEC, aligned_crop=0.5)
    network, faces = fa_net.build(spec, seed=3), batch_of(2, 48)["target"].numpy()
    outside = faces.copy()
    outside[:, :10], outside[:, -10:], outside[:, :, :10], outside[:, :, -10:] = 1.0, 1.0, 1.0, 1.0
    assert np.abs(faces - outside).max() > 1
    np.testing.assert_array_equal(FaceFeatures(network, spec).distance(faces, outside), 0)
    assert (spec.window(aligned=True), spec.window(aligned=False)) == (0.5, 0.9)
    assert SPEC.window(aligned=True) == SPEC.window(aligned=False) == 0.9


def test_a_weight_without_a_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"`face_weight` 2\.0 needs"):
        FapeGan(spec_of("best", SIZE, 4, face_weight=2.0))


def test_gradients_reach_the_generated_face_alone(features: FaceFeatures) -> None:
    target, generated = (tf.Variable(batch_of(seed=seed)["target"]) for seed in (0, 1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(features.distance(target, generated))
    to_target, to_generated = tape.gradient(loss, [target, generated])
    assert to_target is None
    assert float(tf.reduce_max(tf.abs(to_generated))) > 0


def test_fape_gan_comes_closer_on_the_maps_and_leaves_the_fa_net_as_it_was() -> None:
    network = fa_net.build(SPEC, seed=3)
    features, batch = FaceFeatures(network, SPEC), batch_of()
    before = network.get_weights()
    distances = {}
    for weight in (0.0, 20.0):
        gan = FapeGan(spec_of("paper", SIZE, 4, face_weight=weight), seed=1, face_features=features if weight else None)
        gan.compile()
        # Adam has its step, its rate and two slots for each variable that it moves: the generator's alone.
        assert len(gan.generator_optimizer.variables) == 2 + 2 * len(gan.generator.trainable_variables)
        for _ in range(5):
            gan.train_step(batch)
        distances[weight] = float(tf.reduce_mean(features.distance(batch["target"], gan(batch))))
    assert distances[20.0] < 0.97 * distances[0.0]
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
