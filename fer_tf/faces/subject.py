"""Whom a clip is about: faces become tracks through time, and one track is the subject's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fer_tf.faces import boxes

Subject = Literal["main", "center", "largest", "all"]
SUBJECTS = get_args(Subject)

# An empty box's area, in shares of the frame's long side squared.
_LEAST = 1e-12


@dataclass(frozen=True)
class Seen:
    """A face at one moment: which frame, where (x, y, width, height as shares of the frame's long side), when."""

    frame: int
    time: float
    box: np.ndarray
    middle: np.ndarray  # the frame's centre, in the same shares


def choose_subject(faces: Sequence[Seen], rule: str) -> list[int]:
    """Returns the positions, in `faces`, of the subject's faces: at most one a frame unless all count, in order.

    Args:
      faces: all faces of a clip in order of time.
      rule: `main` weighs how long, how large and how central a face is; `center` takes the most central of those
        that are there for at least half as long as the longest; `largest` the largest of those; `all` takes all.
    """
    if rule == "all" or not faces:
        return list(range(len(faces)))
    tracks = _tracks(faces)
    longest = max(len(track) for track in tracks)
    lasting = [track for track in tracks if 2 * len(track) >= longest]

    def sides(track: list[int]) -> np.ndarray:
        return np.array([_side(faces[member]) for member in track])

    def away(track: list[int]) -> np.ndarray:
        return np.array([np.linalg.norm(_centre(faces[member]) - faces[member].middle) for member in track])

    if rule == "center":
        best = min(lasting, key=lambda track: float(np.median(away(track))))
    elif rule == "largest":
        best = max(lasting, key=lambda track: float(np.median(sides(track))))
    else:
        best = max(tracks, key=lambda track: float((sides(track) * (1 - away(track))).sum()))
    return _with_interrupted(faces, tracks, best)


def _tracks(faces: Sequence[Seen]) -> list[list[int]]:
    """Joins faces to tracks, nearest pairs first, frame by frame."""
    tracks: list[list[int]] = []
    frames = sorted({face.frame for face in faces})
    for frame in frames:
        present = [number for number, face in enumerate(faces) if face.frame == frame]
        pairs = sorted(
            (distance, number, index)
            for number in present
            for index, track in enumerate(tracks)
            if (distance := _distance(faces[track[-1]], faces[number])) is not None
        )
        taken: set[int] = set()
        joined: set[int] = set()
        for _, number, index in pairs:
            if number not in joined and index not in taken:
                tracks[index].append(number)
                joined.add(number)
                taken.add(index)
        tracks += [[number] for number in present if number not in joined]
    return tracks


def _distance(before: Seen, after: Seen) -> float | None:
    """How far a face moved and grew, in its own sides; None when it cannot be the same face."""
    side = (_side(before) + _side(after)) / 2
    moved = float(np.linalg.norm(_centre(after) - _centre(before))) / side
    grown = abs(float(np.log(_side(after) / _side(before))))
    return moved + grown if moved + grown < boxes.gate(after.time - before.time) else None


def _with_interrupted(faces: Sequence[Seen], tracks: Sequence[list[int]], subject: list[int]) -> list[int]:
    """Adds tracks of about the same size that are never seen together with the subject: it left and came back."""
    members = list(subject)
    size = np.median([_side(faces[member]) for member in members])
    for track in tracks:
        frames = {faces[member].frame for member in members}
        apart = all(faces[member].frame not in frames for member in track)
        ratio = np.median([_side(faces[member]) for member in track]) / size
        if apart and 0.5 < ratio < 2:
            members += track
    return sorted(members)


def _side(face: Seen) -> float:
    return boxes.side(face.box, _LEAST)


def _centre(face: Seen) -> np.ndarray:
    return boxes.centre(face.box)
