"""Magnitudes of Gabor wavelets (Lyons et al. 1998) at five wavelengths and eight orientations, pooled over a grid."""

from __future__ import annotations

import functools

import numpy as np

VERSION = 1
GRID = 6
# Pixels of a face 48 pixels wide; they grow with the face.
WAVELENGTHS = (3.0, 4.24, 6.0, 8.49, 12.0)
ORIENTATIONS = 8
BATCH = 16


def features(images: np.ndarray) -> np.ndarray:
    """Returns float32 (N, 40 * 6 * 6) of uint8 (N, S, S)."""
    import cv2

    scale = images.shape[1] / 48
    rows = []
    for start in range(0, len(images), BATCH):
        for found in magnitudes(images[start : start + BATCH], tuple(scale * length for length in WAVELENGTHS)):
            pooled = [cv2.resize(channel, (GRID, GRID), interpolation=cv2.INTER_AREA) for channel in found]
            rows.append(np.stack(pooled).ravel())
    return np.stack(rows).astype(np.float32)


def magnitudes(images: np.ndarray, wavelengths: tuple[float, ...]) -> np.ndarray:
    """Returns the responses' magnitudes, float32 (N, len(wavelengths) * 8, S, S); wavelength by wavelength.

    Args:
      images: uint8 (N, S, S); each is given mean 0 and variance 1 first, against light.
      wavelengths: pixels.
    """
    side = images.shape[1]
    margin = int(np.ceil(1.5 * max(wavelengths)))
    values = images.astype(np.float32)
    values -= values.mean((1, 2), keepdims=True)
    values /= values.std((1, 2), keepdims=True) + 1e-3
    padded = np.pad(values, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    spectra = np.fft.fft2(padded)[:, None] * _transfer(padded.shape[1], wavelengths)[None]
    found = np.abs(np.fft.ifft2(spectra))
    return found[..., margin : margin + side, margin : margin + side].astype(np.float32)


@functools.lru_cache(maxsize=4)
def _transfer(size: int, wavelengths: tuple[float, ...]) -> np.ndarray:
    """The kernels' spectra, complex64 (C, size, size), centred on the first pixel."""
    from skimage.filters import gabor_kernel

    found = []
    for wavelength in wavelengths:
        for number in range(ORIENTATIONS):
            kernel = gabor_kernel(1 / wavelength, theta=np.pi * number / ORIENTATIONS, bandwidth=1.0)
            # Without this, an even light would answer too.
            kernel = kernel - kernel.mean()
            height, width = (min(size, side) for side in kernel.shape)
            top, left = (kernel.shape[0] - height) // 2, (kernel.shape[1] - width) // 2
            canvas = np.zeros((size, size), np.complex64)
            canvas[:height, :width] = kernel[top : top + height, left : left + width]
            found.append(np.fft.fft2(np.roll(canvas, (-(height // 2), -(width // 2)), (0, 1))))
    return np.stack(found).astype(np.complex64)
