"""What all rows of a clip come to: one clip with one review of all its votes, or the reasons why it is left out.

Section 3.1 keeps clips with consistent labels, and a table may say more than once what a clip shows, or have a row for
each vote. So nothing is decided before all rows of a clip are there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fer_tf.data.annotations import AnnotatedClip, AnnotatedRow, BadRow, Review
from fer_tf.data.ballots import CANNOT_TELL, Ballots
from fer_tf.labels import key_of

# Left out by the rules, which is no fault of the input.
REVIEW_REASONS = ("reviewers_disagree", "reviewers_contradict_label", "not_reviewed")

# What a clip is, beside its name and the row's place.
_SAID = tuple(field.name for field in dataclasses.fields(AnnotatedClip) if field.name not in ("clip_id", "line"))


def settle(
    rows: Iterable[AnnotatedRow], review: Review, ballots: Ballots | None = None
) -> tuple[list[AnnotatedClip], list[BadRow]]:
    """Returns the kept clips in order of their ids, each once, and what is left out.

    Rows that say different things of one clip are all left out, because keeping one would let the order of rows decide;
    that one of them is at fault in another way does not make the others right. Otherwise all their votes are reviewed
    together, once. A row that adds neither clip nor vote is a duplicate.

    Args:
      rows: all rows of some clips, with the spellings that stand.
      review: the rule.
      ballots: gets each clip's votes, once, unless the clip is left out for another reason than the review.
    """
    by_clip: dict[str, list[AnnotatedRow]] = {}
    for row in rows:
        by_clip.setdefault(row.clip.clip_id, []).append(row)
    kept: list[AnnotatedClip] = []
    dropped: list[BadRow] = []
    for clip_id in sorted(by_clip):
        of_clip = sorted(by_clip[clip_id], key=lambda row: row.clip.line)
        clip, left_out = _settle_one(of_clip, review, ballots)
        kept += [clip] if clip else []
        dropped += left_out
    return kept, dropped


def _settle_one(
    rows: Sequence[AnnotatedRow], review: Review, ballots: Ballots | None
) -> tuple[AnnotatedClip | None, list[BadRow]]:
    left_out = [BadRow(row.fault, row.clip.clip_id, row.clip.line, row.detail) for row in rows if row.fault]
    good = [row for row in rows if not row.fault]
    if not good:
        return None, left_out
    if len(rows) > 1 and contradict(rows):
        return None, left_out + conflicts([row.clip for row in good], f"lines {_lines(rows)}")
    clip = good[0].clip
    words = _words(rows)
    if ballots is not None:
        ballots.add(key_of(clip.expression), map(_vote, words))
    reason = _review(clip.expression, list(filter(None, map(_vote, words))), review) if words else ""
    if reason:
        votes = ", ".join("/".join(column) or "-" for column in words)
        where = f" (lines {_lines(rows)})" if len(rows) > 1 else ""
        left_out.append(
            BadRow(reason, clip.clip_id, clip.line, f"labelled {clip.expression}; reviewers: {votes}{where}")
        )
    for place, row in enumerate(good):
        if place and not _adds(row, good[:place]):
            left_out.append(BadRow("duplicate_row", clip.clip_id, row.clip.line, f"same as line {clip.line}"))
    return None if reason else clip, left_out


def contradict(rows: Sequence[AnnotatedRow]) -> bool:
    """Returns whether rows say different things of one clip, their votes aside."""
    return any(len({getattr(row.clip, field) for row in rows if field not in row.unsaid}) > 1 for field in _SAID)


def conflicts(clips: Iterable[AnnotatedClip], where: str) -> list[BadRow]:
    """Returns clips of which different things are said as left out; `where` names the places."""
    detail = f"{where} say different things of one clip; none is used"
    return [BadRow("conflicting_rows", clip.clip_id, clip.line, detail) for clip in clips]


def _lines(rows: Iterable[AnnotatedRow]) -> str:
    return ", ".join(str(row.clip.line) for row in rows)


def _words(rows: Sequence[AnnotatedRow]) -> list[tuple[str, ...]]:
    """What each reviewer says, in different words: nothing, one word, or several where rows differ; none without any.

    Of several columns each is a reviewer's. In one column alone every row is somebody's vote, also the same one again.
    """
    if len(rows) == 1:
        return [(cell,) if cell else () for cell in rows[0].votes]
    if len(rows[0].votes) == 1:
        return [(row.votes[0],) for row in rows if row.votes[0]] or [()]
    columns: list[tuple[str, ...]] = []
    for cells in zip(*(row.votes for row in rows), strict=True):
        by_key = {key_of(cell): cell for cell in reversed(cells) if cell}
        columns.append(tuple(by_key[key] for key in sorted(by_key)))
    return columns


def _vote(words: tuple[str, ...]) -> str:
    """A reviewer's vote: somebody who says two things of one clip names none."""
    return CANNOT_TELL if len(words) > 1 else key_of(words[0]) if words else ""


def _adds(row: AnnotatedRow, before: Sequence[AnnotatedRow]) -> bool:
    """Whether a row has a vote that those before it do not have."""
    if len(row.votes) == 1:
        return bool(row.votes[0])
    return any(
        cell and key_of(cell) not in {key_of(other.votes[place]) for other in before}
        for place, cell in enumerate(row.votes)
    )


def _review(label: str, votes: Sequence[str], review: Review) -> str:
    """Returns why the review drops a clip with these votes, by `key_of`; empty where it keeps it."""
    if review == "none":
        return ""
    if not votes:
        return "not_reviewed"
    needed = len(votes) if review == "unanimous" else len(votes) // 2 + 1
    winner = max(sorted(set(votes)), key=votes.count)
    if votes.count(winner) < needed:
        return "reviewers_disagree"
    return "" if winner == key_of(label) else "reviewers_contradict_label"
