"""The annotations CSV: which clip shows whom with which expression from where, and its reviewers' votes.

Columns: `video`, `person`, `expression`, `pose`; optional `gender`, `age`, any number of reviewer columns, and
columns such as `take` or `session` that tell which clips were filmed together. Names that differ in nothing but case,
Unicode form or blanks are one name (`fer_tf.labels.key_of`); `Spellings` says which were met and which one stands.
"""

from __future__ import annotations

import collections
import fnmatch
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from fer_tf.data import csv_rows
from fer_tf.data.ballots import Ballots
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import key_of, says_nothing, word_key

REQUIRED_COLUMNS = ("video", "person", "expression", "pose")
Review = Literal["unanimous", "majority", "none"]
REVIEWS = get_args(Review)

# A person of more years, or fewer than none, is a typing error.
MAX_AGE = 150


@dataclass(frozen=True)
class AnnotationOptions:
    """How annotations are read.

    Attributes:
      review: a clip is kept when all its reviewers (`unanimous`), or more than half (`majority`), name its
        expression; `none` keeps every clip.
      reviewer_columns: pattern of the reviewers' columns.
      group_columns: columns that tell clips filmed together, those that the file has.
      labels: the allowed expressions; empty takes those of the file.
      root: the videos' root: absolute paths below it are taken as relative ones; empty knows none.
    """

    review: Review = "unanimous"
    reviewer_columns: str = "reviewer_*"
    group_columns: tuple[str, ...] = ("clip_group", "session", "take")
    labels: tuple[str, ...] = ()
    root: str = ""

    def __post_init__(self) -> None:
        if self.review not in REVIEWS:
            raise not_one_of("review", self.review, REVIEWS)


@dataclass(frozen=True)
class AnnotatedClip:
    """What is said of one clip.

    Attributes:
      clip_id: the clip's path below the videos' root, normalised.
      person, expression, pose, gender: as annotated, without surrounding blanks; gender may be empty.
      age: years, or -1.
      group: equal for clips filmed together; equal to clip_id when no column tells.
      line: the line of its row, or of the first of several, in the file.
    """

    clip_id: str
    person: str
    expression: str
    pose: str
    gender: str = ""
    age: int = -1
    group: str = ""
    line: int = field(default=0, compare=False)

    def to_json(self) -> str:
        """Returns one line of JSON; `from_json` is the inverse."""
        return json.dumps(self.values())

    def values(self) -> tuple[str | int, ...]:
        """Returns the values of all fields, in order."""
        return (self.clip_id, self.person, self.expression, self.pose, self.gender, self.age, self.group, self.line)

    @classmethod
    def from_json(cls, line: str | bytes) -> AnnotatedClip:
        return cls(*json.loads(line))


@dataclass(frozen=True)
class AnnotatedRow:
    """One row that names a clip: what it says of the clip, and what its reviewers say.

    Whether the clip is kept follows from all of its rows (`fer_tf.data.settle`).

    Attributes:
      clip: the row's values, empty or -1 where they are at fault.
      votes: what each reviewer's column says, in order, empty for no vote.
      fault: the reason why the row cannot be used, whatever others say of the clip; empty for a good one.
      detail: what was found, for a person to read.
      unsaid: the fields of `clip` that are at fault, and so contradict nothing.
    """

    clip: AnnotatedClip
    votes: tuple[str, ...] = ()
    fault: str = ""
    detail: str = ""
    unsaid: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Returns one line of JSON; `from_json` is the inverse."""
        return json.dumps((self.clip.values(), self.votes, self.fault, self.detail, self.unsaid))

    @classmethod
    def from_json(cls, line: str | bytes) -> AnnotatedRow:
        clip, votes, fault, detail, unsaid = json.loads(line)
        return cls(AnnotatedClip(*clip), tuple(votes), fault, detail, tuple(unsaid))


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why.

    Attributes:
      reason: a word for counting, such as `unknown_pose` or `reviewers_disagree`.
      clip_id: the clip, or the row's video as written where it names none.
      line: the row's line in the file.
      detail: what was found, for a person to read.
    """

    reason: str
    clip_id: str
    line: int
    detail: str = ""


# The columns of names.
NAMES = ("person", "expression", "pose", "gender")


def _key(column: str, name: str) -> str:
    return word_key(name) if column == "pose" else key_of(name)


class Spellings:
    """Which names were met in which spellings, and which of them stands: the most frequent, or the labels file's.

    Args:
      labels: the allowed expressions as the labels file spells them.
    """

    def __init__(self, labels: Iterable[str] = ()):
        self._met: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
        self._fixed = {("expression", key_of(label)): label for label in labels}

    def meet(self, column: str, name: str) -> None:
        """Counts a name where it was read."""
        self._met[column, _key(column, name)][name] += 1

    def standing(self, column: str, name: str) -> str:
        """Returns the spelling that stands for a name."""
        place = column, _key(column, name)
        if column == "pose":
            return place[1]
        if place in self._fixed or place not in self._met:
            return self._fixed.get(place, name)
        return min(self._met[place].items(), key=lambda item: (-item[1], item[0]))[0]

    def merged(self) -> list[dict]:
        """Returns every name that was read in several spellings, for a person to check: column, name, spellings."""
        found = []
        for (column, key), met in sorted(self._met.items()):
            name = self.standing(column, key)
            if set(met) != {name}:
                found.append({"column": column, "name": name, "spellings": dict(sorted(met.items()))})
        return found

    def resolved(self, clip: AnnotatedClip) -> AnnotatedClip:
        """Returns a clip with the spellings that stand; to be called when all rows were read."""
        person, expression, pose, gender = (self.standing(column, getattr(clip, column)) for column in NAMES)
        # Groups are compared and never shown.
        group = clip.group if clip.group == clip.clip_id else key_of(clip.group)
        return AnnotatedClip(clip.clip_id, person, expression, pose, gender, clip.age, group, clip.line)

    def resolved_row(self, row: AnnotatedRow) -> AnnotatedRow:
        """Returns a row with its clip `resolved`."""
        return AnnotatedRow(self.resolved(row.clip), row.votes, row.fault, row.detail, row.unsaid)


def read_rows(
    lines: Iterable[bytes],
    name: str,
    options: AnnotationOptions,
    spellings: Spellings | None = None,
    ballots: Ballots | None = None,
) -> Iterator[AnnotatedRow | BadRow]:
    """Yields each row of an annotations file, streaming; one that does not tell its clip as a bad row.

    Args:
      lines: the file's lines as bytes.
      name: the file's name for errors.
      options: the columns' names.
      spellings: meets the names of the rows without a fault, which come as the file spells them.
      ballots: gets the reviewers' names.

    Raises:
      InputError: the file is empty, no CSV, of an unknown coding, or lacks a column.
    """
    spellings = spellings or Spellings(options.labels)
    table = csv_rows.read(lines, name, REQUIRED_COLUMNS)
    pattern = word_key(options.reviewer_columns)
    reviewers = [i for i, column in enumerate(table.columns) if column and fnmatch.fnmatchcase(column, pattern)]
    columns = {column: place for place, column in enumerate(table.columns) if column}
    groups = [columns[word_key(column)] for column in options.group_columns if word_key(column) in columns]
    if ballots is not None:
        ballots.reviewers = tuple(table.columns[place] for place in reviewers)
    # Signs that nobody sees, and dashes, are how people leave these empty.
    cells = {*reviewers, *groups, *(columns[column] for column in (*NAMES, "age") if column in columns)}
    for line, values in table.rows:
        values = ["" if place in cells and says_nothing(text) else text for place, text in enumerate(values)]
        row = _read_row(values, table.columns, columns, reviewers, groups, line, options)
        if isinstance(row, AnnotatedRow) and not row.fault:
            for column in NAMES:
                spellings.meet(column, getattr(row.clip, column))
        yield row


def _read_row(
    values: list[str],
    all_columns: tuple[str, ...],
    columns: Mapping[str, int],
    reviewers: list[int],
    groups: list[int],
    line: int,
    options: AnnotationOptions,
) -> AnnotatedRow | BadRow:
    video = values[columns["video"]] if len(values) > columns["video"] else ""
    if len(values) != len(all_columns):
        found = f"{len(values)} values under {len(all_columns)} columns"
        return BadRow("wrong_number_of_columns", video, line, found)
    row = {column: values[place] for column, place in columns.items()}
    clip_id = _clip_id(video, options.root) if video else ""
    if not video:
        return BadRow("empty_value", video, line, "`video` is empty")
    if not clip_id:
        return BadRow("outside_root", video, line, f"`video` {video!r} does not lie below the videos' root")
    age = _age(row.get("age", ""))
    empty = [column for column in REQUIRED_COLUMNS if not row[column]]
    fault = detail = ""
    unsaid = [*empty, *(["age"] if age is None else []), *(["group"] if {"person", "expression"} & set(empty) else [])]
    if empty:
        fault, detail = "empty_value", f"`{empty[0]}` is empty"
    elif options.labels and key_of(row["expression"]) not in map(key_of, options.labels):
        fault, detail = "unknown_expression", f"`expression` {row['expression']!r} is not in the labels file"
    elif age is None:
        fault = "bad_age"
        detail = f"`age` must be a number of years from 0 to {MAX_AGE}. Received: {row['age']!r}"
    group = _group(row["person"], row["expression"], [values[place] for place in groups]) or clip_id
    names = (row["person"], row["expression"], row["pose"], row.get("gender", ""))
    clip = AnnotatedClip(clip_id, *names, -1 if age is None else age, group, line)
    return AnnotatedRow(clip, tuple(values[place] for place in reviewers), fault, detail, tuple(unsaid))


def _group(person: str, expression: str, values: list[str]) -> str:
    """What clips filmed together share; empty where no column tells."""
    if not any(values):
        return ""
    parts = [person, expression, *values]
    keys = [key_of(part) for part in parts]
    # A slash in the last value alone, as in a date, cannot be taken for one between two values.
    if any("/" in key for key in keys[:-1]) or keys[0].startswith('["'):
        return json.dumps(parts, ensure_ascii=False)
    return "/".join(parts)


def forward(path: str) -> str:
    """Returns a path that Windows wrote with slashes; one that has them is left alone."""
    return path if "/" in path else path.replace("\\", "/")


def _clip_id(video: str, root: str) -> str:
    """A clip's path below the root, in one Unicode form; empty when it lies elsewhere."""
    path = posixpath.normpath(forward(unicodedata.normalize("NFC", video)))
    if root and path.startswith(root.rstrip("/") + "/"):
        path = path[len(root.rstrip("/")) + 1 :]
    outside = path.startswith(("../", "/")) or path in ("..", ".") or "\0" in path or "://" in video
    return "" if outside or re.match(r"[A-Za-z]:/", path) else path


def _age(text: str) -> int | None:
    if not text:
        return -1
    try:
        years = int(float(text))
    except (ValueError, OverflowError):
        return None
    return years if 0 <= years <= MAX_AGE else None


# What to do about rows that are left out, when none is left.
ADVICE = {
    "wrong_number_of_columns": "Quote values that hold a comma.",
    "empty_value": f"Every row needs a value for {', '.join(REQUIRED_COLUMNS)}.",
    "unknown_expression": "Add the expressions to --labels_file, or leave that flag out.",
    "bad_age": "Ages are whole years, or empty.",
    "not_reviewed": "--review=none keeps clips that nobody reviewed.",
    "reviewers_disagree": "--review=majority keeps those on which more than half agree, --review=none all.",
    "reviewers_contradict_label": "Their reviewers name another expression than the label; --review=none keeps them.",
    "conflicting_rows": "All rows of a clip must say the same of it.",
}


def common_folder(folder: str, video: str) -> str:
    """Returns the folder that holds a folder, empty for none yet, and a video, where both have whole paths."""
    video_folder = posixpath.dirname(video)
    if not folder or not (video.startswith("/") and folder.startswith("/")):
        return folder or video_folder
    return posixpath.commonpath([folder, video_folder])


def advice(reasons: Mapping[str, int], outside: str, options: AnnotationOptions) -> str:
    """Returns what to do when no row can be used, by what most of them lack.

    Args:
      reasons: how many rows were left out for which reason.
      outside: the folder that holds the videos outside the root, or empty.
      options: what the rows were read with.
    """
    if not reasons:
        return "The file has no rows below its first line."
    most = max(sorted(reasons), key=lambda reason: reasons[reason])
    if most == "outside_root":
        there = f", such as {outside!r}" if outside.startswith("/") else ""
        root = f" {options.root!r}" if options.root else ""
        return (
            f"`video` is a path below --videos_root{root}: write it so, or name the folder that holds all clips{there}."
        )
    if most == "reviewers_disagree" and options.review == "majority":
        return "--review=none keeps them."
    return ADVICE.get(most, "")


def read_labels(lines: Iterable[bytes], name: str) -> tuple[str, ...]:
    """Returns the labels of a file: one label a line, in the order of their ids; `#` begins a comment."""
    labels = [unicodedata.normalize("NFC", text.strip()) for text in csv_rows.text_lines(lines, name)]
    labels = [label for label in labels if not says_nothing(label) and not label.startswith("#")]
    if not labels:
        raise InputError(f"{name} names no label; write one a line.")
    keys = [key_of(label) for label in labels]
    twice = [label for label, key in zip(labels, keys, strict=True) if keys.count(key) > 1]
    if twice:
        raise InputError(f"{name} names a label twice. Received: {twice}.")
    return tuple(labels)
