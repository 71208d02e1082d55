"""Any other set of labelled pictures, to be judged by: a table that names them, or folders named as expressions.

The table is `annotations.csv` in the folder, or the file that is given: columns `image` (or `video`, as for a build; it
must name pictures) and `expression`, and what is known of `person`, `pose`, `gender` and `split` (train, val or test;
test when empty).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from fer_tf.data.annotations import Spellings, forward
from fer_tf.data.public_set import (
    CONFLICT,
    MISSING,
    REPEATED,
    LeftOut,
    Parts,
    PublicSet,
    Row,
    Source,
    faults,
    folders_in,
    images_below,
    pictures_of,
    table_rows,
    with_picture,
)
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import SPLITS, key_of, says_nothing

TABLE = "annotations.csv"
# What other sets call the expressions of FER2013.
SAME = {
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def read(data: str, held_out: float) -> Source:
    """Returns the pictures of a table or of folders; expressions are those that occur.

    Raises:
      InputError: when there is neither, or a row says nothing of a picture that is there.
    """
    table = _table_of(data)
    if os.path.exists(table):
        said, root = _table(table), os.path.dirname(table)
        names = sorted({row.expression for row in said if isinstance(row, Row)})
        if not names:
            raise _nothing_in(table, said)
        rows = (
            row if isinstance(row, LeftOut) else with_picture(row, os.path.join(root, row.image_id)) for row in said
        )
    else:
        folders = [
            (SAME.get(key, key), os.path.join(data, name)) for key, found in folders_in(data).items() for name in found
        ]
        names = sorted({expression for expression, folder in folders if images_below(folder)})
        if nameless := [folder for expression, folder in folders if expression in names and says_nothing(expression)]:
            raise InputError(f"the folder {nameless[0]!r} names no expression; rename it, or move it away.")
        rows = (row for name, folder in sorted(folders) for row in pictures_of(folder, data, name, "test"))
    if not names:
        raise InputError(f"{data} must hold {TABLE}, or folders named as expressions with pictures. Found neither.")
    return Source(rows, _parts, tuple(names))


def named(data: str) -> Iterator[str]:
    """Yields the paths of the pictures that the table names, if there is one; raises InputError as `read`."""
    table = _table_of(data)
    if os.path.exists(table):
        for _, columns in table_rows(table, ("expression",)):
            yield os.path.join(os.path.dirname(table), _image_of(columns))


def _table_of(data: str) -> str:
    return data if os.path.isfile(data) else os.path.join(data, TABLE)


def _image_of(columns: dict[str, str]) -> str:
    return forward(columns.get("image") or columns.get("video") or columns.get("path") or "")


def _parts(usages: Counter[str]) -> Parts:
    return Parts({split: split for split in SPLITS})


def _table(path: str) -> list[Row | LeftOut]:
    """The rows of a table, without pictures, each picture once, as a build counts its clips."""
    read: list[tuple[str, Row]] = []
    spellings = Spellings()
    for where, columns in table_rows(path, ("expression",)):
        image_id = _image_of(columns)
        columns = {name: "" if says_nothing(value) else value for name, value in columns.items()}
        if not image_id:
            raise InputError(f"{where}: a row needs `image` (or `video`, `path`). Found the columns {list(columns)}.")
        split = columns.get("split", "").casefold() or "test"
        if split not in SPLITS:
            raise not_one_of("split", columns["split"], SPLITS, where)
        expression = key_of(columns["expression"])
        if not expression:
            raise InputError(f"{where}: `expression` is empty.")
        about = {name: columns.get(name, "") for name in ("person", "pose", "gender")}
        for name, value in about.items():
            spellings.meet(name, value)
        read.append((where, Row(image_id, SAME.get(expression, expression), split, **about)))
    said: dict[str, list[tuple[str, Row]]] = {}
    for where, row in read:
        about = {name: spellings.standing(name, getattr(row, name)) for name in ("person", "pose", "gender")}
        # A link and what it leads to are one picture.
        file = os.path.realpath(os.path.join(os.path.dirname(path), row.image_id))
        said.setdefault(file, []).append((where, replace(row, **about)))
    return [row for file, rows in said.items() for row in _one_of(file, rows)]


def _one_of(file: str, rows: list[tuple[str, Row]]) -> Iterator[Row | LeftOut]:
    """What the rows of one picture come to."""
    (where, first), *others = rows
    # It may be named in two ways.
    if any(replace(row, image_id=first.image_id) != first for _, row in others):
        places = "; ".join(where for where, _ in rows)
        yield LeftOut(first.image_id, CONFLICT, f"{places} say different things of one picture; none is used")
        return
    yield first if os.path.isfile(file) else LeftOut(first.image_id, MISSING, f"{file} is not there ({where})")
    yield from (LeftOut(row.image_id, REPEATED, f"{again}, same as {where}") for again, row in others)


def _nothing_in(table: str, rows: list[Row | LeftOut]) -> InputError:
    if not rows:
        return InputError(f"{table} has no rows below its first line.")
    return InputError(f"{table}: none of the pictures that it names can be used: {faults(rows)}")


SET = PublicSet("pictures", (), read, takes_file=True, named=named, version=1)
