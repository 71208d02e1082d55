"""Test faces that are copies of training faces, for public sets with duplicates across their own splits."""

from __future__ import annotations

import numpy as np

from fer_tf.data import leaks
from fer_tf.data.inputs import FaceSet
from fer_tf.faces import media
from fer_tf.labels import SPLITS


def test_copies(faces: FaceSet) -> dict[str, np.ndarray]:
    """Returns which test faces have a copy among the training or validation faces.

    Returns:
      bool (N,) over the test part: `equal` for the same pixels, `near` for those and what the perceptual hash takes
      for the same picture, re-encoded or a little changed.
    """
    pixels, perceptual = [], []
    for split in SPLITS:
        for encoded, _ in faces.parts[split].encoded().as_numpy_iterator():
            grey = media.decode(encoded, channels=1)
            pixels.append(leaks.pixel_hash(grey))
            perceptual.append(leaks.perceptual_hash(grey))
    in_test = np.arange(len(pixels)) >= len(pixels) - len(faces.parts["test"])
    equal = _across(np.array(pixels, np.uint64), 0, in_test)
    near = _across(np.array(perceptual, np.uint64), leaks.NEAR_DUPLICATE_BITS, in_test)
    return {"equal": equal, "near": near | equal}


def _across(hashes: np.ndarray, distance: int, in_test: np.ndarray) -> np.ndarray:
    """Which test items have a partner on the other side within a distance; bool, over the test items alone."""
    pairs = leaks.near_duplicates(hashes, distance, parts=in_test.astype(np.int64))
    found = np.zeros(len(in_test), bool)
    found[pairs.reshape(-1)] = True
    return found[in_test]
