"""Who a face is: dlib's descriptor, for telling apart the people of a clip."""

from __future__ import annotations

import numpy as np

from fer_tf.recognition.tracking import Look
from fer_tf.synthesis.identity import packaged_network
from fer_tf.synthesis.judge import chip_of


class Describer:
    """Makes 128-d descriptors; the network is loaded when it is first asked.

    Attributes:
      count: how many were made.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, look: Look) -> np.ndarray:
        """Returns an aligned face's descriptor, float32 (128,)."""
        self.count += 1
        return np.asarray(packaged_network()(chip_of(look.image, look.landmarks)[None]))[0]
