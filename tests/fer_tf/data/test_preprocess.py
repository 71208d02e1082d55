"""The one preprocessing gives the same pixels whether it runs eagerly, in tf.data or in an exported model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data.preprocess import LUMA, preprocess


@pytest.mark.parametrize(("side", "crop", "kept"), [(48, 44 / 48, 44), (48, 46 / 48, 46), (256, 0.9, 230)])
def test_crop_is_the_same_for_known_and_unknown_shapes(side: int, crop: float, kept: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 1), np.uint8)
    margin = (side - kept) // 2
    by_hand = images[:, margin : side - margin, margin : side - margin] / np.float32(255)

    unknown = tf.function(
        lambda faces: preprocess(faces, kept, 1, crop), input_signature=[tf.TensorSpec([None, None, None, 1], tf.uint8)]
    )
    np.testing.assert_allclose(preprocess(images, kept, 1, crop), by_hand, atol=1e-6)
    np.testing.assert_allclose(unknown(images), by_hand, atol=1e-6)


def test_beyond_a_face_its_edge_is_repeated() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 1), np.uint8)
    by_hand = np.pad(images, ((0, 0), (5, 5), (4, 4), (0, 0)), mode="edge")
    np.testing.assert_allclose(preprocess(images, 52, 1, 1.2), preprocess(by_hand, 52, 1), atol=1e-6)


def test_grey_is_the_luma_of_rgb_and_grey_repeats_to_rgb() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    grey = preprocess(images, 32, 1)
    np.testing.assert_allclose(grey[..., 0], images @ np.array(LUMA) / 255, atol=1e-5)
    np.testing.assert_array_equal(
        preprocess(images[..., :1], 32, 3), np.repeat(images[..., :1] / np.float32(255), 3, -1)
    )


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 255
    shrunk = preprocess(stripes, 16, 1).numpy()[:, 2:-2, 2:-2]
    assert np.abs(shrunk - 0.5).max() < 0.05
