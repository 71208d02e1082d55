"""Finds the faces of a clip's frames with few full detections: a face is followed from frame to frame.

A full MTCNN pass costs more than ten times its output network alone. So one frame in a few is searched in full;
in the others the output network looks where the face was, and a frame in which it is not sure is searched again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_tf.faces.boxes import overlap
from fer_tf.faces.detect import Detections, FaceDetector, nothing, shrunk

# Frames worked on together; also the distance between two full searches of a clip in which no face is lost.
CHUNK = 8
# Long sides (pixels) at which a clip is searched until a face shows: a face needs 20 pixels to be found.
SIDES = (256, 576, 1280)
# The second look starts from the first one's box and mends what the motion between frames displaced.
LOOKS = 2
# A followed face that moved farther than this (share of its side) may be another one: search the frame again.
FARTHEST = 0.6


class ClipFinder:
    """Finds faces in the frames of one clip, chunk by chunk in order of time.

    Args:
      detector: the detector.
      min_score: the confidence that a face needs, 0 to 1.
      sides: long sides in pixels, growing, at which a frame is searched until a face shows.
    """

    def __init__(self, detector: FaceDetector, min_score: float, sides: Sequence[int] = SIDES):
        self._detector, self._min_score, self._sides = detector, min_score, tuple(sides)
        self._level = 0
        self._last: Detections = nothing()

    def find(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Returns each frame's faces, surest first, in pixels of the frame.

        Args:
          frames: uint8 (h, w, 3) each, equally large, at most about CHUNK of them.
        """
        side = max(frames[0].shape[:2])
        first = self._search_until_found(frames[0], side)
        scale = self._scale(side)
        small = np.stack([shrunk(frame, scale) for frame in frames])
        source = (first if len(first) else self._last).scaled(scale)
        found = [first.scaled(scale), *self._follow(small[1:], source)]
        missing = [number for number, faces in enumerate(found) if number and len(faces) < max(1, len(source))]
        for number, faces in zip(missing, self._search(small[missing]), strict=True):
            found[number] = _merged(found[number], faces)
        self._fill_gaps(small, found)
        found = [faces.scaled(1 / scale) for faces in found]
        self._last = next((faces for faces in reversed(found) if len(faces)), self._last)
        return found

    def _scale(self, side: int) -> float:
        return min(1.0, self._sides[self._level] / side)

    def _search_until_found(self, frame: np.ndarray, side: int) -> Detections:
        """Searches one frame at growing sizes; the size that showed a face is the clip's from then on."""
        start = self._level
        for level in range(start, len(self._sides)):
            self._level = level
            scale = self._scale(side)
            faces = self._search(shrunk(frame, scale)[None])[0]
            if len(faces):
                return faces.scaled(1 / scale)
            if scale == 1.0:
                break
        self._level = start
        return nothing()

    def _search(self, images: np.ndarray) -> list[Detections]:
        if not len(images):
            return []
        return [faces.above(self._min_score) for faces in self._detector.detect(images)]

    def _follow(self, images: np.ndarray, source: Detections) -> list[Detections]:
        """Looks in each image for each face of `source`; a face that cannot be confirmed is left out."""
        found: list[list[Detections]] = [[] for _ in images]
        for start in source.boxes if len(images) else ():
            boxes, alive = np.tile(start, (len(images), 1)), np.arange(len(images))
            for look in range(LOOKS):
                faces = self._detector.verify(images[alive], boxes[alive])
                sure = [len(face) == 1 and _near(face.boxes[0], start) for face in faces]
                alive = alive[sure]
                faces = [face for face, keep in zip(faces, sure, strict=True) if keep]
                for number, face in zip(alive, faces, strict=True):
                    boxes[number] = face.boxes[0]
                    if look == LOOKS - 1 and face.scores[0] >= max(self._min_score, 0.9):
                        found[number].append(face)
                if not len(alive):
                    break
        return [_joined(faces) for faces in found]

    def _fill_gaps(self, images: np.ndarray, found: list[Detections]) -> None:
        """Looks in frames without a face where the nearest frame with one has it."""
        filled = [number for number, faces in enumerate(found) if len(faces)]
        for number, faces in enumerate(found):
            if not len(faces) and filled:
                nearest = min(filled, key=lambda other: abs(other - number))
                found[number] = self._follow(images[number : number + 1], found[nearest])[0]


def _near(box: np.ndarray, start: np.ndarray) -> bool:
    moved = np.abs(box[:2] + box[2:] / 2 - start[:2] - start[2:] / 2).max()
    return bool(moved < FARTHEST * start[2:].max() and 0.5 < box[3] / start[3] < 2)


def _joined(faces: Sequence[Detections]) -> Detections:
    """Several faces of one image as one; two that followed onto the same face become the surer one."""
    kept: list[Detections] = []
    for face in sorted(faces, key=lambda face: -face.scores[0]):
        if all(overlap(face.boxes[0], other.boxes[0]) < 0.5 for other in kept):
            kept.append(face)
    if not kept:
        return nothing()
    return Detections(*(np.concatenate([getattr(f, name) for f in kept]) for name in ("boxes", "scores", "keypoints")))


def _merged(followed: Detections, searched: Detections) -> Detections:
    return _joined([*followed.each(), *searched.each()])
