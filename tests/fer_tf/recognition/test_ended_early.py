"""What an error or Ctrl-C has ended does not pass for complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import fer_tf
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
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
    # What was found is still at hand, and a notebook shows it for what it is. (The last answer was not yet told.)
    assert faces[BATCH - 2].expression == "happy" and "then ended by KeyboardInterrupt" in faces._repr_html_()
    assert repr(faces) == f"<Faces of {len(GREY)} inputs: {BATCH - 1}, then ended by KeyboardInterrupt>"


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
