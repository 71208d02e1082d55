"""Scores on another set: a face that is not found is wrong, and less sure answers may stay away."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.data.inputs import Part
from fer_tf.evaluation.across import score_found, score_relative, score_tightness

NAMES = ("happy", "sad")
# Two of three happy faces and one of three sad ones are found and right; one sad face is lost.
LABELS = np.array([0, 0, 0, 1, 1, 1])
ANSWERS = np.array([0, 0, 1, 1, 0, 1])
FOUND = np.array([True, True, True, True, True, False])


def table() -> Part:
    unknown = np.full(6, "", object)
    poses = np.array(["front", "left"] * 3, object)
    return Part(np.arange(6).astype(str), LABELS, unknown, poses, unknown, np.full(6, -1))


def logits(confidence: float) -> np.ndarray:
    return np.eye(2)[ANSWERS] * np.log(confidence / (1 - confidence))


def test_a_lost_face_is_wrong_and_stands_in_a_column_of_its_own():
    scores = score_found(table(), logits(0.8), FOUND, NAMES, 1.0)
    assert (scores["faces"], scores["lost"], scores["accuracy"]) == (6, 1, 0.5)
    assert scores["confusion"] == [[2, 1, 0], [1, 1, 1]]
    assert scores["mean_class_accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert scores["by_class"]["sad"]["accuracy"] == pytest.approx(1 / 3)
    assert scores["by_pose"]["front"]["mean_class_accuracy"] == pytest.approx((1 / 2 + 0) / 2)
    assert scores["calibration"]["accuracy_of_found"] == pytest.approx(3 / 5)
    assert scores["calibration"]["ece"] == pytest.approx(0.2)


def test_unsure_answers_stay_away_below_the_threshold():
    rows = {row["threshold"]: row for row in score_found(table(), logits(0.65), FOUND, NAMES, 1.0)["unsure"]}
    assert rows[0.0] == {"threshold": 0.0, "answered": 1.0, "accuracy": pytest.approx(3 / 5)}
    assert rows[0.6]["answered"] == 1.0 and rows[0.7] == {"threshold": 0.7, "answered": 0.0, "accuracy": None}


def test_each_tightness_has_its_own_accuracy():
    right = np.eye(2)[LABELS]
    rows = score_tightness(LABELS, {1.0: logits(0.8), 0.8: right}, FOUND, 2)
    assert [row["share"] for row in rows] == [0.8, 1.0]
    assert rows[0]["accuracy"] == pytest.approx(5 / 6) and rows[1]["accuracy"] == 0.5
    assert rows[0]["mean_class_accuracy"] == pytest.approx((1 + 2 / 3) / 2)


def test_answers_relative_to_each_person_are_judged_lost_faces_too():
    # Two persons of ten faces, half happy; the second looks sad to the network all the time, and one face is lost.
    labels, persons = np.arange(20) % 2, np.repeat(np.array(["one", "two"], object), 10)
    scores = np.eye(2)[labels]
    scores[persons == "two", 1] += 3
    unknown, found = np.full(20, "", object), np.arange(20) > 0
    faces = Part(np.arange(20).astype(str), labels, persons, unknown, unknown, np.full(20, -1))
    rows = {(row["to"], row["strength"]): row for row in score_relative(faces, scores, found, 2, 1.0)}
    assert list(rows) == [(to, part) for to in ("all faces", "each person's faces") for part in (0.5, 1.0)]
    # The first person's nine faces that were found have no mean of their own: nine are too few.
    of_persons = rows["each person's faces", 1.0]
    assert of_persons["confusion"] == [[9, 0, 1], [0, 10, 0]]
    assert of_persons["accuracy"] == pytest.approx(19 / 20)
    assert rows["all faces", 1.0]["accuracy"] == pytest.approx(9 / 20)
    nobody = Part(np.arange(20).astype(str), labels, unknown, unknown, unknown, np.full(20, -1))
    assert {row["to"] for row in score_relative(nobody, scores, found, 2, 1.0)} == {"all faces"}
    assert [row["compared"] for row in rows.values()] == [19, 19, 10, 10]
    # Nine faces are compared with none: there is nothing to tell.
    assert score_relative(nobody.rows(np.arange(9)), scores[:9], np.ones(9, bool), 2, 1.0) == []
