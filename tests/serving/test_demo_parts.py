"""What the page shows and says, asked of its functions without a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from fer_tf.faces.extractor import FaceExtractor
from fer_tf.recognition.answers import Answer
from serving import demo, demo_samples
from serving.demo_video import Progress, VideoLooker
from tests.fer_tf.faces.clips import read_frames
from tests.serving.conftest import EXPRESSIONS, write_wide_clip
from tests.serving.test_demo import two_people, write_clip


def test_the_face_that_was_pointed_at_is_the_smallest_around_the_point() -> None:
    boxes = [(0, 0, 100, 100), (20, 20, 30, 30), (200, 0, 50, 50)]
    faces = [demo.Shown(np.zeros((1, 1, 3), np.uint8), np.array(box), None) for box in boxes]
    assert [demo.face_at(faces, *point) for point in ((30, 30), (90, 90), (210, 10), (150, 150))] == [1, 0, 2, None]


def test_samples_show_several_people_and_poses(samples: Path) -> None:
    shown = demo_samples.sample_pictures(str(samples))
    assert 6 <= len(shown) <= 12
    assert len({caption for _, caption in shown}) > 4
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for picture, _ in shown)


def test_a_sample_of_pixels_that_are_not_square_is_not_squeezed(tmp_path: Path) -> None:
    write_wide_clip(tmp_path / "wide.mp4")
    ((picture, _),) = demo_samples.sample_pictures(str(tmp_path))
    assert picture.shape == (96, 171, 3)


def test_samples_are_decoded_aside_and_none_that_would_let_the_page_wait(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A codec that hangs or crashes would take the page with it.
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("decoded in this process"))
    for name in ("a", "b"):
        shutil.copy(samples / "take_1/P004/happy/front.mp4", tmp_path / f"{name}.mp4")
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:3000])
    os.mkfifo(tmp_path / "hangs.mp4")

    def captions() -> list[str]:
        return [caption.split("/")[-1] for _, caption in demo_samples.sample_pictures(str(tmp_path))]

    assert captions() == ["a", "b"]
    for name, most in (("MAX_CLIP_SECONDS", 0.1), ("MAX_BYTES", 3000), ("WAIT_SECONDS", -1.0)):
        with monkeypatch.context() as patched:
            patched.setattr(demo_samples, name, most)
            assert captions() == []


def test_a_clips_sample_is_its_last_frame(samples: Path, tmp_path: Path) -> None:
    clip = shutil.copy(samples / "take_1/P004/happy/front.mp4", tmp_path)
    ((picture, _),) = demo_samples.sample_pictures(str(tmp_path))
    last = read_frames(clip)[-1]
    assert picture.shape == last.shape and np.abs(picture.astype(int) - last).mean() < 2


def test_what_is_probably_no_face_is_called_so() -> None:
    def name(is_face: float | None) -> str:
        answer = Answer(EXPRESSIONS, np.array([0.1, 0.7, 0.1, 0.1], np.float32), is_face=is_face)
        return demo.name_of(2, demo.Shown(np.zeros((1, 1, 3), np.uint8), np.zeros(4), answer))

    assert [name(0.9), name(None), name(0.2)] == ["2: happy", "2: happy", "2: happy (perhaps no face)"]


def test_of_a_long_clip_the_beginning_is_looked_at(samples: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", two_people(samples) * 2)

    def ask(faces: list[np.ndarray]) -> list[Answer]:
        return [Answer(EXPRESSIONS, np.full(4, 0.25, np.float32)) for _ in faces]

    looker = VideoLooker(ask, FaceExtractor, max_seconds=0.5)
    with contextlib.closing(looker):
        *steps, result = looker.look(str(clip), "session")
        assert result.cut and 0.4 < result.series["seconds"] <= 0.5
        assert all(isinstance(step, Progress) for step in steps)
        assert max(time for face in result.series["faces"] for time in face["times"]) <= 0.5
        with av.open(result.clip) as drawn:
            assert sum(1 for _ in drawn.decode(video=0)) == 13
    assert not os.path.exists(looker.folder)
