"""Any labelled pictures can be judged by: folders named as expressions, or a table that names them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from fer_tf.data import public
from fer_tf.data.inputs import decode_image
from fer_tf.errors import InputError
from tests.fer_tf.data.test_public import png, write


def test_folders_are_expressions_by_the_names_that_this_project_uses(tmp_path):
    for number, name in enumerate(("Anger", "happiness", "sad", "bored")):
        write(f"{tmp_path}/{name}/x/{number}.png", png(number))
    write(f"{tmp_path}/.hidden/1.png", png(4))
    (tmp_path / "sad" / "linked").symlink_to(tmp_path / ".hidden")
    (tmp_path / "sad" / "x" / "up").symlink_to(tmp_path / "sad")
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert faces.expressions == ("angry", "bored", "happy", "sad")
    test = faces.parts["test"]
    assert dict(zip(test.image_ids, [faces.expressions[label] for label in test.labels], strict=True)) == {
        "Anger/x/0.png": "angry",
        "bored/x/3.png": "bored",
        "happiness/x/1.png": "happy",
        "sad/x/2.png": "sad",
        "sad/linked/1.png": "sad",
    }
    with pytest.raises(InputError, match="the train part of task 'pictures'"):
        public.read("pictures", str(tmp_path))


def test_a_folder_of_a_set_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for number, name in enumerate(("sad", "happy")):
        write(f"{tmp_path}/{name}/{number}.png", png(number))
    walk = os.walk

    def closed(folder, onerror=None):
        """Root may read every folder, so that the one that others may not is told of here."""
        for where, folders, names in walk(folder, onerror=onerror):
            if where.endswith("happy"):
                onerror(PermissionError(13, "Permission denied", where))
                continue
            yield where, folders, names

    monkeypatch.setattr(os, "walk", closed)
    with pytest.raises(InputError, match=r"`data`: the folder '.*happy' cannot be read"):
        public.read("pictures", str(tmp_path), needs=("test",))


def test_pictures_as_people_have_them_are_upright_records_and_the_rest_is_listed(tmp_path):
    bright = np.zeros((60, 40, 3), np.uint8)
    bright[:20] = 250
    upright, lying = Image.fromarray(bright), Image.fromarray(np.ascontiguousarray(np.rot90(bright)))
    (exif := Image.Exif())[0x112] = 6
    names = {
        "a.webp": upright,
        "b.bmp": upright,
        "c.tiff": upright,
        "d.avif": upright,
        "e.JPG": lying,
        "f.jpg": upright,
    }
    for number, (name, image) in enumerate(names.items()):
        image = image.convert("CMYK") if name == "f.jpg" else image
        os.makedirs(tmp_path / ("happy", "sad")[number % 2], exist_ok=True)
        image.save(tmp_path / ("happy", "sad")[number % 2] / name, **({"exif": exif} if name == "e.JPG" else {}))
    for number in range(60):
        write(f"{tmp_path}/sad/more/{number}.png", png(number))
    upright.save(tmp_path / "sad" / "moving.gif", save_all=True, append_images=[Image.new("RGB", (40, 60))])
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert "left out, because they cannot be decoded: moving.gif" in faces.notes
    test = faces.parts["test"]
    assert len(test) == 66
    pictures = dict(zip(map(os.path.basename, test.image_ids), (image for image, _ in test.encoded()), strict=True))
    for name in names:
        decoded = decode_image(pictures[name], 3).numpy()
        assert decoded.shape == bright.shape and np.abs(decoded.astype(int) - bright).mean() < 6, name


def test_a_table_says_what_is_known_and_a_missing_file_is_listed(tmp_path):
    rows = ["Video;Expression;person;pose;split"]
    for number in range(30):
        rows.append(f"p/{number}.png;{('happy', 'sad')[number % 2]};A{number % 3};left;{('', 'train')[number % 2]}")
        if number != 7:
            write(f"{tmp_path}/p/{number}.png", png(number))
    write(f"{tmp_path}/annotations.csv", "\n".join(rows))
    for data in (tmp_path, tmp_path / "annotations.csv"):
        faces = public.read("pictures", str(data))
        assert {split: len(part) for split, part in faces.parts.items()} == {"train": 14, "val": 0, "test": 15}
        assert set(faces.parts["test"].poses) == {"left"} and set(faces.parts["test"].persons) == {"A0", "A1", "A2"}
        assert "left out, because they cannot be decoded: 7.png" in faces.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n", "column `expression` is missing"),
        ("file,expression\na.png,happy\n", r"line 2: a row needs `image` \(or `video`, `path`\)"),
        ("image,expression,split\na.png,happy,dev\n", "`split` must be one of .*'dev'.*line 2"),
        ("image,expression\na.png,\n", "line 2: `expression` is empty"),
    ],
)
def test_a_wrong_table_names_line_and_value(tmp_path, text, message):
    write(f"{tmp_path}/annotations.csv", text)
    with pytest.raises(InputError, match=message):
        public.read("pictures", str(tmp_path))


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must hold annotations\.csv, or folders named as expressions"):
        public.read("pictures", str(tmp_path))
