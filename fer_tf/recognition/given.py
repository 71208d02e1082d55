"""Pictures that are faces already: nothing is searched, cut out or aligned."""

from __future__ import annotations

import numpy as np

from fer_tf.data.tta import cut
from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.extractor import AlignedFace, ClipFaces, ExtractorOptions, Rejected
from fer_tf.faces.landmarks import NUM_LANDMARKS
from fer_tf.faces.stills import shrunk
from fer_tf.faces.video import Decoder

MODES = ("found", "given")
# A picture with a longer side than LARGE, pixels, is asked about with this long side: networks look at 44 to 128 pixels
# of it. As JPEGs, 32 of white noise are then 7 MB at most, of photographs 1 MB; a server's request may have 8 MB.
LARGE, SIDE = 512, 384


class GivenFaces:
    """Takes each picture, and each frame of a clip, as one face; in an extractor's place.

    The network sees the picture, stretched to a square: it should be cut as the network's training faces were. Where
    those were cut by others (FER2013), more tightly than faces are aligned here, the picture is surrounded by its
    repeated edge (black where its crop is read again), so that it stands in the crop as an aligned face does, and the
    network sees as much of it as of its training pictures, and nothing of the border. A large picture is shrunk before.

    Args:
      options: those of an extractor, of which the limits count.
      share: side of the picture as a share of the crop's.
    """

    def __init__(self, options: ExtractorOptions, share: float = 1.0) -> None:
        self.options = options
        self.decoder = Decoder(options.decode_timeout_s, options.limits, options.max_side)
        self._share = share
        # Nothing is aligned, so no predictor can be the wrong one.
        self.landmark_model = "none"

    def search(self, rgb: np.ndarray) -> tuple[list[AlignedFace], list[Rejected]]:
        """Returns the picture as a face without landmarks; its mask is black.

        Args:
          rgb: uint8 (h, w, 3).
        """
        nowhere = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
        height, width = rgb.shape[:2]
        picture = shrunk(rgb, SIDE) if max(height, width) > LARGE else rgb
        tall, wide = picture.shape[:2]
        image = cut(picture, 1 / self._share)
        top, left = (image.shape[0] - tall) // 2, (image.shape[1] - wide) // 2
        scale = np.array([[FACE_SIZE / image.shape[1]], [FACE_SIZE / image.shape[0]]])
        face = AlignedFace(
            image=image,
            mask=np.zeros((FACE_SIZE, FACE_SIZE), np.uint8),
            landmarks=nowhere,
            frame_landmarks=nowhere,
            transform=scale * np.array([[wide / width, 0.0, left], [0.0, tall / height, top]]),
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
        """Ends the decoder's process."""
        self.decoder.close()
