"""Pictures that are faces already: nothing is searched, cut out or aligned."""

from __future__ import annotations

import numpy as np

from fer_tf.data.tta import cut
from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.extractor import AlignedFace, ClipFaces, ExtractorOptions, Rejected

MODES = ("found", "given")


class GivenFaces:
    """Takes each picture, and each frame of a clip, as one face; in an extractor's place.

    The network sees the picture, stretched to a square: it should be cut as the network's training faces were. Where
    those were cut by others (FER2013), more tightly than faces are aligned here, the picture is surrounded by its
    repeated edge (black where its crop is read again), so that it stands in the crop as an aligned face does, and the
    network sees as much of it as of its training pictures, and nothing of the border.

    Args:
      options: those of an extractor, of which the limits count.
      share: side of the picture as a share of the crop's.
    """

    def __init__(self, options: ExtractorOptions, share: float = 1.0) -> None:
        self.options = options
        self._share = share
        # Nothing is aligned, so no predictor can be the wrong one.
        self.landmark_model = "none"

    def search(self, rgb: np.ndarray) -> tuple[list[AlignedFace], list[Rejected]]:
        """Returns the picture as a face without landmarks; its mask is black.

        Args:
          rgb: uint8 (h, w, 3).
        """
        nowhere = np.full((68, 2), np.nan, np.float32)
        height, width = rgb.shape[:2]
        image = cut(rgb, 1 / self._share)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        scale = np.array([[FACE_SIZE / image.shape[1]], [FACE_SIZE / image.shape[0]]])
        face = AlignedFace(
            image=image,
            mask=np.zeros((FACE_SIZE, FACE_SIZE), np.uint8),
            landmarks=nowhere,
            frame_landmarks=nowhere,
            transform=scale * np.array([[1.0, 0.0, left], [0.0, 1.0, top]]),
            box=np.array([0, 0, width, height], np.float32),
            score=1.0,
        )
        return [face], []

    def extract(self, path: str) -> ClipFaces:
        """Keyframes are chosen by a face's motion.

        Raises:
          InputError: always.
        """
        raise InputError(f"`keyframes` need faces that are found, and `faces` are given. Received: {path!r}.")

    def close(self) -> None:
        """Nothing to end."""
