"""Faces whose 68 points are not trusted are kept, cut out by the detector's five points; records refuse them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_tf.faces import align
from fer_tf.faces import extractor as extractor_module
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.faces.landmarks import MOST_DOUBT, disagreement
from fer_tf.faces.views import View
from fer_tf.labels import F2ED_POSES
from tests.fer_tf.faces.clips import read_frames, write_clip

CLIP = "take_1/P004/angry/{}.mp4"


@pytest.fixture(scope="module")
def frames(samples: Path) -> dict[str, np.ndarray]:
    return {pose: read_frames(samples / CLIP.format(pose))[-1] for pose in F2ED_POSES}


@pytest.fixture
def doubting(extractor: FaceExtractor, monkeypatch: pytest.MonkeyPatch) -> FaceExtractor:
    monkeypatch.setattr(extractor_module, "MOST_DOUBT", -1.0)
    return extractor


@pytest.mark.parametrize("pose", F2ED_POSES)
def test_points_are_in_doubt_where_the_five_or_the_mirror_image_say_otherwise(
    extractor: FaceExtractor, frames: dict[str, np.ndarray], pose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, predict = frames[pose], extractor._predictor.predict
    (found,) = extractor._detector.detect(rgb[None])
    box, keypoints = found.boxes[0], found.keypoints[0]
    _, doubt = predict(rgb, box, keypoints)
    assert doubt < MOST_DOUBT
    _, moved = predict(rgb, box, keypoints + 0.25 * box[2:])
    inside = extractor._predictor.predict_square

    def elsewhere_in_the_mirror(*about: Any) -> np.ndarray:
        return inside(*about) + (0.1 * np.sqrt(box[2] * box[3]) * np.array([1, 0]) if about[-1] else 0)

    monkeypatch.setattr(extractor._predictor, "predict_square", elsewhere_in_the_mirror)
    _, apart = predict(rgb, box, keypoints)
    assert moved > MOST_DOUBT and doubt + 0.15 < apart < doubt + 0.25


def test_a_jaw_across_the_cheek_is_told_though_the_five_points_agree(extractor: FaceExtractor, samples: Path) -> None:
    frames = read_frames(samples / "take_1/P003/happy/half_right.mp4")
    doubts = []
    for rgb in frames[8:11]:
        (found,) = extractor._detector.detect(rgb[None])
        points, doubt = extractor._predictor.predict(rgb, found.boxes[0], found.keypoints[0])
        assert disagreement(points, found.keypoints[0], found.boxes[0]) < 0.06
        doubts.append(doubt)
    before, slid, after = doubts
    assert max(before, after) < MOST_DOUBT < slid


@pytest.mark.parametrize("pose", F2ED_POSES)
def test_a_face_that_is_not_trusted_is_cut_out_alike_without_landmarks_and_mask(
    extractor: FaceExtractor, frames: dict[str, np.ndarray], pose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trusted,) = extractor.faces_in_image(frames[pose])
    monkeypatch.setattr(extractor_module, "MOST_DOUBT", -1.0)
    (kept,) = extractor.faces_in_image(frames[pose])
    assert trusted.landmarks_trusted and not kept.landmarks_trusted
    assert np.isnan(kept.landmarks).all() and np.isnan(kept.frame_landmarks).all() and not kept.mask.any()
    np.testing.assert_array_equal(kept.box, trusted.box)
    # Both crops show one part of the frame: corners lie within a sixth of the crop of each other.
    corners = np.array([[0, 0], [256, 0], [0, 256], [256, 256]])
    back = np.linalg.inv(np.vstack([kept.transform, [0, 0, 1]]))[:2]
    assert np.abs(align.apply(trusted.transform, align.apply(back, corners)) - corners).max() < 42
    np.testing.assert_array_equal(kept.image, align.warp(frames[pose], kept.transform))


def test_a_turned_picture_is_cut_by_the_transform_that_its_face_names(
    extractor: FaceExtractor, frames: dict[str, np.ndarray]
) -> None:
    rgb = frames["half_left"]
    (face,) = extractor.faces_in_image(rgb)
    for turns in (1, 2, 3):
        # As if the face had been found in the picture turned back.
        lying = np.ascontiguousarray(np.rot90(rgb, -turns))
        placed = View(turns).back(face, lying.shape)
        crop = align.warp(lying, placed.transform)
        assert np.abs(crop.astype(int) - face.image).mean() < 1.5
        np.testing.assert_allclose(align.apply(placed.transform, placed.frame_landmarks), face.landmarks, atol=0.01)


def test_a_clip_keeps_them_for_recognition_and_refuses_them_for_records(doubting: FaceExtractor, samples: Path) -> None:
    found = doubting.extract(str(samples / CLIP.format("front")))
    assert found.faces and not found.trusted
    records = found.of_trusted()
    assert not records.faces
    off = [item for item in records.rejected if item.reason == "landmarks_off"]
    assert [item.frame for item in off] == [face.frame for face in found.faces]
    assert all("pixels" in item.detail for item in off)


def test_where_another_way_of_looking_is_trusted_its_faces_count(
    extractor: FaceExtractor, frames: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, looked = extractor._predictor.predict, []

    def doubted_at_first(*about: object) -> tuple[np.ndarray, float]:
        looked.append(predict(*about))
        return looked[-1][0], 1.0 if len(looked) == 1 else looked[-1][1]

    monkeypatch.setattr(extractor._predictor, "predict", doubted_at_first)
    (face,) = extractor.faces_in_image(frames["front"])
    assert len(looked) == 2 and face.landmarks_trusted


def test_a_clip_in_which_few_frames_are_trusted_is_written_as_it_is_seen(
    extractor: FaceExtractor, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = read_frames(samples / CLIP.format("front"))[-4:]
    monkeypatch.setattr(extractor_module, "MOST_DOUBT", -1.0)
    found = extractor.extract(write_clip(tmp_path / "a.mp4", frames))
    assert len(found.faces) == found.frames_kept and not [item for item in found.rejected if item.reason == "turned"]
