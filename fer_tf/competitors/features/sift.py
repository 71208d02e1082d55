"""SIFT (Lowe 2004) on a dense grid, by OpenCV, in the Hellinger form (Arandjelovic and Zisserman 2012)."""

from __future__ import annotations

import numpy as np

VERSION = 1
GRID = 6


def features(images: np.ndarray) -> np.ndarray:
    """Returns float32 (N, 6 * 6 * 128) of uint8 (N, S, S)."""
    side = images.shape[1]
    step = side / GRID
    places = (np.arange(GRID) + 0.5) * step
    points = np.array([(x, y) for y in places for x in places])
    return np.stack([descriptors(image, points, 2 * step).ravel() for image in images])


def descriptors(image: np.ndarray, points: np.ndarray, width: float) -> np.ndarray:
    """Returns the descriptors of upright patches, float32 (P, 128), each of length 1.

    Args:
      image: uint8 (H, W).
      points: float (P, 2), x and y of the patches' centres.
      width: of a patch, pixels.
    """
    import cv2

    # Four cells a side, each three standard deviations wide, of half the keypoint's size.
    keypoints = [cv2.KeyPoint(float(x), float(y), width / 6, 0.0) for x, y in points]
    _, found = cv2.SIFT_create().compute(image, keypoints)  # type: ignore[attr-defined]
    return np.sqrt(found / np.maximum(found.sum(1, keepdims=True), 1e-6)).astype(np.float32)
