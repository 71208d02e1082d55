"""dlib's 68 landmarks inside a face box, and the text file of section 3.2."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces.align import square_transform, warp
from fer_tf.filesystems import as_local
from fer_tf.resources import in_package

NUM_LANDMARKS = 68
# Where each iBUG point's mirror image stands in the list: jaw, brows, nose, nostrils, eyes, lips outside and inside.
MIRRORED_ORDER = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)
PACKAGED_MODEL = "shape_predictor_68_face_landmarks"


# What dlib's HOG detector draws, seen from MTCNN's box; fitted on faces where both find one.
_DOWN = 0.57  # the square's centre lies this share of the box's height below its top,
_SIDE = 0.97  # its side is this share of the mean of the box's width and height,
_TURN = 1.12  # and it moves towards where the nose points: this many times the nose's offset from the face's axis.

# Landmarks farther than this from MTCNN's are predicted again from squares of these sides; good fits of half poses
# stay below it 19 times of 20, front views always.
_DOUBTFUL = 0.04
_SECOND_LOOKS = (0.92, 0.85, 0.75)

# The crop by MTCNN's box and five points alone: its side is this share of the mean of the box's width and height. The
# median of 402 faces whose landmarks are trusted, film faces of five poses and rendered ones of four; nine of ten lie
# between 1.15 and 1.4.
_FACE_SIDE = 1.25
# Points are in doubt by their distance from MTCNN's five and this many times that from the mirror image's, both shares
# of the face's size. Chosen, with the limit, on 116 film faces and some rendered ones whose points were judged by eye
# (docs/recognition.md).
_MIRROR_WEIGHT = 2.0
MOST_DOUBT = 0.11

# Points are predicted on a patch of fixed scale: dlib gives whole pixels, which are coarse on a small face.
_PATCH, _SQUARE = 240, 150


def hog_square(box: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Returns centre, side and roll of the square that dlib's HOG detector would draw on a levelled face.

    dlib's predictor was trained on HOG boxes: squares from the brows to the chin, centred between the features.
    MTCNN's boxes hold the whole head, so on a half pose the features lie far off their centre, and the predictor,
    which starts from a mean face inside the box, does not find its way (`benchmarks/extraction.py` shows by how
    much). The nose tip's offset from the line between eyes and mouth tells how far the head is turned.

    Args:
      box: float (4,), MTCNN's x, y, width, height in pixels.
      keypoints: float (5, 2), MTCNN's eyes, nose tip and mouth corners.

    Returns:
      Centre float64 (2,) and side in pixels, roll in radians (positive when the image's right eye is lower).
    """
    x, y, width, height = (float(v) for v in box)
    roll = _roll(keypoints)
    level = np.array([np.cos(roll), np.sin(roll)])
    turned = float((keypoints[2].astype(np.float64) - keypoints[[0, 1, 3, 4]].mean(0)) @ level)
    centre = np.array([x + width / 2, y + height / 2])
    below = (_DOWN - 0.5) * height * np.array([-level[1], level[0]])
    return centre + _TURN * turned * level + below, _SIDE * (width + height) / 2, roll


def crop_square(box: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Returns centre, side and roll of about the square that `align.transform_of` cuts by 68 landmarks.

    Args:
      box: float (4,), MTCNN's x, y, width, height in pixels.
      keypoints: float (5, 2), MTCNN's eyes, nose tip and mouth corners.

    Returns:
      Centre float64 (2,) and side in pixels, roll in radians.
    """
    x, y, width, height = (float(v) for v in box)
    return np.array([x + width / 2, y + height / 2]), _FACE_SIDE * (width + height) / 2, _roll(keypoints)


def _roll(keypoints: np.ndarray) -> float:
    """How far a face leans, radians."""
    right_eye, left_eye, _, right_mouth, left_mouth = keypoints.astype(np.float64)
    across, down = left_eye - right_eye, (right_mouth + left_mouth - right_eye - left_eye) / 2
    # Eyes and mouth both tell the roll; at a half pose the eyes alone are close together and noisy.
    axis = across + np.array([down[1], -down[0]])
    return float(np.arctan2(axis[1], axis[0]))


@functools.lru_cache(maxsize=1)
def _loaded(path: str, _mtime_ns: int) -> Any:
    """dlib's predictor; a process that asks for it again need not read its 100 MB, which takes most of a second."""
    import dlib

    return dlib.shape_predictor(path)


class LandmarkPredictor:
    """Finds the 68 iBUG points of a face.

    Args:
      model: path of a dlib shape predictor with 68 points; empty for the packaged one.

    Attributes:
      name: the model's name and dlib's version.

    Raises:
      InputError: the file is missing, is no predictor, or gives another number of points.
    """

    def __init__(self, model: str = ""):
        import dlib

        path = as_local(model) or packaged_model()
        try:
            self._predictor = _loaded(path, os.stat(path).st_mtime_ns)
        except (OSError, RuntimeError) as error:
            raise InputError(f"`landmark_model` must be a dlib shape predictor file. Received: {path!r}.") from error
        low = (_PATCH - _SQUARE) // 2
        self._rectangle = dlib.rectangle(low, low, low + _SQUARE - 1, low + _SQUARE - 1)
        points = self._predictor(np.zeros((_PATCH, _PATCH), np.uint8), self._rectangle).num_parts
        if points != NUM_LANDMARKS:
            raise InputError(f"`landmark_model` {path!r} must give {NUM_LANDMARKS} points. Found: {points}.")
        self.name = os.path.basename(path).removesuffix(".dat") + f" (dlib {dlib.__version__})"

    def predict(self, rgb: np.ndarray, box: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the points, float32 (68, 2), in pixels of the image, and how doubtful they are.

        Points slide where half of a face is turned away. Neither of two signs tells alone: how far they lie from
        MTCNN's five, and how far from where the predictor finds them in the mirror image, which is as far as they
        are from what the picture shows (Yang and Patras, "Mirror, mirror on the wall, tell me, is the error small?",
        CVPR 2015).

        Args:
          rgb: uint8 (h, w, 3).
          box: float (4,), MTCNN's x, y, width, height.
          keypoints: float (5, 2), MTCNN's eyes, nose tip and mouth corners.

        Returns:
          The points, and a share of the face's size: above `MOST_DOUBT` they are not to be trusted.
        """

        points = self._best(rgb, box, keypoints)
        apart = float(np.linalg.norm(points - self._best(rgb, box, keypoints, in_mirror=True), axis=1).mean())
        return points, disagreement(points, keypoints, box) + _MIRROR_WEIGHT * apart / float(np.sqrt(box[2] * box[3]))

    def _best(self, rgb: np.ndarray, box: np.ndarray, keypoints: np.ndarray, in_mirror: bool = False) -> np.ndarray:
        """The points of the square, or of smaller ones around the same centre, that lie nearest to MTCNN's."""

        def off(points: np.ndarray) -> float:
            return disagreement(points, keypoints, box)

        centre, side, roll = hog_square(box, keypoints)
        points = self.predict_square(rgb, centre, side, roll, in_mirror)
        if off(points) <= _DOUBTFUL:
            return points
        # A mouth wide open stretches MTCNN's box, and the predictor may then settle on a frontal face beside it.
        others = [self.predict_square(rgb, centre, share * side, roll, in_mirror) for share in _SECOND_LOOKS]
        return min([points, *others], key=off)

    def predict_square(
        self, rgb: np.ndarray, centre: np.ndarray, side: float, roll: float = 0.0, in_mirror: bool = False
    ) -> np.ndarray:
        """Returns the points for a HOG-like square given by its centre, side (pixels) and roll (radians).

        Args:
          rgb: uint8 (h, w, 3).
          centre, side, roll: the square.
          in_mirror: whether they are found in the mirror image and mirrored back.
        """
        import cv2

        transform = square_transform(centre, side * _PATCH / _SQUARE, roll, _PATCH)
        patch = cv2.cvtColor(warp(rgb, transform, _PATCH), cv2.COLOR_RGB2GRAY)
        shown = np.ascontiguousarray(patch[:, ::-1]) if in_mirror else patch
        parts = self._predictor(shown, self._rectangle).parts()
        points = np.array([(point.x, point.y) for point in parts], np.float64)
        points = mirrored(points, _PATCH) if in_mirror else points
        return ((points - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T).astype(np.float32)


def disagreement(landmarks: np.ndarray, keypoints: np.ndarray, box: np.ndarray) -> float:
    """Returns how far dlib's eyes, nose tip and mouth corners lie from MTCNN's, as a share of the face's size.

    Args:
      landmarks: float (68, 2).
      keypoints: float (5, 2).
      box: float (4,), MTCNN's box.
    """
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    five = np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])
    return float(np.linalg.norm(five - keypoints, axis=1).mean() / np.sqrt(box[2] * box[3]))


def mirrored(landmarks: np.ndarray, width: int) -> np.ndarray:
    """Returns the points of the mirror image of a face, float32 (68, 2), in iBUG order.

    Args:
      landmarks: float (68, 2), pixels.
      width: of the image, pixels; the pixel at x goes to width - 1 - x.
    """
    points = landmarks[list(MIRRORED_ORDER)].astype(np.float32)
    points[:, 0] = width - 1 - points[:, 0]
    return points


def packaged_model() -> str:
    """Returns the path of the predictor of the package face_recognition_models; raises InputError without that."""
    return in_package("face_recognition_models", "models", f"{PACKAGED_MODEL}.dat")
