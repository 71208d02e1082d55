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


def test_files_of_one_folder_belong_together_however_they_are_named(tmp_path: Path, monkeypatch) -> None:
    pictures(tmp_path)
    monkeypatch.chdir(tmp_path / "dark")
    absolute = recognizer(0)(str(tmp_path / "dark" / "*.png")).relative("folder")
    assert absolute.argmax(axis=1).tolist() == [1, 0] * 5
    mixed = [f"{number}.png" if number % 2 else str(tmp_path / "dark" / f"{number}.png") for number in range(10)]
    for inputs in ("*.png", ".", mixed):
        np.testing.assert_array_equal(recognizer(0)(inputs).relative("folder"), absolute)
    # Who says nothing of folders has none.
    arrays = recognizer(0)([np.full((64, 64, 3), level, np.uint8) for level in DARK * 5])
    np.testing.assert_array_equal(arrays.relative("folder").argmax(axis=1), [1] * 10)
    assert arrays.relative("all").argmax(axis=1).tolist() == [1, 0] * 5


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_face_with_too_few_others_has_no_relative_answer(suffix: str, tmp_path: Path) -> None:
    few = [np.full((64, 64, 3), level, np.uint8) for level in BRIGHT]
    faces = recognizer(0)([pictures(tmp_path), *few], relative_to="folder")
    read = {"csv": pandas.read_csv, "jsonl": lambda path: pandas.read_json(path, lines=True)}
    saved = read.get(suffix, pandas.read_parquet)(faces.save(tmp_path / f"faces.{suffix}"))
    for table in (faces.table(), saved):
        assert table["relative_expression"].isna().tolist() == [False] * 20 + [True] * 2
        assert table["relative_probability"].isna().tolist() == [False] * 20 + [True] * 2
        assert table["expression"].notna().all()


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    faces = recognizer(0)(pictures(tmp_path), relative_to="all")
    with pytest.raises(InputError, match=r"faces\.txt"):
        faces.save(tmp_path / "faces.txt")
    assert "0 so far" in repr(faces)


def test_who_stops_looking_gets_the_rest_later_and_nothing_twice(tmp_path: Path) -> None:
    faces = recognizer(0)(pictures(tmp_path), relative_to="all")
    for frame in faces.each_frame(with_pictures=False):
        if frame.source.name.endswith("3.png"):
            break
    assert len(faces.table()) == 20 and len({face.input for face in faces}) == 20


def test_the_command_writes_the_columns_and_others_are_refused(
    two_faces: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([two_faces, f"--output={tmp_path}", "--relative_to=all", "--annotate=false"]) == 0
    table = pandas.read_csv(tmp_path / "faces.csv")
    # Two faces are too few to be compared.
    assert len(table) == 2 and table["relative_expression"].isna().all()
    with pytest.raises(SystemExit, match="2"):
        main([two_faces, "--relative_to=all"])
    assert "`relative_to` needs --output=FOLDER" in capsys.readouterr().err
    one = np.full((64, 64, 3), 70, np.uint8)
    with pytest.raises(InputError, match=r"`relative_to` .*'me'"):
        recognizer(0)(one, relative_to="me")
    for strength in (2, "0.5", float("nan")):
        with pytest.raises(InputError, match="`strength` must be a number from 0 to 1"):
            recognizer(0)(one).relative(strength=strength)
    with pytest.raises(InputError, match=r"`to` .*'me'"):
        recognizer(0)(one).relative("me")
