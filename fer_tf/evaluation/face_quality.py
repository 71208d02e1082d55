"""How close generated faces are to real ones, as numbers: pixels, structure, spread, distance of features."""

from __future__ import annotations

import numpy as np

from fer_tf.errors import InputError

# One sample has no covariance.
MIN_FRECHET_SAMPLES = 2


def l1(target: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean absolute difference of two batches of faces, uint8 (B, S, S, 3), in grey levels 0 to 255."""
    return float(np.mean(np.abs(target.astype(np.float32) - generated.astype(np.float32))))


def ssim(target: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean structural similarity (Wang et al. 2004) of two uint8 batches (B, S, S, 3), -1 to 1."""
    import tensorflow as tf

    # The window shrinks with small faces: the published 11 x 11 needs an image of at least that side.
    window = min(11, target.shape[1])
    return float(tf.reduce_mean(tf.image.ssim(target, generated, 255, filter_size=window)))


def spread(faces: np.ndarray) -> float:
    """Returns how much the faces of a batch differ: the mean over pixels of the standard deviation over the batch.

    A generator that gives the same face whatever goes in has a spread near 0.

    Args:
      faces: uint8 or float (B, S, S, 3).
    """
    return float(np.std(faces.astype(np.float32), axis=0).mean())


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the Fréchet distance of two sets of features seen as Gaussians (Heusel et al. 2017).

    Args:
      first: float (N, D).
      second: float (M, D).

    Raises:
      InputError: when a set has fewer than two samples.
    """
    for features in (first, second):
        if len(features) < MIN_FRECHET_SAMPLES:
            raise InputError(f"a Fréchet distance needs at least 2 samples a set. Received: {len(features)}.")
    first, second = first.astype(np.float64), second.astype(np.float64)
    gap = first.mean(0) - second.mean(0)
    cov_1, cov_2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    cov_1, cov_2 = np.atleast_2d(cov_1), np.atleast_2d(cov_2)
    # tr sqrt(C1 C2) = tr sqrt(sqrt(C1) C2 sqrt(C1)), whose argument is symmetric: no complex numbers arise.
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_2 @ root), 0, None)).sum()
    return float(gap @ gap + np.trace(cov_1) + np.trace(cov_2) - 2 * cross)
