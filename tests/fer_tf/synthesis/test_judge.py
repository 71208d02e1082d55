"""The judge of generated faces: against formulas, and with dlib on frames of the sample corpus."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.faces import align
from fer_tf.faces.landmarks import LandmarkPredictor, mirrored
from fer_tf.synthesis.identity import model_path
from fer_tf.synthesis.judge import (
    SAME_PERSON,
    FaceMeasure,
    FaceMeter,
    QualityLimits,
    chip_of,
    enlarge,
    landmark_error,
    to_uint8,
)

ROOT = Path(__file__).parents[3]


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

    detector, predictor, found = dlib.get_frontal_face_detector(), LandmarkPredictor(), {}
    for person, pose in (("P001", "front"), ("P001", "half_left"), ("P003", "front")):
        clip = cv2.VideoCapture(str(samples / "take_1" / person / "happy" / f"{pose}.mp4"))
        frame = clip.read()[1][..., ::-1].copy()
        box = detector(frame, 1)[0]
        centre = np.array([(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2])
        points = predictor.predict_square(frame, centre, float(box.width()))
        transform = align.transform_of(points)
        found[f"{person}/{pose}"] = Crop(align.warp(frame, transform), align.apply(transform, points))
    return found


def test_the_landmark_error_is_in_eye_distances() -> None:
    wanted = np.zeros((68, 2), np.float32)
    wanted[36:42], wanted[42:48] = (80, 100), (130, 100)
    found = wanted + np.array([3.0, 4.0], np.float32)
    assert landmark_error(found, wanted) == pytest.approx(5 / 50)


@pytest.mark.parametrize("name", ["P001/front", "P001/half_left", "P003/front"])
def test_a_real_face_is_found_where_it_is_even_at_64_pixels(
    meter: FaceMeter, crops: dict[str, Crop], name: str
) -> None:
    crop = crops[name]
    small = enlarge(cv2.resize(crop.face, (64, 64), interpolation=cv2.INTER_AREA))
    assert meter.finds_face(small)
    assert landmark_error(meter.landmarks(small, crop.landmarks), crop.landmarks) < 0.08


@pytest.mark.parametrize("name", ["P001/front", "P001/half_left"])
def test_mirrored_points_are_those_of_the_mirrored_face(meter: FaceMeter, crops: dict[str, Crop], name: str) -> None:
    crop = crops[name]
    seen = mirrored(crop.landmarks, crop.face.shape[1])
    # dlib says which point is which: one in another's place would be as far off as those two are apart.
    found = meter.landmarks(crop.face[:, ::-1], seen)
    assert np.linalg.norm(found - seen, axis=1).max() < 12
    assert landmark_error(found, seen) < 0.08
    unordered = crop.landmarks * [-1, 1] + [crop.face.shape[1] - 1, 0]
    assert np.linalg.norm(found - unordered, axis=1).max() > 60


def test_a_person_is_the_same_in_another_pose_and_another_is_not(meter: FaceMeter, crops: dict[str, Crop]) -> None:
    front, half, other = (crops[name] for name in ("P001/front", "P001/half_left", "P003/front"))
    identity = meter.descriptors([front.face], [front.landmarks])
    faces, points = [half.face, other.face], [half.landmarks, other.landmarks]
    same, another = meter.measure(np.repeat(identity, 2, 0), faces, points)
    assert same.identity_distance < SAME_PERSON < another.identity_distance
    assert QualityLimits().rejection(same) == ""
    assert QualityLimits().rejection(another) == "wrong_identity"


def test_noise_is_no_face(meter: FaceMeter, crops: dict[str, Crop]) -> None:
    crop = crops["P001/front"]
    noise = np.random.default_rng(0).integers(0, 255, crop.face.shape).astype(np.uint8)
    (measure,) = meter.measure(meter.descriptors([crop.face], [crop.landmarks]), [noise], [crop.landmarks])
    assert QualityLimits().rejection(measure) == "no_face"


def test_points_off_the_wanted_ones_are_rejected_last() -> None:
    limits = QualityLimits(identity_distance=0.6, landmark_error=0.1)
    assert limits.rejection(FaceMeasure(True, 0.11, 0.3)) == "landmarks_off"
    assert limits.rejection(FaceMeasure(True, 0.10, 0.6)) == ""
    assert limits.rejection(FaceMeasure(False, 0.0, 0.0)) == "no_face"


def test_generator_values_become_bytes() -> None:
    assert to_uint8(np.array([-1.0, 0.0, 1.0, 1.5])).tolist() == [0, 128, 255, 255]


def degraded(crops: dict[str, Crop]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Faces as a generator may spoil them: blended, blurred, noisy, dark, cut; some of them are faces no more."""
    rng = np.random.default_rng(0)
    found = []
    for crop, other in itertools.permutations(crops.values(), 2):
        for share in (0.3, 0.6):
            blend = cv2.addWeighted(crop.face, 1 - share, other.face, share, 0)
            small = cv2.resize(blend, (64, 64), interpolation=cv2.INTER_AREA)
            dark = (0.25 * crop.face + 30).astype(np.uint8)
            noisy = np.clip(crop.face + rng.normal(0, 90 * share, crop.face.shape), 0, 255).astype(np.uint8)
            cut = crop.face.copy()
            cut[round(256 * (1 - share)) :] = 128
            found += [(face, crop.landmarks) for face in (small, cv2.GaussianBlur(dark, (0, 0), 4), noisy, cut)]
    return found


def test_the_verdicts_are_those_of_dlib_alone(meter: FaceMeter, crops: dict[str, Crop]) -> None:
    import dlib

    detector, network = dlib.get_frontal_face_detector(), dlib.face_recognition_model_v1(model_path())
    faces = degraded(crops)
    identity = np.array(network.compute_face_descriptor(chip_of(crops["P001/front"].face, faces[0][1])))
    found = meter.measure(np.repeat(identity[None], len(faces), 0), *zip(*faces, strict=True))
    for number, (measure, (face, wanted)) in enumerate(zip(found, faces, strict=True)):
        face = enlarge(face)
        padded = np.pad(face, ((64, 64), (64, 64), (0, 0)), mode="edge")
        assert measure.found == bool(detector(padded, 0))
        # dlib's own network takes its time.
        if number % 8 == 0:
            descriptor = np.array(network.compute_face_descriptor(chip_of(face, wanted)))
            assert measure.identity_distance == pytest.approx(np.linalg.norm(identity - descriptor), abs=1e-3)
    assert 0 < sum(measure.found for measure in found) < len(found)


def test_worker_processes_measure_the_same(crops: dict[str, Crop], meter: FaceMeter) -> None:
    faces, points = zip(*degraded(crops)[:6], strict=True)
    identities = np.zeros((6, 128), np.float32)
    shared = FaceMeter(processes=2)
    try:
        assert shared.measure(identities, faces, points) == meter.measure(identities, faces, points)
    finally:
        shared.close()


def test_judging_in_a_worker_loads_no_tensorflow() -> None:
    code = "import sys; from fer_tf.synthesis import judge; judge._begin_worker(''); print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"
