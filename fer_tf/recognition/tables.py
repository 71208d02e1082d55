"""Faces as rows: one table for any input, in memory or as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError, not_one_of
from fer_tf.faces.eyes import FEATURES
from fer_tf.recognition.face import Face
from fer_tf.recognition.pose import HEAD_POSE

if TYPE_CHECKING:
    import pandas

UNSURE = "unsure"
RELATIVE = ("relative_expression", "relative_probability")
FIXED = (
    *("input", "frame", "time", "face", "x", "y", "width", "height"),
    *("detector_score", "landmarks_trusted", "expression"),
)
REJECTED = ("input", "frame", "reason", "detail")


def columns_of(
    expressions: Sequence[str],
    with_pose: bool = False,
    with_eyes: bool = False,
    with_unsure: bool = False,
    with_relative: bool = False,
) -> tuple[str, ...]:
    """Returns a table's columns; an expression that is called like another column gets `probability_` before it."""
    others = (*FIXED, UNSURE, *HEAD_POSE, *FEATURES, *RELATIVE)
    classes = [f"probability_{name}" if name in others else name for name in expressions]
    unsure = (UNSURE,) if with_unsure else ()
    asked = ((with_pose, HEAD_POSE), (with_eyes, FEATURES), (with_relative, RELATIVE))
    return (*FIXED, *unsure, *classes, *(name for wanted, names in asked if wanted for name in names))


def row_of(face: Face, with_pose: bool = False) -> tuple:
    """Returns a face's values in the order of `columns_of`."""
    box = (round(float(value), 2) for value in face.box)
    scores = (round(float(value), 6) for value in face.answer.probabilities)
    turned = (round(value, 2) for value in face.head_pose) if with_pose else ()
    found = (face.input, face.frame, round(face.time, 4), face.number, *box, round(face.score, 4))
    about = (*found, face.landmarks_trusted, face.expression)
    unsure = (face.unsure,) if face.answer.unsure_below else ()
    return (*about, *unsure, *scores, *turned, *(round(float(value), 5) for value in face.eyes))


def with_relative(row: tuple, probabilities: np.ndarray, known: bool, expressions: Sequence[str]) -> tuple:
    """Returns a row with the best of a face's relative probabilities, float (len(expressions),), if they are known."""
    if not known:
        return (*row, None, None)
    best = int(probabilities.argmax())
    return (*row, expressions[best], round(float(probabilities[best]), 6))


def frame_of(rows: Iterable[tuple], columns: Sequence[str]) -> pandas.DataFrame:
    """Returns rows as a pandas table."""
    import pandas

    return pandas.DataFrame(list(rows), columns=list(columns))


def save(path: str, columns: Sequence[str], rows: Iterable[tuple]) -> str:
    """Writes a table, here or in a bucket, by the path's ending; the file gets its name when it is complete.

    Raises:
      CannotWrite: when the disk is full, or a bucket is out of reach.
      InputError: for another ending, where nothing can be written, or for Parquet without pyarrow.
    """
    suffix = os.path.splitext(path)[1].lower()
    writers = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}
    if suffix not in writers:
        raise not_one_of("path", path, [f"*{suffix}" for suffix in writers])
    # A path in a bucket is no folder here called `gs:`.
    is_local = files.is_local(path)
    try:
        if is_local:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with files.whole_path(path) if is_local else files.whole_local(path) as partial:
            writers[suffix](partial, columns, rows)
    except OSError as error:
        raise not_written(path, error) from None
    return path


def not_written(path: str, error: Exception) -> Exception:
    """Returns the error for a file of results: a full disk is no fault of who named the file, anything else is."""
    if isinstance(error, files.CannotWrite):
        return error
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return files.cannot_write(path, error)
    return InputError(f"`output` cannot be written. Received: {path!r} ({error}).")


def _write_csv(path: str, columns: Sequence[str], rows: Iterable[tuple]) -> None:
    # A name that is no UTF-8 is written with escapes.
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_json_lines(path: str, columns: Sequence[str], rows: Iterable[tuple]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(files.json_line(dict(zip(columns, map(_plain, row), strict=True))) + "\n")


def _plain(value: Any) -> Any:
    """JSON has no nan."""
    return None if value != value else value


def check_parquet() -> None:
    """Raises InputError where pyarrow is missing or too old, of which a table of no rows tells before hours of work."""
    try:
        import pyarrow  # noqa: F401

        frame_of([], REJECTED).to_parquet(io.BytesIO(), engine="pyarrow")
    except ImportError as error:
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise InputError(
            f"Parquet needs pyarrow{why}: pip install 'fer_tf[parquet]', or save as .csv or .jsonl"
        ) from None


def _write_parquet(path: str, columns: Sequence[str], rows: Iterable[tuple]) -> None:
    check_parquet()
    rows = ((files.printable(name), *values) for name, *values in rows)
    frame_of(rows, columns).to_parquet(path, engine="pyarrow", index=False)
