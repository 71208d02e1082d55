"""What each of the benchmark's protocols trains on and asks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.jaffe_protocols import PROTOCOLS, parted
from fer_tf.competitors.faces import Faces

SIZES = (12, 3, 6)


@pytest.fixture(scope="module")
def faces() -> Faces:
    """21 faces of one expression, three of each of seven persons."""
    persons = np.array([f"P{number % 7}" for number in range(21)])
    return Faces(np.zeros((21, 4, 4), np.uint8), np.zeros(21, int), persons)


def rows_of(protocol: str, faces: Faces) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(parted(protocol, faces, SIZES, seed=0))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_whole_tests_a_face_that_it_trains_on(protocol: str, faces: Faces) -> None:
    for kept, left in rows_of(protocol, faces):
        assert bool(set(kept) & set(left)) == (protocol == "whole")


def test_the_split_tests_the_last_part_with_and_without_the_validation_faces(faces: Faces) -> None:
    for protocol, trained in (("split", 12), ("more", 15)):
        [(kept, left)] = rows_of(protocol, faces)
        assert kept.tolist() == list(range(trained)) and left.tolist() == list(range(15, 21))


@pytest.mark.parametrize("protocol", ["folds", "persons"])
def test_folds_and_persons_ask_each_face_once(protocol: str, faces: Faces) -> None:
    found = rows_of(protocol, faces)
    assert sorted(np.concatenate([left for _, left in found]).tolist()) == list(range(21))
    assert len(found) == (7 if protocol == "persons" else 10)


def test_only_persons_asks_for_people_that_were_not_seen(faces: Faces) -> None:
    for kept, left in rows_of("persons", faces):
        assert not set(faces.persons[kept]) & set(faces.persons[left])
    assert set(faces.persons[rows_of("split", faces)[0][1]]) < set(faces.persons)
