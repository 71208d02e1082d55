"""The command without a server: a table of all inputs, annotated copies, and what was left out."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import pandas
import pytest

from fer_tf import Recognizer
from fer_tf.config import EXIT_INCOMPLETE, EXIT_OK
from fer_tf.errors import InputError
from fer_tf.recognition import __main__ as command
from fer_tf.recognition import tables
from fer_tf.recognition.command import Output, inputs_of

CLIP = "take_1/P004/happy/front.mp4"


def test_an_output_that_cannot_be_written_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"`output` '.*file/out' cannot be written to"):
        command.main(["photo.jpg", f"--output={tmp_path}/file/out"])
    with pytest.raises(InputError, match=r"`output` must be a path on this machine.*predict.*'gs://bucket/out'"):
        command.main(["photo.jpg", "--output=gs://bucket/out"])
    for path in (f"{tmp_path}/file/out", f"{tmp_path}/file/a.jpg"):
        with pytest.raises(InputError, match="cannot be written to"):
            Output(path).check()


def test_an_output_that_does_not_fit_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, several, message in (
        ("out.pdf", False, r"`output` must end in one of \('\.jpg', .*'\.mkv'\)\. Received: '.*out\.pdf'"),
        ("x.jpg", True, "`output` must be a folder for several inputs"),
        ("x.mp4", True, "`output` must be a folder for several inputs"),
    ):
        with pytest.raises(InputError, match=message):
            Output(str(tmp_path / path), several).check(["photo.jpg"])
    for path in ("x.JPG", "x.mkv"):
        Output(str(tmp_path / path)).check(["photo.jpg"])
    with pytest.raises(InputError, match=r"`output` is a folder, .*Received: 'out\.pdf'"):
        command.RecognizeConfig(["photo.jpg"], output="out.pdf")
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: pytest.fail("loaded"))
    old = ModuleType("pyarrow")
    old.__dict__["__version__"] = "0.1"
    for library in (None, old):
        monkeypatch.setitem(sys.modules, "pyarrow", library)
        with pytest.raises(InputError, match=r"Parquet needs pyarrow.*pip install 'fer_tf\[parquet\]'"):
            command.main(["photo.jpg", f"--output={tmp_path}/out", "--format=parquet"])


def test_one_table_annotated_copies_and_a_list_of_what_was_left_out(
    samples: Path, two_faces: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs = [two_faces, str(samples / CLIP), str(tmp_path / "broken.jpg")]
    out = tmp_path / "out"
    flags = [f"--output={out}", "--head_pose", "--frames_per_second=10", "--json"]
    assert command.main([*inputs, *flags]) == EXIT_INCOMPLETE
    results = json.loads(capsys.readouterr().out)
    assert [(result["kind"], len(result["faces"])) for result in results] == [("picture", 2), ("video", 1)]
    table = pandas.read_csv(out / "faces.csv")
    assert table["input"].tolist() == [two_faces] * 2 + [str(samples / CLIP)] * 5
    assert tuple(table.columns[: len(tables.FIXED)]) == tables.FIXED and "yaw" in table.columns
    (left_out,) = pandas.read_csv(out / "rejected.csv").to_dict("records")
    assert left_out["input"] == inputs[2] and left_out["reason"] == "not_a_video"
    assert cv2.imread(str(out / "two.png.annotated.jpg")).shape == cv2.imread(two_faces).shape
    with av.open(str(out / "front.mp4.annotated.mp4")) as drawn:
        assert len(list(drawn.decode(video=0))) == 12
    names = ["faces.csv", "front.mp4.annotated.mp4", "rejected.csv", "two.png.annotated.jpg"]
    assert sorted(path.name for path in out.iterdir()) == names
    # A further run over a folder with this one's results takes none of them for an input, unless it is named.
    for output in (str(out), str(tmp_path / "other"), ""):
        assert inputs_of([str(out), two_faces], output) == [two_faces]
        assert "4 files such as" in capsys.readouterr().err
        assert inputs_of([str(out / names[3])], output) == [str(out / names[3])]
    # Drawings without the mark, of a version before there was one: the picture lies beside, or the table lists it.
    shutil.copy(two_faces, out / "two.png.annotated.jpg")
    shutil.copy(two_faces, out / "mine.annotated.jpg")
    assert inputs_of([str(out)], "") == [str(out / "mine.annotated.jpg")]
    (out / "faces.csv").unlink()
    assert str(out / "two.png.annotated.jpg") in inputs_of([str(out)], "")
    shutil.copy(two_faces, out / "two.png")
    assert inputs_of([str(out)], "") == [str(out / "mine.annotated.jpg"), str(out / "two.png")]


def test_a_flag_asks_about_each_face_and_its_mirror_image(two_faces: str, tmp_path: Path) -> None:
    flags = ["--tta=flip", f"--output={tmp_path}/out", "--annotate=false"]
    assert command.main([two_faces, *flags]) == EXIT_OK
    table = pandas.read_csv(tmp_path / "out" / "faces.csv")
    columns = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    with Recognizer.load("pretrained", tta="flip") as recognize:
        expected = recognize([two_faces]).table()[columns].to_numpy(float)
    np.testing.assert_allclose(table[columns].to_numpy(float), expected, atol=1e-5)
    with Recognizer.load("pretrained") as recognize:
        alone = recognize([two_faces]).table()[columns].to_numpy(float)
    assert np.abs(alone - expected).max() > 1e-3


def test_given_faces_are_neither_searched_nor_aligned(samples: Path, tmp_path: Path) -> None:
    # A flat picture has no face to find; the network is asked about the whole of it all the same.
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((90, 70, 3), 120, np.uint8))
    flags = ["--faces=given", f"--output={tmp_path / 'out'}", "--format=jsonl", "--annotate=false", "--eyes"]
    assert command.main([str(tmp_path / "flat.png"), *flags]) == EXIT_OK
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "faces.jsonl").read_text().splitlines())
    assert (row["x"], row["y"], row["width"], row["height"]) == (0, 0, 70, 90)
    assert row["eye_aperture"] is None and abs(sum(row[name] for name in ("happy", "sad", "neutral"))) <= 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["faces.jsonl", "rejected.csv"]


def test_without_inputs_the_usage_is_shown(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main([])
    assert caught.value.code == 2 and "python -m fer_tf.recognition photo.jpg" in capsys.readouterr().err
