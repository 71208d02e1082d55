"""Landmarks, alignment and mask on the sample faces and on drawn points."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.faces import align
from fer_tf.faces.extractor import AlignedFace, FaceExtractor
from fer_tf.faces.landmarks import (
    LandmarkPredictor,
    disagreement,
    hog_square,
    packaged_model,
)
from fer_tf.labels import F2ED_POSES
from tests.fer_tf.faces.clips import read_frames
from tests.toy_data import landmarks_of


@pytest.fixture(scope="module")
def frames(samples: Path) -> dict[str, np.ndarray]:
    return {pose: read_frames(samples / f"take_1/P004/angry/{pose}.mp4")[-1] for pose in F2ED_POSES}


@pytest.fixture(scope="module")
def faces(frames: dict[str, np.ndarray], extractor: FaceExtractor) -> dict[str, AlignedFace]:
    return {pose: extractor.faces_in_image(frame)[0] for pose, frame in frames.items()}


def test_a_crop_has_the_size_of_a_record(faces: dict[str, AlignedFace]) -> None:
    assert all(face.image.shape == (256, 256, 3) and face.mask.shape == (256, 256) for face in faces.values())


@pytest.mark.parametrize("pose", F2ED_POSES)
def test_the_eyes_are_level_and_the_face_fills_the_crop(faces: dict[str, AlignedFace], pose: str) -> None:
    points = faces[pose].landmarks
    right, left = points[36:42].mean(0), points[42:48].mean(0)
    assert left[0] > right[0] and abs(left[1] - right[1]) < 0.5
    assert points.min() >= 0 and points.max() < 256
    assert 150 < np.ptp(points[:, 1]) < 230, "a half pose must not be blown up"


def test_poses_of_a_face_have_the_same_scale_though_eyes_come_closer(faces: dict[str, AlignedFace]) -> None:
    def brow_to_chin(face: AlignedFace) -> float:
        return float(np.ptp(face.landmarks[:, 1]))

    def eyes(face: AlignedFace) -> float:
        return float(np.linalg.norm(face.landmarks[36:42].mean(0) - face.landmarks[42:48].mean(0)))

    assert eyes(faces["half_left"]) < 0.85 * eyes(faces["front"])
    assert 0.9 < brow_to_chin(faces["half_left"]) / brow_to_chin(faces["front"]) < 1.1


@pytest.mark.parametrize("pose", F2ED_POSES)
def test_the_points_are_carried_along_with_the_pixels(
    frames: dict[str, np.ndarray], faces: dict[str, AlignedFace], pose: str
) -> None:
    face, frame = faces[pose], cv2.GaussianBlur(frames[pose], (0, 0), 2)
    crop = cv2.GaussianBlur(face.image, (0, 0), 2)
    for here, there in zip(face.landmarks[17:], face.frame_landmarks[17:], strict=True):
        x, y = here.round().astype(int)
        u, v = there.round().astype(int)
        assert np.abs(crop[y, x].astype(int) - frame[v, u]).max() < 60
    moved = align.apply(align.transform_of(face.frame_landmarks), face.frame_landmarks)
    assert np.allclose(moved, face.landmarks, atol=0.01)


@pytest.mark.parametrize("roll", [-35, 20])
def test_a_tilted_head_gives_the_same_points_and_crop(
    frames: dict[str, np.ndarray], faces: dict[str, AlignedFace], extractor: FaceExtractor, roll: float
) -> None:
    turn = cv2.getRotationMatrix2D((192.0, 192.0), roll, 0.9)
    tilted = cv2.warpAffine(frames["front"], turn, (384, 384), borderMode=cv2.BORDER_REPLICATE)
    (face,) = extractor.faces_in_image(tilted)
    moved = align.apply(turn, faces["front"].frame_landmarks)
    assert np.linalg.norm(moved - face.frame_landmarks, axis=1).mean() < 0.03 * face.box[3]
    assert np.linalg.norm(face.landmarks - faces["front"].landmarks, axis=1).mean() < 6


def test_dlibs_square_moves_to_where_a_turned_head_looks(extractor: FaceExtractor, frames: dict) -> None:
    side = {}
    for pose in ("half_left", "front", "half_right"):
        found = extractor._detector.detect(frames[pose][None])[0]
        centre, _, _ = hog_square(found.boxes[0], found.keypoints[0])
        side[pose] = (centre[0] - found.boxes[0, 0]) / found.boxes[0, 2] - 0.5
    assert side["half_left"] > 0.1 and abs(side["front"]) < 0.08 and side["half_right"] < -0.1


def test_landmarks_that_slid_off_are_told_from_good_ones(extractor: FaceExtractor, frames: dict) -> None:
    rgb = frames["half_left"]
    found = extractor._detector.detect(rgb[None])[0]
    box, keypoints = found.boxes[0], found.keypoints[0]
    good, _ = extractor._predictor.predict(rgb, box, keypoints)
    slid = good + 0.25 * box[2]
    assert disagreement(good, keypoints, box) < 0.06
    assert disagreement(slid, keypoints, box) > 0.12


def test_the_mask_draws_each_contour_as_a_line_on_black() -> None:
    points = landmarks_of("surprise", "front")
    mask = align.draw_mask(points)
    assert mask.shape == (256, 256) and mask.dtype == np.uint8 and 0.02 < (mask > 0).mean() < 0.12
    for start, end, closed in align.CONTOURS:
        line = points[start:end]
        ends = np.roll(line, -1, 0) if closed else line[1:]
        for x, y in (line[: len(ends)] + ends) / 2:
            assert (
                mask[round(float(y)) - 1 : round(float(y)) + 2, round(float(x)) - 1 : round(float(x)) + 2].max() > 100
            )
    brow_gap = (points[21] + points[22]) / 2
    assert mask[round(float(brow_gap[1])), round(float(brow_gap[0]))] == 0, "the brows are two lines"


def test_a_mask_of_another_size_shows_the_same_face() -> None:
    points = landmarks_of("happy", "half_left")
    small = align.draw_mask(points, 64)
    large = cv2.resize(align.draw_mask(points), (64, 64), interpolation=cv2.INTER_AREA)
    assert small.shape == (64, 64)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.8
    assert align.draw_mask(points + 5000).max() == 0, "points far outside draw nothing and do not fail"


def test_shrinking_a_large_face_averages_and_does_not_shift() -> None:
    large = np.indices((2000, 2000)).sum(0) % 2 * np.uint8(254)
    large[1000:1100, 1000:1100] = 0
    rgb = np.repeat(large[..., None].astype(np.uint8), 3, 2)
    transform = np.array([[0.128, 0, 0], [0, 0.128, 0.0]])
    crop = align.warp(rgb, transform)
    assert abs(int(crop[40:90, 40:90].mean()) - 127) < 4 and crop[40:90, 40:90].std() < 12
    dark = np.argwhere(crop[110:160, 110:160, 0] < 60).mean(0) + 110
    assert np.allclose(dark, 1049.5 * 0.128, atol=0.5)


def test_a_file_that_is_no_predictor_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(b"nothing")
    for path in (tmp_path / "a.dat", tmp_path / "missing.dat"):
        with pytest.raises(InputError, match=f"landmark_model.*{path.name}"):
            LandmarkPredictor(str(path))


def test_a_predictor_of_other_points_is_refused() -> None:
    five = packaged_model().replace("68", "5")
    with pytest.raises(InputError, match=r"`landmark_model` '.*5_face.*' must give 68 points\. Found: 5"):
        LandmarkPredictor(five)


def test_a_predictor_is_read_once_and_again_when_its_file_changed(tmp_path: Path) -> None:
    path = tmp_path / "points.dat"
    path.symlink_to(packaged_model())
    assert LandmarkPredictor(str(path))._predictor is LandmarkPredictor(str(path))._predictor
    path.unlink()
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"landmark_model.*points\.dat"):
        LandmarkPredictor(str(path))
