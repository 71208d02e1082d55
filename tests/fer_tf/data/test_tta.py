"""The ways in which a face is seen for one answer."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.data.tta import TTA, zoomed


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


@pytest.mark.parametrize(("share", "expected"), [(0.5, (50 - 40, 50 + 20)), (1.25, (50 - 16, 50 + 8)), (1.0, (30, 60))])
def test_a_share_of_a_face_is_seen_around_its_middle(share: float, expected: tuple[int, int]) -> None:
    assert centre(zoomed(marked((50, 50)), share)) == pytest.approx((50, 50), abs=0.01)
    # 20 rows above the middle and 10 columns right of it.
    assert centre(zoomed(marked((30, 60)), share)) == pytest.approx(expected, abs=0.1)


def test_beyond_a_face_its_edge_is_repeated() -> None:
    face = np.full((64, 48, 3), 90, np.uint8)
    face[20:44, 14:34] = 200
    wider = zoomed(face, 1.5)
    assert wider.shape == face.shape and wider[0, 0].tolist() == [90, 90, 90]
    # No darker border comes in, and the middle takes a smaller part.
    assert wider.min() == 90 and (wider == 200).mean() < (face == 200).mean() / 2


def test_each_way_is_seen_once_and_the_first_of_a_share_is_not_mirrored() -> None:
    face = marked((30, 60))
    assert [len(list(ways.of(face))) for ways in TTA.values()] == [1, 2, 6]
    (same,) = TTA["none"].of(face)
    assert np.array_equal(same, face)
    plain, mirrored = TTA["flip"].of(face)
    assert np.array_equal(plain, face) and np.array_equal(mirrored, face[:, ::-1])
    places = list(map(centre, TTA["views"].of(face)))
    for (row, column), (other_row, other_column) in zip(places[::2], places[1::2], strict=True):
        assert (other_row, other_column) == pytest.approx((row, 100 - column), abs=0.1)
    assert sorted(row for row, _ in places) == pytest.approx([28.02, 28.02, 30, 30, 31.82, 31.82], abs=0.1)
