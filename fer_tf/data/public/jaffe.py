"""JAFFE (Lyons et al. 1998): 213 images of ten women, all that the set says of one in its name: `KA.AN1.39.tiff`."""

from __future__ import annotations

import os
import re

from fer_tf import files
from fer_tf.data.public_set import (
    DAMAGED,
    LeftOut,
    PublicSet,
    Row,
    Source,
    images_below,
    own_splits,
    unit_hash,
)
from fer_tf.errors import InputError, not_one_of
from fer_tf.faces import media

CODES = {
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
EXPRESSIONS = tuple(sorted(CODES.values()))
NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d)\.(\d+)\.tiff?", re.IGNORECASE)
IMAGES, PERSONS, VAL = 213, 10, 23


def read(data: str, held_out: float) -> Source:
    """Returns JAFFE: one image of each person and expression is test (70), 23 others are val, 120 are train."""
    rows = []
    for path in images_below(data, (".tif", ".tiff")):
        name = os.path.basename(path)
        match = NAME.fullmatch(name)
        if not match:
            raise InputError(f"`{name}` is no JAFFE name such as KA.AN1.39.tiff ({data}).")
        if match[2].upper() not in CODES:
            raise not_one_of("expression code", match[2], CODES, path)
        rows.append((name, match[1].upper(), CODES[match[2].upper()], path))
    persons = {row[1] for row in rows}
    if (len(rows), len(persons)) != (IMAGES, PERSONS):
        raise InputError(
            f"{data} must hold JAFFE's {IMAGES} images of {PERSONS} persons. "
            f"Found {len(rows)} images of {len(persons)} persons."
        )
    # The order by hash, not by name, so that test is not always the first take.
    mixed = sorted(rows, key=lambda row: unit_hash(row[0].encode()))
    test = {(row[1], row[2]): row[0] for row in reversed(mixed)}
    if len(test) != len(persons) * len(EXPRESSIONS):
        raise InputError(f"{data} must hold each of the 7 expressions of each person. Found {len(test)} of 70.")
    rest = [row[0] for row in mixed if row[0] not in test.values()]
    split_of = dict.fromkeys(test.values(), "test") | dict.fromkeys(rest[:VAL], "val")
    found = (_row(*row, split_of.get(row[0], "train")) for row in sorted(rows))
    return Source(found, own_splits("test is one image of each person and expression; persons are in all parts"))


def _row(name: str, person: str, expression: str, path: str, split: str) -> Row | LeftOut:
    image = png_of(path)
    if not image:
        return LeftOut(name, DAMAGED, "not a readable TIFF")
    return Row(name, expression, split, image, person, "front", "female")


def png_of(path: str) -> bytes:
    """Returns a TIFF's pixels as PNG, because TensorFlow reads no TIFF; empty when it is damaged."""
    try:
        return media.encode_png(media.decode(files.read_bytes(path), channels=1))
    except InputError:
        return b""


SET = PublicSet("JAFFE", EXPRESSIONS, read)
