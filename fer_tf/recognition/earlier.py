"""What an earlier run wrote, told by what stands in it: a user's own file is neither replaced nor left out."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from fer_tf.errors import InputError
from fer_tf.recognition import tables

TABLE, REJECTED, FORMATS = "faces", "rejected", ("csv", "jsonl", "parquet")
# What an error or Ctrl-C has ended has this in its tables' names.
INCOMPLETE = ".incomplete"
TABLES = [f"{name}{mark}.{ending}" for name in (TABLE, REJECTED) for mark in ("", INCOMPLETE) for ending in FORMATS]
# How the names of drawings, and of the tables beside them, end in the folder of results.
RESULTS = (".annotated.jpg", ".annotated.mp4", ".annotated.csv")
# Stands in every drawing: near the beginning of a JPEG, near the end of a video.
MARK = "annotated by fer_tf"
_MARKED_BYTES = 8192
# Columns that every version's tables of faces have, a clip's too.
_COLUMNS = {"frame", "time", "face", "detector_score", "expression"}
_LONGEST_HEADER = 1 << 20


def marked(jpeg: bytes) -> bytes:
    """Returns a JPEG with the mark as its comment, behind the segment that it begins with."""
    place = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[:4] == b"\xff\xd8\xff\xe0" else 2
    comment = b"\xff\xfe" + (len(MARK) + 2).to_bytes(2, "big") + MARK.encode()
    return jpeg[:place] + comment + jpeg[place:]


def is_table(path: str) -> bool:
    """Returns whether a file is a table of this tool, by its columns; one of no bytes holds nothing to lose."""
    columns = _columns_of(path)
    return columns is not None and (set(columns) >= _COLUMNS or tuple(columns) == tables.REJECTED or not columns)


def is_drawing(path: str) -> bool:
    """Returns whether a file has the mark of a drawing, or is named in a table of this tool beside it."""
    try:
        with open(path, "rb") as file:
            if MARK.encode() in file.read(_MARKED_BYTES):
                return True
            file.seek(max(0, os.path.getsize(path) - _MARKED_BYTES))
            if MARK.encode() in file.read():
                return True
    except OSError:
        return False
    folder, name = os.path.split(os.path.abspath(path))
    return any(name == f"{listed}{ending}" for listed in _listed(folder) for ending in RESULTS)


def is_result(path: str) -> bool:
    """Returns whether a file, found among inputs, is a table or a drawing of an earlier run, wherever it went."""
    if os.path.basename(path) in TABLES:
        return is_table(path)
    ending = next((ending for ending in RESULTS if path.endswith(ending)), "")
    if not ending:
        return False
    return os.path.isfile(path.removesuffix(ending)) or (is_table if ending.endswith("csv") else is_drawing)(path)


def check_drawings(paths: Iterable[str]) -> None:
    """Raises InputError where a file that no earlier run wrote has the name of a drawing or of its table."""
    for path in paths:
        own = is_table if path.endswith(".csv") else is_drawing
        if os.path.exists(path) and not own(path):
            raise not_ours(path)


def check_tables(folder: str, ending: str) -> None:
    """Says which tables of an earlier run are going to be replaced.

    Args:
      folder: where tables go.
      ending: the format of the table of faces.

    Raises:
      InputError: when one of them is no earlier run's.
    """
    for name in TABLES:
        path = os.path.join(folder, name)
        if not os.path.exists(path) or (
            INCOMPLETE not in name and name not in (f"{TABLE}.{ending}", f"{REJECTED}.csv")
        ):
            continue
        if not is_table(path):
            raise not_ours(path)
        if name == f"{TABLE}.{ending}" and (count := _count(path)):
            rows = "1 row" if count == 1 else f"{count} rows"
            print(f"an earlier run's table of {rows} is replaced: {path}", file=sys.stderr)


def not_ours(path: str) -> InputError:
    """Returns the error for a file in a result's place that no earlier run wrote."""
    return InputError(
        f"`output`: {path!r} was not written by an earlier run and would be replaced: move it, or name another folder."
    )


def _columns_of(path: str) -> Sequence[str] | None:
    """A table's columns; None for what is no table."""
    if path.endswith(".parquet"):
        with contextlib.suppress(Exception):  # Whatever pyarrow makes of another file, or of its own absence.
            from pyarrow import parquet

            return tuple(parquet.read_schema(path).names)
        return None
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            first = file.readline(_LONGEST_HEADER)
    except OSError:
        return None
    try:
        if path.endswith(".jsonl") and first:
            row = json.loads(first)
            return tuple(row) if isinstance(row, dict) else None
        return tuple(next(csv.reader([first]), ()))
    except (ValueError, csv.Error):
        return None


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """A table's rows, as far as they can be read."""
    if path.endswith(".parquet"):
        from pyarrow import parquet

        yield from ({"input": name} for name in parquet.read_table(path, columns=["input"])["input"].to_pylist())
        return
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        yield from map(json.loads, file) if path.endswith(".jsonl") else csv.DictReader(file)


def _count(path: str) -> int:
    count = 0
    with contextlib.suppress(Exception):  # A table that is damaged further down is one all the same.
        for _ in _rows(path):
            count += 1
    return count


def _listed(folder: str) -> frozenset[str]:
    """The names of the files that the tables in a folder speak of."""
    paths = [path for path in (os.path.join(folder, name) for name in TABLES) if os.path.isfile(path)]
    return _listed_in(tuple((path, os.path.getmtime(path)) for path in paths))


@lru_cache(maxsize=1)
def _listed_in(found: tuple[tuple[str, float], ...]) -> frozenset[str]:
    names = set[str]()
    for path, _ in found:
        if is_table(path):
            with contextlib.suppress(Exception):
                names.update(os.path.basename(row["input"]) for row in _rows(path))
    return frozenset(names)
