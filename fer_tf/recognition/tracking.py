"""Follows faces from frame to frame and smooths their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf.recognition.server import Answer

# Less overlap than this is another face, unless the centres are close.
MIN_OVERLAP = 0.3
NEAR = 0.5
LOST_AFTER_S = 1.0


@dataclass
class _Track:
    number: int
    box: np.ndarray
    time: float
    probabilities: np.ndarray


class Tracker:
    """Gives a face the same number from frame to frame.

    Args:
      smoothing_s: time constant of the exponential smoothing, seconds; 0 smooths nothing.
      lost_after_s: how long a face may be unseen and still keep its number, seconds.
    """

    def __init__(self, smoothing_s: float = 0.4, lost_after_s: float = LOST_AFTER_S) -> None:
        self._smoothing_s = smoothing_s
        self._lost_after_s = lost_after_s
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, time: float, boxes: Sequence[np.ndarray], answers: Sequence[Answer]) -> list[tuple[int, Answer]]:
        """Returns the number and the smoothed answer of each of a frame's faces, in the order given.

        Args:
          time: seconds; must not go back.
          boxes: float (4,) each, x, y, width, height.
          answers: what the network saw in each face.
        """
        self._tracks = [track for track in self._tracks if time - track.time <= self._lost_after_s]
        chosen = self._match(boxes)
        return [
            self._follow(chosen.get(index), time, box, answer)
            for index, (box, answer) in enumerate(zip(boxes, answers, strict=True))
        ]

    def _match(self, boxes: Sequence[np.ndarray]) -> dict[int, _Track]:
        pairs = sorted(
            ((closeness(track.box, box), index, track) for index, box in enumerate(boxes) for track in self._tracks),
            key=lambda pair: -pair[0],
        )
        chosen: dict[int, _Track] = {}
        taken: set[int] = set()
        for close, index, track in pairs:
            if close > 0 and index not in chosen and track.number not in taken:
                chosen[index] = track
                taken.add(track.number)
        return chosen

    def _follow(self, track: _Track | None, time: float, box: np.ndarray, answer: Answer) -> tuple[int, Answer]:
        if track is None:
            self._count += 1
            track = _Track(self._count, box, time, answer.probabilities)
            self._tracks.append(track)
        elif self._smoothing_s > 0:
            share = 1 - math.exp(-(time - track.time) / self._smoothing_s)
            track.probabilities = track.probabilities + share * (answer.probabilities - track.probabilities)
        else:
            track.probabilities = answer.probabilities
        track.box, track.time = box, time
        return track.number, Answer(answer.expressions, track.probabilities, answer.version)


def persons_of(times: Sequence[float], boxes: Sequence[np.ndarray]) -> list[int]:
    """Returns the number of the person that each of a clip's faces is of, from 1, however far the frames are apart.

    Args:
      times: seconds of each face, not decreasing; faces of one frame have one time.
      boxes: float (4,) each, x, y, width, height.
    """
    tracker = Tracker(0.0, math.inf)
    numbers: list[int] = []
    start = 0
    for end in range(1, len(times) + 1):
        if end == len(times) or times[end] != times[start]:
            nothing = [Answer((), np.zeros(0, np.float32))] * (end - start)
            numbers += [number for number, _ in tracker.update(times[start], boxes[start:end], nothing)]
            start = end
    return numbers


def closeness(a: np.ndarray, b: np.ndarray) -> float:
    """How well two boxes match: their overlap (IoU), a little for near centres of like size, else 0."""
    top_left = np.maximum(a[:2], b[:2])
    bottom_right = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    common = float(np.prod(np.maximum(bottom_right - top_left, 0)))
    overlap = common / max(float(a[2] * a[3] + b[2] * b[3]) - common, 1e-6)
    if overlap >= MIN_OVERLAP:
        return overlap
    sizes = sorted((float(a[3]), float(b[3])))
    distance = float(np.linalg.norm((a[:2] + a[2:] / 2) - (b[:2] + b[2:] / 2)))
    near = distance < NEAR * sizes[1] and sizes[0] > 0.5 * sizes[1]
    return 0.5 * MIN_OVERLAP * (1 - distance / sizes[1]) if near else 0.0
