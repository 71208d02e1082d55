"""What metrics.json says of a split can be recomputed from its predictions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fer_tf.data.inputs import Part
from fer_tf.evaluation.scores import age_groups, score

EXPRESSIONS = ("angry", "happy", "sad")


def part_of(labels: list[int], persons: list[str], poses: list[str]) -> Part:
    count = len(labels)

    def texts(values: list[str]) -> np.ndarray:
        return np.array(values, dtype=object)

    return Part(
        image_ids=texts([f"i{number}" for number in range(count)]),
        labels=np.array(labels),
        persons=texts(persons),
        poses=texts(poses),
        genders=texts([""] * count),
        ages=np.array([25, 31, -1, 70, 19, 25][:count]),
    )


def test_break_downs_by_hand():
    part = part_of([0, 0, 1, 1, 0, 1], ["A", "A", "B", "B", "C", "C"], ["front"] * 3 + ["bird_view"] * 3)
    predicted = np.array([0, 1, 1, 1, 0, 0])
    result = score(part, np.eye(3)[predicted] * 4, EXPRESSIONS, temperature=2.0)
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["by_class"]["angry"]["accuracy"] == pytest.approx(2 / 3)
    assert result["by_class"]["sad"] == {"faces": 0, "accuracy": None, "interval": None}
    assert result["by_pose"]["bird_view"]["accuracy"] == pytest.approx(2 / 3)
    assert {person: row["accuracy"] for person, row in result["by_person"].items()} == {"A": 0.5, "B": 1.0, "C": 0.5}
    assert result["interval_over"] == "persons" and result["persons"] == 3
    assert result["by_gender"] == {}
    confidence = np.exp(2) / (np.exp(2) + 2)
    assert result["calibration"]["calibrated"]["ece"] == pytest.approx(abs(confidence - 4 / 6))
    json.dumps(result, allow_nan=False)


def test_the_mean_over_the_classes_has_an_interval_too():
    part = part_of([0, 0, 1, 1, 1, 1], ["P1", "P1", "P2", "P2", "P3", "P3"], ["front"] * 6)
    # Angry 1 of 2, happy 4 of 4: samples of P1 alone have 1/2, without P1 1, with P1 and another 3/4.
    predictions = np.array([0, 1, 1, 1, 1, 1])
    scores = score(part, np.eye(3)[predictions], EXPRESSIONS, 1.0)
    assert scores["mean_class_accuracy"] == pytest.approx(0.75)
    assert scores["mean_class_accuracy_interval"] == [0.5, 1.0]
    assert scores["accuracy_interval"] == [0.5, 1.0] and scores["accuracy"] == pytest.approx(5 / 6)


def test_unknown_persons_give_an_interval_over_faces():
    part = part_of([0, 1, 0, 1], [""] * 4, [""] * 4)
    result = score(part, np.eye(3)[[0, 1, 0, 0]], EXPRESSIONS, temperature=1.0)
    assert result["interval_over"] == "faces" and result["by_person"] == {} and result["by_pose"] == {}


def test_faces_of_unknown_persons_are_drawn_one_by_one_beside_known_persons():
    # 400 faces of nobody knows whom, nine in ten right, and one person's ten faces, all wrong.
    persons = [""] * 400 + ["P"] * 10
    part = Part(
        image_ids=np.array([f"i{number}" for number in range(410)], object),
        labels=np.zeros(410, int),
        persons=np.array(persons, object),
        poses=np.full(410, "", object),
        genders=np.full(410, "", object),
        ages=np.full(410, -1),
    )
    answers = np.where((np.arange(410) % 10 == 0) | (np.array(persons) == "P"), 1, 0)
    result = score(part, np.eye(3)[answers], EXPRESSIONS, temperature=1.0)
    low, high = result["accuracy_interval"]
    # As one person the 400 would make it 0 to 0.9.
    assert 0.78 < low < result["accuracy"] == 360 / 410 < high < 0.95
    assert (result["interval_over"], result["persons"]) == ("persons and faces of unknown ones", 1)


def test_an_empty_part_has_no_scores():
    part = part_of([], [], [])
    assert score(part, np.zeros((0, 3)), EXPRESSIONS, 1.0) == {"faces": 0}


def test_ages_fall_into_groups_and_unknown_into_none():
    assert age_groups(np.array([19, 20, 29, 60, 95, -1])).tolist() == [
        "under 20",
        "20-29",
        "20-29",
        "60+",
        "60+",
        "",
    ]


def test_ages_are_listed_from_young_to_old():
    part = part_of([0, 1, 0, 1], ["a", "b", "a", "b"], [""] * 4)
    assert list(score(part, np.eye(3)[[0, 1, 0, 0]], EXPRESSIONS, 1.0)["by_age"]) == ["20-29", "30-39", "60+"]
    part = dataclasses.replace(part, ages=np.array([61, 3, 40, -1]))
    assert list(score(part, np.eye(3)[[0, 1, 0, 0]], EXPRESSIONS, 1.0)["by_age"]) == ["under 20", "40-49", "60+"]
