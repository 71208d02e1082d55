"""The batched detector against the package whose weights it uses, on real (rendered) frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_tf.faces.boxes import overlap
from fer_tf.faces.detect import FaceDetector, shrunk
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.faces.follow import CHUNK, ClipFinder
from fer_tf.labels import F2ED_POSES
from tests.fer_tf.faces.clips import read_frames


@pytest.fixture(scope="module")
def detector(extractor: FaceExtractor) -> FaceDetector:
    return extractor._detector


@pytest.fixture(scope="module")
def frames(samples: Path) -> np.ndarray:
    """The last frame of one clip of each pose."""
    clips = [samples / f"take_1/P001/happy/{pose}.mp4" for pose in F2ED_POSES]
    return np.stack([read_frames(clip)[-1] for clip in clips])


def test_it_finds_the_packages_faces_with_its_boxes_scores_and_keypoints(
    detector: FaceDetector, frames: np.ndarray
) -> None:
    from mtcnn import MTCNN

    theirs = [MTCNN().detect_faces(frame) for frame in frames]
    for mine, faces in zip(detector.detect(frames), theirs, strict=True):
        assert len(mine) == len(faces) == 1
        assert overlap(mine.boxes[0], np.array(faces[0]["box"], float)) > 0.9
        assert abs(mine.scores[0] - faces[0]["confidence"]) < 0.02
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        points = np.array([faces[0]["keypoints"][name] for name in names])
        apart = np.linalg.norm(mine.keypoints[0] - points, axis=1) / mine.boxes[0, 3]
        assert np.median(apart) < 0.025 and apart.max() < 0.06


def test_a_batch_gives_what_each_image_gives_alone(detector: FaceDetector, frames: np.ndarray) -> None:
    for together, frame in zip(detector.detect(frames), frames, strict=True):
        alone = detector.detect(frame[None])[0]
        assert np.allclose(together.boxes, alone.boxes, atol=0.05)
        assert np.allclose(together.scores, alone.scores, atol=1e-3)


def test_a_shrunk_image_gives_the_same_face(detector: FaceDetector, frames: np.ndarray) -> None:
    for full, frame in zip(detector.detect(frames), frames, strict=True):
        small = detector.detect(shrunk(frame, 256 / 384)[None])[0].scaled(384 / 256)
        assert overlap(full.boxes[0], small.boxes[0]) > 0.8


@pytest.mark.parametrize("shape", [(384, 384), (11, 300), (1, 1), (12, 12), (20, 20)])
def test_an_image_without_a_face_gives_none_whatever_its_size(detector: FaceDetector, shape: tuple) -> None:
    found = detector.detect(np.full((2, *shape, 3), 90, np.uint8))
    assert [len(faces) for faces in found] == [0, 0]
    assert found[0].keypoints.shape == (0, 5, 2)


def test_a_face_is_followed_without_a_full_search(
    detector: FaceDetector, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = read_frames(samples / "take_1/P001/happy/half_left.mp4")[:CHUNK]
    everywhere = [detector.detect(frame[None])[0] for frame in clip]
    searched = []
    detect = detector.detect
    monkeypatch.setattr(detector, "detect", lambda images: searched.append(len(images)) or detect(images))
    found = ClipFinder(detector, 0.8).find(clip)
    assert sum(searched) == 1
    for followed, full in zip(found, everywhere, strict=True):
        assert len(followed) == 1 and overlap(followed.boxes[0], full.boxes[0]) > 0.75


def test_a_face_that_jumps_is_searched_again_and_one_that_leaves_is_not_invented(
    detector: FaceDetector, frames: np.ndarray
) -> None:
    left, right, empty = (np.full((384, 768, 3), 110, np.uint8) for _ in range(3))
    left[:, :384], right[:, 384:] = frames[0], frames[0]
    found = ClipFinder(detector, 0.8).find([left, right, empty, left])
    assert [len(faces) for faces in found] == [1, 1, 0, 1]
    assert found[0].boxes[0, 0] < 384 < found[1].boxes[0, 0]


def test_a_small_face_is_found_at_a_larger_size(detector: FaceDetector, frames: np.ndarray) -> None:
    scene = np.full((1080, 1920, 3), 110, np.uint8)
    scene[500:596, 900:996] = shrunk(frames[0], 0.25)
    found = ClipFinder(detector, 0.8).find([scene])[0]
    assert len(found) == 1 and found.boxes[0, 3] < 80
    assert np.all(found.boxes[0, :2] > (900, 500)) and np.all(found.boxes[0, :2] < (996, 596))
