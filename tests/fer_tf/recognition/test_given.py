"""Pictures that are faces already: small ones as they are, large ones the same by every way of asking."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import fer_tf
from fer_tf.faces import align
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition.answers import encode_face
from fer_tf.recognition.given import LARGE, SIDE, GivenFaces


@pytest.fixture(scope="module")
def photo(samples: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(samples / "photo.jpg"))[..., ::-1])


def test_small_pictures_stay_as_they_are_and_large_ones_are_shrunk_to_a_side(photo: np.ndarray) -> None:
    for share in (1.0, 0.8):
        for height, width in ((48, 48), (512, 400), (513, 400), (400, 2600)):
            rgb = cv2.resize(photo, (width, height))
            (face,), rejected = GivenFaces(ExtractorOptions(), share).search(rgb)
            seen = round(share * max(face.image.shape))
            assert abs(seen - (max(height, width) if max(height, width) <= LARGE else SIDE)) <= 1 and not rejected
            np.testing.assert_array_equal(face.box, [0, 0, width, height])
            # The crop that is read again shows the picture where the asked one has it.
            corners = align.apply(face.transform, np.array([[0, 0], [width, height]], float)) / align.FACE_SIZE
            np.testing.assert_allclose(corners, [[(1 - share) / 2] * 2, [(1 + share) / 2] * 2], atol=0.02)
    assert GivenFaces(ExtractorOptions()).search(photo)[0][0].image is photo


def test_a_request_of_large_pictures_stays_well_below_a_servers_limit() -> None:
    random = np.random.default_rng(0)
    for side in (LARGE + 1, 1000):
        noise = random.integers(0, 256, (side, side, 3), np.uint8)
        (face,), _ = GivenFaces(ExtractorOptions(), 0.82).search(noise)
        assert 32 * len(encode_face(face.image)) < 7e6


def test_large_pictures_get_the_same_answer_by_every_way_of_asking(
    photo: np.ndarray, fa_net_dir: str, exported: str, address: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    inputs = [cv2.resize(photo, (2400, 3200)), *[noise] * 40]
    answers = []
    for source in (fa_net_dir, exported, address):
        with fer_tf.Recognizer.load(source, faces="given") as recognize:
            found = recognize(inputs)
            assert found.rejected.empty
            answers.append([face.answer.probabilities for face in found])
    assert np.shape(answers) == (3, 41, len(found.expressions))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    np.testing.assert_allclose(answers[0], answers[2], atol=1e-5)
