"""Any other set of labelled pictures, to be judged by: a table that names them, or folders named as expressions.

The table is `annotations.csv` in the folder, or the file that is given: columns `image` (or `video`, as for a build)
and `expression`, and what is known of `person`, `pose`, `gender` and `split` (train, val or test; test when empty).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from fer_tf.data.public_set import (
    DAMAGED,
    LeftOut,
    Parts,
    PublicSet,
    Row,
    Source,
    folders_in,
    images_below,
    table_rows,
    with_picture,
)
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import SPLITS

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
    table = data if os.path.isfile(data) else os.path.join(data, TABLE)
    if os.path.exists(table):
        rows = _table(table)
        names = sorted({row.expression for row in _table(table, with_images=False) if isinstance(row, Row)})
    else:
        folders = {name: os.path.join(data, found) for name, found in folders_in(data).items()}
        names = sorted({SAME.get(name, name) for name, folder in folders.items() if images_below(folder)})
        rows = _folders(data, folders)
    if not names:
        raise InputError(f"{data} must hold {TABLE}, or folders named as expressions with pictures. Found neither.")
    return Source(rows, _parts, tuple(names))


def _parts(usages: Counter[str]) -> Parts:
    return Parts({split: split for split in SPLITS})


def _folders(data: str, folders: dict[str, str]) -> Iterator[Row | LeftOut]:
    for name, folder in sorted(folders.items()):
        for path in images_below(folder):
            yield with_picture(Row(os.path.relpath(path, data), SAME.get(name, name), "test"), path)


def _table(path: str, with_images: bool = True) -> Iterator[Row | LeftOut]:
    root = os.path.dirname(path)
    for where, columns in table_rows(path, ("expression",)):
        image_id = columns.get("image") or columns.get("video") or columns.get("path") or ""
        if not image_id:
            raise InputError(f"{where}: a row needs `image` (or `video`, `path`). Found the columns {list(columns)}.")
        split = columns.get("split") or "test"
        if split not in SPLITS:
            raise not_one_of("split", split, SPLITS, where)
        expression = columns["expression"].casefold()
        if not expression:
            raise InputError(f"{where}: `expression` is empty.")
        found = os.path.join(root, image_id)
        if not os.path.isfile(found):
            yield LeftOut(image_id, DAMAGED, f"there is no such file ({where})")
            continue
        about = {name: columns.get(name, "") for name in ("person", "pose", "gender")}
        row = Row(image_id, SAME.get(expression, expression), split, **about)
        yield with_picture(row, found) if with_images else row


SET = PublicSet("pictures", (), read, takes_file=True)
