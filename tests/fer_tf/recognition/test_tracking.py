"""A face keeps its number while it moves, crosses another or is lost for a moment; its scores are smoothed in time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fer_tf.recognition.answers import Answer
from fer_tf.recognition.drawing import annotate, place_beside
from fer_tf.recognition.tracking import Tracker, is_cut, persons_of, scene_of

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


class Person:
    """A face whose descriptor is known; counts how often it is asked for."""

    asked = 0

    def __init__(self, who: float) -> None:
        # Stripes of their own: as a coarse picture one person looks otherwise than another.
        self.image = np.zeros((16, 16, 3), np.float32)
        self.image[:: int(who) + 2] = 200
        self.image[0, 0], self.landmarks = who, np.zeros((68, 2), np.float32)

    @staticmethod
    def describe(look: Person) -> np.ndarray:
        Person.asked += 1
        return np.array([float(look.image[0, 0, 0]), 0.0])


ANNA, BERT, CARL = 0.0, 1.0, 2.0


def seen(
    tracker: Tracker, time: float, *people: tuple[float, np.ndarray], scene: np.ndarray | None = None
) -> list[int]:
    boxes, looks = [place for _, place in people], [Person(who) for who, _ in people]
    return [number for number, _ in tracker.update(time, boxes, [answer(0.5)] * len(boxes), looks, scene)]


def test_two_who_cross_keep_their_numbers_by_motion_alone() -> None:
    tracker = Tracker()
    for step in range(20):
        order = numbers(tracker, step / 10, box(100 + 12 * step), box(330 - 12 * step, 130))
        assert order == [1, 2]


def test_two_who_meet_and_turn_back_are_told_apart_by_who_they_are() -> None:
    places = [100, 130, 160, 190, 160, 130, 100]
    # Motion alone takes them for two who passed each other.
    for describe, expected in ((Person.describe, [1, 2]), (None, [2, 1])):
        tracker = Tracker(describe=describe)
        for step, x in enumerate(places):
            found = seen(tracker, step / 5, (ANNA, box(x)), (BERT, box(400 - x)))
        assert found == expected


def test_a_person_who_returns_keeps_the_number_and_a_new_one_in_the_same_place_has_their_own() -> None:
    tracker = Tracker(describe=Person.describe)
    assert seen(tracker, 0.0, (ANNA, box(100)), (BERT, box(300))) == [1, 2]
    assert seen(tracker, 5.0, (CARL, box(300)), (ANNA, box(100))) == [3, 1]
    assert seen(tracker, 10.0, (BERT, box(500))) == [2]


def test_after_a_cut_place_does_not_count() -> None:
    tracker = Tracker(describe=Person.describe)
    one, other = (np.full((9, 16, 3), level, np.float32) for level in (60, 150))
    assert seen(tracker, 0.0, (ANNA, box(100)), scene=one) == [1]
    assert seen(tracker, 0.2, (BERT, box(100)), scene=other) == [2]
    assert seen(tracker, 0.4, (ANNA, box(104)), scene=one) == [1]
    # A change of light within a shot looks like a cut, and costs no number.
    assert seen(tracker, 0.6, (ANNA, box(106)), scene=other) == [1]


def test_another_face_in_the_same_place_is_another_person_though_the_scene_stays() -> None:
    tracker = Tracker(describe=Person.describe)
    scene = np.full((9, 16, 3), 60, np.float32)
    assert [seen(tracker, step / 5, (ANNA, box(100)), scene=scene) for step in range(3)] == [[1]] * 3
    assert [seen(tracker, step / 5, (BERT, box(100)), scene=scene) for step in range(3, 6)] == [[2]] * 3
    assert seen(tracker, 1.2, (ANNA, box(100)), scene=scene) == [1]


def test_nobody_is_described_where_motion_leaves_no_doubt() -> None:
    tracker, Person.asked = Tracker(describe=Person.describe), 0
    still = np.zeros((9, 16, 3), np.float32)
    for step in range(50):
        seen(tracker, step / 5, (ANNA, box(100 + step)), (BERT, box(400 - step, 300)), scene=still)
    assert Person.asked == 0
    seen(tracker, 10.2, (ANNA, box(150)), scene=still)
    assert Person.asked == 0


def test_a_scene_that_pans_is_no_cut_and_another_scene_is(samples: Path) -> None:
    photo = cv2.cvtColor(cv2.imread(str(samples / "photo.jpg")), cv2.COLOR_BGR2RGB)
    shifted = np.roll(photo, photo.shape[1] // 20, axis=1)
    assert not is_cut(scene_of(photo), scene_of(shifted))
    assert is_cut(scene_of(photo), scene_of(255 - photo))


def test_a_clips_faces_are_numbered_however_far_apart_the_frames_are() -> None:
    times, boxes = [0.0, 0.0, 7.0, 7.0, 90.0], [box(100), box(300), box(310), box(90), box(95)]
    assert persons_of(times, boxes) == [1, 2, 2, 1, 1]


def test_a_label_grows_with_a_photo_of_many_megapixels() -> None:
    small, box = np.zeros((400, 300, 3), np.uint8), np.array([80, 60, 120, 150], np.float64)
    large = np.zeros((4000, 3000, 3), np.uint8)
    written = [
        (annotate(picture, [(1, by * box, answer(0.8))]) == 255).all(2) for picture, by in ((small, 1), (large, 10))
    ]
    tall = [np.ptp(np.flatnonzero(pixels.any(1))) / len(pixels) for pixels in written]
    assert 0.4 * tall[0] < tall[1] < 1.2 * tall[0]


def test_drawing_stays_in_the_picture_at_every_edge() -> None:
    picture = np.full((120, 160, 3), 128, np.uint8)
    for place in (box(-20, -20), box(140, 100), box(0, 90, 60), box(60, 40, 300)):
        drawn = annotate(picture, [(1, place, answer(0.8))])
        assert drawn.shape == picture.shape and (drawn != picture).any()
    assert (picture == 128).all()


def test_a_label_hides_no_face_where_there_is_other_room() -> None:
    size, picture = (80, 60), (400, 300)
    below, low, left_edge = (
        np.array(values, float) for values in ((150, 50, 80, 90), (150, 190, 80, 100), (0, 190, 80, 110))
    )
    assert place_beside(below, size, picture, [below]) == (150, 142)
    # No room below: over it. And not over another face there.
    assert place_beside(low, size, picture, [low]) == (150, 128)
    over = np.array([150, 90, 80, 95], float)
    x, _ = place_beside(low, size, picture, [low, over])
    assert x >= 230 or x + 80 <= 150
    x, y = place_beside(left_edge, size, picture, [left_edge, np.array([0, 60, 90, 120], float)])
    assert x >= 80
    # A face that fills the picture: the label lies over the brow or beside, not over eyes and mouth.
    full = np.array([5, 5, 390, 290], float)
    x, y = place_beside(full, size, picture, [full])
    assert y + 60 <= 5 + 0.25 * 290 + 1 or x + 80 <= 5 + 0.08 * 390 + 60


def test_labels_of_neighbours_do_not_lie_on_each_other() -> None:
    boxes = [np.array([100 + 60 * index, 100, 50, 60], float) for index in range(3)]
    taken: list[np.ndarray] = []
    for one in boxes:
        x, y = place_beside(one, (100, 50), (400, 300), boxes, taken)
        taken.append(np.array([x, y, 100, 50]))
    for index, one in enumerate(taken):
        for other in taken[index + 1 :]:
            low, high = np.maximum(one[:2], other[:2]), np.minimum(one[:2] + one[2:], other[:2] + other[2:])
            assert np.prod(np.maximum(high - low, 0)) < 0.25 * 100 * 50
