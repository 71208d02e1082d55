"""Drawn faces in memory: four expressions on eight persons, as the methods read them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fer_tf.competitors.faces import Faces
from tests.toy_data import EXPRESSIONS, draw

SIDE, PERSONS, TAKES = 48, 8, 2


@pytest.fixture(scope="session")
def drawn() -> Faces:
    """64 faces, grey, 48 pixels, with landmarks; takes differ by a little movement."""
    images, labels, persons, points = [], [], [], []
    for person in range(PERSONS):
        for label, expression in enumerate(EXPRESSIONS):
            for take in range(TAKES):
                face, _, landmarks = draw(expression, "front", person, wobble=2.0 * take)
                grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
                images.append(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
                labels.append(label)
                persons.append(f"T{person:03d}")
                points.append(landmarks * SIDE / face.shape[0])
    return Faces(np.stack(images), np.array(labels), np.array(persons), np.stack(points).astype(np.float32))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """As the trainer does for little data: several threads would only wait for each other."""
    with threadpool_limits(1):
        yield
