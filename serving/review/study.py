"""A study: which clips are shown to whom in which order, and its votes as columns of the annotations."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import hmac
import io
import itertools
import logging
import os
import statistics
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fer_tf import files
from fer_tf.data import csv_rows
from fer_tf.data.annotations import (
    REQUIRED_COLUMNS,
    AnnotatedClip,
    AnnotatedRow,
    AnnotationOptions,
    BadRow,
    Spellings,
    read_labels,
    read_rows,
)
from fer_tf.data.ballots import CANNOT_TELL
from fer_tf.data.settle import settle
from fer_tf.errors import InputError
from fer_tf.labels import key_of, word_key
from serving.review.certainty import CERTAINTY_BINS, certainty_bins
from serving.review.store import FIRST, SECOND, Store, Vote

_LOGGER = logging.getLogger("serving.review")

# A longer gap between two votes is a break.
BREAK_SECONDS = 300.0
# So many votes tell a reviewer's pace.
PACE_VOTES = 50


@dataclass(frozen=True)
class StudyOptions:
    """What a study is about.

    Attributes:
      annotations: the annotations CSV.
      videos_root: folder of the clips.
      reviewers: who votes; empty takes those whom the study already knows.
      labels_file: the expressions to choose from; empty takes those of the annotations.
      reviewer_columns: pattern of the reviewers' columns; a reviewer's name stands for the star.
      predictions: a model's predictions by which the least certain clips come first; empty for none.
      seed: changes every reviewer's order.
    """

    annotations: str
    videos_root: str
    reviewers: tuple[str, ...] = ()
    labels_file: str = ""
    reviewer_columns: str = "reviewer_*"
    predictions: str = ""
    seed: int = 0


class Study:
    """Clips, labels, reviewers and their orders.

    Args:
      options: what the study is about.
      store: where its votes are.

    Attributes:
      clips: the accepted clips by their ids.
      labels: the expressions to choose from, in the order of the buttons.
      reviewers: the names of those who vote.
      left_out: rows of the annotations that cannot be shown.

    Raises:
      InputError: the annotations, labels, names or predictions cannot be used.
    """

    def __init__(self, options: StudyOptions, store: Store):
        self.options, self.store = options, store
        self.clips, self.left_out = _read_clips(options)
        named = sorted({clip.expression for clip in self.clips.values()})
        self.labels = _labels_of_file(options.labels_file) or tuple(named)
        if CANNOT_TELL in self.labels:
            raise InputError(f"`expression` may not be {CANNOT_TELL!r}: the export writes it for votes that name none.")
        self.reviewers = reviewers_of(options, store)
        store.add_reviewers(self.reviewers)
        self.keys = keys_for(self.labels)
        self._spelled = {key_of(label): label for label in self.labels}
        self._certainty = certainty_bins(options.predictions, self.clips) if options.predictions else {}
        self._orders = {reviewer: self._order(reviewer) for reviewer in self.reviewers}
        self._by_code = {self.code(clip_id): clip_id for clip_id in self.clips}

    def code(self, clip_id: str) -> str:
        """Returns a clip's name in addresses: it tells nothing of path, person or label without the study's secret."""
        return hmac.new(self.store.secret.encode(), clip_id.encode(), hashlib.sha256).hexdigest()[:16]

    def clip_of(self, code: str) -> AnnotatedClip | None:
        """Returns the clip of an address, or None."""
        return self.clips.get(self._by_code.get(code, ""))

    def _order(self, reviewer: str) -> tuple[str, ...]:
        """Returns the clips' ids in the reviewer's own order, which new clips do not disturb."""

        def place(clip_id: str) -> tuple[int, bytes]:
            mixed = f"{self.options.seed}/{reviewer}/{clip_id}".encode()
            return self._certainty.get(clip_id, CERTAINTY_BINS), hashlib.sha256(mixed).digest()

        return tuple(sorted(self.clips, key=place))

    def standing(self, round: int = FIRST) -> dict[str, dict[str, Vote]]:
        """Returns the standing votes on this study's clips by this study's reviewers: by clip, then by reviewer."""
        votes: dict[str, dict[str, Vote]] = {}
        for vote in self._votes(round):
            if vote.clip in self.clips and vote.reviewer in self.reviewers:
                votes.setdefault(vote.clip, {})[vote.reviewer] = vote
        return votes

    def votes_on(self, clip_id: str, round: int = FIRST) -> dict[str, Vote]:
        """Returns the standing votes of this study's reviewers on one clip."""
        return {vote.reviewer: vote for vote in self._votes(round, clip=clip_id) if vote.reviewer in self.reviewers}

    def _votes(self, round: int, **of: str) -> list[Vote]:
        """The store's votes, whose expressions are called as now: another spelling stands when clips are added."""
        votes = self.store.votes(round, **of)
        return [replace(vote, choice=self._spelled.get(key_of(vote.choice), vote.choice)) for vote in votes]

    def final(self) -> dict[str, dict[str, Vote]]:
        """Returns the votes that count: those of the second round where cast, else those of the first."""
        votes = self.standing(FIRST)
        for clip_id, again in self.standing(SECOND).items():
            votes[clip_id] = {**votes.get(clip_id, {}), **again}
        return votes

    def disputed(self) -> list[str]:
        """Returns the clips that every reviewer answered first and not all with one and the same expression."""
        votes = self.standing(FIRST)
        return [
            clip_id
            for clip_id in self.clips
            if len(votes.get(clip_id, ())) == len(self.reviewers) and not agreed(votes[clip_id].values())
        ]

    def left(self, reviewer: str, round: int) -> tuple[list[str], list[Vote]]:
        """Returns what the reviewer has still to answer, in order, and what was answered, in the order of time."""
        asked = self._orders[reviewer]
        if round == SECOND:
            disputed = set(self.disputed())
            asked = tuple(clip_id for clip_id in asked if clip_id in disputed)
        answered = [vote for vote in self._votes(round, reviewer=reviewer) if vote.clip in self.clips]
        done = {vote.clip for vote in answered}
        return [clip_id for clip_id in asked if clip_id not in done], answered

    def column(self, reviewer: str) -> str:
        """Returns the reviewer's column in the annotations."""
        return column_of(reviewer, self.options.reviewer_columns)


def agreed(votes: Iterable[Vote]) -> bool:
    """Returns whether all votes name one and the same expression."""
    choices = {key_of(vote.choice) for vote in votes}
    return len(choices) == 1 and CANNOT_TELL not in choices


def pace(votes: Sequence[Vote]) -> float:
    """Returns the seconds that a reviewer takes for a clip, the median of late; 0 before two votes tell."""
    times = [vote.at for vote in votes[-PACE_VOTES - 1 :]]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median([gap for gap in gaps if 0 <= gap <= BREAK_SECONDS] or [0.0])


def keys_for(labels: Sequence[str]) -> list[str]:
    """Returns a key for each label: up to nine get 1 to 9, more get a letter of their own name where one is free.

    Further labels get digits, then letters with Shift; from the 62nd on a key is empty: the page's search finds them.
    """
    if len(labels) <= 9:
        return [str(number) for number in range(1, len(labels) + 1)]
    keys: dict[str, str] = {}
    for label in labels:
        keys.setdefault(next((c for c in label.lower() if c in string.ascii_lowercase and c not in keys), ""), label)
    keys.pop("", None)
    taken = {label: key for key, label in keys.items()}
    free = iter(c for c in string.ascii_lowercase + "123456789" + string.ascii_uppercase if c not in keys)
    return [taken.get(label) or next(free, "") for label in labels]


def column_of(reviewer: str, pattern: str) -> str:
    """Returns a reviewer's column: the name itself where it fits the pattern, else the name in the star's place."""
    fits = fnmatch.fnmatchcase(word_key(reviewer), word_key(pattern))
    return reviewer if fits else pattern.replace("*", reviewer, 1)


def export(study: Study, path: str, first_round: bool = False) -> int:
    """Writes the annotations with the reviewers' columns; the file gets its name when it is complete.

    Args:
      study: the study.
      path: the CSV to write, which may be the annotations themselves.
      first_round: whether to leave the second round's votes out.

    Returns:
      How many votes were written.
    """
    content, written = exported(study, first_round)
    files.write_bytes(path, content)
    return written


def exported(study: Study, first_round: bool = False) -> tuple[bytes, int]:
    """Returns the annotations with the reviewers' columns as CSV, and how many votes are in it.

    Every other column, every row and their order stay, as do the file's coding and its separator. A cell of a reviewer
    without a vote keeps what it said.
    """
    path = study.options.annotations
    content = files.read_bytes(path)
    # Read anew: rows may have been added since the study began.
    named = [row for row in _rows(io.BytesIO(content), study.options)[0] if isinstance(row, AnnotatedRow)]
    clip_ids = {row.clip.line: row.clip.clip_id for row in named if not row.fault}
    texts = list(csv_rows.text_lines([content], path))
    # What may stand above the header, as `csv_rows.read` skips it.
    note: list[str] = []
    while not texts[0].strip() or (texts[0].lower().startswith("sep=") and len(texts[0].strip()) == 5):
        note.append(texts.pop(0))
    delimiter = csv_rows.delimiter_of(texts[0], REQUIRED_COLUMNS)
    reader = csv_rows.reader_of(texts, delimiter)
    rows = [(reader.line_num + len(note), row) for row in reader]
    width, header = len(rows[0][1]), [word_key(column) for column in rows[0][1]]
    # Of files that were put one behind the other, each header below the first.
    headers = [rows[0][1], *(row for _, row in rows[1:] if csv_rows.is_header(row, header))]
    for line, row in rows:
        # What a spreadsheet adds at the end of a line is no column.
        if line in clip_ids or row in headers:
            del row[width:]
    votes = study.standing(FIRST) if first_round else study.final()
    remarks = any(vote.remark for cast in votes.values() for vote in cast.values())
    places = {name: _column_place(rows, headers, study.column(name)) for name in study.reviewers}
    remark_places = {name: _column_place(rows, headers, f"remark_{name}") for name in study.reviewers if remarks}
    written = 0
    for line, row in rows:
        for name, vote in votes.get(clip_ids.get(line, ""), {}).items():
            row[places[name]] = vote.choice
            if remarks:
                row[remark_places[name]] = vote.remark
            written += 1
    out = io.StringIO(newline="")
    out.writelines(note)
    ending = "\r\n" if texts[0].endswith("\r\n") else "\n"
    csv.writer(out, delimiter=delimiter, lineterminator=ending).writerows(row for _, row in rows)
    return out.getvalue().encode(csv_rows.coding_of(content[:4], path)), written


def _column_place(rows: list[tuple[int, list[str]]], headers: list[list[str]], name: str) -> int:
    """Returns where the column stands, after adding it to every row when it is new."""
    header = [word_key(column) for column in rows[0][1]]
    if word_key(name) in header:
        return header.index(word_key(name))
    for _, row in rows:
        # A row of another length stays wrong by as much, and the build says so.
        if row:
            row.append("")
    for row in headers:
        row[-1] = name
    return len(header)


def _rows(lines: Iterable[bytes], options: StudyOptions) -> tuple[list[AnnotatedRow | BadRow], Spellings]:
    spellings = Spellings(_labels_of_file(options.labels_file))
    how = AnnotationOptions(root=os.path.abspath(options.videos_root))
    return list(read_rows(lines, options.annotations, how, spellings)), spellings


def _read_clips(options: StudyOptions) -> tuple[dict[str, AnnotatedClip], list[BadRow]]:
    try:
        with open(options.annotations, "rb") as file:
            rows, spellings = _rows(file, options)
    except OSError as error:
        raise InputError(f"`annotations` {options.annotations!r} cannot be read: {error.strerror}.") from None
    clips, left_out = settle((spellings.resolved_row(row) for row in rows if isinstance(row, AnnotatedRow)), "none")
    left_out = [row for row in rows if isinstance(row, BadRow)] + left_out
    if not clips:
        raise InputError(f"{options.annotations}: no row can be shown. The first: {left_out[:1]}.")
    return {clip.clip_id: clip for clip in clips}, left_out


def _labels_of_file(path: str) -> tuple[str, ...]:
    if not path:
        return ()
    try:
        with open(path, "rb") as file:
            return read_labels(file, path)
    except OSError as error:
        raise InputError(f"`labels_file` {path!r} cannot be read: {error.strerror}.") from None


def reviewers_of(options: StudyOptions, store: Store) -> tuple[str, ...]:
    """Returns who votes, called as the study knows them: `Anna` is `anna` where it knows her as such.

    Raises:
      InputError: nobody is named, or somebody twice.
    """
    pattern = options.reviewer_columns
    if pattern.count("*") != 1:
        raise InputError(f"`reviewer_columns` must have one star. Received: {pattern!r}.")
    by_key: dict[str, list[str]] = {}
    for name in store.reviewers():
        by_key.setdefault(word_key(column_of(name, pattern)), []).append(name)
    keys = [word_key(column_of(name, pattern)) for name in options.reviewers] or list(by_key)
    if not keys:
        raise InputError("`reviewers` is empty: name who votes, such as --reviewers=anna,ben,chris.")
    if len(set(keys)) < len(keys):
        raise InputError(f"`reviewers` names somebody twice. Received: {','.join(options.reviewers)!r}.")
    for key in keys:
        if len(by_key.get(key, ())) > 1:
            # An earlier version took another spelling for somebody new.
            stays = store.join_reviewers(by_key[key])
            _LOGGER.warning("%s are one reviewer: %s has all their votes, and one link", by_key[key], stays)
            by_key[key] = [stays]
    named = options.reviewers or tuple(by_key[key][0] for key in keys)
    return tuple(by_key.get(key, [name])[0] for key, name in zip(keys, named, strict=True))
