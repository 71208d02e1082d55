"""Answers relative to what somebody usually shows: a face's scores against the mean of the same person's faces.

A network takes one person's resting face for sad and another's for neutral. What all faces of a person have in common
says who it is and not what is felt, so it is taken off; no label is needed (person-specific normalisation, there of a
face's features: Baltrusaitis, Mahmoud and Robinson 2015). It presumes that a person shows several expressions: of
somebody who looks neutral all the time it takes the neutral.
"""

from __future__ import annotations

import numpy as np

# A mean over fewer faces says too little: they stay as they are.
MIN_FACES = 10
# Of the person's mean that is taken off. All of it harms more than it helps where one expression prevails.
STRENGTH = 0.5
LEAST = 1e-9


def compared(groups: np.ndarray) -> np.ndarray:
    """Returns which faces have enough others of their group to be compared with, bool (N,).

    Args:
      groups: str (N,), whose face each is; empty where nobody knows.
    """
    _, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return (counts >= MIN_FACES)[places] & (groups != "")


def relative(probabilities: np.ndarray, groups: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Returns probabilities less their group's mean, as logarithms, made to sum to 1 again, float32 (N, num_classes).

    Args:
      probabilities: float (N, num_classes), rows of sum 1.
      groups: str (N,), whose face each is; empty where nobody knows. Faces that are not `compared` stay as they are.
      strength: of the mean that is taken off, 0 to 1.

    Example:
      relative(probabilities, persons).argmax(axis=1)
    """
    scores = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
    own = compared(groups)
    names, places, counts = np.unique(groups[own], return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), scores.shape[1]))
    np.add.at(sums, places, scores[own])
    scores[own] -= strength * (sums / counts[:, None])[places]
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)
