"""Histograms of oriented gradients (Dalal and Triggs 2005), by scikit-image."""

from __future__ import annotations

import numpy as np

VERSION = 1
# Cells along a side; a block is 2 x 2 of them.
CELLS, ORIENTATIONS = 8, 8


def features(images: np.ndarray) -> np.ndarray:
    """Returns float32 (N, 7 * 7 * 4 * 8) of uint8 (N, S, S)."""
    from skimage.feature import hog

    cell = images.shape[1] // CELLS
    options = {"orientations": ORIENTATIONS, "pixels_per_cell": (cell, cell), "cells_per_block": (2, 2)}
    side = cell * CELLS
    return np.stack([hog(image[:side, :side], block_norm="L2-Hys", **options) for image in images]).astype(np.float32)
