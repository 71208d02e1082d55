"""What a file of `fer_tf/data/public/` defines, and what helps it to read a set as it was published."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from fer_tf import files
from fer_tf.data import csv_rows
from fer_tf.errors import InputError
from fer_tf.faces import media, stills
from fer_tf.faces.media import ClipError
from fer_tf.labels import SPLITS, key_of, word_key

DAMAGED, MISSING = "they cannot be decoded", "there are no such files"
CLIP = "they are clips or moving pictures, and pictures alone are read here"
CONFLICT = "rows say different things of them"
# Reasons that are faults of the set and no rules of its reader, and what to do where they are more than a few images'.
FAULTS = {
    DAMAGED: "Get these files again.",
    MISSING: "Names are paths from the table's folder.",
    CLIP: "Save the frames that show the expressions as pictures and name these.",
    CONFLICT: "Each picture needs one row.",
}
REPEATED, NO_PICTURE = "rows before say the same of them", "their names do not end as pictures' names do"
# Endings of pictures that people keep in folders.
PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
# What Windows puts into folders of pictures by itself, in lower case.
_OF_WINDOWS = ("thumbs.db", "desktop.ini")
# What TensorFlow decodes as `fer_tf.faces.media` would.
_OF_TENSORFLOW, _MODES_OF_TENSORFLOW = ("JPEG", "PNG"), ("1", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class Row:
    """One image of a public set.

    Attributes:
      image_id: its path in the set, or what else names it; unique in the set.
      expression: the label's name.
      usage: the part of the set that it belongs to, in the set's own words or `train`, `val`, `test`.
      image: encoded bytes, in any format that TensorFlow decodes.
      person, pose, gender: as far as the set tells.
      distribution: each expression's share of the votes on it; empty when it has one label.
    """

    image_id: str
    expression: str
    usage: str
    image: bytes = field(default=b"", repr=False)
    person: str = ""
    pose: str = ""
    gender: str = ""
    distribution: tuple[float, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """An image that is not used.

    Attributes:
      image_id: which.
      reason: completes "left out, because ..."; the same words for all images of a kind.
      detail: what was found, for a person to read.
    """

    image_id: str
    reason: str
    detail: str = ""


def faults(rows: Sequence[Row | LeftOut]) -> str:
    """Returns a sentence for each reason with how many images have it, three of them, and what to do about it."""
    told = []
    for reason, advice in FAULTS.items():
        found = [row for row in rows if isinstance(row, LeftOut) and row.reason == reason]
        if found:
            shown = "; ".join(f"{row.image_id}: {row.detail}" for row in found[:3])
            told.append(f"{len(found)} because {reason}: {shown}. {advice}")
    return " ".join(told)


@dataclass(frozen=True)
class Parts:
    """What a set's own parts become.

    Attributes:
      split_of: `train`, `val` or `test` by usage.
      notes: what a reader of the scores must know of it.
      val_of_training: whether val was held out of the set's own training part.
    """

    split_of: dict[str, str]
    notes: tuple[str, ...] = ()
    val_of_training: bool = False


@dataclass(frozen=True)
class Source:
    """A public set as its reader found it.

    Attributes:
      rows: its images, read one after the other.
      parts: takes how many rows each usage has, and says what they become; raises InputError when one is missing.
      expressions: label names, where the set's own are only known now.
    """

    rows: Iterable[Row | LeftOut]
    parts: Callable[[Counter[str]], Parts]
    expressions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublicSet:
    """What a file of `fer_tf/data/public/` defines as SET.

    Attributes:
      title: the set's name as published.
      expressions: label names; a class's id is its position. Empty when each set of the kind has others.
      read: takes the set's folder or file and the share of its training part to hold out; raises InputError when the
        set is incomplete or renamed, with what was expected and what was found.
      takes_file: whether the set may be a single file.
      named: takes what `read` does first, and returns the paths of the files that the set's own table names; for a set
        that may have files outside its folder.
      version: changes when equal files would give other records of this set alone.
      holds_out: whether the share matters.
      pictures_of: the set whose pictures it shows, by its task, where its own are other labels of them.
      picture_share: side of a picture as a share of the side of the crop that `fer_tf.faces.align` would cut around its
        face, where that was measured and the pictures are the smaller ones; a network that learned from them is shown
        the same part of an aligned face.
    """

    title: str
    expressions: tuple[str, ...]
    read: Callable[[str, float], Source]
    takes_file: bool = False
    named: Callable[[str], Iterable[str]] | None = None
    version: int = 0
    holds_out: bool = False
    pictures_of: str = ""
    picture_share: float = 1.0


def order_hash(content: bytes) -> int:
    """Returns a number from 0 to 2 ** 64 - 1 that is equal for equal bytes, on any machine."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def unit_hash(content: bytes) -> float:
    """Returns `order_hash` as a number from 0 to 1."""
    return order_hash(content) / 2**64


def by_person(persons: Iterable[str]) -> dict[str, str]:
    """Returns the split of each person: 70 / 10 / 20 % of them, by a stable hash."""
    ordered = sorted(set(persons), key=lambda person: unit_hash(person.encode()))
    test, val = round(0.2 * len(ordered)), round(0.1 * len(ordered))
    return {
        person: "test" if place < test else "val" if place < test + val else "train"
        for place, person in enumerate(ordered)
    }


def own_splits(*notes: str) -> Callable[[Counter[str]], Parts]:
    """Returns the parts of a set whose reader has split it itself."""
    return lambda usages: Parts({split: split for split in SPLITS}, notes)


def images_below(folder: str, endings: tuple[str, ...] = PICTURES) -> list[str]:
    """Returns all files below a folder with one of the endings, sorted; what is hidden or macOS' own is left out."""
    found = [path for path in files.matching(folder, files.ANY_DEPTH) if path.lower().endswith(endings)]
    return [path for path in found if not any(map(is_hidden, os.path.relpath(path, folder).split(os.sep)))]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is an editor's, a notebook's or a system's own."""
    return name.startswith(".") or name == "__MACOSX"


def folders_in(folder: str) -> dict[str, list[str]]:
    """Returns the folders in a folder that are not hidden: their names, sorted, by what they share (`key_of`)."""
    found: dict[str, list[str]] = {}
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)):
        found.setdefault(key_of(name), []).append(name)
    return found


def one_each(folder: str) -> dict[str, str]:
    """Returns `folders_in` for a set whose folders stand there once; raises InputError for two of one name."""
    found = folders_in(folder)
    for names in found.values():
        if len(names) > 1:
            raise InputError(f"{folder} holds the folders {names}, which differ in spelling alone: put them into one.")
    return {key: name for key, (name,) in found.items()}


def read_picture(path: str) -> bytes:
    """Returns a picture as training reads it: the file itself, or its upright pixels as PNG where TensorFlow cannot.

    Raises:
      ClipError: it is no picture, or damaged.
    """
    encoded = files.read_bytes(path)
    image = stills.identified(encoded)
    known = image is not None and image.format in _OF_TENSORFLOW and image.mode in _MODES_OF_TENSORFLOW
    if not encoded or (known and stills.orientation(image, encoded) == 1):
        return encoded
    with contextlib.closing(media.open(path)) as file:
        if not isinstance(file, media.Still):
            raise ClipError("no_picture", path, "a clip, or pictures that follow each other")
        return media.encode_png(file.frame().rgb)


def with_picture(row: Row, path: str) -> Row | LeftOut:
    """Returns a row with the picture in a file, or why it is left out."""
    try:
        return replace(row, image=read_picture(path))
    except ClipError as error:
        reason = CLIP if error.reason == "no_picture" else DAMAGED
        return LeftOut(row.image_id, reason, f"{error.reason}: {error.detail}")


def pictures_of(folder: str, root: str, expression: str, usage: str) -> Iterator[Row | LeftOut]:
    """Yields the pictures below a class's folder, and the other files there, which are left out.

    Args:
      folder: the class's.
      root: the set's, from which its images are named.
      expression, usage: what the pictures show, and the part that they belong to.
    """
    for path in images_below(folder, endings=("",)):
        row = Row(os.path.relpath(path, root), expression, usage)
        name = os.path.basename(path).lower()
        if name.endswith(PICTURES):
            yield with_picture(row, path)
        elif name not in _OF_WINDOWS:
            yield LeftOut(row.image_id, NO_PICTURE)


def table_rows(
    path: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of a set's CSV file: where each stands, for errors, and its values by column.

    Columns may stand in any order, with blanks around their names and in capitals or not; others are passed on too.

    Args:
      path: the file.
      required, optional: columns that must be there, and that may; rows name them as written here.

    Raises:
      InputError: when the file is no CSV, lacks a column, or has a row with values that belong to no column or without
        one that it must have.
    """
    known = {word_key(name): name for name in (*required, *optional)}
    with open(path, "rb") as file:
        table = csv_rows.read(file, path, [word_key(name) for name in required])
        names = [known.get(column, column) for column in table.columns]
        needed = 1 + max(names.index(name) for name in required)
        for line, values in table.rows:
            where = f"{path}, line {line}"
            if not needed <= len(values) <= len(names):
                advice = "Quote values that hold a comma." if len(values) > len(names) else "Is the file cut off?"
                raise InputError(f"{where}: {len(values)} values under {len(names)} columns. {advice}")
            yield where, dict(zip(names, values, strict=False))
