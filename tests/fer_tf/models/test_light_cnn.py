"""LightCNN has the published size and shapes, and its parts compute what the papers say."""

from __future__ import annotations

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.errors import InputError
from fer_tf.models.light_cnn import (
    FusedBatchNormalization,
    GaussianBlur,
    ImageStandardization,
    MaxFeatureMap,
    light_cnn,
)


@pytest.mark.parametrize(
    ("variant", "millions"), [("light_cnn_9", 5.5), ("light_cnn_29", 12.6), ("light_cnn_29_v2", 10.5)]
)
# The second version's feature layer has no second half to take the maximum with.
def test_parameters_less_the_head_match_the_published_counts(variant, millions):
    model = light_cnn(variant, 7, batch_norm=False)
    head = model.get_layer("logits").count_params()
    assert (model.count_params() - head) / 1e6 == pytest.approx(millions, rel=0.01)


def test_any_number_of_classes_and_rgb():
    model = light_cnn("light_cnn_9", 54, image_size=48, channels=3)
    assert model.input_shape == (None, 48, 48, 3) and model.output_shape == (None, 54)
    assert model.get_layer("features").output.shape == (None, 256)


def test_sides_from_33_to_48_share_their_weights():
    shapes = [[w.shape for w in light_cnn("light_cnn_9", 7, side).weights] for side in (33, 36, 44, 48, 49)]
    assert shapes[0] == shapes[1] == shapes[2] == shapes[3] != shapes[4]


def test_max_feature_map_is_the_larger_of_the_two_halves():
    values = np.array([[1.0, 5.0, 3.0, 2.0]], np.float32)
    np.testing.assert_array_equal(MaxFeatureMap()(values), [[3.0, 5.0]])


def test_blur_is_opencvs_gaussian_of_three_pixels():
    faces = np.random.default_rng(0).random((2, 20, 20, 3), "float32")
    expected = np.stack([cv2.GaussianBlur(face, (3, 3), 0.6, borderType=cv2.BORDER_REFLECT_101) for face in faces])
    layer = GaussianBlur.from_config(GaussianBlur(0.6).get_config())
    np.testing.assert_allclose(layer(faces), expected, atol=1e-6)


def test_a_network_with_blur_sees_blurred_faces():
    faces = np.random.default_rng(0).random((2, 20, 20, 1), "float32")
    plain, blurred = (light_cnn("light_cnn_9", 3, 20, blur=blur, standardize=True) for blur in (0.0, 0.6))
    logits = blurred.predict_on_batch(faces)
    np.testing.assert_allclose(logits, plain.predict_on_batch(GaussianBlur(0.6)(faces)), atol=1e-5)
    assert np.abs(logits - plain.predict_on_batch(faces)).max() > 1e-4


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (light_cnn("light_cnn_9", 3, 16, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("variance", [(2.0, 2.0), (0.05, 1 / 3)])
def test_a_fresh_kernel_has_the_variance_that_is_asked_for(variance):
    model = light_cnn("light_cnn_9", 3, 16, kernel_variance=variance)
    for name, inputs, wanted in (
        ("stage2_conv", 96 * 9, variance[0]),
        ("stage4_reduce_conv", 128, variance[0]),
        ("feature_dense", 128, variance[1]),
    ):
        kernel = model.get_layer(name).get_weights()[0]
        assert kernel[..., 0].size == inputs and kernel.var() * inputs == pytest.approx(wanted, rel=0.05), name


def test_the_fused_kernel_computes_what_keras_batch_normalization_does():
    x = tf.constant(np.random.default_rng(0).normal(2, 3, (4, 5, 5, 6)).astype("float32"))
    results = []
    for layer in (FusedBatchNormalization(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**3)
        results.append([y, tape.gradient(loss, x), layer.moving_mean, layer.moving_variance, layer(x, training=False)])
    for fused, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, atol=2e-5)


def test_standardization_undoes_brightness_and_contrast():
    x = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    layer = ImageStandardization()
    np.testing.assert_allclose(layer(x), layer(x * 0.7 + 0.2), atol=0.02)
    assert np.abs(np.mean(layer(x), axis=(1, 2, 3))).max() < 1e-5
    assert np.isfinite(layer(np.ones((1, 8, 8, 1), np.float32))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("light_cnn_10", 7), "`variant` must be one of .*'light_cnn_10'"),
        (("light_cnn_9", 1), "`num_classes` must be at least 2. Received: 1"),
        (("light_cnn_9", 7, 8), "`image_size` must be at least 16 pixels. Received: 8"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        light_cnn(*arguments)
