"""Any labelled pictures can be judged by: folders named as expressions, or a table that names them."""

from __future__ import annotations

import io
import json
import os
import pathlib
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fer_tf.data import public
from fer_tf.data.inputs import decode_image
from fer_tf.data.public_set import CLIP
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


def test_folders_that_differ_in_capitals_alone_are_one_class(tmp_path):
    for number, name in enumerate(("angry/1.png", "Angry/1.png", "ANGER/1.png", "sad/1.png", "Sadness/2.png")):
        write(f"{tmp_path}/{name}", png(number))
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert faces.expressions == ("angry", "sad") and sorted(faces.parts["test"].labels) == [0, 0, 0, 1, 1]


COMPOSED = "\u00e9tonn\u00e9"
APART = unicodedata.normalize("NFD", COMPOSED)


def test_folders_whose_names_differ_in_spelling_alone_are_one_class(tmp_path):
    for number, name in enumerate((COMPOSED, APART, "very happy", "Very  happy", "sad ", "sad")):
        write(f"{tmp_path}/{name}/{number}.png", png(number))
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert faces.expressions == ("sad", "very happy", COMPOSED)
    assert sorted(faces.parts["test"].labels) == [0, 0, 1, 1, 2, 2]
    write(f"{tmp_path}/\u200b/9.png", png(9))
    with pytest.raises(InputError, match=r"the folder .*u200b' names no expression"):
        public.read("pictures", str(tmp_path), needs=("test",))


def test_names_in_a_table_that_differ_in_spelling_alone_are_one(tmp_path):
    for number in range(5):
        write(f"{tmp_path}/{number}.png", png(number))
    rows = [f"0.png,{COMPOSED},P1,Half left,F", f"1.png,{APART},p1,half_left,f", "2.png,very  happy,P1,half-left,F"]
    rows += ["3.png,Very happy,\u200b,-,-", "4.png,very happy,P1,front,"]
    # Twice in other words.
    rows += ["./4.png,VERY HAPPY,p1,Front,"]
    write(f"{tmp_path}/annotations.csv", "\n".join(["image,expression,person,pose,gender", *rows]))
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert faces.expressions == ("very happy", COMPOSED)
    test = faces.parts["test"]
    said = dict(zip(test.image_ids, zip(test.labels, test.persons, test.poses, strict=True), strict=True))
    assert said == {
        "0.png": (1, "P1", "half_left"),
        "1.png": (1, "P1", "half_left"),
        "2.png": (0, "P1", "half_left"),
        "3.png": (0, "", ""),
        "4.png": (0, "P1", "front"),
    }
    assert faces.notes == ("left out, because rows before say the same of them: 4.png",)


def test_a_picture_that_changes_is_read_anew_wherever_its_table_lies(tmp_path):
    write(f"{tmp_path}/set/a.png", png(1))
    write(f"{tmp_path}/beside/b.png", png(2))
    write(f"{tmp_path}/set/annotations.csv", "image,expression\na.png,sad\n../beside/b.png,happy\n")
    for data in (tmp_path / "set", tmp_path / "set/annotations.csv"):
        for changed in (tmp_path / "set/a.png", tmp_path / "beside/b.png"):
            before = public.folder_of("pictures", str(data))
            assert public.folder_of("pictures", str(data)) == before
            write(str(changed), png(60))
            os.utime(changed, ns=(os.stat(changed).st_mtime_ns + 1000,) * 2)
            assert public.folder_of("pictures", str(data)) != before
    write(f"{tmp_path}/set/c.png", png(3))
    write(f"{tmp_path}/set/annotations.csv", "image,expression\n" + "a.png,sad\n" + "c.png,sad\n")
    before = public.folder_of("pictures", str(tmp_path / "set/annotations.csv"))
    # One that is gone, or comes later, tells too.
    os.remove(tmp_path / "set/c.png")
    with pytest.raises(InputError, match=r"1 of 2 images .* there are no such files: c\.png"):
        public.folder_of("pictures", str(tmp_path / "set/annotations.csv"))
    write(f"{tmp_path}/set/c.png", png(4))
    assert public.folder_of("pictures", str(tmp_path / "set/annotations.csv")) != before


def test_other_files_of_a_class_are_listed(tmp_path):
    formats = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.pgm": "PPM", "d.jp2": "JPEG2000", "e.pnm": "PPM"}
    for number, (name, kind) in enumerate(formats.items()):
        Image.fromarray(np.full((20, 20), 40 * number, np.uint8)).save(encoded := io.BytesIO(), kind)
        write(f"{tmp_path}/sad/{name}", encoded.getvalue())
    for name in ("notes.txt", "more/clip.mp4", "Thumbs.db", ".DS_Store"):
        write(f"{tmp_path}/sad/{name}", b"no picture")
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert len(faces.parts["test"]) == 5
    assert faces.notes == ("left out, because their names do not end as pictures' names do: clip.mp4, notes.txt",)


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
    assert f"left out, because {CLIP}: moving.gif" in faces.notes
    test = faces.parts["test"]
    assert len(test) == 66
    pictures = dict(zip(map(os.path.basename, test.image_ids), (image for image, _ in test.encoded()), strict=True))
    for name in names:
        decoded = decode_image(pictures[name], 3).numpy()
        assert decoded.shape == bright.shape and np.abs(decoded.astype(int) - bright).mean() < 6, name


def test_a_table_says_what_is_known_and_a_missing_file_is_listed(tmp_path):
    rows = ["Video;Expression;person;pose;split"]
    for number in range(30):
        rows.append(f"p/{number}.png;{('happy', 'sad')[number % 2]};A{number % 3};left;{('', 'Train')[number % 2]}")
        if number != 7:
            write(f"{tmp_path}/p/{number}.png", png(number))
    write(f"{tmp_path}/annotations.csv", "\n".join(rows))
    for data in (tmp_path, tmp_path / "annotations.csv"):
        faces = public.read("pictures", str(data))
        assert {split: len(part) for split, part in faces.parts.items()} == {"train": 14, "val": 0, "test": 15}
        assert set(faces.parts["test"].poses) == {"left"} and set(faces.parts["test"].persons) == {"A0", "A1", "A2"}
        assert "left out, because there are no such files: 7.png" in faces.notes


def test_a_picture_counts_once_whatever_rows_name_it(tmp_path):
    for number in range(25):
        write(f"{tmp_path}/p/{number}.png", png(number))
    rows = [rf"p\{number}.png,happy" for number in range(25)]
    write(f"{tmp_path}/annotations.csv", "\n".join(["image,expression", *rows, "p/3.png,Happy", "./p/4.png,sad"]))
    faces = public.read("pictures", str(tmp_path), needs=("test",))
    assert sorted(faces.parts["test"].image_ids) == sorted(f"p/{number}.png" for number in range(25) if number != 4)
    assert set(faces.notes) == {
        "left out, because rows before say the same of them: 3.png",
        "left out, because rows say different things of them: 4.png",
    }
    listed = pathlib.Path(public.folder_of("pictures", str(tmp_path)), "rejected.jsonl").read_text().splitlines()
    (detail,) = [row["detail"] for row in map(json.loads, listed) if row["image_id"] == "p/4.png"]
    assert "line 6; " in detail and "line 28 say different things" in detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n", "column `expression` is missing"),
        ("file,expression\na.png,happy\n", r"line 2: a row needs `image` \(or `video`, `path`\)"),
        ("image,expression,split\na.png,happy,dev\n", "`split` must be one of .*'dev'.*line 2"),
        ("image,expression\na.png,\n", "line 2: `expression` is empty"),
        ("image,expression\na.png,\u200b\n", "line 2: `expression` is empty"),
        ("image,expression\na.png,-\n", "line 2: `expression` is empty"),
        ("image,expression,person\na.png,sad,P1\nb.png\n", r"line 3: 1 values under 3 columns\. Is the file cut off\?"),
        ("image,expression,person\na.png,very, sad,P1\n", "line 2: 4 values under 3 columns. Quote values that hold a"),
        ("image,expression\n", "has no rows below its first line"),
        (
            "image,expression\na.png,sad\nb.png,sad\n",
            r"none .* can be used: 2 because there are no such files: a\.png: .*line 2.*Names are paths from the table",
        ),
        ("video,expression\nclip.gif,sad\n", r"1 because they are clips .*Save the frames that show the expressions"),
    ],
)
def test_a_wrong_table_names_line_and_value(tmp_path, text, message):
    write(f"{tmp_path}/annotations.csv", text)
    moving = [Image.new("L", (20, 20), shade) for shade in (0, 200)]
    moving[0].save(tmp_path / "clip.gif", save_all=True, append_images=moving[1:])
    with pytest.raises(InputError, match=message):
        public.read("pictures", str(tmp_path))


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must hold annotations\.csv, or folders named as expressions"):
        public.read("pictures", str(tmp_path))
