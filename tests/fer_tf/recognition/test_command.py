"""Results are printed and written file by file; what is not finished does not get its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fer_tf.recognition import command
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.looking import SeenFace, SeenFrame
from fer_tf.recognition.sources import Source


def seen(name: str, still: bool = True) -> SeenFrame:
    face = SeenFace(1, np.array([1, 2, 30, 40], np.float32), 0.99, Answer(("happy", "sad"), np.array([0.9, 0.1])))
    return SeenFrame(Source(name, name), still, 0.0, 0, 0.0, (face,), (), True, None)


def test_a_table_that_is_not_finished_does_not_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("earlier")
    with pytest.raises(RuntimeError), command.CsvTable(str(path)):
        raise RuntimeError
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]
    # One without a face has its columns all the same, but for the expressions, which nobody has told.
    with command.CsvTable(str(path)):
        pass
    assert path.read_text() == ",".join((*command.CsvTable.FIXED, "probability")) + "\n"


def test_results_of_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    assert command.names_of(["one/a.jpg", "b.jpg"]) == {}
    # Of a file that is given twice there is one result.
    assert command.names_of(["one/a.jpg", "one/a.jpg"]) == {}
    assert command.names_of(["a.jpg", "x/../one/a.jpg"]) == {"a.jpg": "a.jpg", "x/../one/a.jpg": "one/a.jpg"}
    far = {f"{tmp_path}/deep/one/a.jpg": "one/a.jpg", f"{tmp_path}/deep/two/a.jpg": "two/a.jpg"}
    assert command.names_of([*far, f"{tmp_path}/b.jpg"]) == far


def test_names_with_brackets_and_colons_are_shown_as_they_are(capsys: pytest.CaptureFixture) -> None:
    face = {"box": [1, 2, 3, 4], "probabilities": {"[red]happy": 0.9, "[/i]": 0.1}}
    for faces in ([face], []):
        command.print_table({"input": "a[bold]:smile:.jpg", "kind": "picture", "faces": faces}, top=2)
        assert "a[bold]:smile:.jpg" in (printed := capsys.readouterr().out)
        assert not faces or ("[red]happy 90.0 %" in printed and "[/i] 10.0 %" in printed)
    assert command.show([seen("b[/nonsense].mp4", still=False)], command.Output()) == 0


def test_what_was_answered_before_a_server_ended_is_printed(capsys: pytest.CaptureFixture) -> None:
    def items() -> Iterator[SeenFrame]:
        yield seen("a.jpg")
        yield seen("b.jpg")
        raise RuntimeError("the server ended")

    with pytest.raises(RuntimeError):
        command.show(items(), command.Output(json=True))
    assert [result["input"] for result in json.loads(capsys.readouterr().out)] == ["a.jpg", "b.jpg"]
