"""From a clip, or an image, to aligned faces: the one call that the pipeline, the client and the demo share."""

from __future__ import annotations

import numbers
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fer_tf.errors import InputError, check_least, check_positive, is_number, not_one_of
from fer_tf.faces import align
from fer_tf.faces.detect import MIN_FACE, Detections, FaceDetector
from fer_tf.faces.follow import CHUNK, SIDES, ClipFinder
from fer_tf.faces.frame import MAX_PICTURE_PIXELS, MAX_PIXELS, ClipError, Frame, Limits
from fer_tf.faces.keyframes import RULES, Rule
from fer_tf.faces.landmarks import MOST_DOUBT, NUM_LANDMARKS, LandmarkPredictor, crop_square
from fer_tf.faces.subject import SUBJECTS, Seen, Subject, choose_subject
from fer_tf.faces.video import ClipEnd, Decoder, ahead
from fer_tf.faces.views import UPRIGHT, VIEWS, View

__all__ = ["AlignedFace", "ClipError", "ClipFaces", "ExtractorOptions", "FaceExtractor", "Rejected"]

# Raise it with any change of this package after which the same clip may give other faces: builds then detect anew
# instead of taking what an earlier version kept.
FACES_VERSION = 6
# Smaller faces of a frame than its largest few are not even followed: nobody films a clip of the fifth face.
MOST_FACES = 4
# Frames of a doubtful clip that are looked at in other ways.
SAMPLE = 6
# Options that choose frames of a clip, which mean nothing where all faces of chosen moments are looked at.
OF_KEYFRAMES = ("max_keyframes", "keyframe_rule", "subject")
# The smallest face that is looked for in a picture, as a share of its long side.
SMALLEST = 0.03


@dataclass(frozen=True)
class ExtractorOptions:
    """How clips become faces; equal options and versions give equal faces.

    Attributes:
      max_keyframes: the most frames that a clip gives (about 40 in the paper).
      keyframe_rule: `apex` keeps frames far from the resting face, `motion` where much changes, `uniform` evenly.
      subject: who a clip with several faces is about: `main` (longest, largest, most central), `center`, `largest`, or
        `all`.
      min_score: the detector's confidence below which a face does not count, 0 to 1. One value for the data and for
        what is asked about later: a network is right about faces like those that it learned from.
      landmark_model: path of another dlib predictor with 68 points; empty for the packaged one.
      max_pixels: videos with frames of more pixels are refused; the default is 8K.
      max_picture_pixels: pictures with more pixels are refused; larger ones than `max_side` are shrunk while decoded.
      max_side: longer frames are shrunk to this long side before faces are cut out, pixels; 0 shrinks none.
      decode_timeout_s: how long the decoder may stay silent before its clip is given up, seconds.
      turned: whether a picture without a face is also looked at turned by quarter turns; a clip always is.
      threads: threads that TensorFlow may use for one operation; 0 leaves its setting alone. Where TensorFlow does
        not use oneDNN (`TF_ENABLE_ONEDNN_OPTS=0`), their number shows in the last bits of boxes, and in a few faces in
        a hundred landmarks then lie a pixel or two elsewhere; a build uses one, however many workers it has.
    """

    max_keyframes: int = 40
    keyframe_rule: Rule = "apex"
    subject: Subject = "main"
    min_score: float = 0.8
    landmark_model: str = ""
    max_pixels: int = MAX_PIXELS
    max_picture_pixels: int = MAX_PICTURE_PIXELS
    max_side: int = 1920
    decode_timeout_s: float = 20.0
    turned: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        if self.keyframe_rule not in RULES:
            raise not_one_of("keyframe_rule", self.keyframe_rule, RULES)
        if self.subject not in SUBJECTS:
            raise not_one_of("subject", self.subject, SUBJECTS)
        for name in ("min_score", "decode_timeout_s"):
            if not is_number(getattr(self, name)):
                raise InputError(f"`{name}` must be a number. Received: {getattr(self, name)!r}.")
        for name in ("max_keyframes", "max_pixels", "max_picture_pixels", "max_side", "threads"):
            if not is_number(getattr(self, name), numbers.Integral):
                raise InputError(f"`{name}` must be a whole number. Received: {getattr(self, name)!r}.")
        if not 0 <= self.min_score < 1:
            raise InputError(f"`min_score` must be in [0, 1). Received: {self.min_score}.")
        check_least(self, max_keyframes=1, max_pixels=1, max_picture_pixels=1, max_side=0, threads=0)
        check_positive(self, "decode_timeout_s")

    @property
    def limits(self) -> Limits:
        """How large a file may be."""
        return Limits(self.max_pixels, self.max_picture_pixels)


@dataclass(frozen=True)
class AlignedFace:
    """One face, cut out with its eyes level.

    Attributes:
      image: uint8 (256, 256, 3), RGB.
      mask: uint8 (256, 256), the landmark mask of section 3.2; black where the landmarks are not trusted.
      landmarks: float32 (68, 2), pixels of the crop, iBUG order; nan where they are not trusted.
      frame_landmarks: float32 (68, 2), pixels of the upright frame; nan where they are not trusted.
      transform: float64 (2, 3), from pixels of the upright frame to those of the crop.
      box: float32 (4,), x, y, width, height in pixels of the upright frame.
      score: the detector's confidence, 0 to 1.
      frame: the frame's number in the clip, from 0.
      time: seconds from the clip's first frame.
    """

    image: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    frame_landmarks: np.ndarray
    transform: np.ndarray
    box: np.ndarray
    score: float
    frame: int = 0
    time: float = 0.0

    @property
    def landmarks_trusted(self) -> bool:
        """Whether the 68 landmarks sit on the face; where they do not, the crop is cut by the detector's five."""
        return bool(np.isfinite(self.landmarks).all())


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

    @property
    def trusted(self) -> tuple[AlignedFace, ...]:
        """The faces on which the landmarks sit."""
        return tuple(face for face in self.faces if face.landmarks_trusted)

    def of_trusted(self) -> ClipFaces:
        """The same with the other faces among what was left out: for records, which have masks."""
        off = [_landmarks_off(face) for face in self.faces if not face.landmarks_trusted]
        rejected = tuple(sorted((*self.rejected, *off), key=_place_in_clip))
        return replace(self, faces=self.trusted, rejected=rejected)


class FaceExtractor:
    """Turns clips and images into aligned faces; safe to share between threads, which take turns.

    Args:
      options: how clips become faces.

    Attributes:
      detector: name and version of the face detector.
      landmark_model: name and version of the landmark predictor.
      decoder: owns the process that reads clips.
    """

    def __init__(self, options: ExtractorOptions | None = None):
        self.options = options or ExtractorOptions()
        self._detector = FaceDetector(self.options.threads)
        self._predictor = LandmarkPredictor(self.options.landmark_model)
        self.decoder = Decoder(self.options.decode_timeout_s, self.options.limits, self.options.max_side)
        self._lock = threading.Lock()
        self.detector, self.landmark_model = self._detector.name, self._predictor.name

    def extract(self, path: str) -> ClipFaces:
        """Returns the faces of a clip's one subject.

        Args:
          path: a local video or still image.

        Raises:
          ClipError: the clip cannot be read; its `reason` says why. The extractor goes on with the next clip.
        """
        with self._lock, self.decoder.free() as decoder:
            clip = self._both_rules(decoder, path, UPRIGHT)
            if 2 * len(clip.trusted) < clip.frames_kept and (view := self._better_view(decoder, path)) != UPRIGHT:
                other = self._both_rules(decoder, path, view)
                clip = _noted(other, view) if len(other.trusted) > len(clip.trusted) else clip
        return clip

    def _both_rules(self, decoder: Decoder, path: str, view: View) -> ClipFaces:
        rule = self.options.keyframe_rule
        clip = self._pass(decoder, path, rule, view)
        if rule != "uniform" and 2 * len(clip.trusted) < clip.frames_kept > 1:
            # Something else moved more than the face: a cut, a camera, the face leaving.
            even = self._pass(decoder, path, "uniform", view)
            clip = even if len(even.trusted) > len(clip.trusted) else clip
        return clip

    def _better_view(self, decoder: Decoder, path: str) -> View:
        """How most of a clip's frames show a face, when few do as they are: not upright, or cut tightly around it.

        A clip of which most frames are left out is in doubt as a whole: a detector finds faces that stand on their
        head in a few frames, and believes that they stand upright.
        """
        frames = [item for item in decoder.keyframes(path, "uniform", SAMPLE) if isinstance(item, Frame)]
        views = VIEWS if len(frames) > 1 or self.options.turned else VIEWS[:2]
        shown = {view: sum(self._shows_a_face(frame, view) for frame in frames) for view in views}
        best = max(views, key=lambda view: shown[view])
        return best if 2 * shown[best] >= len(frames) and shown[best] > 2 * shown[UPRIGHT] else UPRIGHT

    def _shows_a_face(self, frame: Frame, view: View) -> bool:
        """Whether a frame that is looked at by itself shows a face with its landmarks."""
        return any(face.landmarks_trusted for face in self.faces_in_view(frame, view))

    def _pass(self, decoder: Decoder, path: str, rule: str, view: View) -> ClipFaces:
        finder = ClipFinder(self._detector, self.options.min_score)
        work = _Gathered()
        items = decoder.keyframes(path, rule, self.options.max_keyframes)
        decoded = ahead(items, CHUNK, cancel=decoder.stop)
        try:
            for chunk in _chunks(decoded, work):
                if work.end is not None and work.end.decoded == 1:
                    # One picture is searched as `search` does: a clip is content with the faces that show first.
                    finder = self._picture_finder()
                chunk = [view.of(frame) for frame in chunk]
                for frame, found in zip(chunk, view.find(finder, [frame.rgb for frame in chunk]), strict=True):
                    self._collect(frame, found, view, work)
        finally:
            # After Ctrl-C, or when a library failed, nobody reads what the decoder still sends: end it now.
            decoded.close()
        return work.result(self.options.subject)

    def _collect(self, frame: Frame, found: Detections, view: View, work: _Gathered) -> None:
        if not len(found):
            work.rejected.append(Rejected("no_face", frame.index))
        order = _biggest_first(found)
        limit = len(order) if self.options.subject == "all" else MOST_FACES
        for number in order[limit:]:
            box = view.box_back(found.boxes[number], frame.rgb.shape) / frame.shrink
            work.rejected.append(Rejected("other_face", frame.index, _place(box)))
        for number in order[:limit]:
            work.faces.append(self._aligned(frame, found, number, view))
            size = np.array(frame.rgb.shape[1::-1])
            work.seen.append(Seen(frame.index, frame.time, found.boxes[number] / size.max(), size / size.max() / 2))

    def faces_in_image(self, rgb: np.ndarray, smallest: float = SMALLEST) -> list[AlignedFace]:
        """Returns every face of an image, biggest first.

        Args:
          rgb: uint8 (h, w, 3), upright.
          smallest: the smallest face to look for, as a share of the image's long side; half as large takes four
            times as long. An image without such a face is searched once more for smaller ones, and then with a
            border, because pictures that are cut tightly around a face leave the detector no air.
        """
        return self.search(rgb, smallest)[0]

    def search(self, rgb: np.ndarray, smallest: float = SMALLEST) -> tuple[list[AlignedFace], list[Rejected]]:
        """Returns every face of an image, biggest first, and what was found in it and left out.

        Args:
          rgb, smallest: as for `faces_in_image`.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise InputError(f"`rgb` must be uint8 (h, w, 3). Received: {rgb.dtype} {rgb.shape}.")
        if not 0 < smallest <= 1:
            raise InputError(f"`smallest` must be in (0, 1]. Received: {smallest}.")
        frame = Frame(rgb, 0, 0.0, 1.0)
        with self._lock:
            finder = self._picture_finder(smallest)
            seen: list[AlignedFace] = []
            for view in VIEWS if self.options.turned else VIEWS[:2]:
                faces = self._look(frame, view, finder)
                trusted = any(face.landmarks_trusted for face in faces)
                # A way of looking in which the landmarks sit is the right one; else the first that shows a face.
                if trusted or not seen:
                    seen = faces
                if trusted:
                    break
        return seen, [] if seen else [Rejected("no_face", 0)]

    def faces_in_view(self, frame: Frame, view: View) -> list[AlignedFace]:
        """Returns the faces of an upright frame, biggest first, that one way of looking shows; one call at a time."""
        return self._look(frame, view, self._picture_finder())

    def _look(self, frame: Frame, view: View, finder: ClipFinder) -> list[AlignedFace]:
        """A picture's faces, biggest first."""
        seen = view.of(frame)
        found = view.find(finder, [seen.rgb])[0]
        return [self._aligned(seen, found, number, view) for number in _biggest_first(found)]

    def _picture_finder(self, smallest: float = SMALLEST) -> ClipFinder:
        side = max(SIDES[0], round(MIN_FACE / smallest))
        sides = [side] if side >= SIDES[-1] else [side, SIDES[-1]]
        return ClipFinder(self._detector, self.options.min_score, sides)

    def close(self) -> None:
        """Ends the decoder's process."""
        self.decoder.close()

    def _aligned(self, frame: Frame, found: Detections, number: int, view: View) -> AlignedFace:
        """The face, cut out by its landmarks or, where these do not sit on it, by the detector's five points.

        The frame is as it is looked at; the face's places are in the pixels of the one that the file has.
        """
        box, keypoints = found.boxes[number], found.keypoints[number]
        points, doubt = self._predictor.predict(frame.rgb, box, keypoints)
        if doubt <= MOST_DOUBT:
            transform = align.transform_of(points)
            landmarks = align.apply(transform, points)
            mask = align.draw_mask(landmarks)
        else:
            transform = align.square_transform(*crop_square(box, keypoints))
            points = landmarks = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
            mask = np.zeros((align.FACE_SIZE, align.FACE_SIZE), np.uint8)
        face = AlignedFace(
            image=align.warp(frame.rgb, transform),
            mask=mask,
            landmarks=landmarks,
            frame_landmarks=points,
            transform=transform,
            box=box,
            score=float(found.scores[number]),
            frame=frame.index,
            time=frame.time,
        )
        face, shrink = view.back(face, frame.rgb.shape), np.float32(frame.shrink)
        return replace(
            face,
            frame_landmarks=face.frame_landmarks / shrink,
            transform=align.scaled(face.transform, frame.shrink),
            box=face.box / shrink,
        )


@dataclass
class _Gathered:
    """What a clip gave so far."""

    faces: list[AlignedFace] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    end: ClipEnd | None = None

    def result(self, subject: str) -> ClipFaces:
        chosen = set(choose_subject(self.seen, subject))
        faces = tuple(face for number, face in enumerate(self.faces) if number in chosen)
        others = [face for number, face in enumerate(self.faces) if number not in chosen]
        rejected = [*self.rejected, *(Rejected("other_face", face.frame, _place(face.box)) for face in others)]
        if self.end.corrupt:
            rejected.append(Rejected("damaged_packets", -1, f"{self.end.corrupt} could not be decoded"))
        rejected.sort(key=_place_in_clip)
        return ClipFaces(faces, tuple(rejected), self.end.decoded, self.end.kept, self.end.duration)


def _landmarks_off(face: AlignedFace) -> Rejected:
    return Rejected("landmarks_off", face.frame, _place(face.box))


def _place_in_clip(item: Rejected) -> tuple[int, str, str]:
    return item.frame, item.reason, item.detail


def _noted(clip: ClipFaces, view: View) -> ClipFaces:
    """What a clip gave, with a note when it was turned."""
    if not view.turns:
        return clip
    angle = (360 - 90 * view.turns) % 360
    note = Rejected("turned", -1, f"its faces stand upright after a turn by {angle} degrees clockwise")
    return replace(clip, rejected=(note, *clip.rejected))


def _chunks(items: Iterator[Frame | ClipEnd], work: _Gathered) -> Iterator[list[Frame]]:
    """Groups equally large frames, at most CHUNK together, and keeps the clip's end message."""
    chunk: list[Frame] = []
    for item in items:
        if isinstance(item, ClipEnd):
            work.end = item
            continue
        if len(chunk) == CHUNK or (chunk and chunk[0].rgb.shape != item.rgb.shape):
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


def _biggest_first(found: Detections) -> list[int]:
    return sorted(range(len(found)), key=lambda number: -float(found.boxes[number, 2:].prod()))


def _place(box: np.ndarray) -> str:
    return "at x {:.0f}, y {:.0f}, {:.0f} x {:.0f} pixels".format(*box)
