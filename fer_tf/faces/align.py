"""From a face in a frame to the 256 x 256 crop, its landmarks and its mask (sections 3.1 and 3.2)."""

from __future__ import annotations

import numpy as np

FACE_SIZE = 256

# The contours of section 3.2 in iBUG order: first point, end, closed.
CONTOURS = (
    (0, 17, False),  # jaw
    (17, 22, False),  # right brow of the person, left in the image
    (22, 27, False),
    (27, 31, False),  # bridge of the nose
    (31, 36, False),  # nostrils
    (36, 42, True),  # eyes
    (42, 48, True),
    (48, 60, True),  # lips, outer and inner
    (60, 68, True),
)


def transform_of(landmarks: np.ndarray, size: int = FACE_SIZE) -> np.ndarray:
    """Returns the rotation, scale and shift (2 x 3) that level the eyes and centre the face.

    The crop's side comes from the extents of the whole face, because the distance of the eyes shrinks when a
    head turns and would blow half poses up.

    Args:
      landmarks: float (68, 2), pixels of the frame.
      size: the crop's side, pixels.
    """
    points = landmarks.astype(np.float64)
    right, left = points[36:42].mean(0), points[42:48].mean(0)
    dx, dy = left - right
    norm = max(float(np.hypot(dx, dy)), 1e-6)
    rotation = np.array([[dx, dy], [-dy, dx]]) / norm
    turned = points @ rotation.T
    low, high = turned.min(0), turned.max(0)
    # The points end at the brows: a third of their height more holds the forehead.
    top = low[1] - 0.3 * (high[1] - low[1])
    side = max(1.12 * (high[1] - top), 1.12 * (high[0] - low[0]), 1e-6)
    centre = np.array([(low[0] + high[0]) / 2, (top + high[1]) / 2])
    scale = size / side
    return np.hstack([rotation * scale, (size / 2 - scale * centre)[:, None]])


def square_transform(centre: np.ndarray, side: float, roll: float = 0.0, size: int = FACE_SIZE) -> np.ndarray:
    """Returns the transform (2 x 3) that cuts a square out of a frame.

    Args:
      centre: float (2,), pixels of the frame.
      side: the square's side, pixels of the frame.
      roll: how far it is turned, radians, positive clockwise.
      size: the crop's side, pixels.
    """
    scale = size / max(side, 1e-6)
    cos, sin = scale * np.cos(roll), scale * np.sin(roll)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([turn, size / 2 - turn @ centre])


def scaled(transform: np.ndarray, scale: float) -> np.ndarray:
    """Returns the transform for points that are first multiplied by a scale."""
    return np.column_stack([transform[:, :2] * scale, transform[:, 2]])


def apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns points (n, 2) moved by a 2 x 3 transform, float32."""
    return (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)


def warp(rgb: np.ndarray, transform: np.ndarray, size: int = FACE_SIZE) -> np.ndarray:
    """Returns the crop, uint8 (size, size, 3); what lies outside the frame is black.

    Args:
      rgb: uint8 (h, w, 3).
      transform: 2 x 3, frame to crop.
      size: the crop's side, pixels.
    """
    import cv2

    scale = float(np.hypot(*transform[0, :2]))
    if scale < 0.5:
        # Bilinear sampling would skip pixels: shrink with averaging first, on the part that the crop shows.
        rgb, transform = _shrunk(rgb, transform, size, scale)
    return cv2.warpAffine(rgb, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _shrunk(rgb: np.ndarray, transform: np.ndarray, size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], float)
    corners = (corners - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T
    limit = np.array(rgb.shape[1::-1])
    low = np.floor(corners.min(0) - 2 / scale).clip(0, limit - 1).astype(int)
    high = np.ceil(corners.max(0) + 2 / scale).clip(low + 1, limit).astype(int)
    part = rgb[low[1] : high[1], low[0] : high[0]]
    target = np.maximum(1, np.round((high - low) * scale)).astype(int)
    factor = target / (high - low)
    part = cv2.resize(part, (int(target[0]), int(target[1])), interpolation=cv2.INTER_AREA)
    # Pixel centres: x becomes (x - low + 0.5) * factor - 0.5.
    back = np.diag(1 / factor)
    offset = low - 0.5 + 0.5 / factor
    return part, np.column_stack([transform[:, :2] @ back, transform[:, :2] @ offset + transform[:, 2]])


def draw_mask(landmarks: np.ndarray, size: int = FACE_SIZE) -> np.ndarray:
    """Returns the mask of section 3.2: the contours as white lines on black, uint8 (size, size).

    Args:
      landmarks: float (68, 2), pixels of a FACE_SIZE crop, whatever `size` is.
      size: the mask's side, pixels.
    """
    import cv2

    mask = np.zeros((size, size), np.uint8)
    fixed = np.round((landmarks * (size / FACE_SIZE)).clip(-size, 2 * size) * 16).astype(np.int32)
    for start, end, closed in CONTOURS:
        line = fixed[start:end].reshape(-1, 1, 2)
        cv2.polylines(mask, [line], closed, 255, max(1, round(size / 128)), cv2.LINE_AA, shift=4)
    return mask
