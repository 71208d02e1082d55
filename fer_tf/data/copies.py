"""Test faces that are copies of training faces, for public sets with duplicates across their own splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_tf.data import leaks
from fer_tf.data.inputs import FaceSet


def test_copies(faces: FaceSet) -> dict[str, np.ndarray]:
    """Returns which test faces have a copy among the training or validation faces.

    Args:
      faces: a set whose images are in memory.

    Returns:
      bool (N,) over the test part: `equal` for the same pixels, `near` for those and what the perceptual hash takes
      for the same picture, re-encoded or a little changed.
    """
    images = [image for split in ("train", "val", "test") for image in _decode(faces.parts[split].images or ())]
    in_test = np.arange(len(images)) >= len(images) - len(faces.parts["test"])
    equal = _across(np.array([leaks.pixel_hash(image) for image in images], np.uint64), 0, in_test)
    near = _across(perceptual_hashes(images), leaks.NEAR_DUPLICATE_BITS, in_test)
    return {"equal": equal, "near": near | equal}


def perceptual_hashes(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the perceptual hash of each grey image, uint64 (N,)."""
    return np.array([leaks.perceptual_hash(image) for image in images], np.uint64)


def _across(hashes: np.ndarray, distance: int, in_test: np.ndarray) -> np.ndarray:
    """Which test items have a partner on the other side within a distance; bool, over the test items alone."""
    pairs = leaks.near_duplicates(hashes, distance, parts=in_test.astype(np.int64))
    found = np.zeros(len(in_test), bool)
    found[pairs.reshape(-1)] = True
    return found[in_test]


def _decode(images: Sequence[bytes]) -> list[np.ndarray]:
    import cv2

    return [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE) for image in images]
