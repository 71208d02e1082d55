"""What an error or Ctrl-C has ended does not pass for complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

import fer_tf
from fer_tf.config import EXIT_INCOMPLETE, run_command
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition import __main__ as command
from fer_tf.recognition import faces as recognised
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.faces import Faces
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.looking import BATCH
from tests.fer_tf.recognition.test_unsure import ByBrightness

GREY = [np.full((48, 48, 3), 200, np.uint8)] * (BATCH + 8)


class AnswersOnce(ByBrightness):
    """Is interrupted when it is asked about the second batch."""

    def __init__(self) -> None:
        self.asked = 0

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        self.asked += 1
        if self.asked == 2:
            raise KeyboardInterrupt
        return super().classify(faces)


def found_by(network: ByBrightness) -> Faces:
    return fer_tf.Recognizer(network, GivenFaces(ExtractorOptions(subject="all")))(GREY)


@pytest.mark.parametrize("use", [Faces.table, lambda faces: list(faces.each_frame(with_pictures=False))])
def test_after_an_interruption_no_part_passes_for_all(use: Callable[[Faces], object], tmp_path: Path) -> None:
    faces = found_by(AnswersOnce())
    with pytest.raises(KeyboardInterrupt):
        use(faces)
    for again in (Faces.table, len, lambda faces: faces.rejected, lambda faces: faces.save(tmp_path / "a.csv"), use):
        with pytest.raises(InputError, match="recognise the inputs again"):
            again(faces)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"looking ended early \(KeyboardInterrupt\)"):
        faces.crops  # noqa: B018
    # What was found is still at hand, and a notebook shows it for what it is.
    assert faces[BATCH - 1].expression == "happy" and "then ended by KeyboardInterrupt" in faces._repr_html_()
    assert repr(faces) == f"<Faces of {len(GREY)} inputs: {BATCH}, then ended by KeyboardInterrupt>"


def test_the_command_keeps_what_was_found_under_names_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for number, picture in enumerate(GREY):
        cv2.imwrite(f"{tmp_path}/{number:02}.png", picture)
    (tmp_path / "0.txt").touch()
    network = AnswersOnce()
    given = fer_tf.Recognizer(network, GivenFaces(ExtractorOptions(subject="all")))
    monkeypatch.setattr(fer_tf.Recognizer, "load", lambda *_, **__: given)
    monkeypatch.setattr(given, "close", lambda: None)
    flags = [str(tmp_path), f"--output={tmp_path}/out", "--annotate=false", "--relative_to=all"]
    assert run_command(command.main, flags) == 130
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["faces.incomplete.csv", "rejected.incomplete.csv"]
    assert 0 < len(pandas.read_csv(out / "faces.incomplete.csv")) < len(GREY)
    assert "stopped: Ctrl-C\n" in capsys.readouterr().err
    # The network answers from now on; neither this run nor the next takes the first one's tables for inputs.
    assert [run_command(command.main, flags) for _ in range(2)] == [EXIT_INCOMPLETE] * 2
    assert sorted(path.name for path in out.iterdir()) == ["faces.csv", "rejected.csv"]
    assert len(pandas.read_csv(out / "faces.csv")) == len(GREY) and len(pandas.read_csv(out / "rejected.csv")) == 1
    assert "left out: what an earlier run wrote, 2 files such as" in capsys.readouterr().err


def test_an_interruption_between_two_looks_loses_no_face_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    faces, kept = found_by(ByBrightness()), recognised.face_of

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for number, _ in enumerate(faces.each_frame(with_pictures=False)):
            monkeypatch.setattr(recognised, "face_of", interrupted if number == 3 else kept)
    monkeypatch.setattr(recognised, "face_of", kept)
    with pytest.raises(InputError, match="looking ended early"):
        faces.table()
