"""All scores of one split's predictions as plain JSON values: what metrics.json holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fer_tf.data.inputs import Part
from fer_tf.evaluation import calibration, metrics

AGE_EDGES = (0, 20, 30, 40, 50, 60)
AGE_GROUPS = (
    f"under {AGE_EDGES[1]}",
    *(f"{low}-{high - 1}" for low, high in itertools.pairwise(AGE_EDGES[1:])),
    f"{AGE_EDGES[-1]}+",
)


def age_groups(ages: np.ndarray) -> np.ndarray:
    """Returns the age group of each face, such as `20-29`; empty where the age is unknown."""
    index = np.searchsorted(AGE_EDGES, ages, side="right") - 1
    return np.array([AGE_GROUPS[place] if age >= 0 else "" for place, age in zip(index, ages, strict=True)], object)


def score(part: Part, logits: np.ndarray, expressions: Sequence[str], temperature: float) -> dict[str, Any]:
    """Returns a split's scores.

    Args:
      part: the faces.
      logits: float (N, num_classes) in the part's order.
      expressions: label names.
      temperature: divides the logits before probabilities are judged.

    Returns:
      accuracy and mean class accuracy with their 95 % intervals (over persons where known, else over faces), chance
      level, macro F1, confusion (rows true, columns predicted), per class, pose, person, gender and age group, and the
      calibration with and without the temperature.
    """
    if not len(part):
        return {"faces": 0}
    predictions = logits.argmax(axis=1)
    right = (predictions == part.labels).astype(float)
    confusion = metrics.confusion_matrix(part.labels, predictions, len(expressions))
    known = set(part.persons.tolist()) - {""}
    ages = age_groups(part.ages)
    persons, over = metrics.units(part.persons, part.image_ids)
    counts = confusion.sum(axis=1)
    return {
        "faces": len(part),
        "persons": len(known),
        "accuracy": float(right.mean()),
        "accuracy_interval": interval(right, persons),
        "interval_over": over,
        "chance": 1.0 / len(expressions),
        "majority": float(counts.max() / counts.sum()),
        **mean_class(right, part.labels, persons),
        "macro_f1": metrics.macro_f1(confusion),
        "expressions": list(expressions),
        "confusion": confusion.tolist(),
        "by_class": break_down(right, np.array(expressions, dtype=object)[part.labels], persons, expressions),
        "by_pose": break_down(right, part.poses, persons),
        "by_person": break_down(right, part.persons, None),
        "by_gender": break_down(right, part.genders, persons),
        "by_age": break_down(right, ages, persons, [group for group in AGE_GROUPS if group in ages]),
        "calibration": {
            "temperature": temperature,
            "uncalibrated": _calibration(logits, part.labels, 1.0),
            "calibrated": _calibration(logits, part.labels, temperature),
        },
    }


def among(part: Part, logits: np.ndarray, classes: Sequence[int]) -> tuple[Part, np.ndarray]:
    """Returns the faces of some classes and what is answered when only these may be: labels and columns by their place.

    Args:
      part: the faces; those of other classes are left out.
      logits: float (N, num_classes) in the part's order.
      classes: the classes, by their positions, in the order that they are to have.
    """
    place = np.full(logits.shape[1], -1)
    place[list(classes)] = np.arange(len(classes))
    chosen = place[part.labels] >= 0
    rows = part.rows(chosen)
    votes = rows.votes[:, list(classes)] if rows.votes.shape[1] else rows.votes
    return replace(rows, labels=place[rows.labels], votes=votes), logits[chosen][:, list(classes)]


def score_distribution(part: Part, logits: np.ndarray, temperature: float) -> dict[str, Any]:
    """Returns, for a part that people voted on, how far the answers are from the votes (Barsoum et al. 2016).

    Returns:
      `distribution`: faces; cross_entropy of the votes' shares and the answers, nats; its lowest value, the entropy of
      the shares; and accuracy of the most probable class by the most frequent vote, faces without a majority too.
      Empty for a part of single labels.
    """
    voted = part.votes.sum(axis=1) > 0 if part.votes.shape[1] else np.zeros(len(part), bool)
    if not voted.any():
        return {}
    shares = part.votes[voted] / part.votes[voted].sum(axis=1, keepdims=True)
    answers = calibration.softmax(logits[voted], temperature)
    likely = np.log(np.maximum(answers, 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(np.where(shares > 0, shares * np.log(shares), 0.0), axis=1)
    return {
        "distribution": {
            "faces": int(voted.sum()),
            "cross_entropy": float(-(shares * likely).sum(axis=1).mean()),
            "lowest": float(entropy.mean()),
            "accuracy": metrics.accuracy(part.labels[voted], logits[voted].argmax(axis=1)),
        }
    }


def break_down(
    right: np.ndarray, keys: np.ndarray, persons: np.ndarray | None, order: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Returns faces, accuracy and its 95 % interval for each value of a key; unknown (empty) values are left out."""
    values = [value for value in (order or sorted(set(keys.tolist()))) if value]
    rows = {}
    for value in values:
        chosen = keys == value
        rows[value] = {
            "faces": int(chosen.sum()),
            "accuracy": float(right[chosen].mean()) if chosen.any() else None,
            "interval": interval(right[chosen], None if persons is None else persons[chosen], samples=500),
        }
    return rows


def mean_class(right: np.ndarray, labels: np.ndarray, persons: np.ndarray | None) -> dict[str, Any]:
    """Returns `mean_class_accuracy`, the mean recall over the classes that have faces, with `interval` of it."""
    return {
        "mean_class_accuracy": metrics.mean_over_classes(right, labels),
        "mean_class_accuracy_interval": interval(right, persons, labels),
    }


def interval(
    right: np.ndarray, persons: np.ndarray | None, classes: np.ndarray | None = None, samples: int = 2000
) -> list[float] | None:
    """Returns the 95 % bootstrap interval [low, high] over persons, or over faces when persons is None.

    With classes it is that of the mean over the classes. None when there are fewer than two to draw from, since JSON
    has no nan.
    """
    low, high = metrics.bootstrap_interval(right, persons, classes=classes, samples=samples)
    return None if np.isnan(low) else [low, high]


def _calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, Any]:
    probabilities = calibration.softmax(logits, temperature)
    return {
        "ece": calibration.expected_calibration_error(probabilities, labels),
        "nll": calibration.cross_entropy(logits, labels, temperature),
        "mean_confidence": float(probabilities.max(axis=1).mean()),
        "reliability": calibration.reliability(probabilities, labels),
    }
