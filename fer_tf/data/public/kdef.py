"""KDEF (Lundqvist et al. 1998): 4,900 images, all that the set says of one in its name: `AF01ANHL.JPG`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from fer_tf import files
from fer_tf.data.public_set import LeftOut, PublicSet, Row, Source, by_person, images_below, own_splits
from fer_tf.errors import InputError

CODES = {
    "AF": "fear",
    "AN": "angry",
    "DI": "disgust",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
EXPRESSIONS = tuple(sorted(CODES.values()))
ANGLES = {"FL": "full_left", "HL": "half_left", "S": "front", "HR": "half_right", "FR": "full_right"}
GENDERS = {"F": "female", "M": "male"}
NAME = re.compile(r"([AB])([FM])(\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.jpe?g", re.IGNORECASE)
IMAGES = 4900


def read(data: str, held_out: float) -> Source:
    """Returns KDEF: five angles as poses, persons split 70 / 10 / 20 by a stable hash.

    The published set has a few misnamed files; they are reported, not guessed at.
    """
    found, odd = [], []
    for path in images_below(data, (".jpg", ".jpeg")):
        match = NAME.fullmatch(os.path.basename(path))
        if match and match[4].upper() in CODES:
            found.append((os.path.relpath(path, data), match, path))
        else:
            odd.append(os.path.basename(path))
    if len(found) + len(odd) != IMAGES or len(odd) > IMAGES // 100:
        raise InputError(
            f"{data} must hold KDEF's {IMAGES} images with names such as AF01ANHL.JPG. "
            f"Found {len(found)}, and {len(odd)} with other names{f' such as {odd[0]}' if odd else ''}."
        )
    return Source(_rows(sorted(found), odd), own_splits("persons are split 70 / 10 / 20; none is in two parts"))


def _rows(found: list[tuple[str, re.Match[str], str]], odd: list[str]) -> Iterator[Row | LeftOut]:
    for name in odd:
        yield LeftOut(name, "their names do not say what they show")
    split_of = by_person(_person(match) for _, match, _ in found)
    for image_id, match, path in found:
        person, gender = _person(match), GENDERS[match[2].upper()]
        expression, pose = CODES[match[4].upper()], ANGLES[match[5].upper()]
        yield Row(image_id, expression, split_of[person], files.read_bytes(path), person, pose, gender)


def _person(match: re.Match[str]) -> str:
    return f"{match[2].upper()}{match[3]}"


SET = PublicSet("KDEF", EXPRESSIONS, read)
