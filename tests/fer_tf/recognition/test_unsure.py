"""Answers below a threshold of confidence say that they are unsure: in the table, as JSON, printed and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

import fer_tf
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.command import Output, show
from fer_tf.recognition.drawing import GREY, annotate, colour_of
from fer_tf.recognition.given import GivenFaces

DIM, BRIGHT = (np.full((64, 64, 3), level, np.uint8) for level in (140, 230))  # Happy by 55 and by 90 %.


class ByBrightness:
    """A network that takes bright faces for happy ones."""

    name, expressions, landmark_model = "by brightness", ("happy", "sad"), "none"

    def classify(self, faces: list[np.ndarray]) -> list[Answer]:
        shares = [float(face.mean()) / 255 for face in faces]
        return [Answer(self.expressions, np.array([share, 1 - share], np.float32)) for share in shares]


def recognizer(unsure_below: float) -> fer_tf.Recognizer:
    return fer_tf.Recognizer(ByBrightness(), GivenFaces(ExtractorOptions(subject="all")), unsure_below)


def test_a_column_marks_unsure_answers_and_they_keep_their_best_expression(tmp_path: Path) -> None:
    faces = recognizer(0.6)([DIM, BRIGHT])
    table = faces.table()
    assert table["expression"].tolist() == ["happy", "happy"] and table["unsure"].tolist() == [True, False]
    assert [face.unsure for face in faces] == [True, False]
    assert pandas.read_csv(faces.save(tmp_path / "faces.csv"))["unsure"].tolist() == [True, False]
    assert "unsure: " in faces._repr_html_() and "unsure" not in recognizer(0)([DIM]).table()


def test_a_clips_spans_and_mean_tell_when_nothing_was_sure(capsys: pytest.CaptureFixture) -> None:
    # Of one shot: a greater change of light is a cut.
    clip = np.stack([DIM] * 10 + [np.full_like(DIM, 160)] * 40)
    faces = recognizer(0.6)(clip, smoothing=0)
    assert show(faces.each_frame(with_pictures=False), Output(json=True)) == 0
    (face,) = json.loads(capsys.readouterr().out)[0]["faces"]
    assert [span["expression"] for span in face["spans"]] == ["unsure", "happy"]
    assert face["unsure"] is False and face["expression"] == "happy"
    show(recognizer(0.95)(clip).each_frame(with_pictures=False), Output())
    assert "unsure: happy" in capsys.readouterr().out


def test_bars_of_an_unsure_answer_are_grey() -> None:
    box = np.array([20, 20, 100, 100], np.float32)
    colours = []
    for threshold in (0.0, 0.6):
        answer = Answer(("happy", "sad"), np.array([0.55, 0.45], np.float32), unsure_below=threshold)
        drawn = annotate(np.full((240, 240, 3), 90, np.uint8), [(1, box, answer)], top=1)
        panel = drawn[123:150, 20:120].reshape(-1, 3).astype(int)
        colours.append(np.ptp(panel, axis=1).max())
    # The bars of a sure answer have the face's colour; grey has none.
    assert colours[0] > 60 and colours[1] < 10
    assert np.ptp(GREY) == 0 and np.ptp(colour_of(1)) > 60


def test_a_threshold_that_is_no_share_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="unsure_below"):
        fer_tf.Recognizer.load("no/such/folder", unsure_below=40)
