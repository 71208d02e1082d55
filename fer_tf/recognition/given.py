"""Pictures that are faces already: nothing is searched, cut out or aligned."""

from __future__ import annotations

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.extractor import AlignedFace, ClipFaces, ExtractorOptions, Rejected

MODES = ("found", "given")


class GivenFaces:
    """Takes each picture, and each frame of a clip, as one face; in an extractor's place.

    The network sees the whole picture, stretched to a square: it should be cut as the network's training faces were.

    Args:
      options: those of an extractor, of which the limits count.
    """

    def __init__(self, options: ExtractorOptions) -> None:
        self.options = options
        # Nothing is aligned, so no predictor can be the wrong one.
        self.landmark_model = "none"

    def search(self, rgb: np.ndarray) -> tuple[list[AlignedFace], list[Rejected]]:
        """Returns the picture as a face without landmarks; its mask is black.

        Args:
          rgb: uint8 (h, w, 3).
        """
        nowhere = np.full((68, 2), np.nan, np.float32)
        height, width = rgb.shape[:2]
        face = AlignedFace(
            image=rgb,
            mask=np.zeros((FACE_SIZE, FACE_SIZE), np.uint8),
            landmarks=nowhere,
            frame_landmarks=nowhere,
            transform=np.diag([FACE_SIZE / width, FACE_SIZE / height]) @ np.eye(2, 3),
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
