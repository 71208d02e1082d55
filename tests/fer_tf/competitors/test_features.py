"""Each feature gives what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.competitors import FEATURES, features
from fer_tf.competitors.features import gabor, hog, lbp, sift
from fer_tf.competitors.methods import bag_of_words

SIDE = 48


def grating(wavelength: float, angle: float) -> np.ndarray:
    """A wave that runs along a direction, uint8 (48, 48)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength)
    return (127.5 + 120 * wave).astype(np.uint8)


def test_an_lbp_code_by_hand() -> None:
    image = np.full((5, 5), 100, np.uint8)
    image[2, 3] = image[1, 3] = image[3, 3] = 200
    image[2, 2] = 150
    # Only the three neighbours on the right are brighter than the middle: one run of three, a uniform pattern. All
    # eight neighbours of a lone bright pixel are darker: code 0.
    codes = lbp.codes(image)
    ones = [pattern for pattern in range(256) if _uniform(pattern) and bin(pattern).count("1") == 3]
    assert len(ones) == 8 and 0 < codes[2, 2] < lbp.CODES - 1
    image[:, 3:] = 100
    assert lbp.codes(image)[2, 2] == 0
    # Bright and dark neighbours in turn: more than two changes around the circle, the code of all others.
    image[1, 2] = image[3, 2] = image[2, 1] = image[2, 3] = 200
    assert lbp.codes(image)[2, 2] == lbp.CODES - 1


def _uniform(pattern: int) -> bool:
    bits = [(pattern >> place) & 1 for place in range(8)]
    return sum(bits[place] != bits[place - 1] for place in range(8)) <= 2


def test_more_light_changes_no_code_and_a_histogram_is_of_shares() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 120, (20, 20), np.uint8)
    np.testing.assert_array_equal(lbp.codes(image), lbp.codes(image * 2))
    share = lbp.histogram(lbp.codes(image))
    assert share.sum() == pytest.approx(1) and len(share) == 59


@pytest.mark.parametrize(("length", "number"), [(0, 0), (2, 2), (4, 5), (1, 7)])
def test_a_grating_is_answered_by_its_own_wavelet(length: int, number: int) -> None:
    wavelength, angle = gabor.WAVELENGTHS[length], np.pi * number / gabor.ORIENTATIONS
    found = gabor.magnitudes(grating(wavelength, angle)[None], gabor.WAVELENGTHS)[0].mean((1, 2))
    assert np.unravel_index(found.argmax(), (len(gabor.WAVELENGTHS), gabor.ORIENTATIONS)) == (length, number)
    even = gabor.magnitudes(np.full((1, SIDE, SIDE), 90, np.uint8), gabor.WAVELENGTHS)
    assert np.abs(even).max() < 1e-3


def test_a_vertical_edge_fills_the_bin_of_horizontal_gradients() -> None:
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[:, SIDE // 2 + 3 :] = 200
    blocks = hog.features(image[None]).reshape(-1, hog.ORIENTATIONS)
    assert (blocks.sum(0)[1:] < 1e-6).all() and blocks.sum(0)[0] > 0


def test_the_descriptor_of_a_shifted_patch_is_the_same() -> None:
    rng = np.random.default_rng(1)
    image = np.kron(rng.integers(0, 256, (24, 24)), np.ones((4, 4))).astype(np.uint8)
    moved = np.roll(image, (8, 12), (0, 1))
    first = sift.descriptors(image, np.array([[40.0, 36.0]]), 24)
    second = sift.descriptors(moved, np.array([[52.0, 44.0]]), 24)
    other = sift.descriptors(moved, np.array([[40.0, 36.0]]), 24)
    np.testing.assert_allclose(first, second, atol=0.02)
    assert np.linalg.norm(first - other) > 0.3
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("side", [48, 64, 96])
def test_a_feature_is_as_long_at_every_size_and_finite(name: str, side: int) -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, side, side), np.uint8)
    images[1] = 7
    found = features.compute(name, images)
    lengths = {"sift": 36 * 128, "gabor": 40 * 36, "lbp": 49 * 59, "hog": 49 * 32}
    assert found.shape == (2, lengths[name]) and found.dtype == np.float32 and np.isfinite(found).all()


def test_features_are_kept_under_the_pixels_hash(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE), np.uint8)
    first = features.compute("hog", images, str(tmp_path))
    monkeypatch.setattr(hog, "features", lambda _: pytest.fail("computed again"))
    np.testing.assert_array_equal(features.compute("hog", images, str(tmp_path)), first)
    monkeypatch.undo()
    assert not np.array_equal(features.compute("hog", images[::-1].copy(), str(tmp_path)), first)


def test_words_are_marked_where_they_stand() -> None:
    rng = np.random.default_rng(4)
    left = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
    words = bag_of_words.vocabulary(np.stack([left, 255 - left]), seed=0)
    found = bag_of_words.presence(np.stack([left, left[:, ::-1]]), words)
    assert found.shape == (2, 14 * len(words))
    np.testing.assert_allclose(np.asarray(found.multiply(found).sum(1)).ravel(), 1, rtol=1e-5)
    # Presence: every word that is there has the same value.
    assert len(set(np.round(found[0].data, 6).tolist())) == 1
