"""The geometry of faces' boxes (x, y, width, height), and how far a face may have moved from one look to the next."""

from __future__ import annotations

import math

import numpy as np

# A face is the same one's when it moved less than this, in face sides, and a little more for each second between.
GATE, GATE_PER_SECOND, GATE_LIMIT = 0.8, 0.5, 2.0


def gate(seconds: float) -> float:
    """Returns how far a face may have moved in some seconds, in its sides."""
    return min(GATE + GATE_PER_SECOND * seconds, GATE_LIMIT)


def centre(box: np.ndarray) -> np.ndarray:
    """Returns the middle of a box, float64 (2,), in the box's unit."""
    return np.asarray(box[:2] + box[2:] / 2, np.float64)


def side(box: np.ndarray, least: float) -> float:
    """Returns the side of the square that is as large as a box, in the box's unit.

    Args:
      box: float (4,).
      least: the area that an empty box is given, so that it can be divided by; small in the box's unit squared.
    """
    return math.sqrt(max(float(box[2] * box[3]), least))


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the area that two boxes share, in their unit squared."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    return float((high - low).clip(0).prod())


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the intersection over union of two boxes, 0 to 1."""
    both = shared(one, other)
    return both / max(float(one[2:].prod() + other[2:].prod()) - both, 1e-9)
