"""The public sets of the paper, read from their published layouts: FER2013, JAFFE, CK+, KDEF.

Each reader checks that the set is whole and says what it expected and what it found. Where a set has no split of its
own, persons are split by a stable hash, so that no person is in two parts.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import FER2013_EXPRESSIONS, SPLITS

# Share of FER2013's Training that is held out to choose weights and fit the temperature.
HELD_OUT = 0.05
MAX_HELD_OUT = 0.5
FER2013_SIDE = 48
FER2013_USAGES = {"Training": "train", "PublicTest": "public", "PrivateTest": "private"}
# Folder names in use for the folder layout.
FER2013_FOLDERS = {"train": "train", "validation": "public", "valid": "public", "val": "public", "test": "private"}

JAFFE_CODES = {
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
JAFFE_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d)\.(\d+)\.tiff?", re.IGNORECASE)
JAFFE_IMAGES, JAFFE_PERSONS, JAFFE_VAL = 213, 10, 23

# CK+ numbers its emotions from 0, which is neutral and never the last frame of a labelled sequence.
CKPLUS_EMOTIONS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
CKPLUS_EXPRESSIONS = CKPLUS_EMOTIONS[1:]
CKPLUS_FOLDERS = {
    "anger": "angry",
    "contempt": "contempt",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "sadness": "sad",
    "surprise": "surprise",
}
CKPLUS_SEQUENCES, CKPLUS_FRAMES = 327, 3
CKPLUS_NAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.png", re.IGNORECASE)

KDEF_CODES = {
    "AF": "fear",
    "AN": "angry",
    "DI": "disgust",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
KDEF_ANGLES = {"FL": "full_left", "HL": "half_left", "S": "front", "HR": "half_right", "FR": "full_right"}
KDEF_NAME = re.compile(r"([AB])([FM])(\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.jpe?g", re.IGNORECASE)
KDEF_IMAGES = 4900


def read(task: str, data: str, held_out_share: float = HELD_OUT) -> FaceSet:
    """Returns a public set's faces.

    Args:
      task: `fer2013`, `jaffe`, `ckplus` or `kdef`.
      data: the set's folder, or FER2013's CSV file.
      held_out_share: of FER2013's Training, see `read_fer2013`; the other sets do not need it.

    Raises:
      InputError: when the set is incomplete or renamed, with what was expected and what was found.
    """
    readers = {
        "fer2013": functools.partial(read_fer2013, held_out_share=held_out_share),
        "jaffe": read_jaffe,
        "ckplus": read_ckplus,
        "kdef": read_kdef,
    }
    if task not in readers:
        raise not_one_of("task", task, readers)
    if not os.path.exists(data):
        raise InputError(f"`data` {data!r} does not exist; give the folder (or, for FER2013, the CSV) of {task}.")
    if os.path.isfile(data) and task != "fer2013":
        raise InputError(f"`data` {data!r} is a file; give the folder of {task}.")
    return readers[task](data)


def read_fer2013(data: str, held_out_share: float = HELD_OUT) -> FaceSet:
    """Returns FER2013 from the official CSV (`emotion,pixels,Usage`) or the folder layout `<part>/<class>/<image>`.

    With PrivateTest, val is PublicTest and test is PrivateTest, as in section 5.1. Without it, test is PublicTest and
    val is held out of Training by a hash of each image's bytes, so that equal files fall on the same side. The CSV and
    the folders hold other bytes, and so hold out other images.

    Args:
      data: the CSV file or the folder.
      held_out_share: share of Training that becomes val when PrivateTest is not there; with 0 val is empty and all of
        Training is trained on.

    Raises:
      InputError: when the set is incomplete or renamed, or the share is not 0 to 0.5.
    """
    if not 0 <= held_out_share <= MAX_HELD_OUT:
        raise InputError(f"`held_out` must be between 0 and {MAX_HELD_OUT}. Received: {held_out_share}.")
    found = _fer2013_csv(data) if os.path.isfile(data) else _fer2013_folders(data)
    for usage in ("train", "public"):
        if not found[usage]:
            counts = {name: len(rows) for name, rows in found.items()}
            raise InputError(f"{data} must hold FER2013's Training and PublicTest. Found images by part: {counts}.")
    if found["private"]:
        parts = {"train": found["train"], "val": found["public"], "test": found["private"]}
        notes = ("val is PublicTest", "test is PrivateTest")
    else:
        held = [row for row in found["train"] if held_out(row[2], held_out_share)]
        kept = [row for row in found["train"] if not held_out(row[2], held_out_share)]
        parts = {"train": kept, "val": held, "test": found["public"]}
        val_is = f"{len(held)} images held out of Training" if held else "empty: all of Training is trained on"
        notes = (f"val is {val_is}", "test is PublicTest")
    columns = {name: tuple(zip(*rows, strict=True)) or ((), (), ()) for name, rows in parts.items()}
    faces = _face_set(FER2013_EXPRESSIONS, {name: part(*values) for name, values in columns.items()}, notes)
    return dataclasses.replace(faces, val_of_training=not found["private"])


def _fer2013_csv(path: str) -> dict[str, list[tuple[str, int, bytes]]]:
    import cv2

    found: dict[str, list[tuple[str, int, bytes]]] = {"train": [], "public": [], "private": []}
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        if missing := {"emotion", "pixels", "Usage"} - set(rows.fieldnames or ()):
            raise InputError(f"{path} must have the columns emotion, pixels, Usage. Missing: {sorted(missing)}.")
        for line, row in enumerate(rows, 2):
            where = f"{path}, line {line}"
            if row["Usage"] not in FER2013_USAGES:
                raise not_one_of("Usage", row["Usage"], FER2013_USAGES, where)
            if row["emotion"] not in {str(label) for label in range(len(FER2013_EXPRESSIONS))}:
                raise not_one_of("emotion", row["emotion"], range(len(FER2013_EXPRESSIONS)), where)
            try:
                pixels = np.array((row["pixels"] or "").split(), np.int64)
            except ValueError:
                raise InputError(
                    f"`pixels` must be whole numbers. Received: {row['pixels'][:40]!r} ({where})."
                ) from None
            if pixels.size != FER2013_SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
                raise InputError(
                    f"`pixels` must be {FER2013_SIDE**2} numbers of 0 to 255. Found {pixels.size} ({where})."
                )
            image = cv2.imencode(".png", pixels.astype(np.uint8).reshape(FER2013_SIDE, FER2013_SIDE))[1].tobytes()
            found[FER2013_USAGES[row["Usage"]]].append((f"{row['Usage']}_{line:05d}", int(row["emotion"]), image))
    return found


def _fer2013_folders(data: str) -> dict[str, list[tuple[str, int, bytes]]]:
    found: dict[str, list[tuple[str, int, bytes]]] = {"train": [], "public": [], "private": []}
    folders = [name for name in FER2013_FOLDERS if os.path.isdir(os.path.join(data, name))]
    if "train" not in folders or len(folders) < 2:
        raise InputError(
            f"{data} must hold a folder train and one of validation and test. Found: {sorted(os.listdir(data))[:10]}."
        )
    # `train` and `test` alone is the layout in which test holds PublicTest (or both test sets together).
    usages = {name: FER2013_FOLDERS[name] for name in folders}
    if "public" not in usages.values():
        usages["test"] = "public"
    for name, usage in usages.items():
        folder = os.path.join(data, name)
        found_classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if set(found_classes) != set(FER2013_EXPRESSIONS):
            raise InputError(
                f"{folder} must hold the folders {tuple(sorted(FER2013_EXPRESSIONS))}. Found: {tuple(found_classes)}."
            )
        for label, expression in enumerate(FER2013_EXPRESSIONS):
            for path in _images(os.path.join(folder, expression)):
                found[usage].append((os.path.relpath(path, data), label, _read(path)))
    return found


def held_out(image: bytes, share: float = HELD_OUT) -> bool:
    """Whether an image belongs to the held-out part, by a hash of its bytes."""
    return _hash(image) < share


def read_jaffe(data: str) -> FaceSet:
    """Returns JAFFE: one image of each person and expression is test (70), 23 others are val, 120 are train."""
    rows = []
    for path in _images(data, (".tif", ".tiff")):
        name = os.path.basename(path)
        match = JAFFE_NAME.fullmatch(name)
        if not match:
            raise InputError(f"`{name}` is no JAFFE name such as KA.AN1.39.tiff ({data}).")
        if match[2].upper() not in JAFFE_CODES:
            raise not_one_of("expression code", match[2], JAFFE_CODES, path)
        rows.append((name, match[1].upper(), JAFFE_CODES[match[2].upper()], path))
    persons, expressions = sorted({row[1] for row in rows}), tuple(sorted(JAFFE_CODES.values()))
    if (len(rows), len(persons)) != (JAFFE_IMAGES, JAFFE_PERSONS):
        raise InputError(
            f"{data} must hold JAFFE's {JAFFE_IMAGES} images of {JAFFE_PERSONS} persons. "
            f"Found {len(rows)} images of {len(persons)} persons."
        )
    # The order by hash, not by name, so that test is not always the first take.
    rows.sort(key=lambda row: _hash(row[0].encode()))
    test = {(row[1], row[2]): row[0] for row in reversed(rows)}
    if len(test) != len(persons) * len(expressions):
        raise InputError(f"{data} must hold each of the 7 expressions of each person. Found {len(test)} of 70.")
    rest = [row[0] for row in rows if row[0] not in test.values()]
    split_of = dict.fromkeys(test.values(), "test") | dict.fromkeys(rest[:JAFFE_VAL], "val")
    parts = {}
    for split in SPLITS:
        chosen = sorted(row for row in rows if split_of.get(row[0], "train") == split)
        parts[split] = part(
            [row[0] for row in chosen],
            [expressions.index(row[2]) for row in chosen],
            [_as_png(row[3]) for row in chosen],
            persons=[row[1] for row in chosen],
            poses=["front"] * len(chosen),
            genders=["female"] * len(chosen),
        )
    return _face_set(expressions, parts, ("test is one image of each person and expression; persons are in all parts",))


def read_ckplus(data: str) -> FaceSet:
    """Returns CK+ from its original tree (last frame of the 327 labelled sequences) or the 48 x 48 class folders.

    Persons are split 70 / 10 / 20 by a stable hash.
    """
    original = os.path.join(data, "cohn-kanade-images")
    rows = _ckplus_tree(data, original) if os.path.isdir(original) else _ckplus_folders(data)
    return _by_person(CKPLUS_EXPRESSIONS, rows)


def _ckplus_tree(data: str, images: str) -> list[tuple[str, str, str, str, str]]:
    emotions = next((name for name in ("Emotion", "Emotion_labels") if os.path.isdir(os.path.join(data, name))), None)
    if emotions is None:
        raise InputError(
            f"{data} must hold the folder Emotion beside cohn-kanade-images. Found: {sorted(os.listdir(data))}."
        )
    rows = []
    for path in _images(os.path.join(data, emotions), ("_emotion.txt",)):
        person, sequence = os.path.normpath(path).split(os.sep)[-3:-1]
        with open(path) as file:
            text = file.read().strip()
        number = int(float(text)) if re.fullmatch(r"\d(\.\d*)?(e[+-]?\d+)?", text) else -1
        if not 0 < number < len(CKPLUS_EMOTIONS):
            raise not_one_of("emotion", text, range(1, len(CKPLUS_EMOTIONS)), path)
        frames = _images(os.path.join(images, person, sequence), (".png",))
        if not frames:
            raise InputError(f"{path} labels a sequence without frames in {os.path.join(images, person, sequence)}.")
        rows.append((os.path.relpath(frames[-1], data), person, CKPLUS_EMOTIONS[number], "front", frames[-1]))
    if len(rows) != CKPLUS_SEQUENCES:
        raise InputError(f"{data} must hold {CKPLUS_SEQUENCES} labelled sequences. Found {len(rows)}.")
    return rows


def _ckplus_folders(data: str) -> list[tuple[str, str, str, str, str]]:
    found = sorted(entry.name for entry in os.scandir(data) if entry.is_dir())
    if set(found) != set(CKPLUS_FOLDERS):
        raise InputError(
            f"{data} must hold cohn-kanade-images and Emotion, or the folders {tuple(CKPLUS_FOLDERS)}. "
            f"Found: {tuple(found)}."
        )
    rows = []
    for folder, expression in CKPLUS_FOLDERS.items():
        for path in _images(os.path.join(data, folder), (".png",)):
            match = CKPLUS_NAME.fullmatch(os.path.basename(path))
            if not match:
                raise InputError(f"`{os.path.basename(path)}` is no CK+ name such as S010_004_00000017.png ({path}).")
            rows.append((os.path.relpath(path, data), match[1].upper(), expression, "front", path))
    expected = CKPLUS_SEQUENCES * CKPLUS_FRAMES
    if len(rows) != expected:
        raise InputError(f"{data} must hold {expected} images, {CKPLUS_FRAMES} of each sequence. Found {len(rows)}.")
    return rows


def read_kdef(data: str) -> FaceSet:
    """Returns KDEF: five angles as poses, persons split 70 / 10 / 20 by a stable hash.

    The published set has a few misnamed files; they are reported, not guessed at.
    """
    rows, odd = [], []
    for path in _images(data, (".jpg", ".jpeg")):
        match = KDEF_NAME.fullmatch(os.path.basename(path))
        if not match or match[4].upper() not in KDEF_CODES:
            odd.append(os.path.basename(path))
            continue
        person = f"{match[2].upper()}{match[3]}"
        expression, pose = KDEF_CODES[match[4].upper()], KDEF_ANGLES[match[5].upper()]
        rows.append((os.path.relpath(path, data), person, expression, pose, path))
    if len(rows) + len(odd) != KDEF_IMAGES or len(odd) > KDEF_IMAGES // 100:
        raise InputError(
            f"{data} must hold KDEF's {KDEF_IMAGES} images with names such as AF01ANHL.JPG. "
            f"Found {len(rows)}, and {len(odd)} with other names{f' such as {odd[0]}' if odd else ''}."
        )
    notes = (f"left out, because their names do not say what they show: {', '.join(sorted(odd))}",) if odd else ()
    return _by_person(tuple(sorted(set(KDEF_CODES.values()))), rows, notes, gender_of=lambda person: person[0])


def _by_person(
    expressions: tuple[str, ...],
    rows: Sequence[tuple[str, str, str, str, str]],
    notes: tuple[str, ...] = (),
    gender_of: object = None,
) -> FaceSet:
    """Splits (image_id, person, expression, pose, path) rows by person, 70 / 10 / 20."""
    persons = sorted({row[1] for row in rows}, key=lambda person: _hash(person.encode()))
    test, val = round(0.2 * len(persons)), round(0.1 * len(persons))
    split_of = dict.fromkeys(persons[:test], "test") | dict.fromkeys(persons[test : test + val], "val")
    genders = {"F": "female", "M": "male"}
    parts = {}
    for split in SPLITS:
        chosen = sorted(row for row in rows if split_of.get(row[1], "train") == split)
        parts[split] = part(
            [row[0] for row in chosen],
            [expressions.index(row[2]) for row in chosen],
            [_read(row[4]) for row in chosen],
            persons=[row[1] for row in chosen],
            poses=[row[3] for row in chosen],
            genders=[genders[row[1][0]] for row in chosen] if gender_of else None,
        )
    return _face_set(expressions, parts, (*notes, "persons are split 70 / 10 / 20; none is in two parts"))


def part(
    image_ids: Sequence[str],
    labels: Sequence[int],
    images: Sequence[bytes],
    persons: Sequence[str] | None = None,
    poses: Sequence[str] | None = None,
    genders: Sequence[str] | None = None,
) -> Part:
    """Returns a part whose images are held in memory; what is not given is unknown."""

    def texts(values: Sequence[str] | None) -> np.ndarray:
        return np.array(list(values) if values is not None else [""] * len(labels), dtype=object)

    return Part(
        image_ids=texts(image_ids),
        labels=np.asarray(labels, np.int64),
        persons=texts(persons),
        poses=texts(poses),
        genders=texts(genders),
        ages=np.full(len(labels), -1, np.int64),
        images=tuple(images),
    )


def _face_set(expressions: tuple[str, ...], parts: dict[str, Part], notes: Iterable[str]) -> FaceSet:
    return FaceSet(expressions, parts, fingerprint(parts), notes=tuple(notes))


def fingerprint(parts: dict[str, Part]) -> str:
    """Returns a hash of every face, label and split of a set in memory."""
    digest = hashlib.sha256()
    for split, rows in sorted(parts.items()):
        for image_id, label, image in zip(rows.image_ids, rows.labels, rows.images or (), strict=True):
            digest.update(f"{split} {image_id} {label} ".encode() + hashlib.sha256(image).digest())
    return digest.hexdigest()


def class_counts(rows: Part, expressions: Sequence[str]) -> dict[str, int]:
    """Returns the faces of each expression."""
    counts = Counter(rows.labels.tolist())
    return {name: counts[label] for label, name in enumerate(expressions)}


def _hash(content: bytes) -> float:
    """A stable number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64


def _images(folder: str, endings: tuple[str, ...] = (".jpg", ".jpeg", ".png")) -> list[str]:
    """All files below a folder with one of the endings, sorted; hidden files and macOS' leftovers left out."""
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(endings) and not name.startswith(".") and "__MACOSX" not in parent
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    if not content:
        raise InputError(f"{path} is empty.")
    return content


def _as_png(path: str) -> bytes:
    """A TIFF's pixels as PNG, because TensorFlow reads no TIFF."""
    import cv2

    image = cv2.imdecode(np.frombuffer(_read(path), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise InputError(f"{path} is not a readable image.")
    return cv2.imencode(".png", image)[1].tobytes()
