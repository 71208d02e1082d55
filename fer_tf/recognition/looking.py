"""From pictures and clips to faces with answers: finds, aligns, asks in batches, follows through each clip."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fer_tf.errors import InputError, is_number
from fer_tf.faces.extractor import AlignedFace, ClipError, FaceExtractor, Rejected
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.sources import Source, pictures_of
from fer_tf.recognition.tracking import LOST_AFTER_S, DescribeFn, Tracker, scene_of

AskFn = Callable[[Sequence[np.ndarray]], list[Answer]]
# The network is asked when this many faces wait, whichever files they come from.
BATCH = 32
# Or when this many frames or bytes of pictures do: bounds the memory for frames without faces, and for large ones. Of
# frames between two looks so many wait for the second.
MAX_WAITING, MAX_WAITING_BYTES = 32, 64 << 20


@dataclass(frozen=True)
class LookOptions:
    """How clips are looked at.

    Attributes:
      frames_per_second: how many frames of a second are looked at; math.inf for every one.
      smoothing_s: time constant of the exponential smoothing of a followed face's scores, seconds; 0 smooths nothing.
      keyframes: whether a clip's keyframes are looked at instead, as a build keeps them, each alone.
      with_pictures: whether every frame comes, with its pixels, or the looked-at ones alone without.
      unsure_below: the probability of the best expression below which an answer counts as unsure; 0 for never.
    """

    frames_per_second: float = 5.0
    smoothing_s: float = 0.4
    keyframes: bool = False
    with_pictures: bool = False
    unsure_below: float = 0.0

    def __post_init__(self) -> None:
        if not is_number(self.frames_per_second) or not self.frames_per_second >= 0.01:
            raise InputError(f"`frames_per_second` must be at least 0.01. Received: {self.frames_per_second!r}.")
        if not is_number(self.smoothing_s) or not self.smoothing_s >= 0:
            raise InputError(f"`smoothing` must be 0 or more seconds. Received: {self.smoothing_s!r}.")
        if not is_number(self.unsure_below) or not 0 <= self.unsure_below < 1:
            raise InputError(f"`unsure_below` must be in [0, 1). Received: {self.unsure_below!r}.")
        if self.keyframes and self.with_pictures:
            raise InputError("`keyframes` are a clip's few frames: nothing can be drawn over its length")


@dataclass(frozen=True)
class SeenFace:
    """A face in one frame.

    Attributes:
      number: of the person in the clip, or of the face in the picture, from 1.
      box: float32 (4,), x, y, width, height, pixels of the frame's `rgb`.
      score: the detector's confidence, 0 to 1.
      answer: what the network sees, smoothed in a clip.
      aligned: the face cut out; None in frames between two looks.
    """

    number: int
    box: np.ndarray
    score: float
    answer: Answer
    aligned: AlignedFace | None = None


@dataclass(frozen=True)
class SeenFrame:
    """A frame with its faces.

    Attributes:
      source: the picture or clip that it belongs to.
      still: whether that is one picture.
      seconds: how long the clip says that it is, 0 when it does not say.
      number: the frame's number in the file, from 0.
      time: seconds from the first frame.
      faces: the faces in it.
      rejected: what was found in it and left out.
      looked_at: whether the frame was asked about; the faces of the others are in between.
      rgb: uint8 (H, W, 3), upright; None when pictures were not asked for.
      shrink: by how much the frame was scaled down, 1 when not at all; the faces' boxes are in its pixels.
    """

    source: Source
    still: bool
    seconds: float
    number: int
    time: float
    faces: tuple[SeenFace, ...]
    rejected: tuple[Rejected, ...]
    looked_at: bool
    rgb: np.ndarray | None
    shrink: float = 1.0


@dataclass(frozen=True)
class Unreadable:
    """A source that could not be read, or not to its end, and why."""

    source: Source
    error: ClipError


@dataclass
class _Found:
    """A frame whose faces wait for their answers."""

    frame: SeenFrame
    faces: list[AlignedFace] = field(default_factory=list)
    scene: np.ndarray | None = None

    @property
    def held_bytes(self) -> int:
        return self.frame.rgb.nbytes if self.frame.rgb is not None else 0


def look(
    sources: Iterable[Source],
    extractor: FaceExtractor,
    ask: AskFn,
    options: LookOptions | None = None,
    describe: DescribeFn | None = None,
) -> Generator[SeenFrame | Unreadable, None, None]:
    """Yields what is seen in each source, frame by frame; memory grows neither with their number nor their length.

    Args:
      sources: pictures and clips.
      extractor: finds and aligns the faces.
      ask: asks the network about face crops.
      options: how clips are looked at.
      describe: says who a face is, where motion does not tell; None follows by motion alone.
    """
    options = options or LookOptions()
    find = _keyframes if options.keyframes else _found
    found = (item for source in sources for item in find(source, extractor, options))
    follower = _Follower(options, describe)
    for item, answers in _asked(found, ask, options.unsure_below):
        if isinstance(item, Unreadable):
            yield from follower.end()
            yield item
        else:
            yield from follower.follow(item, answers)
    yield from follower.end()


def look_at_picture(rgb: np.ndarray, extractor: FaceExtractor, ask: AskFn) -> list[tuple[AlignedFace, Answer]]:
    """Returns each face of a picture, biggest first, with its answer."""
    faces = extractor.faces_in_image(rgb)
    answers = ask([face.image for face in faces]) if faces else []
    return list(zip(faces, answers, strict=True))


def _found(source: Source, extractor: FaceExtractor, options: LookOptions) -> Iterator[_Found | Unreadable]:
    """A source's frames with the faces in those that are looked at."""
    next_look = 0.0
    try:
        for picture in pictures_of(source, extractor):
            looked_at = picture.time >= next_look
            if not looked_at and not options.with_pictures:
                continue
            pixels = picture.frame()
            faces, rejected = extractor.search(pixels.rgb) if looked_at else ([], [])
            if picture.note:
                rejected = [Rejected(picture.note[0], 0, picture.note[1]), *rejected]
            frame = SeenFrame(
                source=source,
                still=picture.still,
                seconds=picture.seconds,
                number=picture.number,
                time=picture.time,
                faces=(),
                rejected=tuple(dataclasses.replace(item, frame=picture.number) for item in rejected),
                looked_at=looked_at,
                rgb=pixels.rgb if options.with_pictures else None,
                shrink=pixels.shrink,
            )
            # Before the pixels go: what shows a cut.
            yield _Found(frame, faces, scene_of(pixels.rgb) if looked_at and not picture.still else None)
            if looked_at:
                next_look = _next_look(picture.time, options.frames_per_second)
    except ClipError as error:
        yield Unreadable(source, error)


def _keyframes(source: Source, extractor: FaceExtractor, options: LookOptions) -> Iterator[_Found | Unreadable]:
    """A clip's keyframes, or a picture, with their faces as the extractor chooses them."""
    if isinstance(source.value, np.ndarray) and source.value.ndim == 4:
        raise InputError(f"`keyframes` are chosen of files and bytes. Received: {source.name}.")
    if not isinstance(source.value, (str, bytes)):
        yield from _found(source, extractor, options)
        return
    try:
        with source.path() as path:
            clip = extractor.extract(path)
    except ClipError as error:
        yield Unreadable(source, ClipError(error.reason, source.name, error.detail))
        return
    times = {face.frame: face.time for face in clip.faces}
    for number in sorted(times.keys() | {left.frame for left in clip.rejected}):
        frame = SeenFrame(
            source=source,
            still=clip.frames_decoded == 1,
            seconds=clip.duration,
            number=max(number, 0),
            time=times.get(number, 0.0),
            faces=(),
            rejected=tuple(left for left in clip.rejected if left.frame == number),
            looked_at=True,
            rgb=None,
        )
        yield _Found(frame, [face for face in clip.faces if face.frame == number])


def _next_look(time: float, frames_per_second: float) -> float:
    if math.isinf(frames_per_second):
        return time
    # On a grid of moments: counted from the frame itself, a rate that does not divide the clip's would drop.
    return (math.floor(time * frames_per_second + 1e-6) + 1) / frames_per_second - 1e-6


def _asked(
    items: Iterable[_Found | Unreadable], ask: AskFn, unsure_below: float
) -> Iterator[tuple[_Found | Unreadable, list[Answer]]]:
    """Asks about the faces of several frames and files at once and hands each frame its own answers."""
    waiting: list[_Found | Unreadable] = []
    count = held = 0
    for item in items:
        waiting.append(item)
        if isinstance(item, _Found):
            count, held = count + len(item.faces), held + item.held_bytes
        if count >= BATCH or held >= MAX_WAITING_BYTES or len(waiting) >= MAX_WAITING:
            yield from _answered(waiting, ask, unsure_below)
            waiting, count, held = [], 0, 0
    yield from _answered(waiting, ask, unsure_below)


def _answered(
    waiting: Sequence[_Found | Unreadable], ask: AskFn, unsure_below: float
) -> Iterator[tuple[_Found | Unreadable, list[Answer]]]:
    crops = [face.image for item in waiting if isinstance(item, _Found) for face in item.faces]
    answers = (dataclasses.replace(answer, unsure_below=unsure_below) for answer in (ask(crops) if crops else []))
    for item in waiting:
        yield item, [next(answers) for _ in item.faces] if isinstance(item, _Found) else []


class _Follower:
    """Numbers the faces of one source after the other and fills the frames between two looks.

    Args:
      options: how clips are looked at.
      describe: says who a face is.
    """

    def __init__(self, options: LookOptions, describe: DescribeFn | None) -> None:
        self._options, self._describe = options, describe
        self._source: Source | None = None
        self._last: SeenFrame | None = None
        # The frames since the last look, or since so many waited that they went on.
        self._waiting: list[SeenFrame] = []

    def follow(self, item: _Found, answers: Sequence[Answer]) -> Iterator[SeenFrame]:
        frame = item.frame
        if frame.source is not self._source:
            yield from self.end()
            # Looks that are far apart must not lose every face between them.
            lost_after = max(LOST_AFTER_S, 2 / self._options.frames_per_second)
            smoothing_s = self._options.smoothing_s
            if self._options.keyframes:
                lost_after, smoothing_s = math.inf, 0.0
            self._source, self._tracker = frame.source, Tracker(smoothing_s, lost_after, self._describe)
        if not frame.looked_at:
            self._waiting.append(frame)
            # Not one more look instead: whether pictures are asked for would change what is seen.
            if len(self._waiting) >= MAX_WAITING:
                yield from self._unmoved()
            return
        boxes = [face.box for face in item.faces]
        numbered = self._tracker.update(frame.time, boxes, answers, item.faces, item.scene)
        faces = tuple(
            SeenFace(number, face.box, face.score, answer, face)
            for face, (number, answer) in zip(item.faces, numbered, strict=True)
        )
        now = dataclasses.replace(frame, faces=faces)
        yield from self._until(now)
        yield now
        self._last = dataclasses.replace(now, rgb=None)

    def end(self) -> Iterator[SeenFrame]:
        """The frames after a source's last look keep its faces."""
        yield from self._unmoved()
        self._source = self._last = None

    def _unmoved(self) -> Iterator[SeenFrame]:
        """The waiting frames with the faces where they were last seen."""
        waiting, self._waiting = self._waiting, []
        faces = tuple(map(_moved, self._last.faces)) if self._last else ()
        for frame in waiting:
            yield dataclasses.replace(frame, faces=faces)

    def _until(self, now: SeenFrame) -> Iterator[SeenFrame]:
        """The waiting frames with the faces moved evenly to where they are now."""
        waiting, self._waiting, last = self._waiting, [], self._last
        for frame in waiting:
            share = (frame.time - last.time) / max(now.time - last.time, 1e-6)
            yield dataclasses.replace(frame, faces=between(last.faces, now.faces, share))


def between(earlier: Sequence[SeenFace], later: Sequence[SeenFace], share: float) -> tuple[SeenFace, ...]:
    """The faces at a moment between two looked-at frames: boxes move evenly, answers stay the earlier ones.

    Args:
      earlier, later: the faces of the two frames.
      share: 0 at the earlier frame, 1 at the later.
    """
    ahead = {face.number: face.box for face in later}
    return tuple(
        _moved(face, face.box + share * (ahead[face.number] - face.box)) for face in earlier if face.number in ahead
    )


def _moved(face: SeenFace, box: np.ndarray | None = None) -> SeenFace:
    """A face in a frame that was not looked at."""
    return dataclasses.replace(face, box=face.box if box is None else box, aligned=None)
