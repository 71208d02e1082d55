"""Looking at a clip: pixels are made square, and faces are followed however far the looks are apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fer_tf.faces import media
from serving.connection import Answer
from serving.looking import SeenFrame, look_at_video
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.serving.conftest import write_wide_clip


class OneFace:
    """Finds the same face in every picture."""

    options = SimpleNamespace(max_side=1024)

    def faces_in_image(self, rgb: np.ndarray) -> list[SimpleNamespace]:
        box = np.array([20, 20, 50, 50], np.float32)
        return [SimpleNamespace(image=rgb[:50, :50], box=box, score=0.99)]


def ask(crops: list[np.ndarray]) -> list[Answer]:
    return [Answer(("happy", "sad"), np.array([0.7, 0.3], np.float32)) for _ in crops]


def look(path: str, **options: object) -> list[SeenFrame]:
    return list(look_at_video(media.open(path), OneFace(), ask, **options))


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    seen = look(write_wide_clip(tmp_path / "wide.mp4"), with_pictures=True)
    assert {frame.rgb.shape for frame in seen} == {(96, 171, 3)}


def test_a_face_keeps_its_number_when_looks_are_seconds_apart(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mp4", drawn(7), times_ms=[1000 * second for second in range(7)])
    seen = look(path, frames_per_second=0.5)
    assert [frame.time for frame in seen] == [0, 2, 4, 6]
    assert [face.track for frame in seen for face in frame.faces] == [1, 1, 1, 1]
