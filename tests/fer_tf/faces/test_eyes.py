"""The eye features follow brows, lids and wrinkles, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.faces import eyes
from tests.toy_data import draw, landmarks_of


def features(points: np.ndarray, image: np.ndarray | None = None) -> dict[str, float]:
    image = np.full((256, 256), 128, np.uint8) if image is None else image
    return dict(zip(eyes.FEATURES, eyes.eye_features(points, image), strict=True))


def flip_brows(points: np.ndarray) -> np.ndarray:
    flipped = points.copy()
    for brow in (slice(17, 22), slice(22, 27)):
        flipped[brow, 1] = 2 * points[brow, 1].mean() - points[brow, 1]
    return flipped


def test_brow_slope_changes_sign_when_the_brows_are_flipped() -> None:
    angry = landmarks_of("angry", "front")
    assert features(angry)["brow_slope"] > 0.05
    assert features(flip_brows(angry))["brow_slope"] == pytest.approx(-features(angry)["brow_slope"], abs=1e-6)
    assert features(landmarks_of("sad", "front"))["brow_slope"] < -0.05


def test_brow_curve_is_positive_when_arched_and_changes_sign_when_flipped() -> None:
    points = landmarks_of("happy", "front")
    assert features(points)["brow_curve"] > 0.05
    assert features(flip_brows(points))["brow_curve"] == pytest.approx(-features(points)["brow_curve"], abs=1e-6)


def test_brow_slope_by_hand() -> None:
    points = landmarks_of("happy", "front")
    points[17:22] = np.stack([np.arange(5) * 10.0, np.arange(5) * 2.0], 1) + (50, 80)
    points[22:27] = np.stack([np.arange(5) * 10.0, np.arange(5) * -2.0], 1) + (150, 88)
    found = features(points)
    assert found["brow_slope"] == pytest.approx(0.2, abs=1e-6)
    assert found["brow_curve"] == pytest.approx(0.0, abs=1e-6)


def test_raised_brows_and_open_eyes_are_seen_by_their_own_feature_alone() -> None:
    points = landmarks_of("happy", "front")
    raised, opened = points.copy(), points.copy()
    raised[17:27, 1] -= 10
    opened[[37, 38, 43, 44], 1] -= 4
    before = features(points)
    scale = eyes.face_scale(points.astype(float))
    assert features(raised)["brow_distance"] == pytest.approx(before["brow_distance"] + 10 / scale, abs=1e-5)
    assert features(raised)["eye_aperture"] == pytest.approx(before["eye_aperture"], abs=1e-6)
    assert features(opened)["eye_aperture"] == pytest.approx(before["eye_aperture"] + 4 / scale, rel=0.02)
    assert features(opened)["brow_slope"] == pytest.approx(before["brow_slope"], abs=1e-6)


def test_size_roll_and_light_do_not_matter() -> None:
    image, _, points = draw("angry", "front", 3)
    turn = cv2.getRotationMatrix2D((128, 128), 12, 0.8)
    turned = cv2.warpAffine(image, turn, (256, 256), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    moved = points @ turn[:, :2].T + turn[:, 2]
    darker = (turned * 0.6).astype(np.uint8)
    before, after = eyes.eye_features(points, image), eyes.eye_features(moved, darker)
    np.testing.assert_allclose(after[3:], before[3:], atol=1e-5)
    np.testing.assert_allclose(after[:3], before[:3], rtol=0.3, atol=0.1)


@pytest.mark.parametrize(
    ("name", "index"), [("temporal_wrinkles", 0), ("below_eye_wrinkles", 1), ("nasal_wrinkles", 2)]
)
def test_lines_in_a_patch_raise_that_kind_of_wrinkle_most(name: str, index: int) -> None:
    image, _, points = draw("happy", "front", 1)
    lined = image.copy()
    for polygon in eyes.patches(points.astype(float))[index]:
        top, left = polygon.min(0)[::-1].astype(int)
        bottom, right = polygon.max(0)[::-1].astype(int)
        for y in range(top + 2, bottom - 1, 4):
            cv2.line(lined, (left + 2, y), (right - 2, y), (40, 30, 30), 1)
    change = eyes.eye_features(points, lined) - eyes.eye_features(points, image)
    assert change[index] == change[:3].max() > 0.3
    np.testing.assert_array_equal(change[3:], 0)


def test_a_hidden_side_is_left_out() -> None:
    image, _, points = draw("happy", "front", 1)
    # Everything right of the nose pushed out of the picture: the left patches still count.
    cut = image[:, :150]
    found = features(points, cut)
    assert np.isfinite(found["temporal_wrinkles"]) and np.isfinite(found["below_eye_wrinkles"])


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((68, 2), np.nan), np.zeros((68, 2))])
def test_points_that_are_no_face_are_refused(points: np.ndarray) -> None:
    with pytest.raises(InputError, match="`landmarks`"):
        features(points)
