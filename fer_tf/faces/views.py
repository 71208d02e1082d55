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
        """Returns an AlignedFace with its places in the frame before it was turned.

        Args:
          face: in pixels of the turned frame.
          shape: of the turned frame (h, w, ...).
        """
        if not self.turns:
            return face
        points = _turned_back(face.frame_landmarks, self.turns, shape)
        # The crop's pixels stay: a point of the frame goes where its place in the turned one went.
        origin, right, below = _turned_back(np.array([[0, 0], [1, 0], [0, 1]]), self.turns, shape).astype(float)
        turn = face.transform[:, :2] @ np.column_stack([right - origin, below - origin]).T
        transform = np.column_stack([turn, face.transform[:, 2] - turn @ origin])
        return dataclasses.replace(
            face, box=self.box_back(face.box, shape), frame_landmarks=points, transform=transform
        )

    def box_back(self, box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a box, float32 (4,), as `back` does a face."""
        if not self.turns:
            return box
        corners = _turned_back(np.stack([box[:2], box[:2] + box[2:]]), self.turns, shape)
        low, high = corners.min(0), corners.max(0)
        return np.concatenate([low, high - low])


UPRIGHT = View()
VIEWS = (UPRIGHT, View(border=True), View(turns=2), View(turns=1), View(turns=3))


def _turned_back(points: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Moves points (n, 2) of `np.rot90(image, turns)`, which has this shape, to where they are in the image."""
    bottom, right = shape[0] - 1, shape[1] - 1
    x, y = points[:, 0], points[:, 1]
    moved = {1: (bottom - y, x), 2: (right - x, bottom - y), 3: (y, right - x)}[turns % 4]
    return np.stack(moved, 1).astype(np.float32)
