"""Answers relative to a followed person, a folder's faces or all: as an array, and in the table."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

from fer_tf.errors import InputError
from fer_tf.recognition.__main__ import main
from tests.fer_tf.recognition.test_unsure import recognizer

# Two persons who are happy every other time; the darker one never looks so to a network that sees brightness.
BRIGHT, DARK = (150, 230), (70, 120)


def pictures(folder: Path) -> str:
    for person, levels in (("bright", BRIGHT), ("dark", DARK)):
        (folder / person).mkdir(parents=True)
        for number in range(10):
            level = levels[number % 2]
            cv2.imwrite(str(folder / person / f"{number}.png"), np.full((64, 64, 3), level, np.uint8))
    return str(folder / "*" / "*.png")


def test_a_folders_faces_are_compared_with_each_other(tmp_path: Path) -> None:
    faces = recognizer(0)(pictures(tmp_path), relative_to="folder")
    before = np.array([face.answer.probabilities for face in faces])
    assert before.argmax(axis=1).tolist() == [0] * 10 + [1, 1] * 5
    answers = faces.relative("folder", strength=1.0).argmax(axis=1)
    assert answers.tolist() == [1, 0] * 10
    # Half of the mean is the table's, and its own answers stay.
    table = faces.table()
    assert table["expression"].tolist() == ["happy"] * 10 + ["sad"] * 10
    half = faces.relative("folder")
    assert table["relative_probability"].to_numpy() == pytest.approx(half.max(axis=1), abs=1e-5)
    best = np.array(faces.expressions)[half.argmax(axis=1)]
    assert table["relative_expression"].tolist() == best.tolist()
    saved = pandas.read_csv(faces.save(tmp_path / "faces.csv"))
    assert saved.columns.tolist() == table.columns.tolist() == list(faces.columns)
    np.testing.assert_allclose(faces.relative("nobody"), before, rtol=1e-5)
    # A picture's face has nobody else's number: it is compared with no other.
    np.testing.assert_allclose(faces.relative("person"), before, rtol=1e-5)
    assert np.abs(faces.relative("all") - before).max() > 0.01


def test_a_clips_person_is_compared_with_itself() -> None:
    # Of one shot: a greater change of light is a cut.
    levels = np.repeat([70, 90], 60)
    faces = recognizer(0)(np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels]), smoothing=0)
    assert {face.number for face in faces} == {1} and {face.expression for face in faces} == {"sad"}
    answers = faces.relative("person", strength=1.0).argmax(axis=1)
    assert answers[0] == 1 and answers[-1] == 0 and (np.diff(answers) != 0).sum() == 1


def test_the_command_writes_the_columns_and_others_are_refused(two_faces: str, tmp_path: Path) -> None:
    assert main([two_faces, f"--output={tmp_path}", "--relative_to=all", "--annotate=false"]) == 0
    table = pandas.read_csv(tmp_path / "faces.csv")
    # Two faces are too few to be compared.
    assert len(table) == 2
    assert table["relative_expression"].tolist() == table["expression"].tolist()
    with pytest.raises(InputError, match=r"`relative_to` .*'me'"):
        recognizer(0)([], relative_to="me")
    faces = recognizer(0)(np.full((64, 64, 3), 70, np.uint8))
    with pytest.raises(InputError, match="`strength` must be from 0 to 1"):
        faces.relative(strength=2)
    with pytest.raises(InputError, match=r"`to` .*'me'"):
        faces.relative("me")
