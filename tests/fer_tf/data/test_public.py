"""The public sets are read from their published layouts, and an incomplete one is refused with what was expected."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections import Counter

import cv2
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import public, schema
from fer_tf.data.copies import test_copies as copies_in_test
from fer_tf.data.public import ckplus, fer2013, jaffe, kdef
from fer_tf.data.public.fer2013 import EXPRESSIONS as FER2013_EXPRESSIONS
from fer_tf.errors import InputError


def png(seed: int, side: int = 48, suffix: str = ".png") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(suffix, image)[1].tobytes()


def write(path: str, content: bytes | str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def images_of(part) -> list[bytes]:
    return [image for image, _ in part.encoded().as_numpy_iterator()]


def csv_row(emotion: int, seed: int, usage: str) -> str:
    pixels = cv2.imdecode(np.frombuffer(png(seed), np.uint8), cv2.IMREAD_GRAYSCALE)
    return f"{emotion},{' '.join(map(str, pixels.reshape(-1)))},{usage}"


@pytest.fixture
def fer_folders(tmp_path):
    for number in range(140):
        write(f"{tmp_path}/train/{FER2013_EXPRESSIONS[number % 7]}/Training_{number}.png", png(number))
    for number in range(14):
        write(f"{tmp_path}/validation/{FER2013_EXPRESSIONS[number % 7]}/PublicTest_{number}.png", png(1000 + number))
    return tmp_path


def test_fer2013_csv_respects_usage_and_pixels(tmp_path):
    rows = [csv_row(3, 1, "Training"), csv_row(0, 2, "PublicTest"), csv_row(6, 3, "PrivateTest")]
    write(f"{tmp_path}/fer2013.csv", "emotion,pixels,Usage\n" + "\n".join(rows))
    faces = public.read("fer2013", f"{tmp_path}/fer2013.csv")
    assert {name: part.labels.tolist() for name, part in faces.parts.items()} == {"train": [3], "val": [0], "test": [6]}
    decoded = cv2.imdecode(np.frombuffer(images_of(faces.parts["test"])[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    expected = cv2.imdecode(np.frombuffer(png(3), np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(decoded, expected)


def test_the_folder_of_fer2013s_csv_is_as_good_as_the_file(tmp_path):
    text = "emotion,pixels,Usage\n" + "\n".join([csv_row(3, 1, "Training"), csv_row(0, 2, "PublicTest")])
    write(f"{tmp_path}/FER2013.CSV", text)
    found = public.read("fer2013", str(tmp_path), held_out=0)
    assert found.fingerprint == public.read("fer2013", f"{tmp_path}/FER2013.CSV", held_out=0).fingerprint
    os.rename(f"{tmp_path}/FER2013.CSV", f"{tmp_path}/other.csv")
    with pytest.raises(InputError, match=r"must hold fer2013\.csv, or a folder train .* Found: \['other\.csv'\]"):
        public.read("fer2013", str(tmp_path))


def test_fer2013_folders_without_private_test_hold_a_part_of_training_out(fer_folders):
    faces = public.read("fer2013", str(fer_folders))
    train, val, test = (faces.parts[split] for split in ("train", "val", "test"))
    assert len(train) + len(val) == 140 and len(test) == 14
    assert 0 < len(val) < 25
    assert not set(train.image_ids) & set(val.image_ids)
    assert "PublicTest" in " ".join(faces.notes)


def test_of_fer2013s_folder_test_the_number_of_faces_tells_whether_both_test_sets_are_in_it():
    """Many copies have `train` and `test` alone, where test holds 7,178 faces."""
    for faces, told in ((3589, "test is PublicTest"), (7178, "test is PublicTest and PrivateTest together")):
        assert fer2013.parts(Counter({"Training": 28709, "PublicTest": faces}), "fer").notes[-1] == told


def test_fer2013_may_train_on_all_of_training(fer_folders):
    faces = public.read("fer2013", str(fer_folders), held_out=0)
    assert {split: len(part) for split, part in faces.parts.items()} == {"train": 140, "val": 0, "test": 14}
    assert faces.fingerprint != public.read("fer2013", str(fer_folders)).fingerprint
    assert faces.notes == ("val is empty: all of Training is trained on", "test is PublicTest")
    with pytest.raises(InputError, match=r"`held_out` must be between 0 and 0\.5\. Received: 0\.9"):
        public.read("fer2013", str(fer_folders), held_out=0.9)


def test_copies_of_one_picture_fall_on_the_same_side(fer_folders):
    for number in range(140):
        write(f"{fer_folders}/train/fear/Training_copy_{number}.png", png(number))
    faces = public.read("fer2013", str(fer_folders))
    assert not set(images_of(faces.parts["train"])) & set(images_of(faces.parts["val"]))


def test_a_label_change_changes_the_fingerprint(fer_folders):
    before = public.read("fer2013", str(fer_folders)).fingerprint
    os.rename(f"{fer_folders}/train/angry/Training_0.png", f"{fer_folders}/train/sad/Training_0.png")
    assert public.read("fer2013", str(fer_folders)).fingerprint != before


def test_copies_across_splits_are_found_equal_and_near(fer_folders):
    write(f"{fer_folders}/validation/happy/PublicTest_equal.png", png(5))
    pixels = cv2.imdecode(np.frombuffer(png(6), np.uint8), cv2.IMREAD_GRAYSCALE)
    brighter = np.clip(pixels.astype(int) + 2, 0, 255).astype(np.uint8)
    write(f"{fer_folders}/validation/happy/PublicTest_near.png", cv2.imencode(".png", brighter)[1].tobytes())
    faces = public.read("fer2013", str(fer_folders))
    ids = faces.parts["test"].image_ids
    found = copies_in_test(faces)
    assert [os.path.basename(name) for name in ids[found["equal"]]] == ["PublicTest_equal.png"]
    assert sorted(os.path.basename(name) for name in ids[found["near"]]) == [
        "PublicTest_equal.png",
        "PublicTest_near.png",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,pixels,Usage\n", "column `emotion` is missing; the first line must name the columns"),
        ("emotion,pixels,Usage\n7,1 2,Training\n", r"`emotion` must be one of .*line 2"),
        ("emotion,pixels,Usage\n1,1 2,Training\n", "2304 numbers of 0 to 255. Found 2 .*line 2"),
        ("emotion,pixels,Usage\n1,1 x,Training\n", "whole numbers.*line 2"),
        ("emotion,pixels,Usage\n1,1 2,Test\n", r"`Usage` must be one of .*'Test'.*line 2"),
        ("emotion,pixels,Usage\n1,1 2\n", r"line 2: 2 values under 3 columns\. Is the file cut off\?"),
        ("emotion,pixels,Usage\n1,1 2,Training,x\n", r"line 2: 4 values under 3 columns\. Quote"),
        ("emotion,pixels,Usage\n", "must hold FER2013's Training and PublicTest"),
    ],
)
def test_a_wrong_fer2013_csv_names_line_and_value(tmp_path, text, message):
    write(f"{tmp_path}/fer2013.csv", text)
    with pytest.raises(InputError, match=message):
        public.read("fer2013", f"{tmp_path}/fer2013.csv")


def test_a_renamed_fer2013_class_folder_is_named(fer_folders):
    os.rename(f"{fer_folders}/train/angry", f"{fer_folders}/train/anger")
    with pytest.raises(InputError, match=r"must hold the folders .*'angry'.*Found: \('anger'"):
        public.read("fer2013", str(fer_folders))


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_fer2013_csv_may_have_blanks_other_columns_order_and_capitals(tmp_path, bom):
    rows = [csv_row(3, 1, "training"), csv_row(0, 2, "PublicTest")]
    swapped = "\n".join("{0},{2},{1}, x".format(*row.split(",")) for row in rows)
    write(f"{tmp_path}/icml.csv", f"{bom}Emotion, usage, Pixels,note\n{swapped}\n")
    faces = public.read("fer2013", f"{tmp_path}/icml.csv", 0.0)
    assert [len(faces.parts[split]) for split in ("train", "val", "test")] == [1, 0, 1]
    assert faces.parts["train"].image_ids.tolist() == ["Training_00002"]


def test_fer2013_folders_may_be_capitalized_and_hidden_ones_do_not_matter(fer_folders):
    plain = public.read("fer2013", str(fer_folders))
    os.rename(f"{fer_folders}/train", f"{fer_folders}/Train")
    os.rename(f"{fer_folders}/Train/angry", f"{fer_folders}/Train/Angry")
    write(f"{fer_folders}/Train/.ipynb_checkpoints/x.png", png(1))
    write(f"{fer_folders}/Train/sad/.ipynb_checkpoints/x.png", png(1))
    write(f"{fer_folders}/__MACOSX/train/sad/x.png", png(1))
    write(f"{fer_folders}/Train/sad/.DS_Store", b"")
    # Folders that differ in capitals alone are one.
    write(f"{fer_folders}/Train/Happy/Training_new.png", png(2000))
    write(f"{fer_folders}/Validation/HAPPY/PublicTest_new.png", png(2001))
    for name in set(FER2013_EXPRESSIONS) - {"happy"}:
        os.makedirs(f"{fer_folders}/Validation/{name}")
    faces = public.read("fer2013", str(fer_folders))
    assert "Train/Happy/Training_new.png" in [*faces.parts["train"].image_ids, *faces.parts["val"].image_ids]
    counts = [{split: len(part) for split, part in found.parts.items()} for found in (faces, plain)]
    assert counts[0]["test"] == counts[1]["test"] + 1 and sum(counts[0].values()) == sum(counts[1].values()) + 2


def dataset_files(folder: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def test_a_set_becomes_records_once_and_again_when_a_file_changes(fer_folders, public_records):
    folder = public.folder_of("fer2013", str(fer_folders))
    assert os.path.dirname(folder) == public_records
    before = dataset_files(folder)
    assert public.folder_of("fer2013", str(fer_folders)) == folder and dataset_files(folder) == before
    write(f"{fer_folders}/train/happy/Training_new.png", png(9))
    other = public.folder_of("fer2013", str(fer_folders))
    assert other != folder and len(public.read("fer2013", other).parts["test"]) == 14
    with pytest.raises(InputError, match=r"was made with --held_out=0\.05\. Received: 0\.2"):
        public.read("fer2013", other, 0.2)
    with pytest.raises(InputError, match="holds fer2013; `task` is 'jaffe'"):
        public.read("jaffe", other)


def test_records_are_mixed_and_hold_what_the_set_tells(jaffe_folder):
    paths = sorted(pathlib.Path(public.folder_of("jaffe", str(jaffe_folder)), "records").glob("*"))
    records = [schema.decode(raw) for path in paths for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    assert len(records) == 213 and len({record.person for record in records[:40]}) > 5
    for record in records:
        person, code, _, _ = record.image_id.split(".")
        assert (record.person, record.expression) == (person, jaffe.CODES[code[:2]])
        assert (record.pose, record.gender, record.age, record.height) == ("front", "female", -1, 64)


def test_a_conversion_that_is_killed_leaves_nothing_of_that_name(fer_folders, public_records, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    before = set(os.listdir(public_records))
    with monkeypatch.context() as patch:
        patch.setattr("fer_tf.data.public_set.with_picture", killed)
        with pytest.raises(KeyboardInterrupt):
            public.read("fer2013", str(fer_folders))
    assert set(os.listdir(public_records)) == before
    assert len(public.read("fer2013", str(fer_folders)).parts["test"]) == 14


def test_the_fingerprint_is_that_of_version_0_1_so_that_its_runs_go_on(fer_folders):
    """Its formula: part, name, label and a hash of the bytes, part by part, in the order of classes and names."""
    faces = public.read("fer2013", str(fer_folders))
    digest = hashlib.sha256()
    for split in ("test", "train", "val"):
        part = faces.parts[split]
        rows = dict(zip(part.image_ids, zip(part.labels, images_of(part), strict=True), strict=True))
        for name, (label, image) in sorted(rows.items(), key=lambda row: (row[1][0], row[0])):
            digest.update(f"{split} {name} {label} ".encode() + hashlib.sha256(image).digest())
    assert faces.fingerprint == digest.hexdigest()


DAMAGE = {
    "cut off": png(3, suffix=".jpg")[:300],
    "a web page": b"<!doctype html><title>404 Not Found</title>",
    "empty": b"",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_image_is_found_at_once_and_left_out_by_name(fer_folders, kind, caplog):
    write(f"{fer_folders}/train/fear/Training_damaged.jpg", DAMAGE[kind])
    faces = public.read("fer2013", str(fer_folders))
    assert sum(len(part) for part in faces.parts.values()) == 154
    assert "left out, because they cannot be decoded: Training_damaged.jpg" in faces.notes
    assert "train/fear/Training_damaged.jpg is left out" in caplog.text
    with open(f"{public.folder_of('fer2013', str(fer_folders))}/rejected.jsonl") as file:
        (rejected,) = map(json.loads, file)
    assert rejected["image_id"] == "train/fear/Training_damaged.jpg" and rejected["detail"]


def test_a_set_with_many_damaged_images_is_refused_with_their_names(fer_folders):
    for number in range(10):
        write(f"{fer_folders}/train/fear/Training_damaged_{number}.jpg", DAMAGE["a web page"])
    with pytest.raises(
        InputError, match=r"10 of 164 .*, more than 5 %: 10 because they cannot be decoded: train/fear/Train"
    ):
        public.read("fer2013", str(fer_folders))


@pytest.fixture(scope="module")
def jaffe_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jaffe")
    tiff = png(0, 64, ".tiff")
    number = 0
    for person in ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM"):
        for code in jaffe.CODES:
            for take in range(1, 5 if (person == "KA" and code in ("AN", "HA", "SA")) else 4):
                number += 1
                write(f"{folder}/{person}.{code}{take}.{number}.tiff", tiff)
    return folder


def test_jaffe_has_120_23_70_with_one_test_image_of_each_person_and_expression(jaffe_folder):
    faces = public.read("jaffe", str(jaffe_folder))
    assert {split: len(part) for split, part in faces.parts.items()} == {"train": 120, "val": 23, "test": 70}
    test = faces.parts["test"]
    assert len(set(zip(test.persons, test.labels, strict=True))) == 70
    angry = faces.expressions.index("angry")
    assert all(".AN" in name for name in test.image_ids[test.labels == angry])


def test_an_incomplete_jaffe_says_what_was_found(tmp_path):
    write(f"{tmp_path}/KA.AN1.39.tiff", png(0, 64, ".tiff"))
    with pytest.raises(InputError, match=r"213 images of 10 persons. Found 1 images of 1 persons"):
        public.read("jaffe", str(tmp_path))
    write(f"{tmp_path}/portrait.tiff", png(0, 64, ".tiff"))
    with pytest.raises(InputError, match=r"portrait\.tiff"):
        public.read("jaffe", str(tmp_path))


@pytest.fixture
def ckplus_tree(tmp_path):
    content = png(0)
    for number in range(327):
        person, sequence = f"S{number % 109 + 1:03d}", f"{number // 109 + 1:03d}"
        for frame in (1, 12):
            name = f"{person}_{sequence}_{frame:08d}.png"
            write(f"{tmp_path}/cohn-kanade-images/{person}/{sequence}/{name}", content)
        emotion = f"   {float(number % 7 + 1):.7e}\n"
        write(f"{tmp_path}/Emotion/{person}/{sequence}/{person}_{sequence}_00000012_emotion.txt", emotion)
    write(f"{tmp_path}/cohn-kanade-images/S999/001/S999_001_00000001.png", content)
    return tmp_path


def test_ckplus_tree_takes_the_last_frame_of_labelled_sequences_and_splits_persons(ckplus_tree):
    faces = public.read("ckplus", str(ckplus_tree))
    parts = faces.parts
    assert sum(len(part) for part in parts.values()) == 327
    assert all(name.endswith("00000012.png") for part in parts.values() for name in part.image_ids)
    persons = [set(part.persons) for part in parts.values()]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 109
    first = {name: label for part in parts.values() for name, label in zip(part.image_ids, part.labels, strict=True)}
    # Sequence 0 has emotion 1, anger.
    assert faces.expressions[first["cohn-kanade-images/S001/001/S001_001_00000012.png"]] == "angry"


def test_a_ckplus_tree_with_a_missing_sequence_says_so(ckplus_tree):
    os.remove(f"{ckplus_tree}/Emotion/S001/001/S001_001_00000012_emotion.txt")
    with pytest.raises(InputError, match=r"327 labelled sequences. Found 326"):
        public.read("ckplus", str(ckplus_tree))


def test_ckplus_class_folders_take_persons_from_names(tmp_path):
    content = png(0)
    folders = list(ckplus.FOLDERS)
    for number in range(981):
        name = f"S{number // 9 + 1:03d}_001_{number:08d}.png"
        write(f"{tmp_path}/{folders[number % 7]}/{name}", content)
    faces = public.read("ckplus", str(tmp_path))
    assert sum(len(part) for part in faces.parts.values()) == 981
    assert len(set(faces.parts["test"].persons)) == 22
    write(f"{tmp_path}/Anger/S001_001_00000000.png", content)
    os.remove(f"{tmp_path}/anger/S001_001_00000000.png")
    with pytest.raises(InputError, match=r"\['Anger', 'anger'\], which differ in spelling alone"):
        public.read("ckplus", str(tmp_path))
    os.remove(f"{tmp_path}/Anger/S001_001_00000000.png")
    os.rmdir(f"{tmp_path}/Anger")
    with pytest.raises(InputError, match=r"981 images, 3 of each sequence. Found 980"):
        public.read("ckplus", str(tmp_path))


def test_kdef_takes_poses_persons_and_gender_from_names(tmp_path):
    content = png(0, 16, ".jpg")
    for session in "AB":
        for gender in "FM":
            for number in range(1, 36):
                for code in kdef.CODES:
                    for angle in kdef.ANGLES:
                        stem = f"{session}{gender}{number:02d}"
                        write(f"{tmp_path}/{stem}/{stem}{code}{angle}.JPG", content)
    os.rename(f"{tmp_path}/AF31/AF31ANHL.JPG", f"{tmp_path}/AF31/AF31V.JPG")
    faces = public.read("kdef", str(tmp_path))
    assert sum(len(part) for part in faces.parts.values()) == 4899
    assert "AF31V.JPG" in " ".join(faces.notes)
    train, test = faces.parts["train"], faces.parts["test"]
    assert set(train.poses) == {"full_left", "half_left", "front", "half_right", "full_right"}
    assert not set(train.persons) & set(test.persons) and len(set(test.persons)) == 14
    row = int(np.flatnonzero([name.endswith("ANHL.JPG") for name in train.image_ids])[0])
    assert train.poses[row] == "half_left" and faces.expressions[train.labels[row]] == "angry"
    assert train.genders[row] == {"F": "female", "M": "male"}[train.persons[row][0]]
    os.remove(f"{tmp_path}/AF01/AF01ANHL.JPG")
    with pytest.raises(InputError, match=r"4900 images .* Found 4898"):
        public.read("kdef", str(tmp_path))


def test_a_missing_folder_is_named():
    with pytest.raises(InputError, match="'/nowhere' does not exist"):
        public.read("kdef", "/nowhere")
