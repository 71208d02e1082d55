"""Follows people from frame to frame: by where they should be, and by who they are where that does not tell.

A descriptor of who a face is costs more than finding it, so it is asked for only where motion leaves a doubt: two
people close to each other, a face that turns up while somebody is missing, and after a cut.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fer_tf.faces.boxes import centre, gate, side
from fer_tf.recognition.answers import Answer

LOST_AFTER_S = 1.0
# An empty box's area, pixels.
_LEAST = 1e-9
# What of a track's speed is kept when it is measured anew, and for how long it is believed.
STEADY, MOVING_S = 0.5, 1.0
# dlib's documentation takes two pictures for one person's below a distance of 0.6. The people of a clip are told apart
# more strictly, since mixing two costs more than counting one twice: who returns is within SAME of an earlier view, and
# who is in a person's place a look later within OTHER. Looks of one person a fifth of a second apart were 0.05 to 0.25
# from each other, different made-up people 0.49 and more, different real ones 0.6 and more.
SAME, OTHER, HIDDEN = 0.46, 0.47, 0.65
# How much a descriptor's distance counts beside the distance in sides, where both are asked.
WEIGHT = 3.0
# Views of a person that are kept, one for each way in which the head is turned: nose off the face's axis, in sides.
TURNS = (-0.12, -0.04, 0.04, 0.12)
# People who are remembered after they left.
MOST_REMEMBERED = 64
# An aligned face's coarse picture seldom changes by more than this from one look to the next, grey levels: by 2 to 12
# in the middle and 23 at most in eight clips of one person each, by 26 and more from one person to another.
CHANGED = 14.0
# A face this near, in its sides, may hide a part of another, which then looks otherwise and is nobody else.
HIDES = 1.6
_COARSE = (16, 16)
# Colours of a scene's coarse picture differ by more than this on average from one shot to the next, grey levels.
CUT = 26.0
_SCENE = (16, 9)


class Look(Protocol):
    """What of a face its descriptor is made from: `AlignedFace` has it."""

    image: np.ndarray
    landmarks: np.ndarray


DescribeFn = Callable[[Look], np.ndarray]


@dataclass
class _Track:
    number: int
    box: np.ndarray
    time: float
    probabilities: np.ndarray
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))
    here: bool = True  # Seen since the last cut.
    views: dict[int, Look] = field(default_factory=dict)
    known: dict[int, np.ndarray] = field(default_factory=dict)
    last: Look | None = None
    coarse: np.ndarray | None = None

    def expected(self, time: float) -> np.ndarray:
        """Where its box's centre should be."""
        return centre(self.box) + self.speed * min(time - self.time, MOVING_S)


class _Descriptors:
    """Who the faces of one frame are, made when first asked for.

    Args:
      looks: the faces; none for a frame whose faces cannot be described.
      describe: makes a descriptor; None makes none.
    """

    def __init__(self, looks: Sequence[Look | None], describe: DescribeFn | None) -> None:
        # A descriptor is cut by the landmarks, where these are believed.
        self._looks = list(looks) if describe else []
        self._describe = describe
        self._made: dict[int, np.ndarray] = {}
        self._coarse: dict[int, np.ndarray] = {}

    def of(self, index: int) -> np.ndarray | None:
        """Returns a face's descriptor, or None when there can be none."""
        if index not in self._made and (look := self._look(index)) is not None:
            self._made[index] = self._describe(look)
        return self._made.get(index)

    def keep(self, index: int, track: _Track) -> None:
        """Gives a track the view of a face: the newest of each turn of the head, until its descriptor is made."""
        look = self._look(index)
        if look is None:
            return
        turn = int(np.searchsorted(TURNS, turn_of(look.landmarks)))
        track.last, track.coarse = look, self.coarse(index)
        if index in self._made:
            track.views[turn], track.known[turn], track.last = look, self._made[index], None
        elif turn not in track.known:
            track.views[turn] = look

    def coarse(self, index: int) -> np.ndarray | None:
        """Returns a face's coarse picture, float32 (16, 16, 3), whatever the light."""
        look = self._look(index)
        if look is None:
            return None
        if index not in self._coarse:
            import cv2

            small = cv2.resize(look.image, _COARSE, interpolation=cv2.INTER_AREA).astype(np.float32)
            self._coarse[index] = small - small.mean((0, 1))
        return self._coarse[index]

    def _look(self, index: int) -> Look | None:
        look = self._looks[index] if self._looks else None
        return look if look is not None and np.isfinite(look.landmarks).all() else None


class Tracker:
    """Gives a person the same number from frame to frame, and again after a cut or an absence.

    Args:
      smoothing_s: time constant of the exponential smoothing, seconds; 0 smooths nothing.
      lost_after_s: how long a face may be unseen and still be followed by its motion, seconds.
      describe: makes a descriptor of who a face is; None follows by motion alone.
    """

    def __init__(
        self, smoothing_s: float = 0.4, lost_after_s: float = LOST_AFTER_S, describe: DescribeFn | None = None
    ) -> None:
        self._smoothing_s, self._lost_after_s, self._describe = smoothing_s, lost_after_s, describe
        self._tracks: list[_Track] = []
        self._count = 0
        self._scene: np.ndarray | None = None

    def update(
        self,
        time: float,
        boxes: Sequence[np.ndarray],
        answers: Sequence[Answer],
        looks: Sequence[Look | None] = (),
        scene: np.ndarray | None = None,
    ) -> list[tuple[int, Answer]]:
        """Returns the number and the smoothed answer of each of a frame's faces, in the order given.

        Args:
          time: seconds; must not go back.
          boxes: float (4,) each, x, y, width, height.
          answers: what the network saw in each face.
          looks: the faces themselves, for their descriptors; None where a face cannot be described.
          scene: the frame's coarse picture (`scene_of`), which shows a cut.
        """
        cut = scene is not None and self._scene is not None and is_cut(self._scene, scene)
        self._scene = scene
        descriptors = _Descriptors(looks, self._describe)
        chosen = self._match(time, boxes, descriptors, cut)
        found = []
        for index, (box, answer) in enumerate(zip(boxes, answers, strict=True)):
            track = chosen.get(index) or self._begin(box, time, answer)
            found.append((track.number, self._follow(track, time, box, answer)))
            descriptors.keep(index, track)
        self._forget()
        return found

    def _match(
        self, time: float, boxes: Sequence[np.ndarray], descriptors: _Descriptors, cut: bool
    ) -> dict[int, _Track]:
        for track in self._tracks if cut else ():
            # In another shot, places of this one tell nothing.
            track.here = False
        near = [track for track in self._tracks if track.here and time - track.time <= self._lost_after_s]
        away = np.array([[_away(track, time, box) for track in near] for box in boxes]).reshape(len(boxes), len(near))
        crowded = _doubtful(away)
        for index in crowded | _changed(away, near, boxes, descriptors):
            # Of two close to each other one half hides the other, whose descriptor is then poor.
            self._add_appearance(away[index], near, descriptors.of(index), HIDDEN if index in crowded else OTHER)
        chosen = {index: near[column] for index, column in _assigned(away)}
        self._recognise(chosen, len(boxes), descriptors)
        return chosen

    def _add_appearance(
        self, away: np.ndarray, near: Sequence[_Track], descriptor: np.ndarray | None, other: float
    ) -> None:
        """Adds to a face's distances how unlike the tracks it looks; from `other` on it is another person."""
        for column in np.flatnonzero(np.isfinite(away)) if descriptor is not None else ():
            unlike = self._unlike(near[column], descriptor, at_once=True)
            # A track without a view is neither like nor unlike.
            if math.isfinite(unlike):
                away[column] = math.inf if unlike > other else away[column] + WEIGHT * unlike

    def _recognise(self, chosen: dict[int, _Track], count: int, descriptors: _Descriptors) -> None:
        """Gives faces without a track the number of somebody who is missing and looks like them."""
        seen = {track.number for track in chosen.values()}
        missing = [track for track in self._tracks if track.number not in seen and track.views]
        pairs = []
        for index in range(count) if missing else ():
            descriptor = None if index in chosen else descriptors.of(index)
            if descriptor is not None:
                pairs += [(self._unlike(track, descriptor), index, place) for place, track in enumerate(missing)]
        taken: set[int] = set()
        for unlike, index, place in sorted(pairs):
            if unlike < SAME and index not in chosen and place not in taken:
                chosen[index] = missing[place]
                taken.add(place)

    def _unlike(self, track: _Track, descriptor: np.ndarray, at_once: bool = False) -> float:
        """The distance of a descriptor to the nearest view of a track; infinite when it has none.

        Args:
          track: a person.
          descriptor: a face's.
          at_once: whether the track was seen a moment ago, so that its last look is the best to compare with.
        """
        if at_once and track.last is not None:
            turn = int(np.searchsorted(TURNS, turn_of(track.last.landmarks)))
            track.views[turn], track.last = track.last, None
            track.known.pop(turn, None)
        for turn, look in track.views.items():
            if turn not in track.known:
                track.known[turn] = self._describe(look)
        return min((float(np.linalg.norm(known - descriptor)) for known in track.known.values()), default=math.inf)

    def _begin(self, box: np.ndarray, time: float, answer: Answer) -> _Track:
        self._count += 1
        self._tracks.append(_Track(self._count, box, time, answer.probabilities))
        return self._tracks[-1]

    def _follow(self, track: _Track, time: float, box: np.ndarray, answer: Answer) -> Answer:
        passed = time - track.time
        if self._smoothing_s > 0:
            share = 1 - math.exp(-passed / self._smoothing_s)
            track.probabilities = track.probabilities + share * (answer.probabilities - track.probabilities)
        else:
            track.probabilities = answer.probabilities
        if passed > self._lost_after_s or not track.here:
            track.speed = np.zeros(2)
        elif passed > 0:
            speed = (centre(box) - centre(track.box)) / passed
            track.speed = STEADY * track.speed + (1 - STEADY) * speed
        track.box, track.time, track.here = box, time, True
        return dataclasses.replace(answer, probabilities=track.probabilities)

    def _forget(self) -> None:
        """Keeps those who were seen last."""
        if len(self._tracks) > MOST_REMEMBERED:
            self._tracks = sorted(self._tracks, key=lambda track: track.time)[-MOST_REMEMBERED:]


def scene_of(rgb: np.ndarray) -> np.ndarray:
    """Returns a frame's coarse picture, float32 (9, 16, 3): what changes at a cut and hardly within a shot."""
    import cv2

    return cv2.resize(rgb, _SCENE, interpolation=cv2.INTER_AREA).astype(np.float32)


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two frames' coarse pictures are of different shots. A false alarm costs some descriptors, no number."""
    return float(np.abs(after - before).mean()) > CUT


def turn_of(landmarks: np.ndarray) -> float:
    """How far the nose's tip lies off the middle of the eyes and mouth, as a share of the face's width."""
    eyes, mouth = landmarks[36:48].mean(0), landmarks[48:68].mean(0)
    width = max(float(np.ptp(landmarks[:, 0])), 1e-6)
    return float((landmarks[30] - (eyes + mouth) / 2)[0]) / width


def _away(track: _Track, time: float, box: np.ndarray) -> float:
    """How far a face is from where a track should be, in sides, with its growth.

    Infinite beyond the gate, which opens around the last place too: whoever turns back is not where they should be.
    """
    mean = (_side(track.box) + _side(box)) / 2
    moved, stayed = (float(np.linalg.norm(centre(box) - at)) / mean for at in (track.expected(time), centre(track.box)))
    grown = abs(math.log(_side(box) / _side(track.box)))
    return moved + grown if min(moved, stayed) + grown < gate(time - track.time) else math.inf


def _doubtful(away: np.ndarray) -> set[int]:
    """The faces that more than one track could be of, and those of a track that more than one face could be of."""
    close = np.isfinite(away)
    shared = close & (close.sum(0, keepdims=True) > 1)
    return {index for index in range(len(away)) if close[index].sum() > 1 or shared[index].any()}


def _changed(
    away: np.ndarray, near: Sequence[_Track], boxes: Sequence[np.ndarray], descriptors: _Descriptors
) -> set[int]:
    """The faces that look otherwise than whoever was there a look ago, such as after a cut in a small window."""
    found = set()
    for index in range(len(away)):
        coarse = descriptors.coarse(index)
        if coarse is None or not np.isfinite(away[index]).any() or _beside_another(index, boxes):
            continue
        before = near[int(np.argmin(away[index]))].coarse
        if before is not None and float(np.abs(coarse - before).mean()) > CHANGED:
            found.add(index)
    return found


def _beside_another(index: int, boxes: Sequence[np.ndarray]) -> bool:
    """Whether another face is so near that it may hide a part of this one."""
    others = [box for number, box in enumerate(boxes) if number != index]
    return any(np.linalg.norm(centre(box) - centre(boxes[index])) < HIDES * _side(box) for box in others)


def _assigned(away: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of face and track with the least distance in all."""
    from scipy.optimize import linear_sum_assignment

    if not np.isfinite(away).any():
        return []
    # A missing pair costs more than any other choice, so that as many as can be are followed.
    costs = np.where(np.isfinite(away), away, 1e6)
    return [
        (int(row), int(column))
        for row, column in zip(*linear_sum_assignment(costs), strict=True)
        if costs[row, column] < 1e6
    ]


def persons_of(
    times: Sequence[float],
    boxes: Sequence[np.ndarray],
    looks: Sequence[Look | None] = (),
    describe: DescribeFn | None = None,
) -> list[int]:
    """Returns the number of the person that each of a clip's faces is of, from 1, however far the frames are apart.

    Args:
      times: seconds of each face, not decreasing; faces of one frame have one time.
      boxes: float (4,) each, x, y, width, height.
      looks, describe: as for the Tracker.
    """
    tracker = Tracker(0.0, math.inf, describe)
    looks = list(looks) or [None] * len(boxes)
    numbers: list[int] = []
    start = 0
    for end in range(1, len(times) + 1):
        if end == len(times) or times[end] != times[start]:
            nothing = [Answer((), np.zeros(0, np.float32))] * (end - start)
            found = tracker.update(times[start], boxes[start:end], nothing, looks[start:end])
            numbers += [number for number, _ in found]
            start = end
    return numbers


def _side(box: np.ndarray) -> float:
    return side(box, _LEAST)
