"""Ways to look at a frame in which no face shows as it is: with a border around it, or turned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.faces.detect import Detections
from fer_tf.faces.follow import ClipFinder
from fer_tf.faces.frame import Frame

# The border, as a share of the frame's long side: of 180 tightly cut film faces in front and side views 130 are found
# without one, 155 with this, 146 with half of the side, 143 with 80 pixels.
BORDER = 0.2


@dataclass(frozen=True)
class View:
    """One way to look at a frame.

    Attributes:
      turns: quarter turns counterclockwise before looking.
      border: whether the frame's edge is repeated around it.
    """

    turns: int = 0
    border: bool = False

    def of(self, frame: Frame) -> Frame:
        """Returns the frame as it is looked at, still without the border, in which nothing can be seen."""
        return dataclasses.replace(frame, rgb=np.ascontiguousarray(np.rot90(frame.rgb, self.turns)))

    def find(self, finder: ClipFinder, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the faces of frames that come from `of`, in their pixels."""
        if not self.border:
            return finder.find(frames)
        import cv2

        wide = round(BORDER * max(frames[0].shape[:2]))
        around = [cv2.copyMakeBorder(rgb, wide, wide, wide, wide, cv2.BORDER_REPLICATE) for rgb in frames]
        return [found.moved(-wide) for found in finder.find(around)]

    def back(self, face: Any, shape: tuple[int, ...]) -> Any:
        """Returns an AlignedFace with its places in the frame of this shape (h, w, ...), which was turned."""
        if not self.turns:
            return face
        corners = _turned_back(np.stack([face.box[:2], face.box[:2] + face.box[2:]]), self.turns, shape)
        low, high = corners.min(0), corners.max(0)
        points = _turned_back(face.frame_landmarks, self.turns, shape)
        # The crop's pixels stay: a point of the frame goes where its place in the turned one went.
        origin, right, below = _turned_back(np.array([[0, 0], [1, 0], [0, 1]]), self.turns, shape).astype(float)
        turn = face.transform[:, :2] @ np.column_stack([right - origin, below - origin]).T
        transform = np.column_stack([turn, face.transform[:, 2] - turn @ origin])
        box = np.concatenate([low, high - low])
        return dataclasses.replace(face, box=box, frame_landmarks=points, transform=transform)


UPRIGHT = View()
VIEWS = (UPRIGHT, View(border=True), View(turns=2), View(turns=1), View(turns=3))


def _turned_back(points: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Moves points (n, 2) of `np.rot90(image, turns)` to where they are in the image."""
    height, width = shape[:2]
    x, y = points[:, 0], points[:, 1]
    moved = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[turns % 4]
    return np.stack(moved, 1).astype(np.float32)
