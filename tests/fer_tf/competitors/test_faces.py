"""Pictures become faces; one without a face is taken whole, and said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_tf.competitors.faces import View
from tests.toy_data import part_of


def test_a_picture_without_a_face_is_taken_whole_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    grey = [np.full((256, 256, 3), level, np.uint8) for level in (40, 200)]
    part = part_of(["a", "b"], [0, 1], [cv2.imencode(".png", image)[1].tobytes() for image in grey])
    faces = View(side=32, align=True, landmarks=False).read(part)
    assert faces.images.shape == (2, 32, 32)
    assert faces.images.reshape(2, -1).mean(1).tolist() == [40, 200]
    assert "no face was found in 2 of 2 pictures" in caplog.text
