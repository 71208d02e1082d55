"""The ways in which a face is seen for one answer."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.data.tta import TTA, cut


def marked(*places: tuple[int, int]) -> np.ndarray:
    """A black face of 101 x 101 pixels with grey squares of five pixels at some rows and columns."""
    face = np.zeros((101, 101, 3), np.uint8)
    for row, column in places:
        face[row - 2 : row + 3, column - 2 : column + 3] = 200
    return face


def centre(face: np.ndarray) -> tuple[float, float]:
    weights = face[..., 0].astype(float)
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]]
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


@pytest.mark.parametrize(("share", "side"), [(0.5, 51), (1.25, 127), (1.0, 101)])
def test_a_share_of_a_face_is_seen_around_its_middle(share: float, side: int) -> None:
    seen = cut(marked((30, 60)), share)
    assert seen.shape == (side, side, 3)
    # 20 rows above the middle and 10 columns right of it, whatever is around.
    assert centre(seen) == pytest.approx((side // 2 - 20, side // 2 + 10))
    several = cut(np.stack([marked((30, 60)), marked((50, 50))]), share)
    assert np.array_equal(several[0], seen) and centre(several[1]) == pytest.approx((side // 2, side // 2))


def test_beyond_a_face_its_edge_is_repeated() -> None:
    face = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    assert np.array_equal(cut(face, 1.5), np.pad(face, ((16, 16), (12, 12), (0, 0)), mode="edge"))


def test_each_way_is_seen_once_and_the_first_of_a_share_is_not_mirrored() -> None:
    face = marked((30, 60))
    assert [len(list(ways.of(face))) for ways in TTA.values()] == [1, 2, 6]
    (same,) = TTA["none"].of(face)
    assert np.array_equal(same, face)
    plain, mirrored = TTA["flip"].of(face)
    assert np.array_equal(plain, face) and np.array_equal(mirrored, face[:, ::-1])
    places = list(map(centre, TTA["views"].of(face)))
    for (row, column), (other_row, other_column) in zip(places[::2], places[1::2], strict=True):
        assert other_row == pytest.approx(row) and column + other_column == pytest.approx(60 + 40 + 2 * (row - 30))
    # Of 101 rows 91 and 111 are seen.
    assert [row for row, _ in places] == pytest.approx([25, 25, 30, 30, 35, 35])
