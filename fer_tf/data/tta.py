"""Test-time augmentation: a face is seen in several ways, and the mean answer counts (Krizhevsky et al. 2012)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

TtaName = Literal["none", "flip", "views"]


@dataclass(frozen=True)
class Tta:
    """The ways in which each face is seen: at each share as it is, and mirrored too where asked for.

    Attributes:
      shares: sides of what is seen, each as a share of what the network sees without augmentation.
      mirror: whether each is seen mirrored too.
    """

    shares: tuple[float, ...] = (1.0,)
    mirror: bool = False

    def of(self, face: np.ndarray) -> Iterator[np.ndarray]:
        """Yields a face in each way.

        Args:
          face: uint8 (H, W, 3), an aligned crop.
        """
        for share in self.shares:
            view = zoomed(face, share)
            yield view
            if self.mirror:
                yield np.ascontiguousarray(view[:, ::-1])


# A tenth of the side to either hand: docs/experiments.md, "What can be had without training?".
TTA: dict[TtaName, Tta] = {
    "none": Tta(),
    "flip": Tta(mirror=True),
    "views": Tta((0.91, 1.0, 1.1), mirror=True),
}


def zoomed(face: np.ndarray, share: float) -> np.ndarray:
    """Returns the middle of a face as large as the face, uint8 of its shape.

    Args:
      face: uint8 (H, W, 3).
      share: of its sides that is seen; above 1 its edge is repeated around it.
    """
    if share == 1:
        return face
    import cv2

    height, width = face.shape[:2]
    # Pixel centres: x becomes (x - middle) / share + middle.
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    turn = np.eye(2) / share
    return cv2.warpAffine(
        face,
        np.column_stack([turn, middle - turn @ middle]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
