"""The measures of generated faces: against formulas, and with dlib on frames of the sample corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.evaluation import face_quality
from fer_tf.evaluation.face_quality import FaceMeasure, FaceMeter, QualityLimits
from fer_tf.faces import align
from fer_tf.faces.landmarks import mirrored


@dataclass(frozen=True)
class Crop:
    face: np.ndarray
    landmarks: np.ndarray


@pytest.fixture(scope="module")
def meter() -> FaceMeter:
    return FaceMeter()


@pytest.fixture(scope="module")
def crops(samples: Path) -> dict[str, Crop]:
    """Aligned faces of two persons of the sample corpus, found by dlib's own detector."""
    import dlib

    detector, predictor, found = dlib.get_frontal_face_detector(), face_quality.LandmarkPredictor(), {}
    for person, pose in (("P001", "front"), ("P001", "half_left"), ("P003", "front")):
        clip = cv2.VideoCapture(str(samples / "take_1" / person / "happy" / f"{pose}.mp4"))
        frame = clip.read()[1][..., ::-1].copy()
        box = detector(frame, 1)[0]
        centre = np.array([(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2])
        points = predictor.predict_square(frame, centre, float(box.width()))
        transform = align.transform_of(points)
        found[f"{person}/{pose}"] = Crop(align.warp(frame, transform), align.apply(transform, points))
    return found


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


def test_the_landmark_error_is_in_eye_distances() -> None:
    wanted = np.zeros((68, 2), np.float32)
    wanted[36:42], wanted[42:48] = (80, 100), (130, 100)
    found = wanted + np.array([3.0, 4.0], np.float32)
    assert face_quality.landmark_error(found, wanted) == pytest.approx(5 / 50)


@pytest.mark.parametrize("name", ["P001/front", "P001/half_left", "P003/front"])
def test_a_real_face_is_found_where_it_is_even_at_64_pixels(
    meter: FaceMeter, crops: dict[str, Crop], name: str
) -> None:
    crop = crops[name]
    small = face_quality.enlarge(cv2.resize(crop.face, (64, 64), interpolation=cv2.INTER_AREA))
    assert meter.finds_face(small)
    assert face_quality.landmark_error(meter.landmarks(small, crop.landmarks), crop.landmarks) < 0.08


@pytest.mark.parametrize("name", ["P001/front", "P001/half_left"])
def test_mirrored_points_are_those_of_the_mirrored_face(meter: FaceMeter, crops: dict[str, Crop], name: str) -> None:
    crop = crops[name]
    seen = mirrored(crop.landmarks, crop.face.shape[1])
    # dlib says which point is which: one in another's place would be as far off as those two are apart.
    found = meter.landmarks(crop.face[:, ::-1], seen)
    assert np.linalg.norm(found - seen, axis=1).max() < 12
    assert face_quality.landmark_error(found, seen) < 0.08
    unordered = crop.landmarks * [-1, 1] + [crop.face.shape[1] - 1, 0]
    assert np.linalg.norm(found - unordered, axis=1).max() > 60


def test_a_person_is_the_same_in_another_pose_and_another_is_not(meter: FaceMeter, crops: dict[str, Crop]) -> None:
    front, half, other = (crops[name] for name in ("P001/front", "P001/half_left", "P003/front"))
    identity = meter.descriptor(front.face, front.landmarks)
    same = meter.measure(identity, half.face, half.landmarks)
    another = meter.measure(identity, other.face, other.landmarks)
    assert same.identity_distance < face_quality.SAME_PERSON < another.identity_distance
    assert QualityLimits().rejection(same) == ""
    assert QualityLimits().rejection(another) == "wrong_identity"


def test_noise_is_no_face(meter: FaceMeter, crops: dict[str, Crop]) -> None:
    crop = crops["P001/front"]
    noise = np.random.default_rng(0).integers(0, 255, crop.face.shape).astype(np.uint8)
    measure = meter.measure(meter.descriptor(crop.face, crop.landmarks), noise, crop.landmarks)
    assert QualityLimits().rejection(measure) == "no_face"


def test_points_off_the_wanted_ones_are_rejected_last() -> None:
    limits = QualityLimits(identity_distance=0.6, landmark_error=0.1)
    assert limits.rejection(FaceMeasure(True, 0.11, 0.3)) == "landmarks_off"
    assert limits.rejection(FaceMeasure(True, 0.10, 0.6)) == ""
    assert limits.rejection(FaceMeasure(False, 0.0, 0.0)) == "no_face"


def test_generator_values_become_bytes() -> None:
    assert face_quality.to_uint8(np.array([-1.0, 0.0, 1.0, 1.5])).tolist() == [0, 128, 255, 255]
