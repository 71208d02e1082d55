"""Annotations: what a row says, what a bad row does and does not do, and files that cannot be used."""

from __future__ import annotations

import pytest

from fer_tf.data import annotations
from fer_tf.data.annotations import AnnotatedClip, AnnotatedRow, AnnotationOptions, BadRow, Spellings
from fer_tf.data.settle import settle
from fer_tf.errors import InputError

HEADER = "video,person,gender,age,expression,pose,take,reviewer_1,reviewer_2,reviewer_3"
GOOD = "a/b.mp4,P1,female,20,happy,front,1,happy,happy,happy"


def read(*rows: str, header: str = HEADER, **options: object) -> list[AnnotatedClip | BadRow]:
    """What becomes of the rows, in order of their lines."""
    lines, how = "\n".join((header, *rows)).encode().splitlines(keepends=True), AnnotationOptions(**options)
    found = list(annotations.read_rows(lines, "a.csv", how))
    clips, left_out = settle((row for row in found if isinstance(row, AnnotatedRow)), how.review)
    left_out += [row for row in found if isinstance(row, BadRow)]
    return sorted((*clips, *left_out), key=lambda row: row.line)


def test_a_good_row_gives_every_field_and_its_line() -> None:
    (clip,) = read(GOOD)
    assert clip == AnnotatedClip("a/b.mp4", "P1", "happy", "front", "female", 20, "P1/happy/1")
    assert clip.line == 2
    assert AnnotatedClip.from_json(clip.to_json()) == clip
    (row,) = annotations.read_rows(f"{HEADER}\n{GOOD}".encode().splitlines(keepends=True), "a.csv", AnnotationOptions())
    assert row == AnnotatedRow(clip, ("happy",) * 3) and AnnotatedRow.from_json(row.to_json()) == row


def test_what_programs_write_for_no_value_is_none_and_initials_stay() -> None:
    header = "video,person,gender,age,expression,pose,reviewer_1,reviewer_2"
    (clip,) = read("a.mp4,NA,null,nan,happy,front,NaN,happy", header=header)
    assert isinstance(clip, AnnotatedClip)
    assert (clip.person, clip.gender, clip.expression) == ("NA", "", "happy")
    assert clip.age == read("a.mp4,NA,,,happy,front,,happy", header=header)[0].age


def test_any_number_of_reviewer_columns_counts_by_pattern() -> None:
    header = "video,person,expression,pose,psych_a,psych_b,reviewer_1"
    (row,) = read("a.mp4,P1,happy,front,happy,sad,happy", header=header, reviewer_columns="psych_*")
    assert row.reason == "reviewers_disagree"
    (clip,) = read("a.mp4,P1,happy,front", header="video,person,expression,pose")
    assert isinstance(clip, AnnotatedClip) and clip.group == "a.mp4"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,,,,happy,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,NaN,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,happy,<NA>,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,happy,-,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,happy,\u2014,1,happy,happy,happy", "empty_value"),
        ("a.mp4,\u200b,,,happy,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,\u200b\u2060,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,,\u3000,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,--,,,happy,front,1,happy,happy,happy", "empty_value"),
        ("a.mp4,P1,,old,happy,front,1,happy,happy,happy", "bad_age"),
        ("a.mp4,P1,,-3,happy,front,1,happy,happy,happy", "bad_age"),
        ("a.mp4,P1,,,happy,front", "wrong_number_of_columns"),
        ("../a.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("a/../../b.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("/etc/passwd,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("gs://other/a.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
        ("C:\\study\\a.mp4,P1,,,happy,front,1,happy,happy,happy", "outside_root"),
    ],
)
def test_a_bad_row_is_named_and_the_next_row_goes_on(row: str, reason: str) -> None:
    bad, good = read(row, GOOD)
    assert isinstance(bad, BadRow) and bad.reason == reason and bad.line == 2 and bad.detail
    assert good == read(GOOD)[0]


def test_a_label_outside_the_labels_file_is_a_bad_row() -> None:
    labels = annotations.read_labels([b"happy # not a comment\n", b"# comment\n", b"\n", b"sad\n"], "l.txt")
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
    (row,) = annotations.read_rows(content.splitlines(keepends=True), "a.csv", AnnotationOptions())
    assert row.clip.clip_id == "a,b.mp4"


def parsed(content: bytes, **options: object) -> tuple[list[AnnotatedClip], list[dict]]:
    """The clips with the spellings that stand, and what was merged."""
    read = AnnotationOptions(**options)
    spellings = Spellings(read.labels)
    rows = list(annotations.read_rows(content.splitlines(keepends=True), "a.csv", read, spellings))
    assert all(isinstance(row, AnnotatedRow) and not row.fault for row in rows), rows
    return [spellings.resolved_row(row).clip for row in rows], spellings.merged()


COMPOSED, APART = "Ren\u00e9e", "Rene\u0301e"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("happy", "Happy"),
        (COMPOSED, APART),
        ("P 1", "P\u00a01"),
        ("P1", "P1\u200b"),
        ("STRASSE", "stra\u00dfe"),
        ("P1", "\uff301"),
    ],
)
def test_names_that_differ_in_spelling_alone_are_one_name_and_it_is_told(one: str, other: str) -> None:
    for column in ("person", "expression"):
        values = {"person": "P1", "expression": "sad"}
        rows = [",".join(({**values, column: name} | {})[key] for key in values) for name in (one, other, other)]
        content = "video,person,expression,pose\n" + "".join(f"{n}.mp4,{row},front\n" for n, row in enumerate(rows))
        clips, merged = parsed(content.encode())
        assert {getattr(clip, column) for clip in clips} == {other}, "the more frequent spelling stands"
        assert merged == [{"column": column, "name": other, "spellings": {one: 1, other: 2}}]


def test_poses_have_any_names_in_one_spelling() -> None:
    rows = "".join(
        f"{n}.mp4,P1,happy,{pose}\n" for n, pose in enumerate(("Half left", "half-left", "half_left", "cam 7"))
    )
    clips, merged = parsed(f"video,person,expression,pose\n{rows}".encode())
    assert [clip.pose for clip in clips] == ["half_left"] * 3 + ["cam_7"]
    assert [entry["name"] for entry in merged] == ["cam_7", "half_left"]


def test_the_labels_files_spelling_stands() -> None:
    content = b"video,person,expression,pose\na.mp4,P1,HAPPY,front\nb.mp4,P1,happy,front\n"
    clips, merged = parsed(content, labels=("Happy",))
    assert {clip.expression for clip in clips} == {"Happy"} and merged[0]["name"] == "Happy"
    with pytest.raises(InputError, match=r"names a label twice.*Happy.*happy"):
        annotations.read_labels([b"Happy\n", b"happy\n"], "l.txt")


@pytest.mark.parametrize("header", ["Reviewer_1,REVIEWER_2", "reviewer 1,Reviewer-2", "reviewer_a,reviewer_b"])
def test_reviewers_are_heard_however_their_columns_are_spelled(header: str) -> None:
    (row,) = read("a.mp4,P1,happy,front,angry,fear", header=f"video,person,expression,pose,{header}")
    assert isinstance(row, BadRow) and row.reason == "reviewers_disagree"
    (row,) = read("a.mp4,P1,happy,front,Happy,HAPPY", header=f"video,person,expression,pose,{header}")
    assert isinstance(row, AnnotatedClip)


def test_groups_are_compared_as_names_are() -> None:
    content = b"video,person,expression,pose,Take\na.mp4,P1,happy,front,Morning\nb.mp4,p1,happy,left,morning\n"
    clips, _ = parsed(content)
    assert len({clip.group for clip in clips}) == 1
    files = parsed(b"video,person,expression,pose\na.mp4,P1,happy,front\nA.mp4,p1,happy,left\n")[0]
    assert len({clip.group for clip in files}) == 2, "files that differ in case are two files"


@pytest.mark.parametrize(
    ("columns", "one", "other", "together"),
    [
        ("take", "", "", False),
        ("take", "-", "\u200b", False),
        ("session,take", ",", ",", False),
        ("session,take", "1,", "1,", True),
        ("session,take", "1,", ",1", False),
        ("session,take", "1,", "1,2", False),
        ("session,take", "1/2,3", "1,2/3", False),
        ("session,take", "1/2,3", "1/2,3", True),
        ("take", "2020/01/02", "2020/01/02", True),
    ],
)
def test_an_empty_cell_groups_nothing_and_values_are_not_mixed_up(
    columns: str, one: str, other: str, together: bool
) -> None:
    content = f"video,person,expression,pose,{columns}\na.mp4,P1,happy,front,{one}\nb.mp4,P1,happy,left,{other}\n"
    clips, _ = parsed(content.encode())
    assert (clips[0].group == clips[1].group) is together
    if not any(mark.isalnum() for mark in one + other):
        assert [clip.group for clip in clips] == ["a.mp4", "b.mp4"], "each is its own"


def test_persons_with_slashes_share_no_group_with_others() -> None:
    content = "video,person,expression,pose,take\na.mp4,P/1,happy,front,1\nb.mp4,P,1/happy,left,1\n"
    clips, _ = parsed(content.encode())
    assert clips[0].group != clips[1].group


def test_names_of_groups_stay_as_they_were() -> None:
    """They are in records, and validation moments are chosen by them."""
    content = "video,person,expression,pose,session,take\na.mp4,P1,Happy,front,1,2020/1\nb.mp4,P1,Happy,left,,2\n"
    assert [clip.group for clip in parsed(content.encode())[0]] == ["p1/happy/1/2020/1", "p1/happy//2"]


PLAIN = "video,person,expression,pose\na/b.mp4,P1,happy,front\na/c.mp4,P2,sad,front\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
        PLAIN.replace(",", "\t").encode("utf-16"),
        PLAIN.replace(",", ";").encode(),
        ("sep=;\n" + PLAIN.replace(",", ";")).encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", ",,\n").encode(),
        PLAIN.replace("happy,front", "happy,front,,,").encode(),
        PLAIN.replace("video,", " Video , ").encode(),
        ("," + PLAIN.replace("\na", "\n0,a")).encode(),
        (PLAIN + ",,,\n\n").encode(),
        # Written by hand: a blank behind a quoted value.
        PLAIN.replace("happy,", '"happy" ,').encode(),
        # Or before it, in the header and the rows.
        ('"' + PLAIN.replace(",", '", "').replace("\n", '"\n"'))[:-1].encode(),
        PLAIN.replace("P1,happy,", ' "P1", "happy" , ').encode(),
        ("\n \nsep=;\n" + PLAIN.replace(",", ";")).encode(),
        # Two files, one behind the other: of each the header, and of the second the mark that Windows writes.
        (PLAIN.replace("a/c", "video,Person , expression,POSE\n\ufeffa/c")).encode(),
    ],
)
def test_a_csv_is_read_as_spreadsheets_write_it(content: bytes) -> None:
    clips, _ = parsed(content)
    assert [(clip.clip_id, clip.person, clip.expression) for clip in clips] == [
        ("a/b.mp4", "P1", "happy"),
        ("a/c.mp4", "P2", "sad"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04rest", "a workbook .*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook .*CSV UTF-8"),
        (b"\x1f\x8b\x08\0", "compressed with gzip: unpack it"),
        (b'[{"video": "a.mp4"}]', "JSON"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"a.mp4,P1,happy,front\n", "column `video` is missing; the first line must name the columns"),
        ("video,person,expression,pose\na,P\xe9,happy,front\n".encode("cp1252"), "line 2: not UTF-8.*iconv -f cp1252"),
        (PLAIN.encode("utf-16")[:-1], "not UTF-16 .*cut off"),
        (b"{\\rtf1 video", "a text of a word processor"),
        (b'[\n {"video": "a.mp4"}]', "JSON"),
        (b"BZh91AY&SY", "compressed with bzip2: unpack it"),
        (b"ARROW1\0\0", "a Feather file: .*to_csv"),
        (b"\x89PNG\r\n\x1a\n\0", "a picture: name the table"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "no text: name the table"),
        (b"\0\0\0\x20ftypisom", "no text: name the table"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS .*git lfs pull"),
        ((PLAIN + '"d.mp4,P3,sad,front\n' + PLAIN * 3).encode(), "line 4: a quotation mark has no second one"),
    ],
)
def test_what_is_no_csv_is_called_by_its_name_with_advice_that_fits(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(annotations.read_rows(content.splitlines(keepends=True), "a.csv", AnnotationOptions()))


NOTED = "video,person,expression,pose,notes\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # In the last column a value may be as long as the file: nothing is missing behind it.
        (PLAIN.replace("happy,front", 'happy,"front') + PLAIN, "a.csv, line 2: a quotation mark has no second one"),
        # Also behind a blank, which is no part of the value.
        (PLAIN.replace("happy,front", 'happy, "front') + PLAIN, "a.csv, line 2: a quotation mark has no second one"),
        # Two of them end each other, and what lies between is a pose.
        (
            PLAIN.replace("happy,front", 'happy,"front') + 'd.mp4,P3,sad,front"\n',
            "line 2: `pose` has a line break behind",
        ),
        (
            PLAIN.replace("happy,front", 'happy,"front') + 'd.mp4,P3,sad,"front\n',
            "line 2: .* its second one only 2 lines",
        ),
        (
            PLAIN.replace(",front", ',"front', 1).replace("sad,", 'sad",'),
            "line 2: `pose` has a line break behind 'front'",
        ),
        (
            NOTED + 'a.mp4,P1,sad,front,"smiles\nb.mp4,P1,sad,front,ok\nc.mp4,P1,sad,front,ok\n',
            "line 2: .* no second one",
        ),
        (
            NOTED + 'a.mp4,P1,sad,front,"smiles\nb.mp4,P1,sad,front,ok\nc.mp4,P1,sad,front,ok"\n',
            "line 2: .* further rows",
        ),
        (
            "video,person,expression,pose,reviewer_1\n" + 'a,P1,sad,front,"sad\nb,P1,sad,front,sad"\n',
            "`reviewer_1` has",
        ),
        # A line feed among an old Macintosh's returns.
        (
            NOTED.replace("\n", "\r") + 'a.mp4,P1,sad,front,"x\rb.mp4,P1,sad,front,y\nz\r',
            "line 2: a quotation mark has no second",
        ),
    ],
)
def test_a_stray_quotation_mark_takes_no_row_with_it_in_silence(content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(annotations.read_rows(content.encode().splitlines(keepends=True), "a.csv", AnnotationOptions()))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_note_of_several_lines_in_quotation_marks_is_one_value(end: str) -> None:
    note = '"She said ""oh"", looked up,\nthen smiled, laughed, turned, left, and came back.\n\nTake 2, 3"'
    lines = [NOTED.strip(), f"a.mp4,P1,happy,front,{note}", "b.mp4,P1,sad,front,ok", ""]
    content = end.join(lines).encode()
    assert [clip.clip_id for clip in parsed(content)[0]] == ["a.mp4", "b.mp4"]


def test_paths_of_other_systems_and_below_the_root_are_understood() -> None:
    rows = b"a\\b.mp4,P1,happy,front\n/data/clips/c.mp4,P1,sad,front\n"
    clips, _ = parsed(b"video,person,expression,pose\n" + rows, root="/data/clips")
    assert [clip.clip_id for clip in clips] == ["a/b.mp4", "c.mp4"]


def test_the_folder_of_all_videos_is_advised_and_not_that_of_the_first() -> None:
    folder = ""
    for video in ("/study/clips/P1/happy/a.mp4", "/study/clips/P1/sad/a.mp4", "C:\\a.mp4", "/study/clips/P2/a.mp4"):
        folder = annotations.common_folder(folder, video)
    assert "such as '/study/clips'." in annotations.advice({"outside_root": 4}, folder, AnnotationOptions())


def test_advice_follows_from_what_most_rows_lack() -> None:
    options = AnnotationOptions()
    assert "majority" in annotations.advice({"reviewers_disagree": 3}, "", options)
    assert "majority" not in annotations.advice({"reviewers_disagree": 3}, "", AnnotationOptions(review="majority"))
    for reason in ("outside_root", "empty_value", "wrong_number_of_columns", "reviewers_contradict_label", "bad_age"):
        words = annotations.advice({reason: 2, "reviewers_disagree": 1}, "/data/study", options)
        assert words and "majority" not in words
    assert "'/data/study'" in annotations.advice({"outside_root": 1}, "/data/study", options)
    assert "no rows" in annotations.advice({}, "", options)
