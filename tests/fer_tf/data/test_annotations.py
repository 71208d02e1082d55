"""Annotations: the review rules, what a bad row does and does not do, and files that cannot be used."""

from __future__ import annotations

import itertools

import pytest

from fer_tf.data import annotations
from fer_tf.data.annotations import AnnotationOptions, BadRow, Clip
from fer_tf.errors import InputError

HEADER = "video,person,gender,age,expression,pose,take,reviewer_1,reviewer_2,reviewer_3"
GOOD = "a/b.mp4,P1,female,20,happy,front,1,happy,happy,happy"


def read(*rows: str, header: str = HEADER, **options: object) -> list[Clip | BadRow]:
    lines = "\n".join((header, *rows)).encode().splitlines(keepends=True)
    return list(annotations.read_rows(lines, "a.csv", AnnotationOptions(**options)))


def test_a_good_row_gives_every_field_and_its_line() -> None:
    (clip,) = read(GOOD)
    assert clip == Clip("a/b.mp4", "P1", "happy", "front", "female", 20, "P1/happy/1")
    assert clip.line == 2
    assert Clip.from_json(clip.to_json()) == clip


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
        (row,) = read(f"a.mp4,P1,,,happy,front,1,{votes}", review=review)
        assert (row.reason if isinstance(row, BadRow) else "") == wanted, review


def test_any_number_of_reviewer_columns_counts_by_pattern() -> None:
    header = "video,person,expression,pose,psych_a,psych_b,reviewer_1"
    (row,) = read("a.mp4,P1,happy,front,happy,sad,happy", header=header, reviewer_columns="psych_*")
    assert row.reason == "reviewers_disagree"
    (clip,) = read("a.mp4,P1,happy,front", header="video,person,expression,pose")
    assert isinstance(clip, Clip) and clip.group == "a.mp4"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,P1,,,happy,up,1,happy,happy,happy", "unknown_pose"),
        ("a.mp4,,,,happy,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,old,happy,front,1,happy,happy,happy", "bad_age"),
        ("a.mp4,P1,,-3,happy,front,1,happy,happy,happy", "bad_age"),
        ("a.mp4,P1,,,happy,front", "wrong_number_of_columns"),
        ("../a.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("a/../../b.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("/etc/passwd,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("gs://other/a.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
    ],
)
def test_a_bad_row_is_named_and_the_next_row_goes_on(row: str, reason: str) -> None:
    bad, good = read(row, GOOD)
    assert isinstance(bad, BadRow) and bad.reason == reason and bad.line == 2 and bad.detail
    assert good == read(GOOD)[0]


def test_a_label_outside_the_labels_file_is_a_bad_row() -> None:
    labels = annotations.read_labels([b"happy # not a comment\n", b"# comment\n", b"\n", b"sad\n"], "l.txt").names
    assert labels == ("happy # not a comment", "sad")
    assert read(GOOD, labels=labels)[0].reason == "unknown_expression"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"video,person,expression\n", "line 1: column `pose` is missing"),
        (b"video,person,expression,pose,pose\n", "line 1: column `pose` stands there twice"),
        (b"video,person,expression,pose\na,P1,happy,front\nb,P\xe9,happy,front\n", "line 3: not UTF-8"),
        (b"video,person,expression,pose\n" + b"a" * 200_000 + b",P1,happy,front\n", "line 2: not a CSV row"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(annotations.read_rows(content.splitlines(keepends=True), "a.csv", AnnotationOptions()))


def test_a_byte_order_mark_and_quoted_commas_are_read() -> None:
    content = b'\xef\xbb\xbfvideo,person,expression,pose\n"a,b.mp4",P1,happy,front\n'
    (clip,) = annotations.read_rows(content.splitlines(keepends=True), "a.csv", AnnotationOptions())
    assert clip.clip_id == "a,b.mp4"


def test_equal_rows_count_once_and_conflicting_rows_not_at_all_in_any_order() -> None:
    one, again, other = (
        Clip("a", "P1", "happy", "front", line=2),
        Clip("a", "P1", "happy", "front", line=3),
        Clip("b", "P1", "sad", "front", line=4),
    )
    conflict = Clip("b", "P2", "sad", "front", line=5)
    for order in itertools.permutations((one, again, other, conflict)):
        kept, dropped = annotations.drop_duplicates(order)
        assert kept == [one] and kept[0].line == 2
        assert sorted((row.reason, row.line) for row in dropped) == [
            ("conflicting_rows", 4),
            ("conflicting_rows", 5),
            ("duplicate_row", 3),
        ]
