"""The distances between generated and real faces, against formulas."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.evaluation import face_quality


def test_l1_and_ssim_of_equal_faces_are_perfect_and_worsen_with_noise() -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    noisy = np.clip(faces + rng.normal(0, 20, faces.shape), 0, 255).astype(np.uint8)
    assert face_quality.l1(faces, faces) == 0
    assert face_quality.l1(np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 7, np.uint8)) == 7
    assert face_quality.ssim(faces, faces) == pytest.approx(1.0)
    assert face_quality.ssim(faces, noisy) < 0.99


def test_one_face_for_every_input_has_no_spread() -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (6, 16, 16, 3)).astype(np.uint8)
    assert face_quality.spread(np.repeat(faces[:1], 6, axis=0)) == 0
    assert face_quality.spread(faces) > 50


def test_the_frechet_distance_of_gaussians_is_its_closed_form() -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2, from the samples' own moments.
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (20_000, 3)) * [1.0, 2.0, 0.5]
    second = rng.normal(0, 1, (20_000, 3)) * [2.0, 1.0, 0.5] + [1.0, 0.0, -2.0]
    assert face_quality.frechet(first, second) == pytest.approx(1 + 4 + 1 + 1, rel=0.03)
    assert face_quality.frechet(first, first) == pytest.approx(0, abs=1e-8)
    assert face_quality.frechet(first, second) == pytest.approx(face_quality.frechet(second, first))


def test_the_frechet_distance_of_fewer_samples_than_features_is_finite() -> None:
    rng = np.random.default_rng(0)
    assert face_quality.frechet(rng.normal(size=(8, 64)), rng.normal(size=(8, 64))) > 0
    with pytest.raises(InputError, match="at least 2 samples"):
        face_quality.frechet(np.zeros((1, 4)), np.zeros((5, 4)))
