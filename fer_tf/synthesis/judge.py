"""Whether a generated face may be used: a face is seen in it, its points are where they shall be, and who it is.

dlib is the judge: its detector, its 68 points and its descriptor. The descriptor runs in TensorFlow for all faces of a
batch (`identity`); the others cost a core some 15 ms a face, which worker processes share.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.landmarks import LandmarkPredictor
from fer_tf.synthesis.identity import CHIP_SIZE, packaged_network

# Below this distance dlib's descriptors are of one person (the model's documentation).
SAME_PERSON = 0.6
# Border around a crop, as a share of its side: the detector looks for a face with some room around it.
DETECTION_MARGIN = 0.25
# A first look at half the side costs a quarter. A face with this score there has one above 0 at the full side.
FIRST_LOOK, SURE = 0.5, 0.5
# Room around a face in its chip, as a share of the face: what dlib's descriptor was trained with.
CHIP_PADDING = 0.25


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
      processes: how many share the detector's and the predictor's work; 1 does it in this one.

    Attributes:
      landmark_model: name and version of the predictor, as records name theirs.

    Raises:
      InputError: when a model file is missing.
    """

    def __init__(self, landmark_model: str = "", processes: int = 1) -> None:
        self._eyes = Eyes(landmark_model)
        self.landmark_model = self._eyes.landmark_model
        self._identity = packaged_network()
        self._pool: concurrent.futures.Executor | None = None
        if processes > 1:
            # Spawned, not forked: TensorFlow's threads do not survive a fork. The workers never load TensorFlow.
            self._pool = concurrent.futures.ProcessPoolExecutor(
                processes, multiprocessing.get_context("spawn"), _begin_worker, (landmark_model,)
            )

    def close(self) -> None:
        """Ends the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def finds_face(self, face: np.ndarray) -> bool:
        """Whether dlib's detector sees a face in a crop, uint8 (256, 256, 3)."""
        return self._eyes.finds_face(face)

    def landmarks(self, face: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Returns the 68 points of a face, float32 (68, 2).

        Args:
          face: uint8 (256, 256, 3).
          near: float (68, 2), where they are expected; gives the square to look in, nothing else.
        """
        return self._eyes.landmarks(face, near)

    def descriptors(self, faces: Sequence[np.ndarray], landmarks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns dlib's descriptors of who the faces are, float32 (N, 128).

        Args:
          faces: uint8 (256, 256, 3) each.
          landmarks: float (68, 2) each, their points.
        """
        return self._of_chips([chip_of(*pair) for pair in zip(faces, landmarks, strict=True)])

    def measure(
        self, identities: np.ndarray, generated: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
    ) -> list[FaceMeasure]:
        """Measures generated faces.

        Args:
          identities: float (N, 128), the descriptor of each one's source, whose person it shall be.
          generated: N of uint8 (S, S, 3) with any S.
          wanted: N of float (68, 2), where their points shall be, pixels of a 256 x 256 crop.
        """
        seen = list(self._look(generated, wanted))
        # Cut at the wanted points: a pose whose points were missed is counted as that, not as another person too.
        found = self._of_chips([chip for _, _, chip in seen])
        distances = np.linalg.norm(identities - found, axis=1)
        return [
            FaceMeasure(is_face, error, float(distance))
            for (is_face, error, _), distance in zip(seen, distances, strict=True)
        ]

    def _look(self, faces: Iterable[np.ndarray], wanted: Iterable[np.ndarray]) -> Iterator[_Sight]:
        if self._pool is None:
            return map(self._eyes.look, faces, wanted)
        return self._pool.map(_look_in_worker, faces, wanted, chunksize=8)

    def _of_chips(self, chips: list[np.ndarray]) -> np.ndarray:
        return self._identity(np.array(chips).reshape(-1, CHIP_SIZE, CHIP_SIZE, 3))


# Whether a face is seen, its landmark error, and its chip.
_Sight = tuple[bool, float, np.ndarray]


class Eyes:
    """What dlib sees in a face, without its descriptor."""

    def __init__(self, landmark_model: str) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()
        self._predictor = LandmarkPredictor(landmark_model)
        self.landmark_model = self._predictor.name

    def look(self, generated: np.ndarray, wanted: np.ndarray) -> _Sight:
        """Returns whether a face is found, how far its points are from the wanted ones, and the chip that says who.

        Args:
          generated: uint8 (S, S, 3), RGB; enlarged to a crop's size first.
          wanted: float32 (68, 2), pixels of a crop of 256 pixels.
        """
        face = enlarge(generated)
        return self.finds_face(face), landmark_error(self.landmarks(face, wanted), wanted), chip_of(face, wanted)

    def finds_face(self, face: np.ndarray) -> bool:
        """Returns whether dlib's detector finds a face in a crop, uint8 (256, 256, 3), RGB."""
        import cv2

        margin = round(DETECTION_MARGIN * face.shape[0])
        # The detector is made for whole scenes: edge pixels go on outside of the crop.
        padded = np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        small = cv2.resize(padded, None, fx=FIRST_LOOK, fy=FIRST_LOOK, interpolation=cv2.INTER_AREA)
        return bool(self._detector.run(small, 0, SURE)[0]) or bool(self._detector(padded, 0))

    def landmarks(self, face: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Returns a face's points, float32 (68, 2), pixels of the crop.

        Args:
          face: uint8 (256, 256, 3), RGB.
          near: float32 (68, 2), pixels of the crop: where they are expected; gives the square to look in, nothing else.
        """
        return self._predictor.predict_square(np.ascontiguousarray(face), *face_square(near))


_worker_eyes: Eyes | None = None


def _begin_worker(landmark_model: str) -> None:
    global _worker_eyes
    _worker_eyes = Eyes(landmark_model)


def _look_in_worker(generated: np.ndarray, wanted: np.ndarray) -> _Sight:
    assert _worker_eyes is not None
    return _worker_eyes.look(generated, wanted)


def chip_of(face: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Returns what dlib's descriptor looks at, uint8 (150, 150, 3).

    Args:
      face: uint8 (256, 256, 3).
      landmarks: float (68, 2), its points.
    """
    import dlib

    (x, y), side = face_square(landmarks)
    square = dlib.rectangle(*(round(float(v)) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    points = dlib.points([dlib.point(round(float(px)), round(float(py))) for px, py in landmarks])
    shape = dlib.full_object_detection(square, points)
    return dlib.get_face_chip(np.ascontiguousarray(face), shape, CHIP_SIZE, CHIP_PADDING)


def enlarge(face: np.ndarray) -> np.ndarray:
    """Returns a face, uint8 (S, S, 3), at the records' 256 x 256."""
    import cv2

    if face.shape[0] == FACE_SIZE:
        return face
    return cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC)


def to_uint8(images: Any) -> np.ndarray:
    """Returns a generator's images, float (B, S, S, 3), values -1 to 1, as uint8."""
    return np.clip(np.round((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
