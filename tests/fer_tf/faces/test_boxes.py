"""The geometry that finding, following and drawing share."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.faces import boxes

BOX = np.array([1.0, 2.0, 4.0, 9.0])


def test_boxes_share_what_lies_in_both() -> None:
    right, apart = BOX + [3, 0, 0, 0], BOX + [4, 0, 0, 0]
    assert boxes.shared(BOX, right) == 9 and boxes.shared(BOX, apart) == 0
    assert boxes.overlap(BOX, right) == pytest.approx(9 / 63) and boxes.overlap(BOX, BOX) == pytest.approx(1)


def test_a_boxs_side_is_that_of_the_square_of_its_area_and_never_zero() -> None:
    assert boxes.side(BOX, 1e-9) == 6 and boxes.side(BOX * 0, 1e-12) == pytest.approx(1e-6)
    np.testing.assert_array_equal(boxes.centre(BOX), [3, 6.5])


def test_the_gate_opens_with_time_up_to_its_limit() -> None:
    assert [boxes.gate(seconds) for seconds in (0, 1, 60)] == pytest.approx([0.8, 1.3, 2.0])
