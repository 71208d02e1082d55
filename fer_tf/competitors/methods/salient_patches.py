"""`salient_patches`: LBP on patches ranked for each pair of expressions (Happy and Routray 2015; JAFFE 92.6 %).

The source's: 19 patches a ninth of the face wide, local binary patterns, for each pair of expressions the patches that
part it best, LDA, and an SVM that votes for one of the two. Ours: patches a sixth of the picture wide, which shows a
little more than the face; where the 19 lie, by the 68 points (the source places them by the corners of lips and eyes
that it finds itself); and how many are used, chosen by cross-validation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.competitors.classifiers import folds_of
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.features import lbp
from fer_tf.competitors.method import Work

PATCH = 1 / 6
# Each patch's centre is the mean of some landmarks, moved down by a share of the face's side.
PLACES = (
    ((48,), 0.0),  # corners of the mouth
    ((54,), 0.0),
    ((48, 5), 0.0),  # below them
    ((54, 11), 0.0),
    ((57,), 0.06),  # below the lower lip
    ((51, 33), 0.0),  # between nose and mouth
    ((48, 31), 0.0),  # from the nostrils to the corners of the mouth
    ((54, 35), 0.0),
    ((31, 39), 0.0),  # sides of the nose
    ((35, 42), 0.0),
    ((41, 31, 48), 0.0),  # cheeks
    ((46, 35, 54), 0.0),
    ((40, 41), 0.05),  # below the eyes
    ((46, 47), 0.05),
    ((36,), 0.0),  # outer corners of the eyes
    ((45,), 0.0),
    ((20, 21), 0.0),  # inner ends of the brows
    ((22, 23), 0.0),
    ((21, 22, 27), 0.0),  # between them
)
USED = (2, 4, 8, 19)
# Of the features' mean squared length, added to each squared length: there are fewer faces than numbers.
RIDGE = 0.3
MAX_RANKED = 400


@dataclass(frozen=True)
class Discriminant:
    """Fisher's discriminant of two classes as the ridge regression that it equals (Duda and Hart 1973)."""

    centre: np.ndarray
    weights: np.ndarray

    def project(self, features: np.ndarray) -> np.ndarray:
        """Returns one number a face, float (N, 1); the second class's are the larger ones."""
        return ((features - self.centre) @ self.weights)[:, None]


def discriminant(features: np.ndarray, signs: np.ndarray) -> Discriminant:
    """Returns the discriminant of features, float (N, D), with signs -1 and 1 for the classes."""
    centre = features.mean(0)
    values = (features - centre).astype(np.float64)
    ridge = RIDGE * max(float((values**2).sum() / len(values)), 1e-9)
    aims = signs - signs.mean()
    if len(values) <= values.shape[1]:
        weights = values.T @ np.linalg.solve(values @ values.T + ridge * np.eye(len(values)), aims)
    else:
        weights = np.linalg.solve(values.T @ values + ridge * np.eye(values.shape[1]), values.T @ aims)
    return Discriminant(centre, weights)


def cross_validated(features: np.ndarray, signs: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns how often the discriminant of the kept faces is right on the left-out ones."""
    similar = features @ features.T
    right = []
    for kept, left in folds:
        # The same as `discriminant`, from products of faces alone: many patches are tried on few faces.
        mean = similar[np.ix_(kept, kept)].mean(0)
        inner = similar[np.ix_(kept, kept)] - mean - mean[:, None] + mean.mean()
        outer = similar[np.ix_(left, kept)] - similar[np.ix_(left, kept)].mean(1, keepdims=True) - mean + mean.mean()
        ridge = RIDGE * max(float(np.trace(inner)) / len(kept), 1e-9)
        shift = signs[kept].mean()
        found = outer @ np.linalg.solve(inner + ridge * np.eye(len(kept)), signs[kept] - shift) + shift
        right.append(np.mean((found > 0) == (signs[left] > 0)))
    return float(np.mean(right))


class SalientPatches:
    """Votes of one SVM for each pair of expressions.

    Args:
      work: classes and seed.
    """

    side, landmarks = 0, True

    def __init__(self, work: Work) -> None:
        self._work = work

    def fit(self, train: Faces) -> dict[str, Any]:
        patches = train.measured("salient_patches", histograms)
        ranked = {
            pair: self._rank(patches, train, pair)
            for pair in itertools.combinations(np.unique(train.labels).tolist(), 2)
        }
        scores = (
            {used: float(np.mean([found[used] for _, found in ranked.values()])) for used in USED} if ranked else {}
        )
        used = max(scores, key=scores.get, default=USED[0])
        self._pairs = [(pair, *_fitted(patches, train, pair, order[:used])) for pair, (order, _) in ranked.items()]
        self._alone = int(train.labels[0])
        return {"patches": used, "cross_validation_of_pairs": scores.get(used)}

    def logits(self, faces: Faces) -> np.ndarray:
        patches = faces.measured("salient_patches", histograms)
        votes = np.zeros((len(faces), self._work.num_classes))
        votes[:, self._alone] += not self._pairs
        for (first, second), order, line, machine in self._pairs if len(faces) else ():
            margin = np.tanh(machine.decision_function(line.project(_columns(patches, order))))
            votes[:, second] += margin
            votes[:, first] -= margin
        return votes

    def _rank(self, patches: np.ndarray, train: Faces, pair: tuple[int, int]) -> tuple[np.ndarray, dict[int, float]]:
        """The patches, the one that parts a pair best first, and the accuracy with so many of them."""

        rows = np.flatnonzero(np.isin(train.labels, pair))
        if len(rows) > MAX_RANKED:
            rows = np.random.default_rng(self._work.seed).permutation(rows)[:MAX_RANKED]
        signs = np.where(train.labels[rows] == pair[1], 1.0, -1.0)
        parting, groups = folds_of((signs > 0).astype(int), train.persons[rows], self._work.seed)
        folds = list(parting.split(rows, signs > 0, groups))
        alone = [cross_validated(patches[rows, patch], signs, folds) for patch in range(len(PLACES))]
        order = np.argsort([-accuracy for accuracy in alone], kind="stable")
        return order, {used: cross_validated(_columns(patches[rows], order[:used]), signs, folds) for used in USED}


def histograms(faces: Faces) -> np.ndarray:
    """Returns the square roots of the patches' LBP histograms, float32 (N, 19, 59)."""
    side = faces.images.shape[1]
    half = max(2, round(PATCH * side / 2))
    found = np.zeros((len(faces), len(PLACES), lbp.CODES), np.float32)
    for row, (image, points) in enumerate(zip(faces.images, faces.landmarks, strict=True)):
        codes = lbp.codes(image, max(1, side // 48))
        for patch, (near, down) in enumerate(PLACES):
            x, y = points[list(near)].mean(0) + (0, down * side)
            left, top = (int(np.clip(round(float(v)) - half, 0, side - 2 * half)) for v in (x, y))
            found[row, patch] = lbp.histogram(codes[top : top + 2 * half, left : left + 2 * half])
    return np.sqrt(found)


def _columns(patches: np.ndarray, order: np.ndarray) -> np.ndarray:
    return patches[:, order].reshape(len(patches), -1)


def _fitted(
    patches: np.ndarray, train: Faces, pair: tuple[int, int], order: np.ndarray
) -> tuple[np.ndarray, Discriminant, Any]:
    from sklearn.svm import SVC

    rows = np.isin(train.labels, pair)
    found, second = _columns(patches[rows], order), train.labels[rows] == pair[1]
    line = discriminant(found, np.where(second, 1.0, -1.0))
    return order, line, SVC(kernel="linear").fit(line.project(found), second)
