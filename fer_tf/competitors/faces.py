"""The faces that a method reads: grey squares in memory, with labels, persons and, for some, landmarks."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.data.inputs import FaceSet, Part, decode_image, evaluation_batches
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.landmarks import NUM_LANDMARKS

# Pictures below this side are face crops already; larger ones of sets that nobody aligned show hair and background.
UNALIGNED_SIDE = 128
# Where dlib's HOG detector sees the face of an aligned crop: from the brows to the chin.
CROP_CENTRE, CROP_SQUARE = (128.0, 150.0), 168.0


@dataclass(frozen=True)
class Faces:
    """Some faces.

    Attributes:
      images: uint8 (N, S, S), grey.
      labels: int64 (N,).
      persons: str (N,); empty where unknown.
      landmarks: float32 (N, 68, 2), pixels of the S x S images; None when nobody asked for them.
      whole: the faces that these are rows of, and which; what is measured of a face is measured once, on the whole.
    """

    images: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    landmarks: np.ndarray | None = None
    whole: tuple[Faces, np.ndarray] | None = field(default=None, repr=False)
    _measured: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: np.ndarray) -> Faces:
        """Returns some faces alone (bool mask or indices)."""
        points = None if self.landmarks is None else self.landmarks[chosen]
        return Faces(self.images[chosen], self.labels[chosen], self.persons[chosen], points, (self, chosen))

    def measured(self, name: str, measure: Callable[[Faces], np.ndarray]) -> np.ndarray:
        """Returns what is measured of each face alone, (N, ...), measured once for all faces that these came from."""
        if self.whole:
            faces, chosen = self.whole
            return faces.measured(name, measure)[chosen]
        if name not in self._measured:
            self._measured[name] = measure(self)
        return self._measured[name]


def joined(parts: Sequence[Faces]) -> Faces:
    """Returns several parts as one, in their order."""
    points = None if parts[0].landmarks is None else np.concatenate([part.landmarks for part in parts])
    images, labels, persons = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels", "persons")
    )
    return Faces(images, labels, persons, points)


@dataclass(frozen=True)
class View:
    """How a set's pictures become faces: the same for all its parts and all methods.

    Attributes:
      side: of the faces, pixels.
      align: whether faces are found and levelled first, as `beam_pipelines.build` does.
      landmarks: whether the 68 points are found.
    """

    side: int
    align: bool
    landmarks: bool

    def read(self, part: Part) -> Faces:
        """Returns a part's faces in the table's order.

        A picture in which no face is found is taken whole, and counted in the log.
        """
        persons = part.persons.astype(str)
        if not (self.align or self.landmarks):
            images = [_uint8(batch)[..., 0] for batch in _pictures(part, self.side, 1)]
            return Faces(_stacked(images, (self.side, self.side)), part.labels, persons)
        crops, points = self._found(part)
        resized = [_resized(crop, self.side) for crop in crops]
        stacked = np.stack(resized) if resized else np.zeros((0, self.side, self.side))
        scaled = _stacked([points], (NUM_LANDMARKS, 2)) * np.float32(self.side / FACE_SIZE)
        return Faces(stacked.astype(np.uint8), part.labels, persons, scaled if self.landmarks else None)

    def _found(self, part: Part) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Crops, uint8 (256, 256, 3), and their points, float32 (68, 2)."""
        predictor, find = _predictor(), _aligner() if self.align else None
        crops, points, missing = [], [], 0
        for batch in _pictures(part, FACE_SIZE, 3):
            for picture in _uint8(batch):
                crop, face_points = find(picture) if find else (None, None)
                if crop is None:
                    missing += self.align
                    crop = picture
                    face_points = predictor.predict_square(crop, np.array(CROP_CENTRE), CROP_SQUARE)
                crops.append(crop)
                points.append(face_points)
        if missing:
            logging.warning("no face was found in %d of %d pictures; they are taken whole", missing, len(part))
        return crops, points


def view_of(faces: FaceSet, side: int, landmarks: bool) -> View:
    """Returns how a set's pictures are read.

    Args:
      faces: the set.
      side: of the faces, pixels; 0 takes 48 for pictures that are as small, 96 for those that have to be aligned, 64
        for a data folder's.
      landmarks: whether the 68 points are needed.
    """
    encoded, _ = next(iter(faces.parts["train"].encoded().take(1).as_numpy_iterator()))
    smallest = min(decode_image(encoded).shape[:2])
    align = faces.landmark_model == "none" and smallest >= UNALIGNED_SIDE
    usual = 96 if align else 48 if smallest < UNALIGNED_SIDE else 64
    return View(side or usual, align, landmarks)


def _pictures(part: Part, side: int, channels: int) -> Any:
    batches = evaluation_batches(part, image_size=side, channels=channels, crop=1.0)
    return (images for images, _ in batches.as_numpy_iterator())


def _uint8(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round(images * 255), 0, 255).astype(np.uint8)


def _stacked(batches: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(
        [np.asarray(batch).reshape(-1, *shape) for batch in batches] or [np.zeros((0, *shape), np.uint8)]
    )


def _resized(crop: np.ndarray, side: int) -> np.ndarray:
    import cv2

    return cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)


@functools.cache
def _predictor() -> Any:
    from fer_tf.faces.landmarks import LandmarkPredictor

    return LandmarkPredictor()


@functools.cache
def _aligner() -> Any:
    from fer_tf.faces.extractor import FaceExtractor

    extractor = FaceExtractor()

    def find(picture: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        found = [face for face in extractor.faces_in_image(picture, smallest=0.3) if face.landmarks_trusted]
        return (found[0].image, found[0].landmarks) if found else (None, None)

    return find
