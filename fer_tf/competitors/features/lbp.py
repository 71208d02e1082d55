"""Local binary patterns (Ojala et al. 2002; for faces Ahonen et al. 2006): histograms of uniform codes over a grid."""

from __future__ import annotations

import itertools

import numpy as np

VERSION = 1
GRID = 7
# 58 uniform patterns of 8 neighbours, and one code for all others.
NEIGHBOURS, CODES = 8, 59


def codes(image: np.ndarray, radius: int = 1) -> np.ndarray:
    """Returns the code of each pixel, int64 (H, W), 0 to 58, of a grey uint8 image."""
    from skimage.feature import local_binary_pattern

    return local_binary_pattern(image, NEIGHBOURS, radius, method="nri_uniform").astype(np.int64)


def histogram(found: np.ndarray) -> np.ndarray:
    """Returns how often each code stands in a patch, float32 (59,), as a share."""
    return np.bincount(found.ravel(), minlength=CODES).astype(np.float32) / max(1, found.size)


def features(images: np.ndarray) -> np.ndarray:
    """Returns float32 (N, 7 * 7 * 59) of uint8 (N, S, S): the square roots of the cells' histograms."""
    side = images.shape[1]
    edges = np.linspace(0, side, GRID + 1).round().astype(int)
    rows = []
    for image in images:
        found = codes(image, max(1, side // 48))
        cells = [
            histogram(found[top:bottom, left:right])
            for top, bottom in itertools.pairwise(edges)
            for left, right in itertools.pairwise(edges)
        ]
        rows.append(np.sqrt(np.concatenate(cells)))
    return np.stack(rows).astype(np.float32)
