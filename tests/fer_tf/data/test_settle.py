"""What all rows of a clip come to: one review of all its votes, and nothing of rows that contradict each other."""

from __future__ import annotations

import itertools

import pytest

from fer_tf.data import annotations
from fer_tf.data.annotations import AnnotatedClip, AnnotatedRow, AnnotationOptions, BadRow, Spellings
from fer_tf.data.ballots import CANNOT_TELL, Ballots
from fer_tf.data.settle import settle

HEADER = "video,person,age,expression,pose,reviewer_1,reviewer_2,reviewer_3"


def settled(
    *lines: str, header: str = HEADER, review: str = "unanimous"
) -> tuple[list[str], list[tuple[str, int]], Ballots]:
    """The kept clips, reason and line of what is left out, and the votes that count."""
    spellings, ballots = Spellings(), Ballots()
    content = "\n".join((header, *lines)).encode().splitlines(keepends=True)
    rows = list(annotations.read_rows(content, "a.csv", AnnotationOptions(), spellings, ballots))
    named = [spellings.resolved_row(row) for row in rows if isinstance(row, AnnotatedRow)]
    kept, dropped = settle(named, review, ballots)
    for order in itertools.permutations(named[:4]):
        assert settle([*order, *named[4:]], review) == (kept, dropped), "no order of rows decides"
    left_out = [(row.reason, row.line) for row in (*dropped, *(row for row in rows if isinstance(row, BadRow)))]
    return [clip.clip_id for clip in kept], sorted(left_out, key=lambda row: row[1]), ballots


@pytest.mark.parametrize(
    ("votes", "unanimous", "majority"),
    [
        ("happy,happy,happy", "", ""),
        ("happy,happy,sad", "reviewers_disagree", ""),
        ("happy,sad,calm", "reviewers_disagree", "reviewers_disagree"),
        ("sad,sad,sad", "reviewers_contradict_label", "reviewers_contradict_label"),
        ("sad,sad,happy", "reviewers_disagree", "reviewers_contradict_label"),
        ("happy,,", "", ""),
        ("happy,sad,", "reviewers_disagree", "reviewers_disagree"),
        (",,", "not_reviewed", "not_reviewed"),
    ],
)
def test_review_keeps_clips_whose_reviewers_agree_on_the_label(votes: str, unanimous: str, majority: str) -> None:
    for review, wanted in (("unanimous", unanimous), ("majority", majority), ("none", "")):
        kept, left_out, _ = settled(f"a.mp4,P1,,happy,front,{votes}", review=review)
        assert (kept, left_out) == (([], [(wanted, 2)]) if wanted else (["a.mp4"], [])), review


def test_equal_rows_count_once_and_conflicting_rows_not_at_all_in_any_order() -> None:
    one, again, other, conflict = (
        AnnotatedRow(AnnotatedClip("a", "P1", "happy", "front", line=2)),
        AnnotatedRow(AnnotatedClip("a", "P1", "happy", "front", line=3)),
        AnnotatedRow(AnnotatedClip("b", "P1", "sad", "front", line=4)),
        AnnotatedRow(AnnotatedClip("b", "P2", "sad", "front", line=5)),
    )
    for order in itertools.permutations((one, again, other, conflict)):
        kept, dropped = settle(order, "unanimous")
        assert kept == [one.clip] and kept[0].line == 2
        assert sorted((row.reason, row.line) for row in dropped) == [
            ("conflicting_rows", 4),
            ("conflicting_rows", 5),
            ("duplicate_row", 3),
        ]


LONG = "video,person,expression,pose,reviewer_vote"


@pytest.mark.parametrize(
    ("votes", "unanimous", "majority"),
    [
        (("happy", "sad", "sad"), "reviewers_disagree", "reviewers_contradict_label"),
        (("happy", "happy", "sad"), "reviewers_disagree", ""),
        (("happy", "sad"), "reviewers_disagree", "reviewers_disagree"),
        (("sad", "sad"), "reviewers_contradict_label", "reviewers_contradict_label"),
        (("happy", "happy", "happy"), "", ""),
        (("happy", "-", "\u200b"), "", ""),
        (("", ""), "not_reviewed", "not_reviewed"),
    ],
)
def test_a_row_for_each_vote_is_one_review(votes: tuple[str, ...], unanimous: str, majority: str) -> None:
    rows = [f"a.mp4,P1,happy,front,{vote}" for vote in votes]
    # Rows with a vote are used; those that add nothing are duplicates.
    idle = [("duplicate_row", line) for line, vote in enumerate(votes, 2) if line > 2 and vote in ("", "-", "\u200b")]
    for review, wanted in (("unanimous", unanimous), ("majority", majority), ("none", "")):
        kept, left_out, ballots = settled(*rows, header=LONG, review=review)
        assert kept == ([] if wanted else ["a.mp4"]), review
        assert left_out == ([(wanted, 2)] if wanted else []) + idle
        cast = [vote for vote in votes if vote.isalpha()]
        assert ballots.counts == {("happy", *(cast or [""])): 1} and len(ballots.reviewers) == max(len(cast), 1)


def test_votes_of_one_clip_in_several_rows_are_each_reviewers_one_vote() -> None:
    kept, left_out, ballots = settled("a.mp4,P1,,happy,front,happy,,", "a.mp4,P1,,happy,front,,HAPPY,happy")
    assert (kept, left_out) == (["a.mp4"], [])
    assert ballots.counts == {("happy", "happy", "happy", "happy"): 1}
    # A file that was put behind itself has no more votes than before.
    kept, left_out, again = settled(*["a.mp4,P1,,happy,front,happy,happy,sad"] * 2, review="majority")
    assert (kept, left_out) == (["a.mp4"], [("duplicate_row", 3)])
    assert again.counts == {("happy", "happy", "happy", "sad"): 1}


def test_a_reviewer_who_says_two_things_names_none() -> None:
    rows = ["a.mp4,P1,,happy,front,happy,happy,happy", "a.mp4,P1,,happy,front,happy,happy,sad"]
    assert settled(*rows)[:2] == ([], [("reviewers_disagree", 2)])
    kept, left_out, ballots = settled(*rows, review="majority")
    assert (kept, left_out) == (["a.mp4"], [])
    assert ballots.counts == {("happy", "happy", "happy", CANNOT_TELL): 1}


@pytest.mark.parametrize(
    ("other", "reasons"),
    [
        ("a.mp4,P1,,sad,front,sad,happy,", ["conflicting_rows", "conflicting_rows"]),
        ("a.mp4,P2,,happy,front,sad,happy,", ["conflicting_rows", "conflicting_rows"]),
        ("a.mp4,P1,,happy,left,,,", ["conflicting_rows", "conflicting_rows"]),
        ("a.mp4,P2,999,sad,front,sad,sad,sad", ["conflicting_rows", "bad_age"]),
        ("a.mp4,P2,,,front,,,", ["conflicting_rows", "empty_value"]),
    ],
)
@pytest.mark.parametrize("review", ["unanimous", "majority", "none"])
def test_no_row_of_a_clip_passes_beside_one_that_contradicts_it(other: str, reasons: list[str], review: str) -> None:
    kept, left_out, ballots = settled(
        "a.mp4,P1,30,happy,front,happy,happy,happy".replace("30", ""), other, review=review
    )
    assert kept == [] and [reason for reason, _ in left_out] == reasons
    assert not ballots.counts


def test_a_row_at_fault_that_contradicts_nothing_leaves_the_clip_alone_but_its_votes_are_heard() -> None:
    good = "a.mp4,P1,30,happy,front,happy,happy,happy"
    for bad, reason in (("a.mp4,P1,999,happy,front,,,", "bad_age"), ("a.mp4,,30,happy,,happy,,", "empty_value")):
        kept, left_out, ballots = settled(bad, good)
        assert (kept, left_out) == (["a.mp4"], [(reason, 2)]) and sum(ballots.counts.values()) == 1
    kept, left_out, _ = settled("a.mp4,P1,999,happy,front,sad,,", good)
    assert (kept, left_out) == ([], [("bad_age", 2), ("reviewers_disagree", 3)])


def test_each_clip_counts_once_in_the_agreement() -> None:
    good, conflict = "a.mp4,P1,,happy,front,happy,happy,happy", "b.mp4,P{},,sad,front,sad,sad,happy"
    _, _, ballots = settled(good, good, good, conflict.format(1), conflict.format(2), "c.mp4,P1,,sad,front,sad,,")
    assert ballots.counts == {("happy", "happy", "happy", "happy"): 1, ("sad", "sad", "", ""): 1}


def test_patterns_of_different_lengths_get_a_place_for_each_vote() -> None:
    rows = ["a.mp4,P1,happy,front,happy", "b.mp4,P1,sad,front,sad", "b.mp4,P1,sad,front,calm"]
    _, _, ballots = settled(*rows, header=LONG)
    assert ballots.reviewers == ("reviewer_vote", "reviewer_vote (2)")
    ballots.rename(str.upper)
    assert ballots.counts == {("HAPPY", "HAPPY", ""): 1, ("SAD", "SAD", "CALM"): 1}
