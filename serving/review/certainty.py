"""How sure a model is of each clip: a study shows the clips that it is least sure of first."""

from __future__ import annotations

import csv
import json
import math
import posixpath
import statistics
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from fer_tf.errors import InputError
from fer_tf.labels import key_of

# With a model's predictions, clips are shown from the least certain tenth to the most certain one.
CERTAINTY_BINS = 10


def certainty_bins(path: str, clips: Collection[str]) -> dict[str, int]:
    """Returns for each clip with predictions in which tenth of certainty it is, 0 for the least certain.

    Certainty is the mean over the clip's faces of the greatest probability.

    Args:
      path: predictions.jsonl, or a CSV with a row a face.
      clips: the ids of the study's clips.

    Raises:
      InputError: it cannot be read, or names none of the clips.
    """
    found = _certainties(path, clips)
    if not found:
        raise InputError(f"`predictions` {path!r} names none of the clips; its `input` must end with the clip's path.")
    ranked = sorted(found, key=lambda clip_id: (found[clip_id], clip_id))
    return {clip_id: rank * CERTAINTY_BINS // len(ranked) for rank, clip_id in enumerate(ranked)}


def _certainties(path: str, clips: Collection[str]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    keys = _clips_by_key(clips)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = _jsonl_rows(file) if path.endswith(".jsonl") else _csv_rows(file, path)
            for line, name, value in rows:
                if not 0 <= value <= 1 or math.isnan(value):
                    raise InputError(f"{path}, line {line}: `probability` must lie in [0, 1]. Received: {value}.")
                if clip_id := _clip_of_input(name, clips, keys):
                    sums.setdefault(clip_id, []).append(value)
    except OSError as error:
        raise InputError(f"`predictions` {path!r} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`predictions` {path!r} is neither predictions.jsonl nor a CSV of predictions: {error}."
        ) from None
    return {clip_id: statistics.fmean(values) for clip_id, values in sums.items()}


def _clip_of_input(name: str, clips: Collection[str], keys: Mapping[str, str]) -> str:
    """The clip whose path a file's own ends with, in whichever case and Unicode form; empty where none does."""
    parts = posixpath.normpath(unicodedata.normalize("NFC", name)).split("/")
    for path in ("/".join(parts[first:]) for first in range(len(parts))):
        if found := path if path in clips else keys.get(_path_key(path)):
            return found
    return ""


def _clips_by_key(clips: Collection[str]) -> dict[str, str]:
    """The clips by what the spellings of their paths share, but those that differ by spelling alone."""
    by_key: dict[str, list[str]] = {}
    for clip_id in clips:
        by_key.setdefault(_path_key(clip_id), []).append(clip_id)
    return {key: alike[0] for key, alike in by_key.items() if len(alike) == 1}


def _path_key(path: str) -> str:
    return "/".join(map(key_of, path.split("/")))


def _jsonl_rows(lines: Iterable[str]) -> Iterable[tuple[int, str, float]]:
    for number, text in enumerate(lines, 1):
        line = json.loads(text)
        for face in line["faces"]:
            yield number, line["input"], max(face["probabilities"].values())


def _csv_rows(lines: Iterable[str], path: str) -> Iterable[tuple[int, str, float]]:
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or []
    name = next((column for column in ("input", "video") if column in columns), None)
    if name is None or "probability" not in columns:
        raise InputError(
            f"{path}, line 1: needs the columns `input` (or `video`) and `probability`. Received: {columns}."
        )
    for row in reader:
        if row["probability"]:
            yield reader.line_num, row[name], float(row["probability"])
