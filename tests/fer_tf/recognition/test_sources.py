"""What is given is what is looked at: as it is at the call, from its beginning, and still the same file later."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from fer_tf import Recognizer, files
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition.faces import THUMBNAILS
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.sources import sources_of
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.fer_tf.recognition.test_unsure import ByBrightness


@pytest.fixture
def recognizer() -> Recognizer:
    return Recognizer(ByBrightness(), GivenFaces(ExtractorOptions(subject="all")))


def flat(shade: int) -> np.ndarray:
    return np.full((64, 64, 3), shade, np.uint8)


def test_an_array_is_looked_at_as_it_was_given(recognizer: Recognizer) -> None:
    buffer, inputs = flat(0), []
    for shade in (20, 230):
        buffer[:] = shade
        inputs.append(recognizer(buffer))
    together = recognizer(frame for frame in (buffer, buffer[:, ::-1]))
    buffer[:] = 128
    means = [float(faces.crops.mean()) for faces in (*inputs, together)]
    assert means == sorted(means) and means[0] < 40 < 180 < means[1] and means[2] == means[1]
    assert not inputs[0].table()["expression"].equals(inputs[1].table()["expression"])


@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_crops_of_a_file_that_was_replaced_are_refused(recognizer: Recognizer, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(flat(200)).save(path)
    if kind == "clip":
        path = write_clip(tmp_path / "a.mp4", drawn(3))
    faces = recognizer(str(path))
    before = faces.crops
    assert len(before) and np.array_equal(before, faces.crops) and faces.plot()
    Image.fromarray(flat(10)).save(path, format="PNG")
    os.utime(path, ns=(0, 0))
    for again in (lambda: faces.crops, lambda: faces.crop(0), faces.plot):
        with pytest.raises(InputError, match="has changed since its faces were found: recognise it again"):
            again()
    assert recognizer(str(path)).crops.mean() < before.mean()


def test_what_a_notebook_keeps_holds_no_decoder_and_notes_nothing_twice(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs = [str(tmp_path / "broken.jpg"), write_clip(tmp_path / "a.mp4", drawn(80))]
    whole = recognizer(inputs, frames_per_second=np.inf)
    assert len(whole) == 80
    cells = [recognizer(inputs, frames_per_second=np.inf) for _ in range(3)]
    shown = [cell._repr_html_() for cell in cells]
    assert all(html.count("<img") == THUMBNAILS and "so far" in html for html in shown)
    assert recognizer.extractor.decoder.working == 0 and cells[0]._repr_html_() == shown[0]
    for cell in cells[:2]:
        pandas.testing.assert_frame_equal(cell.table(), whole.table())
        pandas.testing.assert_frame_equal(cell.rejected, whole.rejected)
    assert "80; 1 left out" in cells[0]._repr_html_()
    # A drawing of all frames may still be asked for.
    assert len(list(cells[2].each_frame())) == 81
    recognizer.extractor.close()


def test_pictures_are_not_looked_at_again_after_a_notebooks_first_look(recognizer: Recognizer) -> None:
    asked: list[int] = []
    kept = recognizer.network.classify
    recognizer.network.classify = lambda crops: asked.append(len(crops)) or kept(crops)
    faces = recognizer([flat(100)] * 40)
    assert "so far" in faces._repr_html_()
    assert len(faces.table()) == sum(asked) == 40


def test_what_lies_in_a_bucket_is_looked_at_as_what_lies_here(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    Image.fromarray(flat(200)).save(tmp_path / "a.png")
    write_clip(tmp_path / "b.mp4", drawn(3))
    here = [str(tmp_path / "a.png"), str(tmp_path / "b.mp4")]
    there = [f"ram://pictures/{os.path.basename(path)}" for path in here]
    for path, remote in zip(here, there, strict=True):
        files.put(path, remote)
    local, remote = recognizer(here), recognizer(["ram://pictures/*", "ram://pictures/gone.png"])
    assert remote.inputs == [*there, "ram://pictures/gone.png"]
    columns = [name for name in local.columns if name != "input"]
    pandas.testing.assert_frame_equal(remote.table()[columns], local.table()[columns])
    np.testing.assert_array_equal(remote.crops, local.crops)
    assert remote.rejected.iloc[:, :3].to_numpy().tolist() == [["ram://pictures/gone.png", -1, "missing"]]
    assert not os.listdir(tmp_path / "copies")


def test_an_opened_file_is_read_from_its_beginning_and_a_closed_one_is_listed(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(flat(200)).save(path)
    with open(path, "rb") as file:
        assert Image.open(file).size == (64, 64) and file.tell()
        assert [source.value for source in sources_of([file, file])] == [path.read_bytes()] * 2
    with Image.open(path) as image:
        pass
    loaded = Image.open(path)
    loaded.load()
    shut = Image.new("RGB", (9, 9))
    shut.close()
    stream = io.BytesIO(path.read_bytes())
    stream.close()
    faces = recognizer([file, image, shut, stream, loaded])
    assert faces.table()["input"].tolist() == ["image 4"]
    assert faces.rejected["input"].tolist() == ["bytes 0", "image 1", "image 2", "bytes 3"]
    assert faces.rejected["detail"].str.contains("was closed before it was read").all()


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (5, 5, 5, 9), (5, 5, 9, 5)])
def test_a_pillow_image_without_pixels_is_listed_and_the_rest_goes_on(
    recognizer: Recognizer, box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(flat(200))
    faces = recognizer([image.crop(box), image])
    assert faces.table()["input"].tolist() == ["image 1"]
    ((name, _, reason, detail),) = faces.rejected.to_numpy().tolist()
    assert (name, reason) == ("image 0", "empty_file") and "pixels" in detail


def test_local_addresses_and_the_users_folder_are_paths(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "my pictures"
    folder.mkdir()
    path = folder / "a 50%.png"
    Image.fromarray(flat(200)).save(path)
    for inputs in ("~/my pictures/a 50%.png", "~/my pictures", path.as_uri(), folder.as_uri(), f"file://{path}"):
        assert [source.value for source in sources_of(inputs)] == [str(path)]
    faces = recognizer("~/my pictures")
    assert faces.save("~/out/faces.csv") == f"{tmp_path}/out/faces.csv" and (tmp_path / "out" / "faces.csv").exists()
    assert faces.save_rejected("~/out/left.csv") == f"{tmp_path}/out/left.csv"


def test_pages_that_are_not_looked_at_are_listed_and_nothing_is_left_out(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    pages = [Image.fromarray(flat(200)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    faces = recognizer(str(tmp_path / "a.tif"))
    assert faces.rejected[["reason", "detail"]].to_numpy().tolist() == [
        ["other_pages", "the first of 3 pages was looked at"]
    ]
    assert len(faces) == 1 and repr(faces) == "<Faces of 1 input: 1; 0 left out>"
