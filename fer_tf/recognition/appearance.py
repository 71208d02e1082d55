"""Who a face is: dlib's descriptor, for telling apart the people of a clip."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.faces.landmarks import packaged_model

if TYPE_CHECKING:
    from fer_tf.recognition.tracking import Look

MODEL = "dlib_face_recognition_resnet_model_v1.dat"


class Describer:
    """Makes 128-d descriptors, of one person when they are less than about 0.6 apart; loaded when first asked.

    Attributes:
      count: how many were made.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self.count = 0

    def __call__(self, look: Look) -> np.ndarray:
        """Returns an aligned face's descriptor, float64 (128,)."""
        import dlib

        if self._model is None:
            self._model = dlib.face_recognition_model_v1(os.path.join(os.path.dirname(packaged_model()), MODEL))
        self.count += 1
        height, width = look.image.shape[:2]
        points = dlib.points([dlib.point(round(float(x)), round(float(y))) for x, y in look.landmarks])
        shape = dlib.full_object_detection(dlib.rectangle(0, 0, width - 1, height - 1), points)
        return np.array(self._model.compute_face_descriptor(np.ascontiguousarray(look.image), shape))
