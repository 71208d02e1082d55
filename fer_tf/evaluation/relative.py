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
# Of the person's mean that is taken off. Half of it does little harm where a person hardly shows but one expression.
STRENGTH = 0.5
LEAST = 1e-9


def relative(probabilities: np.ndarray, groups: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Returns probabilities, each divided by a power of its geometric mean over the group, float32 (N, num_classes).

    Args:
      probabilities: float (N, num_classes), rows of sum 1.
      groups: str (N,), whose face each is; empty where nobody knows. Those of nobody, and of groups of fewer than ten
        faces, stay as they are.
      strength: the power, 0 for none of the mean, 1 for all of it.

    Example:
      relative(probabilities, persons).argmax(axis=1)
    """
    scores = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
    for group in set(groups.tolist()) - {""}:
        own = groups == group
        if own.sum() >= MIN_FACES:
            scores[own] -= strength * scores[own].mean(axis=0)
    found = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)
