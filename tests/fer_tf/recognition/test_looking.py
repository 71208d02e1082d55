"""Looking at a clip: pixels are made square, and faces are followed however far the looks are apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fer_tf.faces.media import Limits
from fer_tf.faces.video import Decoder
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.looking import MAX_WAITING, LookOptions, SeenFace, SeenFrame, Unreadable, between, look
from fer_tf.recognition.sources import Source, sources_of
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.serving.conftest import write_wide_clip

NAMES = ("happy", "sad")


class OneFace:
    """Finds the same face in every picture; its crop tells which picture it was cut from."""

    options = SimpleNamespace(max_side=1024, limits=Limits())

    def __init__(self) -> None:
        self.decoder = Decoder(60.0, Limits(), 1024)

    def search(self, rgb: np.ndarray) -> tuple[list[SimpleNamespace], list]:
        box = np.array([20, 20, 50, 50], np.float32)
        nowhere = np.full((68, 2), np.nan)
        return [SimpleNamespace(image=rgb[:50, :50], landmarks=nowhere, box=box, score=0.99)], []


class Asked:
    """Answers with the crop's brightness and remembers how many crops came together."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, crops: list[np.ndarray]) -> list[Answer]:
        self.batches.append(len(crops))
        shares = [float(crop.mean()) / 255 for crop in crops]
        return [Answer(NAMES, np.array([share, 1 - share], np.float32)) for share in shares]


def looked(path: str, **options: object) -> list[SeenFrame]:
    finder = OneFace()
    with closing(finder.decoder):
        return list(look(sources_of(path), finder, Asked(), LookOptions(**options)))


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    seen = looked(write_wide_clip(tmp_path / "wide.mp4"), with_pictures=True)
    assert {frame.rgb.shape for frame in seen} == {(96, 171, 3)}


def test_a_face_keeps_its_number_when_looks_are_seconds_apart(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mp4", drawn(7), times_ms=[1000 * second for second in range(7)])
    seen = looked(path, frames_per_second=0.5)
    assert [frame.time for frame in seen] == [0, 2, 4, 6]
    assert [face.number for frame in seen for face in frame.faces] == [1, 1, 1, 1]


def test_faces_of_many_files_are_asked_about_together_and_each_file_gets_its_own_answers(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    grey = [np.full((80, 80, 3), 5 * level, np.uint8) for level in range(40)]
    sources = sources_of([*grey[:20], str(broken), *grey[20:]])
    ask = Asked()
    finder = OneFace()
    with closing(finder.decoder):
        items = list(look(sources, finder, ask))
    assert ask.batches == [31, 9]  # The file that cannot be read waits in line too.
    assert [item.source for item in items] == sources
    assert [type(item) for item in items].index(Unreadable) == 20 and items[20].error.reason == "not_a_video"
    shares = [item.faces[0].answer.probabilities[0] for item in items if isinstance(item, SeenFrame)]
    np.testing.assert_allclose(shares, np.arange(40) * 5 / 255, atol=1e-6)
    assert all(item.faces[0].number == 1 for item in items if isinstance(item, SeenFrame))


def test_a_long_clip_is_never_held_as_a_whole(tmp_path: Path) -> None:
    frames = np.broadcast_to(np.zeros((1, 1080, 1920, 3), np.uint8), (2000, 1080, 1920, 3))
    read: list[int] = []

    class Counting(OneFace):
        def search(self, rgb: np.ndarray) -> tuple[list, list]:
            read.append(1)
            return super().search(rgb)

    items = look([Source("long", frames)], Counting(), Asked(), LookOptions(with_pictures=True))
    next(items)
    # 64 MB of pictures are eleven frames of this size.
    assert len(read) <= 11


def test_the_same_frames_are_looked_at_whether_or_not_their_pictures_are_asked_for() -> None:
    frames = np.broadcast_to(np.zeros((1, 80, 80, 3), np.uint8), (240, 80, 80, 3))
    plain, drawn_on = (
        list(look([Source("long", frames)], OneFace(), Asked(), LookOptions(0.25, with_pictures=with_pictures)))
        for with_pictures in (False, True)
    )
    # Four seconds are a hundred frames; of them no more wait for the second look than are kept at once.
    assert [frame.number for frame in plain] == [frame.number for frame in drawn_on if frame.looked_at] == [0, 100, 200]
    assert [frame.number for frame in drawn_on] == list(range(240))
    for one, other in zip(plain, (frame for frame in drawn_on if frame.looked_at), strict=True):
        np.testing.assert_equal([vars(face.answer) for face in one.faces], [vars(face.answer) for face in other.faces])
    assert all([face.number for face in frame.faces] == [1] for frame in drawn_on)


def test_while_the_next_look_is_far_frames_go_on_and_do_not_fill_the_memory() -> None:
    read: list[int] = []

    class Noting(np.ndarray):
        def __iter__(self) -> Iterator[np.ndarray]:
            for number in range(len(self)):
                read.append(number)
                yield np.asarray(self[number])

    frames = np.broadcast_to(np.zeros((1, 80, 80, 3), np.uint8), (2000, 80, 80, 3)).view(Noting)
    for frame in look([Source("long", frames)], OneFace(), Asked(), LookOptions(0.01, with_pictures=True)):
        assert len(read) - frame.number <= 2 * MAX_WAITING


def box(x: float) -> np.ndarray:
    return np.array([x, 100, 50, 50], np.float32)


def test_between_two_looks_boxes_move_evenly() -> None:
    answers = [Answer(NAMES, np.array(values, np.float32)) for values in ((0.5, 0.5), (1, 0))]
    earlier = [SeenFace(1, box(0), 0.9, answers[0]), SeenFace(2, box(300), 0.9, answers[0])]
    (face,) = between(earlier, [SeenFace(1, box(40), 0.9, answers[1])], 0.25)
    assert face.number == 1 and face.answer is answers[0]
    np.testing.assert_allclose(face.box, box(10))
