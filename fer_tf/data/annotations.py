"""The annotations CSV: which clip shows whom with which expression from where, and whether its reviewers agree.

Columns: `video`, `person`, `expression`, `pose`; optional `gender`, `age`, any number of reviewer columns, and
columns such as `take` or `session` that tell which clips were filmed together.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fer_tf.data.ballots import Ballots
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import POSES, Vocabulary

REQUIRED_COLUMNS = ("video", "person", "expression", "pose")
REVIEWS = ("unanimous", "majority", "none")
Review = Literal["unanimous", "majority", "none"]

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
    """

    review: Review = "unanimous"
    reviewer_columns: str = "reviewer_*"
    group_columns: tuple[str, ...] = ("clip_group", "session", "take")
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.review not in REVIEWS:
            raise not_one_of("review", self.review, REVIEWS)


@dataclass(frozen=True)
class Clip:
    """One accepted row.

    Attributes:
      clip_id: the clip's path below the videos' root, normalised.
      person, expression, pose, gender: as annotated, without surrounding blanks; gender may be empty.
      age: years, or -1.
      group: equal for clips filmed together; equal to clip_id when no column tells.
      line: the row's line in the file.
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
        values = (self.clip_id, self.person, self.expression, self.pose, self.gender, self.age, self.group, self.line)
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str | bytes) -> Clip:
        return cls(*json.loads(line))


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why.

    Attributes:
      reason: a word for counting, such as `unknown_pose` or `reviewers_disagree`.
      clip_id: the row's video as written.
      line: the row's line in the file.
      detail: what was found, for a person to read.
    """

    reason: str
    clip_id: str
    line: int
    detail: str = ""


# Left out by the rules, which is no fault of the input.
REVIEW_REASONS = ("reviewers_disagree", "reviewers_contradict_label", "not_reviewed")


def read_rows(
    lines: Iterable[bytes], name: str, options: AnnotationOptions, ballots: Ballots | None = None
) -> Iterator[Clip | BadRow]:
    """Yields each row of an annotations file as a clip or as a bad row, streaming.

    Args:
      lines: the file's lines as bytes.
      name: the file's name for errors.
      options: the review rule and the columns' names.
      ballots: gets the reviewers' names, and the votes on every clip that is not left out for another reason.

    Raises:
      InputError: the file is empty, not UTF-8, no CSV, or lacks a column.
    """
    reader = csv.reader(_decoded(lines, name))
    try:
        header = [column.strip() for column in next(reader, [])]
        columns = _columns(header, name)
        reviewers = [i for i, column in enumerate(header) if fnmatch.fnmatchcase(column, options.reviewer_columns)]
        groups = [columns[column] for column in options.group_columns if column in columns]
        if ballots is not None:
            ballots.reviewers = tuple(header[place] for place in reviewers)
        for values in reader:
            if values:
                values = [value.strip() for value in values]
                row = _read_row(values, columns, reviewers, groups, reader.line_num, options)
                if ballots is not None and (isinstance(row, Clip) or row.reason in REVIEW_REASONS):
                    ballots.add(values[columns["expression"]], (values[place] for place in reviewers))
                yield row
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not a CSV row: {error}.") from None


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}, line {number}: not UTF-8 ({error.reason} at byte {error.start}). "
                "Save the annotations as UTF-8, for instance with `iconv -f latin1 -t utf-8`."
            ) from None


def _columns(header: list[str], name: str) -> dict[str, int]:
    if not any(header):
        raise InputError(f"{name} is empty; its first line must name the columns {REQUIRED_COLUMNS}.")
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    if missing:
        raise InputError(f"{name}, line 1: column `{missing[0]}` is missing. Received: {header}.")
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise InputError(f"{name}, line 1: column `{repeated[0]}` stands there twice.")
    return {column: place for place, column in enumerate(header)}


def _read_row(
    values: list[str],
    columns: dict[str, int],
    reviewers: list[int],
    groups: list[int],
    line: int,
    options: AnnotationOptions,
) -> Clip | BadRow:
    video = values[columns["video"]] if len(values) > columns["video"] else ""

    def bad(reason: str, detail: str) -> BadRow:
        return BadRow(reason, video, line, detail)

    if len(values) != len(columns):
        return bad("wrong_number_of_columns", f"{len(values)} values under {len(columns)} columns")
    row = {column: values[place] for column, place in columns.items()}
    for column in REQUIRED_COLUMNS:
        if not row[column]:
            return bad("empty_value", f"`{column}` is empty")
    if row["pose"] not in POSES:
        return bad("unknown_pose", str(not_one_of("pose", row["pose"], POSES)))
    if options.labels and row["expression"] not in options.labels:
        return bad("unknown_expression", f"`expression` {row['expression']!r} is not in the labels file")
    age = _age(row.get("age", ""))
    if age is None:
        return bad("bad_age", f"`age` must be a number of years from 0 to {MAX_AGE}. Received: {row['age']!r}")
    clip_id = posixpath.normpath(video)
    if clip_id.startswith(("../", "/")) or clip_id == ".." or "\0" in clip_id or "://" in video:
        return bad("outside_root", f"`video` {video!r} does not lie below the videos' root")
    reason = _review(row["expression"], [values[place] for place in reviewers], options.review)
    if reason:
        votes = ", ".join(values[place] or "-" for place in reviewers)
        return bad(reason, f"labelled {row['expression']}; reviewers: {votes}")
    group = clip_id
    if groups:
        group = "/".join([row["person"], row["expression"], *(values[place] for place in groups)])
    return Clip(clip_id, row["person"], row["expression"], row["pose"], row.get("gender", ""), age, group, line)


def _age(text: str) -> int | None:
    if not text:
        return -1
    try:
        years = int(float(text))
    except (ValueError, OverflowError):
        return None
    return years if 0 <= years <= MAX_AGE else None


def _review(label: str, votes: list[str], review: Review) -> str:
    """Returns why the review drops a clip, or nothing; section 3.1 keeps clips with consistent labels."""
    if review == "none" or not votes:
        return ""
    cast = [vote for vote in votes if vote]
    if not cast:
        return "not_reviewed"
    needed = len(cast) if review == "unanimous" else len(cast) // 2 + 1
    winner = max(sorted(set(cast)), key=cast.count)
    if cast.count(winner) < needed:
        return "reviewers_disagree"
    return "" if winner == label else "reviewers_contradict_label"


def drop_duplicates(clips: Iterable[Clip]) -> tuple[list[Clip], list[BadRow]]:
    """Returns clips in order of their ids, each once, and the rows left out.

    A row said twice counts once; rows that say different things of one clip are all left out, because keeping
    either would let the order of rows decide.
    """
    rows: dict[str, list[Clip]] = {}
    for clip in clips:
        rows.setdefault(clip.clip_id, []).append(clip)
    kept: list[Clip] = []
    dropped: list[BadRow] = []
    for clip_id in sorted(rows):
        first, *others = sorted(rows[clip_id], key=lambda clip: clip.line)
        if any(other != first for other in others):
            lines = ", ".join(str(clip.line) for clip in (first, *others))
            detail = f"lines {lines} say different things of one clip; none is used"
            dropped += [BadRow("conflicting_rows", clip_id, clip.line, detail) for clip in (first, *others)]
            continue
        kept.append(first)
        dropped += [BadRow("duplicate_row", clip_id, other.line, f"same as line {first.line}") for other in others]
    return kept, dropped


def read_labels(lines: Iterable[bytes], name: str) -> Vocabulary:
    """Returns the vocabulary of a labels file: one label a line, in the order of their ids; `#` begins a comment."""
    labels = [text.strip() for text in _decoded(lines, name)]
    labels = [label for label in labels if label and not label.startswith("#")]
    if not labels:
        raise InputError(f"{name} names no label; write one a line.")
    return Vocabulary(tuple(labels))
