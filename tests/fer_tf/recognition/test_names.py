"""Names of files that are no UTF-8, or hold line ends and marks: listed, read and written, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

import fer_tf
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition.command import Output, show
from fer_tf.recognition.given import GivenFaces
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.fer_tf.recognition.test_unsure import ByBrightness

NAMES = (b"f\xeate.png", b"two\nlines.png", "ü 😀 [1]%d.png".encode(), b"clip\xff.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a:b [c]"
    folder.mkdir()
    for name in NAMES[:3]:
        encoded = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encoded)
    os.rename(write_clip(tmp_path / "a.mp4", drawn(4)), os.fsencode(folder) + b"/" + NAMES[3])
    return folder


@pytest.fixture
def recognizer() -> fer_tf.Recognizer:
    return fer_tf.Recognizer(ByBrightness(), GivenFaces(ExtractorOptions(subject="all")))


def test_every_name_is_read_and_stands_in_each_kind_of_table(
    recognizer: fer_tf.Recognizer, folder: Path, tmp_path: Path
) -> None:
    faces = recognizer(str(folder))
    assert {os.path.basename(os.fsencode(face.input)) for face in faces} == set(NAMES) and faces.rejected.empty
    for number in range(4):
        assert faces.plot(number)._repr_png_().startswith(b"\x89PNG")
    with_escapes = [face.input.encode(errors="backslashreplace").decode() for face in faces]
    assert pandas.read_csv(faces.save(tmp_path / "a.csv"))["input"].tolist() == with_escapes
    assert pandas.read_parquet(faces.save(tmp_path / "a.parquet"))["input"].tolist() == with_escapes
    lines = Path(faces.save(tmp_path / "a.jsonl")).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["input"] for line in lines] == [face.input for face in faces]


def test_long_names_are_shortened_where_the_drawings_would_be_too_long(
    recognizer: fer_tf.Recognizer, folder: Path, tmp_path: Path
) -> None:
    stems = ["脸" * 75, "脸" * 83, "脸" * 82 + "b"]
    for number, stem in enumerate(stems):
        (folder / f"{stem}.png").write_bytes((folder / os.fsdecode(NAMES[2])).read_bytes())
        os.rename(write_clip(tmp_path / "b.mp4", drawn(4)), folder / f"{number}{stem[:-1]}.mp4")
    assert show(recognizer(str(folder)).each_frame(), Output(str(tmp_path / "out"), several=True)) == 0
    written = [path.name for path in (tmp_path / "out").iterdir()]
    # A picture each, and of each clip a video and a table.
    assert len(written) == 3 + 2 + 3 * (1 + 2) and max(len(os.fsencode(name)) for name in written) <= 255
    assert f"{stems[0]}.png.annotated.jpg" in written
    shortened = [name for name in written if name.startswith("脸") and name != f"{stems[0]}.png.annotated.jpg"]
    assert len({name.split("-")[1] for name in shortened}) == 2 and all("脸" * 70 in name for name in shortened)


def test_every_name_is_drawn_into_a_folder_with_marks(
    recognizer: fer_tf.Recognizer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    faces = recognizer(str(folder))
    # A relative folder with a colon: FFmpeg would take what stands before it for a protocol.
    assert show(faces.each_frame(), Output("out:[x]*", several=True, json=True)) == 0
    written = {os.path.basename(os.fsencode(path)) for path in Path("out:[x]*").iterdir()}
    pictures = {name + b".annotated.jpg" for name in NAMES[:3]}
    assert written == pictures | {NAMES[3] + b".annotated" + suffix for suffix in (b".mp4", b".csv")}
