"""One recognised face, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fer_tf.faces import align, eyes
from fer_tf.faces.extractor import AlignedFace
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.looking import SeenFace, SeenFrame
from fer_tf.recognition.pose import head_pose
from fer_tf.recognition.sources import Source


@dataclass(frozen=True)
class Face:
    """One face of a picture or of a clip's frame.

    Attributes:
      input: the file's path, or what else names the input.
      frame: the frame's number, from 0.
      time: seconds from the clip's first frame.
      number: of the person in the clip, or of the face in the picture, from 1.
      box: float32 (4,), x, y, width, height, pixels of the upright frame.
      score: the detector's confidence, 0 to 1.
      answer: what the network sees, smoothed in a clip.
      landmarks: float32 (68, 2), iBUG order, pixels of the upright frame; nan where they are not trusted.
      transform: float64 (2, 3), from the frame's pixels to the crop's.
      eyes: float64 (7,), the eye features when they were asked for, else empty.
    """

    input: str
    frame: int
    time: float
    number: int
    box: np.ndarray
    score: float
    answer: Answer
    landmarks: np.ndarray
    transform: np.ndarray
    eyes: np.ndarray = field(repr=False)
    source: Source = field(repr=False, compare=False)

    @property
    def expression(self) -> str:
        """The most probable expression."""
        return self.answer.best()[0][0]

    @property
    def landmarks_trusted(self) -> bool:
        """Whether the 68 landmarks sit on the face; where they do not, they are nan and the mask is black."""
        return bool(np.isfinite(self.landmarks).all())

    @property
    def unsure(self) -> bool:
        """Whether the most probable expression is less probable than the recognizer's `unsure_below`."""
        return self.answer.unsure

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each expression."""
        return dict(zip(self.answer.expressions, map(float, self.answer.probabilities), strict=True))

    @property
    def head_pose(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll, degrees; see `fer_tf.recognition.pose`."""
        return head_pose(self.landmarks)

    @property
    def mask(self) -> np.ndarray:
        """The landmark mask of section 3.2, uint8 (256, 256); black where the landmarks are not trusted."""
        if not self.landmarks_trusted:
            return np.zeros((align.FACE_SIZE, align.FACE_SIZE), np.uint8)
        return align.draw_mask(align.apply(self.transform, self.landmarks))


def face_of(frame: SeenFrame, seen: SeenFace, with_eyes: bool = False) -> Face:
    """Returns a looked-at frame's face, its places in pixels of the file's frame."""
    aligned, shrink = seen.aligned, np.float32(frame.shrink)
    return Face(
        input=frame.source.name,
        frame=frame.number,
        time=frame.time,
        number=seen.number,
        box=seen.box / shrink,
        score=seen.score,
        answer=seen.answer,
        landmarks=aligned.frame_landmarks / shrink,
        transform=align.scaled(aligned.transform, frame.shrink),
        eyes=_eyes(aligned) if with_eyes else np.zeros(0),
        source=frame.source,
    )


def _eyes(aligned: AlignedFace) -> np.ndarray:
    if not aligned.landmarks_trusted:
        return np.full(len(eyes.FEATURES), np.nan)
    return eyes.eye_features(aligned.landmarks, aligned.image)
