"""The public sets are read from their published layouts, and an incomplete one is refused with what was expected."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from fer_tf.data import public
from fer_tf.data.copies import test_copies as copies_in_test
from fer_tf.errors import InputError
from fer_tf.labels import FER2013_EXPRESSIONS


def png(seed: int, side: int = 48, suffix: str = ".png") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(suffix, image)[1].tobytes()


def write(path: str, content: bytes | str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


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
    decoded = cv2.imdecode(np.frombuffer(faces.parts["test"].images[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    expected = cv2.imdecode(np.frombuffer(png(3), np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(decoded, expected)


def test_fer2013_folders_without_private_test_hold_a_part_of_training_out(fer_folders):
    faces = public.read("fer2013", str(fer_folders))
    train, val, test = (faces.parts[split] for split in ("train", "val", "test"))
    assert len(train) + len(val) == 140 and len(test) == 14
    assert 0 < len(val) < 25
    assert not set(train.image_ids) & set(val.image_ids)
    assert "PublicTest" in " ".join(faces.notes)


def test_fer2013_may_train_on_all_of_training(fer_folders):
    faces = public.read("fer2013", str(fer_folders), held_out_share=0)
    assert {split: len(part) for split, part in faces.parts.items()} == {"train": 140, "val": 0, "test": 14}
    assert faces.fingerprint != public.read("fer2013", str(fer_folders)).fingerprint
    assert faces.notes == ("val is empty: all of Training is trained on", "test is PublicTest")
    with pytest.raises(InputError, match=r"`held_out` must be between 0 and 0\.5\. Received: 0\.9"):
        public.read("fer2013", str(fer_folders), held_out_share=0.9)


def test_copies_of_one_picture_fall_on_the_same_side(fer_folders):
    for number in range(140):
        write(f"{fer_folders}/train/fear/Training_copy_{number}.png", png(number))
    faces = public.read("fer2013", str(fer_folders))
    assert not set(faces.parts["train"].images) & set(faces.parts["val"].images)


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
        ("label,pixels,Usage\n", "must have the columns emotion, pixels, Usage"),
        ("emotion,pixels,Usage\n7,1 2,Training\n", r"`emotion` must be one of .*line 2"),
        ("emotion,pixels,Usage\n1,1 2,Training\n", "2304 numbers of 0 to 255. Found 2 .*line 2"),
        ("emotion,pixels,Usage\n1,1 x,Training\n", "whole numbers.*line 2"),
        ("emotion,pixels,Usage\n1,1 2,Test\n", r"`Usage` must be one of .*'Test'.*line 2"),
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


@pytest.fixture(scope="module")
def jaffe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jaffe")
    tiff = png(0, 64, ".tiff")
    number = 0
    for person in ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM"):
        for code in public.JAFFE_CODES:
            for take in range(1, 5 if (person == "KA" and code in ("AN", "HA", "SA")) else 4):
                number += 1
                write(f"{folder}/{person}.{code}{take}.{number}.tiff", tiff)
    return folder


def test_jaffe_has_120_23_70_with_one_test_image_of_each_person_and_expression(jaffe):
    faces = public.read("jaffe", str(jaffe))
    assert {split: len(part) for split, part in faces.parts.items()} == {"train": 120, "val": 23, "test": 70}
    test = faces.parts["test"]
    assert len(set(zip(test.persons, test.labels, strict=True))) == 70
    angry = faces.expressions.index("angry")
    assert all(".AN" in name for name in test.image_ids[test.labels == angry])


def test_an_incomplete_jaffe_says_what_was_found(jaffe, tmp_path):
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
    folders = list(public.CKPLUS_FOLDERS)
    for number in range(981):
        name = f"S{number // 9 + 1:03d}_001_{number:08d}.png"
        write(f"{tmp_path}/{folders[number % 7]}/{name}", content)
    faces = public.read("ckplus", str(tmp_path))
    assert sum(len(part) for part in faces.parts.values()) == 981
    assert len(set(faces.parts["test"].persons)) == 22
    os.remove(f"{tmp_path}/anger/S001_001_00000000.png")
    with pytest.raises(InputError, match=r"981 images, 3 of each sequence. Found 980"):
        public.read("ckplus", str(tmp_path))


def test_kdef_takes_poses_persons_and_gender_from_names(tmp_path):
    content = png(0, 16, ".jpg")
    for session in "AB":
        for gender in "FM":
            for number in range(1, 36):
                for code in public.KDEF_CODES:
                    for angle in public.KDEF_ANGLES:
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
