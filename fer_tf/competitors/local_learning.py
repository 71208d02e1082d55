"""Local learning (Bottou and Vapnik 1992): for each face an SVM of its own, trained on its nearest neighbours."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fer_tf.competitors.classifiers import spread_over

# Faces whose neighbours are sought together.
BLOCK = 256


def logits(train: Any, labels: np.ndarray, faces: Any, neighbours: int, penalty: float, num_classes: int) -> np.ndarray:
    """Returns a score of each class, float64 (N, num_classes).

    Args:
      train: float (M, D), rows of length 1, dense or sparse.
      labels: int (M,).
      faces: float (N, D), rows of length 1.
      neighbours: how many of the nearest, by the cosine, train a face's SVM.
      penalty: the SVM's C; its kernel is the cosine too.
      num_classes: length of the answers.
    """
    from joblib import Parallel, delayed

    count = faces.shape[0]
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    if not blocks:
        return np.zeros((0, num_classes))
    workers = min(os.cpu_count() or 1, len(blocks)) if len(blocks) > 2 else 1
    task = delayed(_block)
    calls = (task(train, labels, faces[block], min(neighbours, len(labels)), penalty, num_classes) for block in blocks)
    return np.concatenate(Parallel(n_jobs=workers)(calls))


def _block(train: Any, labels: np.ndarray, faces: Any, neighbours: int, penalty: float, num_classes: int) -> np.ndarray:
    similar = _dense(faces @ train.T)
    nearest = np.argpartition(-similar, neighbours - 1, axis=1)[:, :neighbours]
    found = np.empty((len(similar), num_classes))
    for row, rows in enumerate(nearest):
        found[row] = _one(train[rows], labels[rows], similar[row, rows], penalty, num_classes)
    return found


def _one(near: Any, labels: np.ndarray, similar: np.ndarray, penalty: float, num_classes: int) -> np.ndarray:
    from sklearn.svm import SVC

    known = np.unique(labels)
    if len(known) == 1:
        # All neighbours agree: there is nothing to train.
        return spread_over(np.ones((1, 1)), known, num_classes)[0]
    machine = SVC(C=penalty, kernel="precomputed").fit(_dense(near @ near.T), labels)
    return spread_over(machine.decision_function(similar[None]), machine.classes_, num_classes)[0]


def _dense(values: Any) -> np.ndarray:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)
