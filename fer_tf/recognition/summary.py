"""A video in few words: each followed face, when it was seen and what it showed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.recognition.answers import Answer, rounded
from fer_tf.recognition.looking import SeenFrame


@dataclass
class _Face:
    answer: Answer
    total: np.ndarray
    count: int
    first: float
    last: float
    spans: list[list[Any]] = field(default_factory=list)


class ClipSummary:
    """Gathers looked-at frames; holds sums and changes of expression, not frames.

    Args:
      path: the clip.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._faces: dict[int, _Face] = {}
        self._frames = 0

    def add(self, seen: SeenFrame) -> None:
        """Counts a looked-at frame."""
        self._frames += 1
        for face in seen.faces:
            known = self._faces.get(face.number)
            if known is None:
                start = np.zeros(len(face.answer.expressions), np.float64)
                known = self._faces[face.number] = _Face(face.answer, start, 0, seen.time, seen.time)
            known.total += face.answer.probabilities
            known.count += 1
            known.last = seen.time
            name = "unsure" if face.answer.unsure else face.answer.best()[0][0]
            if known.spans and known.spans[-1][0] == name:
                known.spans[-1][2] = round(seen.time, 3)
            else:
                known.spans.append([name, round(seen.time, 3), round(seen.time, 3)])

    def as_json(self) -> dict[str, Any]:
        """Returns the summary as plain values: per face the mean probabilities and when which expression led."""
        faces = []
        for track, face in sorted(self._faces.items()):
            mean = dataclasses.replace(face.answer, probabilities=face.total / face.count)
            faces.append(
                {
                    "face": track,
                    "seen": [round(face.first, 3), round(face.last, 3)],
                    "frames": face.count,
                    **rounded(mean),
                    "spans": [{"expression": name, "from": start, "to": end} for name, start, end in face.spans],
                }
            )
        return {"input": self._path, "kind": "video", "frames_looked_at": self._frames, "faces": faces}
