"""A face keeps its number while it moves, crosses another or is lost for a moment; its scores are smoothed in time."""

from __future__ import annotations

import numpy as np

from fer_tf.recognition.answers import Answer
from fer_tf.recognition.drawing import annotate
from fer_tf.recognition.tracking import Tracker, closeness

NAMES = ("happy", "sad")


def box(x: float, y: float = 100, side: float = 50) -> np.ndarray:
    return np.array([x, y, side, side], np.float32)


def answer(happy: float) -> Answer:
    return Answer(NAMES, np.array([happy, 1 - happy], np.float32))


def numbers(tracker: Tracker, time: float, *boxes: np.ndarray) -> list[int]:
    return [number for number, _ in tracker.update(time, boxes, [answer(0.5)] * len(boxes))]


def test_moving_faces_keep_their_numbers_whatever_the_order() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, box(100), box(300)) == [1, 2]
    for step in range(1, 10):
        assert numbers(tracker, step / 5, box(300 - 12 * step), box(100 + 8 * step)) == [2, 1]


def test_a_fast_face_is_followed_and_a_far_one_is_new() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, box(100)) == [1]
    assert numbers(tracker, 0.2, box(123)) == [1]
    assert numbers(tracker, 0.4, box(400)) == [2]


def test_a_face_lost_for_a_moment_comes_back_and_for_long_is_new() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, box(100)) == [1]
    assert numbers(tracker, 0.4) == []
    assert numbers(tracker, 0.8, box(105)) == [1]
    assert numbers(tracker, 3.0, box(105)) == [2]


def test_scores_follow_the_exponential_with_the_given_time_constant() -> None:
    tracker = Tracker(smoothing_s=0.5)
    tracker.update(0.0, [box(0)], [answer(0.0)])
    for step in range(1, 6):
        ((_, smoothed),) = tracker.update(step * 0.1, [box(0)], [answer(1.0)])
    # However the second is cut into steps, the answer is that of continuous smoothing.
    np.testing.assert_allclose(smoothed.probabilities[0], 1 - np.exp(-0.5 / 0.5), rtol=1e-5)
    ((_, raw),) = Tracker(smoothing_s=0).update(0.0, [box(0)], [answer(0.3)])
    np.testing.assert_allclose(raw.probabilities, [0.3, 0.7], rtol=1e-6)


def test_closeness_is_the_overlap() -> None:
    np.testing.assert_allclose(closeness(box(0, 0, 10), box(5, 0, 10)), 1 / 3, rtol=1e-5)
    assert closeness(box(0), box(0)) == 1 and closeness(box(0), box(500)) == 0
    # A face within a face is another one.
    assert closeness(box(0, 0, 100), box(30, 30, 20)) == 0


def test_drawing_stays_in_the_picture_at_every_edge() -> None:
    picture = np.full((120, 160, 3), 128, np.uint8)
    for place in (box(-20, -20), box(140, 100), box(0, 90, 60), box(60, 40, 300)):
        drawn = annotate(picture, [(1, place, answer(0.8))])
        assert drawn.shape == picture.shape and (drawn != picture).any()
    assert (picture == 128).all()
