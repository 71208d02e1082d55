"""How a head is turned, from its 68 landmarks."""

from __future__ import annotations

import numpy as np

HEAD_POSE = ("yaw", "pitch", "roll")
# Points that the skull holds in place, and the mouth's corners: the chin would tell an open mouth as a nod.
_POINTS = (36, 39, 42, 45, 27, 30, 31, 33, 35, 48, 54)
_EYES, _MOUTH = slice(0, 4), slice(9, 11)
# A mean adult's, millimetres from the nose's root: x to the image's right, y down, z away from the camera. Widths and
# heights are rounded means of published anthropometry: 90 mm between the outer and 32 mm between the inner eye corners,
# 50 mm from the nose's root to its base, nostrils 34 mm and mouth 50 mm wide, a nose 20 mm deep.
_HEAD = np.array(
    [
        (-45.0, 3.0, 24.0),
        (-16.0, 5.0, 14.0),
        (16.0, 5.0, 14.0),
        (45.0, 3.0, 24.0),
        (0.0, 0.0, 0.0),
        (0.0, 40.0, -20.0),
        (-15.0, 47.0, 0.0),
        (0.0, 50.0, -4.0),
        (15.0, 47.0, 0.0),
        (-25.0, 73.0, 7.0),
        (25.0, 73.0, 7.0),
    ]
)
# How many of its own sizes a face is away from the camera: pictures do not tell, and the angles hardly depend on it.
_FAR = 6.0


def head_pose(landmarks: np.ndarray) -> tuple[float, float, float]:
    """Returns yaw, pitch and roll in degrees, relative to the line from the camera to the face.

    Yaw is positive when the face looks to the image's right, pitch when it looks up, and roll when it leans to the
    image's right. The points are matched with a mean head, so a person's own pitch has an offset of some degrees;
    on profiles, where dlib's points slide, the angles are rough.

    Args:
      landmarks: float (68, 2), iBUG order, in pixels of a frame or a crop.
    """
    import cv2

    points = np.asarray(landmarks, np.float64)[list(_POINTS)]
    centre = points.mean(0)
    size = float(np.linalg.norm(points - centre, axis=1).mean())
    if not np.isfinite(size) or size <= 0:
        return (float("nan"),) * 3
    # In units of the face, so that focal length and distance are round numbers.
    flat = (points - centre) / size
    # The solver finds heads that stand about upright: others are turned so before, by quarters, and back afterwards.
    x, y = points[_MOUTH].mean(0) - points[_EYES].mean(0)
    angle = round(np.arctan2(-x, y) / (np.pi / 2)) * np.pi / 2
    back, _ = cv2.Rodrigues(np.array([0.0, 0.0, angle]))
    flat = flat @ back[:2, :2]
    unit = float(np.linalg.norm(_HEAD - _HEAD.mean(0), axis=1).mean())
    head = (_HEAD - _HEAD.mean(0)) / unit
    camera = np.diag((_FAR, _FAR, 1.0))
    # The start sees the face from the front: the mirror image behind the camera fits as well.
    start = np.zeros((3, 1)), np.array([[0.0], [0.0], [_FAR]])
    _, turn, _ = cv2.solvePnP(head, flat, camera, None, *start, True, cv2.SOLVEPNP_ITERATIVE)
    rotation = back @ cv2.Rodrigues(turn)[0]
    # Where the nose points, and how the line between the eyes lies.
    ahead, across = -rotation[:, 2], rotation[:, 0]
    yaw = np.degrees(np.arctan2(ahead[0], -ahead[2]))
    pitch = np.degrees(np.arcsin(np.clip(-ahead[1], -1, 1)))
    roll = np.degrees(np.arctan2(across[1], across[0]))
    return float(yaw), float(pitch), float(roll)
