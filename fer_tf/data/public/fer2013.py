"""FER2013 (Goodfellow et al. 2013): the official CSV, or its folder, or images in folders `<part>/<class>/<image>`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fer_tf.data.public import MAX_HELD_OUT
from fer_tf.data.public_set import (
    DAMAGED,
    LeftOut,
    Parts,
    PublicSet,
    Row,
    Source,
    folders_in,
    pictures_of,
    table_rows,
    unit_hash,
)
from fer_tf.errors import InputError, not_one_of
from fer_tf.faces import media

# The set's own order of class numbers.
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 48
# Of PublicTest, and as many of PrivateTest.
PUBLIC_FACES = 3589
CSV_NAME = "fer2013.csv"
TRAINING, HELD, PUBLIC, PRIVATE = "Training", "held out", "PublicTest", "PrivateTest"
USAGES = {name.casefold(): name for name in (TRAINING, PUBLIC, PRIVATE)}
# Folder names in use for the folder layout.
FOLDERS = {"train": TRAINING, "validation": PUBLIC, "valid": PUBLIC, "val": PUBLIC, "test": PRIVATE}


def read(data: str, held_out: float) -> Source:
    """Returns FER2013 from the CSV (`emotion,pixels,Usage`) or the folders.

    With PrivateTest, val is PublicTest and test is PrivateTest, as in section 5.1. Without it, test is PublicTest and
    val is held out of Training by a hash of each image's bytes, so that equal files fall on the same side. The CSV and
    the folders hold other bytes, and so hold out other images.

    Args:
      data: the CSV file, or the folder: of one with `fer2013.csv` and no folder train, the CSV.
      held_out: share of Training that becomes val when PrivateTest is not there; with 0 val is empty and all of
        Training is trained on.

    Raises:
      InputError: when the set is incomplete or renamed, or the share is not 0 to 0.5.
    """
    if not 0 <= held_out <= MAX_HELD_OUT:
        raise InputError(f"`held_out` must be between 0 and {MAX_HELD_OUT}. Received: {held_out}.")
    table = data if os.path.isfile(data) else _csv_in(data)
    rows = _csv(table, held_out) if table else _folders(data, held_out)
    return Source(rows, lambda usages: parts(usages, data))


def parts(usages: Counter[str], data: str) -> Parts:
    """Returns what FER2013's parts become; raises InputError when Training or PublicTest is missing."""
    if not usages[TRAINING] + usages[HELD] or not usages[PUBLIC]:
        raise InputError(f"{data} must hold FER2013's Training and PublicTest. Found images by part: {dict(usages)}.")
    if usages[PRIVATE]:
        split_of = {TRAINING: "train", HELD: "train", PUBLIC: "val", PRIVATE: "test"}
        return Parts(split_of, ("val is PublicTest", "test is PrivateTest"))
    held = usages[HELD]
    val_is = f"{held} images held out of Training" if held else "empty: all of Training is trained on"
    split_of = {TRAINING: "train", HELD: "val", PUBLIC: "test"}
    both = usages[PUBLIC] > PUBLIC_FACES
    test_is = "PublicTest and PrivateTest together" if both else PUBLIC
    return Parts(split_of, (f"val is {val_is}", f"test is {test_is}"), val_of_training=True)


def part_of(usage: str, image: bytes, held_out: float) -> str:
    """Returns the part of an image: Training's held-out images are one of their own."""
    return HELD if usage == TRAINING and unit_hash(image) < held_out else usage


def _csv_in(folder: str) -> str:
    """The CSV in a folder, its name in any case, or nothing where the pictures lie there too."""
    names = {name.casefold(): name for name in os.listdir(folder)}
    return os.path.join(folder, names[CSV_NAME]) if CSV_NAME in names and "train" not in names else ""


def _csv(path: str, held_out: float) -> Iterator[Row | LeftOut]:
    labels = {str(label): name for label, name in enumerate(EXPRESSIONS)}
    for line, (where, row) in enumerate(table_rows(path, ("emotion", "pixels", "Usage")), 2):
        if row["Usage"].casefold() not in USAGES:
            raise not_one_of("Usage", row["Usage"], USAGES.values(), where)
        if row["emotion"] not in labels:
            raise not_one_of("emotion", row["emotion"], range(len(EXPRESSIONS)), where)
        usage = USAGES[row["Usage"].casefold()]
        image_id = f"{usage}_{line:05d}"
        image = png_of(row["pixels"])
        if isinstance(image, str):
            yield LeftOut(image_id, DAMAGED, f"{image} ({where})")
        else:
            yield Row(image_id, labels[row["emotion"]], part_of(usage, image, held_out), image)


def png_of(text: str) -> bytes | str:
    """Returns the pixels of a CSV row as PNG, or what is wrong with them."""
    try:
        pixels = np.array(text.split(), np.int64)
    except ValueError:
        return f"`pixels` must be whole numbers. Received: {text[:40]!r}"
    if pixels.size != SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
        return f"`pixels` must be {SIDE**2} numbers of 0 to 255. Found {pixels.size}"
    return media.encode_png(pixels.astype(np.uint8).reshape(SIDE, SIDE))


def _folders(data: str, held_out: float) -> Iterator[Row | LeftOut]:
    found = folders_in(data)
    usages = {name: usage for name, usage in FOLDERS.items() if name in found}
    if "train" not in found or len(usages) < 2:
        raise InputError(
            f"{data} must hold {CSV_NAME}, or a folder train and one of validation and test. "
            f"Found: {sorted(os.listdir(data))[:10]}."
        )
    # `train` and `test` alone is the layout in which test holds PublicTest (or both test sets together).
    if PUBLIC not in usages.values():
        usages["test"] = PUBLIC
    places = [(os.path.join(data, part), usages[name]) for name in usages for part in found[name]]
    classes = {part: folders_in(part) for part, _ in places}
    for part, folders in classes.items():
        if set(folders) != set(EXPRESSIONS):
            names = tuple(name for alike in folders.values() for name in alike)
            raise InputError(f"{part} must hold the folders {tuple(sorted(EXPRESSIONS))}. Found: {names}.")
    for part, usage in places:
        for expression in EXPRESSIONS:
            for folder in classes[part][expression]:
                for row in pictures_of(os.path.join(part, folder), data, expression, usage):
                    yield row if isinstance(row, LeftOut) else replace(row, usage=part_of(usage, row.image, held_out))


# Measured on Training alone, of which FER+ has the pictures too (docs/experiments.md).
PICTURE_SHARE = 1 / 1.115

SET = PublicSet("FER2013", EXPRESSIONS, read, takes_file=True, holds_out=True, picture_share=PICTURE_SHARE)
