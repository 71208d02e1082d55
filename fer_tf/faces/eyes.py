"""The seven eye features of section 3.2: brows and lids from the landmarks, wrinkles from edges in the aligned face.

The paper names the features (after Lee and Anderson) and gives no formulas; these are this project's. All lengths are
divided by the face's scale

    s = sqrt(|p45 - p36| * |p33 - p27|)

the geometric mean of the distance of the outer eye corners and of the nose's length, neither of which an expression
moves much; a turned head shortens the first, a nodding one the second. Points are first rotated so that the line
between the eye centres is level; y points down. Brow features are means over both brows, i = 17..21 and 22..26.

    brow_slope      slope of the least-squares line through a brow's five points, positive when its inner end is low
                    (anger) and negative when it is high (sadness)
    brow_curve      mean height of a brow's three inner points over the chord of its ends, by the chord's length;
                    positive when arched
    brow_distance   height of a brow's middle over the eye's centre, by s (the gap between brow and eye)
    eye_aperture    mean of |p37 - p41|, |p38 - p40| and the other eye's, by s
    temporal_wrinkles, below_eye_wrinkles, nasal_wrinkles
                    mean length of the grey values' gradient in a patch, by its mean over the whole face (so 1 is as
                    much edge as the face has on average, in any light). The patches: beside the outer eye corners,
                    under the lower lids, and the root of the nose between the brows. Smoothing with a Gaussian of
                    0.015 s first makes the measure the same for large and small faces.

On a half pose, a patch that leaves the picture or the face's outline is left out and the other side stands for both;
a feature without any patch is nan.
"""

from __future__ import annotations

import numpy as np

from fer_tf.errors import InputError

FEATURES = (
    "temporal_wrinkles",
    "below_eye_wrinkles",
    "nasal_wrinkles",
    "brow_slope",
    "brow_curve",
    "brow_distance",
    "eye_aperture",
)
SMOOTHING = 0.015
# At least this share of a patch must lie on the face to be measured.
MIN_VISIBLE = 0.6


def eye_features(landmarks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns the seven features in the order of `FEATURES`, float64 (7,).

    Args:
      landmarks: float (68, 2), iBUG order, pixels of the image.
      image: uint8 (H, W) or (H, W, 3) RGB, the aligned face.

    Raises:
      InputError: when there are not 68 points, or eyes or nose have no extent.
    """
    points = levelled(landmarks)
    scale = face_scale(points)
    return np.array([*wrinkles(np.asarray(landmarks, float), image), *brow_and_lid(points, scale)])


def levelled(landmarks: np.ndarray) -> np.ndarray:
    """Returns the points turned so that the line between the eye centres is level, float64 (68, 2)."""
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise InputError(f"`landmarks` must be 68 points with finite x and y. Received: shape {points.shape}.")
    dx, dy = points[42:48].mean(0) - points[36:42].mean(0)
    length = np.hypot(dx, dy)
    if length == 0:
        raise InputError("`landmarks` put both eyes at one place: no face can be measured.")
    return points @ np.array([[dx, -dy], [dy, dx]]) / length


def face_scale(points: np.ndarray) -> float:
    """Returns s of this module's description, pixels."""
    scale = float(np.sqrt(np.linalg.norm(points[45] - points[36]) * np.linalg.norm(points[33] - points[27])))
    if scale <= 0:
        raise InputError("`landmarks` give eyes or nose no extent: no face can be measured.")
    return scale


def brow_and_lid(points: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    """Returns brow slope, brow curve, brow distance and eye aperture of levelled points."""
    # Left to right in the image; the inner end is the right one of the first brow and the left one of the second.
    brows, eyes = (points[17:22], points[22:27]), (points[36:42], points[42:48])
    slopes = [sign * _slope(brow) for sign, brow in zip((1, -1), brows, strict=True)]
    distances = [eye[:, 1].mean() - brow[2, 1] for brow, eye in zip(brows, eyes, strict=True)]
    apertures = [np.linalg.norm(eye[1] - eye[5]) + np.linalg.norm(eye[2] - eye[4]) for eye in eyes]
    return (
        float(np.mean(slopes)),
        float(np.mean([_arch(brow) for brow in brows])),
        float(np.mean(distances)) / scale,
        float(np.mean(apertures)) / 2 / scale,
    )


def _slope(brow: np.ndarray) -> float:
    x, y = (brow - brow.mean(0)).T
    return float(x @ y / max(x @ x, 1e-9))


def _arch(brow: np.ndarray) -> float:
    start, end = brow[0], brow[-1]
    along = end - start
    length = max(float(np.hypot(*along)), 1e-9)
    inner = brow[1:4] - start
    # Distance from the chord, positive on the upper side (y points down).
    return float(np.mean(along[1] * inner[:, 0] - along[0] * inner[:, 1])) / length**2


def wrinkles(landmarks: np.ndarray, image: np.ndarray) -> tuple[float, float, float]:
    """Returns temporal, below-eye and nasal wrinkles: each patch's edge energy by the face's.

    Args:
      landmarks: float (68, 2), pixels of the image, not levelled.
      image: uint8 (H, W) or (H, W, 3) RGB.
    """
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), max(SMOOTHING * face_scale(landmarks), 0.3))
    edges = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    face = np.zeros(grey.shape, np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(landmarks.round().astype(np.int32)), 1)
    average = float(edges[face > 0].mean()) if face.any() else 0.0
    if average == 0:
        return (float("nan"),) * 3
    energies = []
    for polygons in patches(landmarks):
        found = [value for polygon in polygons if (value := _energy(edges, face, polygon)) is not None]
        energies.append(float(np.mean(found)) / average if found else float("nan"))
    return tuple(energies)


def patches(landmarks: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Returns the corners, float (4, 2), of the temporal, the below-eye and the nasal patches."""
    scale = face_scale(landmarks)
    temporal, below = [], []
    for outer, inner, lid in ((36, 39, (40, 41)), (45, 42, (46, 47))):
        across = landmarks[outer] - landmarks[inner]
        across = across / max(float(np.hypot(*across)), 1e-9)
        down = np.array([-across[1], across[0]])
        down = down if down[1] >= 0 else -down
        start = landmarks[outer] + 0.08 * scale * across
        temporal.append(_box(start - 0.12 * scale * down, 0.22 * scale * across, 0.26 * scale * down))
        lower = landmarks[list(lid)].mean(0) + 0.09 * scale * down
        half = 0.5 * (landmarks[outer] - landmarks[inner])
        below.append(_box(lower - half, 2 * half, 0.18 * scale * down))
    corners = landmarks[42] - landmarks[39]
    down = landmarks[30] - landmarks[27]
    down = down / max(float(np.hypot(*down)), 1e-9)
    root = landmarks[27] - 0.16 * scale * down - 0.3 * corners
    return temporal, below, [_box(root, 0.6 * corners, 0.3 * scale * down)]


def _box(corner: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    return np.stack([corner, corner + across, corner + across + down, corner + down])


def _energy(edges: np.ndarray, face: np.ndarray, polygon: np.ndarray) -> float | None:
    """Mean edge of the part of a patch that lies on the face; None when too little of it does."""
    import cv2

    inside = np.zeros(edges.shape, np.uint8)
    cv2.fillConvexPoly(inside, polygon.round().astype(np.int32), 1)
    x, y = polygon.T
    area = 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))
    visible = (inside & face).astype(bool)
    return float(edges[visible].mean()) if visible.sum() >= max(MIN_VISIBLE * area, 1) else None
