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

    def of(self, faces: np.ndarray) -> Iterator[np.ndarray]:
        """Yields faces in each way.

        Args:
          faces: uint8 (..., H, W, 3), such as aligned crops.
        """
        for share in self.shares:
            view = cut(faces, share)
            yield view
            if self.mirror:
                yield np.ascontiguousarray(view[..., ::-1, :])


# A tenth of the side to either hand: docs/experiments.md, "What can be had without training?".
TTA: dict[TtaName, Tta] = {
    "none": Tta(),
    "flip": Tta(mirror=True),
    "views": Tta((0.91, 1.0, 1.1), mirror=True),
}


def cut(faces: np.ndarray, share: float) -> np.ndarray:
    """Returns the middle of faces, or with their edge repeated around them more than there is.

    Args:
      faces: uint8 (..., H, W, 3).
      share: of the sides that is seen, above 0.
    """
    for axis in (-3, -2):
        side = faces.shape[axis]
        margin = round(side * (share - 1) / 2)
        if margin:
            faces = faces.take(np.arange(-margin, side + margin).clip(0, side - 1), axis)
    return faces
