"""From a picture or a video to faces with answers: finds, aligns, asks the server, follows through the clip."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.faces import media
from fer_tf.faces.extractor import AlignedFace, FaceExtractor
from fer_tf.faces.media import Clip, ClipError, Still
from serving.connection import Answer
from serving.tracking import LOST_AFTER_S, TrackedFace, Tracker, between

AskFn = Callable[[list[np.ndarray]], list[Answer]]
# Frames that wait for the next looked-at one; bounds the memory for clips with very many frames a second.
MAX_WAITING = 30
# Photos are shrunk to this long side: more pixels cost memory and show no face that is not found.
PICTURE_SIDE = 4000


@dataclass(frozen=True)
class SeenFrame:
    """A frame with its faces.

    Attributes:
      number: the frame's number in the file, from 0.
      time: seconds from the first frame.
      faces: the faces in it.
      looked_at: whether the frame was asked about; the faces of the others are in between.
      rgb: uint8 (H, W, 3), upright; None when pictures were not asked for.
      shrink: by how much the frame was scaled down, 1 when not at all; the faces' boxes are in its pixels.
    """

    number: int
    time: float
    faces: list[TrackedFace]
    looked_at: bool
    rgb: np.ndarray | None
    shrink: float = 1.0


def open_clip(path: str, extractor: FaceExtractor) -> Still | Clip:
    """Returns an opened picture or video; raises ClipError."""
    return media.open(path, extractor.options.limits)


def look_at_picture(rgb: np.ndarray, extractor: FaceExtractor, ask: AskFn) -> list[tuple[AlignedFace, Answer]]:
    """Returns each face of a picture, biggest first, with its answer."""
    faces = extractor.faces_in_image(rgb)
    answers = ask([face.image for face in faces]) if faces else []
    return list(zip(faces, answers, strict=True))


def look_at_video(
    clip: Clip,
    extractor: FaceExtractor,
    ask: AskFn,
    *,
    frames_per_second: float = 5.0,
    smoothing_s: float = 0.4,
    with_pictures: bool = False,
) -> Iterator[SeenFrame]:
    """Yields a video's frames with followed faces and smoothed answers; memory does not grow with its length.

    Args:
      clip: an opened video.
      extractor: finds and aligns the faces.
      ask: asks the server about face crops.
      frames_per_second: how many frames of a second are looked at.
      smoothing_s: time constant of the smoothing, seconds.
      with_pictures: whether every frame comes, with its pixels, or the looked-at ones alone without.

    Raises:
      ClipError: when the video cannot be read, or no frame of it.
    """
    # Looks that are far apart must not lose every face between them.
    tracker = Tracker(smoothing_s, max(LOST_AFTER_S, 2 / frames_per_second))
    waiting: list[SeenFrame] = []
    next_look = 0.0
    number = -1
    for image in clip.frames():
        number, time = image.index, image.time
        look = time >= next_look or len(waiting) >= MAX_WAITING
        if not look and not with_pictures:
            continue
        frame = image.frame(extractor.options.max_side)
        seen = SeenFrame(number, time, [], look, frame.rgb if with_pictures else None, frame.shrink)
        if not look:
            waiting.append(seen)
            continue
        # On a grid of moments: counted from the frame itself, a rate that does not divide the clip's would drop.
        next_look = (math.floor(time * frames_per_second + 1e-6) + 1) / frames_per_second - 1e-6
        found = look_at_picture(frame.rgb, extractor, ask)
        boxes = [face.box for face, _ in found]
        tracked = tracker.update(time, boxes, [face.score for face, _ in found], [answer for _, answer in found])
        now = dataclasses.replace(seen, faces=tracked)
        yield from _between(waiting, now)
        waiting = [now]
    if number < 0:
        raise ClipError("no_frames", clip.path)
    yield from _held(waiting)


def _between(waiting: list[SeenFrame], now: SeenFrame) -> Iterator[SeenFrame]:
    """The frames since the last look, their faces moved evenly to where they are now."""
    if not waiting:
        return
    last = waiting[0]
    yield last
    for seen in waiting[1:]:
        share = (seen.time - last.time) / max(now.time - last.time, 1e-6)
        yield dataclasses.replace(seen, faces=between(last.faces, now.faces, share))


def _held(waiting: list[SeenFrame]) -> Iterator[SeenFrame]:
    """The frames after the last look keep its faces."""
    for seen in waiting:
        yield dataclasses.replace(seen, faces=waiting[0].faces)


def face_as_json(box: np.ndarray, score: float, answer: Answer) -> dict[str, Any]:
    """A face as plain values, for JSON."""
    return {
        "box": [round(float(value), 1) for value in box],
        "detector_score": round(score, 4),
        "expression": answer.best()[0][0],
        "probabilities": {
            name: round(float(value), 6) for name, value in zip(answer.expressions, answer.probabilities, strict=True)
        },
    }
