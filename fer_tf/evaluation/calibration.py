"""Whether a probability means what it says: softmax, expected calibration error, reliability, temperature."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns probabilities, float64 (N, num_classes), of logits divided by a temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Returns the mean negative log likelihood of the labels, nats."""
    probabilities = softmax(logits, temperature)
    return float(-np.mean(np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-300))))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[dict[str, Any]]:
    """Returns, per bin of the highest probability, its `count`, mean `confidence` and `accuracy`; empty bins left out.

    Args:
      probabilities: float (N, num_classes), each row summing to 1.
      labels: int (N,).
      bins: number of equal bins between 0 and 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = index == number
        if inside.any():
            rows.append(
                {
                    "low": number / bins,
                    "high": (number + 1) / bins,
                    "count": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                }
            )
    return rows


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the mean distance of confidence and accuracy over the bins, weighted by their counts; 0 to 1."""
    rows = reliability(probabilities, labels, bins)
    return float(sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, len(labels)))


def fit_temperature(logits: np.ndarray, labels: np.ndarray, low: float = 0.05, high: float = 20.0) -> float:
    """Returns the temperature that makes the labels most likely (Guo et al. 2017), by golden-section search.

    The likelihood is convex in 1/temperature, so one minimum is found; 1.0 without faces.

    Args:
      logits: float (N, num_classes), of the validation part.
      labels: int (N,).
      low, high: the search's ends.
    """
    if not len(labels):
        return 1.0
    ratio = (np.sqrt(5) - 1) / 2
    a, b = 1 / high, 1 / low
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    loss_c, loss_d = cross_entropy(logits, labels, 1 / c), cross_entropy(logits, labels, 1 / d)
    while b - a > 1e-5:
        if loss_c < loss_d:
            b, d, loss_d = d, c, loss_c
            c = b - ratio * (b - a)
            loss_c = cross_entropy(logits, labels, 1 / c)
        else:
            a, c, loss_c = c, d, loss_d
            d = a + ratio * (b - a)
            loss_d = cross_entropy(logits, labels, 1 / d)
    return float(2 / (a + b))
