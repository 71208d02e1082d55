"""From a clip, or an image, to aligned faces: the one call that the pipeline, the client and the demo share."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from fer_tf.errors import InputError, not_one_of
from fer_tf.faces import align, keyframes
from fer_tf.faces.detect import Detections, FaceDetector
from fer_tf.faces.landmarks import LandmarkPredictor
from fer_tf.faces.video import ClipEnd, ClipError, Decoder, Frame

__all__ = ["AlignedFace", "ClipError", "ClipFaces", "ExtractorOptions", "FaceExtractor", "Rejected"]

SUBJECTS = ("main", "center", "largest")


@dataclass(frozen=True)
class ExtractorOptions:
    """How clips become faces; equal options and versions give equal faces.

    Attributes:
      max_keyframes: the most frames that a clip gives (about 40 in the paper).
      keyframe_rule: `apex` keeps frames far from the resting face, `motion` where much changes, `uniform` evenly.
      subject: who a clip with several faces is about: `main` (longest, largest, most central), `center`, `largest`.
      min_score: the detector's confidence below which a face does not count, 0 to 1.
      landmark_model: path of another dlib predictor with 68 points; empty for the packaged one.
      max_pixels: frames with more pixels are refused; the default is 8K.
      max_side: longer frames are shrunk to this long side before faces are cut out, pixels.
      decode_timeout_s: how long the decoder may stay silent before its clip is given up, seconds.
      threads: threads that TensorFlow may use for one operation; 0 leaves its setting alone.
    """

    max_keyframes: int = 40
    keyframe_rule: str = "apex"
    subject: str = "main"
    min_score: float = 0.9
    landmark_model: str = ""
    max_pixels: int = 7680 * 4320
    max_side: int = 1920
    decode_timeout_s: float = 20.0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.keyframe_rule not in keyframes.RULES:
            raise not_one_of("keyframe_rule", self.keyframe_rule, keyframes.RULES)
        if self.subject not in SUBJECTS:
            raise not_one_of("subject", self.subject, SUBJECTS)
        if self.max_keyframes < 1:
            raise InputError(f"`max_keyframes` must be at least 1. Received: {self.max_keyframes}.")
        if not 0 <= self.min_score < 1:
            raise InputError(f"`min_score` must be in [0, 1). Received: {self.min_score}.")


@dataclass(frozen=True)
class AlignedFace:
    """One face, cut out with its eyes level.

    Attributes:
      image: uint8 (256, 256, 3), RGB.
      mask: uint8 (256, 256), the landmark mask of section 3.2.
      landmarks: float32 (68, 2), pixels of the crop, iBUG order.
      frame_landmarks: float32 (68, 2), pixels of the upright frame.
      box: float32 (4,), x, y, width, height in pixels of the upright frame.
      score: the detector's confidence, 0 to 1.
      frame: the frame's number in the clip, from 0.
      time: seconds from the clip's first frame.
    """

    image: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    frame_landmarks: np.ndarray
    box: np.ndarray
    score: float
    frame: int = 0
    time: float = 0.0


@dataclass(frozen=True)
class Rejected:
    """A frame, or with frame -1 a part of the whole clip, that gave no face, and why."""

    reason: str
    frame: int
    detail: str = ""


@dataclass(frozen=True)
class ClipFaces:
    """What a clip gave: faces in order of time, what was left out, and the decoder's counts."""

    faces: tuple[AlignedFace, ...]
    rejected: tuple[Rejected, ...]
    frames_decoded: int
    frames_kept: int
    duration: float


class FaceExtractor:
    """Turns clips and images into aligned faces; safe to share between threads, which take turns.

    Args:
      options: how clips become faces.

    Attributes:
      detector: name and version of the face detector.
      landmark_model: name and version of the landmark predictor.
    """

    def __init__(self, options: ExtractorOptions | None = None):
        self.options = options or ExtractorOptions()
        self._detector = FaceDetector(self.options.threads)
        self._predictor = LandmarkPredictor(self.options.landmark_model)
        self._decoder = Decoder(self.options.decode_timeout_s, self.options.max_pixels, self.options.max_side)
        self._lock = threading.Lock()
        self.detector, self.landmark_model = self._detector.name, self._predictor.name

    def extract(self, path: str) -> ClipFaces:
        """Returns the faces of a clip's one subject.

        Args:
          path: a local video or still image.

        Raises:
          ClipError: the clip cannot be read; its `reason` says why. The extractor goes on with the next clip.
        """
        with self._lock:
            faces, rejected, end = [], [], None
            for item in self._decoder.keyframes(path, self.options.keyframe_rule, self.options.max_keyframes):
                if isinstance(item, ClipEnd):
                    end = item
                    continue
                found = self._faces(item)
                if found:
                    faces.append(found[0])
                else:
                    rejected.append(Rejected("no_face", item.index))
            return ClipFaces(tuple(faces), tuple(rejected), end.decoded, end.kept, end.duration)

    def faces_in_image(self, rgb: np.ndarray) -> list[AlignedFace]:
        """Returns every face of an image, biggest first.

        Args:
          rgb: uint8 (h, w, 3), upright.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise InputError(f"`rgb` must be uint8 (h, w, 3). Received: {rgb.dtype} {rgb.shape}.")
        with self._lock:
            return self._faces(Frame(rgb, 0, 0.0, 1.0))

    def close(self) -> None:
        """Ends the decoder's process."""
        self._decoder.close()

    def _faces(self, frame: Frame) -> list[AlignedFace]:
        found = self._detector.detect(frame.rgb[None])[0]
        order = sorted(range(len(found)), key=lambda i: -float(found.boxes[i, 2:].prod()))
        return [self._aligned(frame, found, i) for i in order if found.scores[i] >= self.options.min_score]

    def _aligned(self, frame: Frame, found: Detections, number: int) -> AlignedFace:
        points = self._predictor.predict(frame.rgb, found.boxes[number], found.keypoints[number])
        transform = align.transform_of(points)
        landmarks = align.apply(transform, points)
        return AlignedFace(
            image=align.warp(frame.rgb, transform),
            mask=align.draw_mask(landmarks),
            landmarks=landmarks,
            frame_landmarks=points / np.float32(frame.shrink),
            box=found.boxes[number] / np.float32(frame.shrink),
            score=float(found.scores[number]),
            frame=frame.index,
            time=frame.time,
        )
