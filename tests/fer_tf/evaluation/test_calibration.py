"""Calibration agrees with hand-computed numbers, and a planted temperature is found again."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.evaluation import calibration


def test_ece_by_hand():
    # Two bins of ten: (0.6, 0.7] holds 0.65 right and 0.65 wrong, (0.9, 1] holds 0.95 right.
    probabilities = np.array([[0.65, 0.35], [0.65, 0.35], [0.05, 0.95]])
    labels = np.array([0, 1, 1])
    expected = (2 * abs(0.65 - 0.5) + 1 * abs(0.95 - 1.0)) / 3
    assert calibration.expected_calibration_error(probabilities, labels, bins=10) == pytest.approx(expected)
    rows = calibration.reliability(probabilities, labels, bins=10)
    assert [row["count"] for row in rows] == [2, 1]


def test_certainty_falls_into_the_last_bin():
    rows = calibration.reliability(np.array([[1.0, 0.0]]), np.array([0]), bins=15)
    assert rows[0]["high"] == 1.0 and rows[0]["accuracy"] == 1.0


def test_softmax_survives_large_logits():
    np.testing.assert_allclose(calibration.softmax(np.array([[1000.0, 0.0]])), [[1.0, 0.0]])


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0, 2, (20000, 5))
    probabilities = calibration.softmax(calibrated)
    labels = (probabilities.cumsum(1) > rng.random((20000, 1))).argmax(1)
    found = calibration.fit_temperature(calibrated * planted, labels)
    assert found == pytest.approx(planted, rel=0.05)
    after = calibration.softmax(calibrated * planted, found)
    assert calibration.expected_calibration_error(after, labels) < 0.015


def test_no_faces_leave_the_temperature_alone():
    assert calibration.fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
