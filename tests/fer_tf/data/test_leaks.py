"""The leak check finds what is planted, misses nothing that comparing all pairs finds, and stays small."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_tf.data import leaks
from fer_tf.errors import InputError
from tests.toy_data import draw


def gray(expression: str, pose: str, person: int, wobble: float = 0.0) -> np.ndarray:
    return cv2.cvtColor(draw(expression, pose, person, wobble)[0], cv2.COLOR_RGB2GRAY)


def hashes_with_neighbours(count: int) -> np.ndarray:
    """Random hashes, every fifth a copy of another with 0 to 5 flipped bits."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for place in range(0, count, 5):
        flips = rng.choice(64, rng.integers(0, 6), replace=False)
        hashes[place] = hashes[rng.integers(count)] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    return hashes


@pytest.mark.parametrize("distance", [0, 1, 3, 6])
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(distance: int) -> None:
    hashes = hashes_with_neighbours(1500)
    close = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    wanted = np.argwhere(np.triu(close, 1))
    assert len(wanted) > 20
    np.testing.assert_array_equal(leaks.near_duplicates(hashes, distance), wanted)


def test_only_pairs_from_different_parts_are_returned_when_parts_are_given() -> None:
    hashes = np.array([7, 7, 6, 1 << 40], np.uint64)
    pairs = leaks.near_duplicates(hashes, 1, parts=np.array([0, 0, 1, 1]))
    assert pairs.tolist() == [[0, 2], [1, 2]]


def test_a_recompressed_or_brighter_picture_is_near_and_another_person_or_pose_is_not() -> None:
    face = gray("happy", "front", 1)
    coded = cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    others = np.stack([face, coded, np.minimum(face, 245) + 10, gray("happy", "half_left", 1), gray("sad", "front", 2)])
    hashes = leaks.perceptual_hash(others)
    distances = np.bitwise_count(hashes ^ hashes[0])
    assert distances[1] <= 3 and distances[2] <= 3
    assert distances[3] > 3
    assert leaks.perceptual_hash(others[0]) == hashes[0]


def test_pixel_hash_is_equal_for_equal_pixels_only() -> None:
    face = gray("happy", "front", 1)
    changed = face.copy()
    changed[100, 100] ^= 1
    assert leaks.pixel_hash(face) == leaks.pixel_hash(face.copy())
    assert leaks.pixel_hash(face) != leaks.pixel_hash(changed)
    assert leaks.pixel_hash(np.zeros((2, 8), np.uint8)) != leaks.pixel_hash(np.zeros((8, 2), np.uint8))


def test_check_counts_and_lists_what_is_planted_in_one_split_and_not_in_another() -> None:
    rng = np.random.default_rng(1)
    count = 60
    perceptual = rng.integers(0, 2**64, count, dtype=np.uint64)
    pixels = rng.integers(0, 2**64, count, dtype=np.uint64)
    persons, clips = np.arange(count, dtype=np.uint64) // 20, np.arange(count, dtype=np.uint64) // 5
    by_person = persons.astype(np.int64)
    leaky = by_person.copy()
    leaky[3] = 2  # one face of person 0, clip 0 is a test face
    leaky[59] = -1
    perceptual[45] = perceptual[10] ^ np.uint64(3)  # a test face near a training face in both splits
    pixels[46] = pixels[30]
    found = leaks.check({"clean": by_person, "leaky": leaky}, persons, clips, clips, perceptual, pixels)
    assert found["clean"].counts == {
        "persons": 0,
        "clips": 0,
        "moments": 0,
        "near_duplicate_faces": 2,
        "equal_pixel_faces": 2,
        "test_faces_near_train": 1,
    }
    assert found["leaky"].counts["persons"] == 1 and found["leaky"].persons.tolist() == [0]
    assert found["leaky"].clips.tolist() == [0]
    assert found["clean"].near_duplicates.tolist() == [[10, 45], [45, 10]]


def test_a_million_blank_pictures_do_not_make_a_million_squared_pairs() -> None:
    hashes = np.zeros(1_000_000, np.uint64)
    parts = leaks.part_bits(np.arange(1_000_000) % 3)
    assert (leaks.neighbour_bits(hashes, parts) == 7).all()


def test_a_wrong_distance_or_shape_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="max_distance"):
        leaks.near_duplicates(np.arange(3, dtype=np.uint64), 9)
    with pytest.raises(InputError, match="gray"):
        leaks.perceptual_hash(np.zeros((2, 2, 2, 2), np.uint8))
