"""What a person always shows is taken off the answers, and nothing of who is seldom seen."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.evaluation import relative as module
from fer_tf.evaluation.relative import relative

CLASSES, EACH = 4, 12


def shown(lean: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces of two persons, each showing every class thrice; the second leans towards class 3 whatever it shows."""
    labels = np.tile(np.arange(CLASSES), 2 * EACH // CLASSES)
    persons = np.repeat(["one", "two"], EACH)
    scores = 2.0 * np.eye(CLASSES)[labels]
    scores[persons == "two", 3] += lean
    found = np.exp(scores)
    return found / found.sum(axis=1, keepdims=True), labels, persons


def test_a_planted_lean_of_a_person_goes() -> None:
    probabilities, labels, persons = shown(lean=5.0)
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(5 / 8)
    found = relative(probabilities, persons, strength=1.0)
    assert (found.argmax(axis=1) == labels).all()
    # All that is left is what both persons show alike: of a score of 2 the mean over four classes.
    np.testing.assert_allclose(found[:EACH], found[EACH:], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    # The mean over both persons is another one.
    assert (relative(probabilities, np.full(24, "all"), 1.0).argmax(axis=1) == labels).mean() < 1


def test_half_of_the_mean_leaves_half_of_the_lean() -> None:
    probabilities, _, persons = shown(lean=5.0)
    found = np.log(relative(probabilities, persons, strength=0.5))
    face = np.flatnonzero(persons == "two")[0]
    before = np.log(probabilities)
    mean = before[persons == "two"].mean(axis=0)
    np.testing.assert_allclose(np.diff(found[face]), np.diff(before[face] - 0.5 * mean), atol=1e-5)


def test_who_is_not_known_or_seldom_seen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, _, persons = shown(lean=5.0)
    np.testing.assert_allclose(relative(probabilities, np.full(24, "")), probabilities, rtol=1e-5)
    few = np.where(np.arange(24) < 9, "few", persons)
    np.testing.assert_allclose(relative(probabilities, few, 1.0)[:9], probabilities[:9], rtol=1e-5)
    assert np.abs(relative(probabilities, few, 1.0)[12:] - probabilities[12:]).max() > 0.1
    monkeypatch.setattr(module, "MIN_FACES", 9)
    assert np.abs(relative(probabilities, few, 1.0)[:9] - probabilities[:9]).max() > 0.01


def test_certain_answers_and_no_faces_are_taken() -> None:
    certain = relative(np.eye(2)[np.arange(10) % 2], np.full(10, "one"), 1.0)
    assert np.isfinite(certain).all() and (certain.argmax(axis=1) == np.arange(10) % 2).all()
    assert relative(np.zeros((0, 7)), np.zeros(0, str)).shape == (0, 7)
