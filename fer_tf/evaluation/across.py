"""Scores on a set that a network was not trained for: lost faces, how faces are cut, being unsure, persons' means."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.data.inputs import Part
from fer_tf.evaluation import calibration, metrics
from fer_tf.evaluation.relative import STRENGTH, compared, relative
from fer_tf.evaluation.scores import break_down, interval, mean_class

# How a set is looked at: the pictures as they are, and the biggest face of each, found and aligned as a user's is.
VIEWS = {"as_given": "as given", "end_to_end": "end to end"}
# Shares of the aligned face's side that the network sees.
TIGHTNESS = tuple(round(0.6 + 0.05 * step, 2) for step in range(11))
# Confidence below which an answer is "unsure".
UNSURE = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def score_found(
    part: Part, logits: np.ndarray, found: np.ndarray, expressions: Sequence[str], temperature: float
) -> dict[str, Any]:
    """Returns a part's scores in which a face that was not found counts as wrong.

    Args:
      part: the faces, labels by their position in `expressions`.
      logits: float (N, num_classes) in the part's order; rows of lost faces do not matter.
      found: bool (N,).
      expressions: label names.
      temperature: divides the logits before probabilities are judged.

    Returns:
      faces, lost, accuracy and mean class accuracy with their intervals, confusion (rows true; columns predicted, the
      last one lost), per class, pose and gender, and of the faces found the calibration and what an "unsure" would
      change.
    """
    answers = np.where(found, logits.argmax(axis=1), len(expressions))
    right = (answers == part.labels).astype(float)
    confusion = metrics.confusion_matrix(part.labels, answers, len(expressions) + 1)[:-1]
    persons, over = metrics.units(part.persons, part.image_ids)
    return {
        "faces": len(part),
        "lost": int((~found).sum()),
        "accuracy": float(right.mean()),
        "accuracy_interval": interval(right, persons),
        "interval_over": over,
        "chance": 1.0 / len(expressions),
        **mean_class(right, part.labels, persons),
        "confusion": confusion.tolist(),
        "by_class": break_down(right, np.array(expressions, dtype=object)[part.labels], persons, expressions),
        "by_pose": _by_pose(part, right, persons),
        "by_gender": break_down(right, part.genders, persons),
        **_sureness(part.labels[found], logits[found], temperature),
    }


def _by_pose(part: Part, right: np.ndarray, persons: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """The break-down by pose, with the mean over the classes: poses have other shares of them."""
    rows = break_down(right, part.poses, persons)
    for pose, row in rows.items():
        of_pose = part.poses == pose
        row |= mean_class(right[of_pose], part.labels[of_pose], None if persons is None else persons[of_pose])
    return rows


def score_relative(
    part: Part, logits: np.ndarray, found: np.ndarray, num_classes: int, temperature: float
) -> list[dict[str, Any]]:
    """Returns what changes when answers are relative to all faces of the set, or to each person's own.

    No label has a say in it, the faces that are judged have. See `fer_tf.evaluation.relative`. Where no face has enough
    others to be compared with, there is no row.

    Args:
      part: the faces.
      logits: float (N, num_classes); rows of lost faces do not matter.
      found: bool (N,); lost faces count as wrong.
      num_classes: number of classes.
      temperature: divides the logits.
    """
    persons = part.persons.astype(str)
    groups = {"all faces": np.full(len(part), "all")}
    if len(set(persons.tolist()) - {""}) > 1:
        groups["each person's faces"] = persons
    probabilities = calibration.softmax(logits, temperature)
    groups = {to: names for to, names in groups.items() if compared(names[found]).any()}
    rows = []
    for (to, names), strength in itertools.product(groups.items(), (STRENGTH, 1.0)):
        answers = np.full(len(part), num_classes)
        answers[found] = relative(probabilities[found], names[found], strength).argmax(axis=1)
        confusion = metrics.confusion_matrix(part.labels, answers, num_classes + 1)[:-1]
        rows.append(
            {
                "to": to,
                "strength": strength,
                "compared": int(compared(names[found]).sum()),
                "accuracy": metrics.accuracy(part.labels, answers),
                "mean_class_accuracy": metrics.mean_class_accuracy(confusion),
                "confusion": confusion.tolist(),
            }
        )
    return rows


def _sureness(labels: np.ndarray, logits: np.ndarray, temperature: float) -> dict[str, Any]:
    if not len(labels):
        return {"calibration": {}, "unsure": []}
    probabilities = calibration.softmax(logits, temperature)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows = []
    for threshold in UNSURE:
        sure = confidence >= threshold
        accuracy = float(right[sure].mean()) if sure.any() else None
        rows.append({"threshold": threshold, "answered": float(sure.mean()), "accuracy": accuracy})
    return {
        "calibration": {
            "temperature": temperature,
            "ece": calibration.expected_calibration_error(probabilities, labels),
            "mean_confidence": float(confidence.mean()),
            "accuracy_of_found": float(right.mean()),
            "reliability": calibration.reliability(probabilities, labels),
        },
        "unsure": rows,
    }


def score_tightness(
    labels: np.ndarray, by_share: dict[float, np.ndarray], found: np.ndarray, num_classes: int
) -> list[dict[str, float]]:
    """Returns accuracy and mean class accuracy by the share of the face's side that the network sees.

    Args:
      labels: int64 (N,).
      by_share: for each share the logits, float (N, num_classes).
      found: bool (N,); lost faces count as wrong.
      num_classes: number of classes.
    """
    rows = []
    for share, logits in sorted(by_share.items()):
        answers = np.where(found, logits.argmax(axis=1), num_classes)
        confusion = metrics.confusion_matrix(labels, answers, num_classes + 1)[:-1]
        rows.append(
            {
                "share": share,
                "accuracy": metrics.accuracy(labels, answers),
                "mean_class_accuracy": metrics.mean_class_accuracy(confusion),
            }
        )
    return rows
