"""A study's orders, keys, votes and the file that the build reads."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from beam_pipelines import chunks
from fer_tf.config import EXIT_USAGE, run_command
from fer_tf.data.annotations import AnnotationOptions
from fer_tf.data.ballots import CANNOT_TELL
from fer_tf.errors import InputError
from serving.review import main
from serving.review.store import FIRST, SECOND, Conflict, Store, Vote
from serving.review.study import Study, StudyOptions, export, keys_for, pace
from tests.serving.review.conftest import REVIEWERS, rows_of, sample_rows, write_annotations


def cast(store: Store, reviewer: str, clip: str, choice: str, **more: object) -> object:
    return store.cast(reviewer, clip, choice, request=os.urandom(8).hex(), **more)


def test_every_reviewer_has_an_order_of_their_own_that_stays(options: StudyOptions, store: Store) -> None:
    study = Study(options, store)
    orders = [tuple(study.left(name, FIRST)[0]) for name in REVIEWERS]
    assert all(sorted(order) == sorted(study.clips) for order in orders)
    assert len(set(orders)) == 3
    assert tuple(Study(options, store).left("anna", FIRST)[0]) == orders[0]
    other_seed = Study(dataclasses.replace(options, seed=1), store)
    assert tuple(other_seed.left("anna", FIRST)[0]) != orders[0]


def test_new_clips_and_a_new_reviewer_disturb_no_order_and_no_vote(
    options: StudyOptions, store: Store, samples: Path, rows: list[dict[str, str]]
) -> None:
    study = Study(options, store)
    before, _ = study.left("anna", FIRST)
    cast(store, "anna", before[0], "happy")
    links = store.reviewers()
    more = [row for row in sample_rows(samples, 16) if row["video"] not in study.clips][:8]
    write_annotations(Path(options.annotations), [*more, *rows])
    grown = Study(dataclasses.replace(options, reviewers=(*REVIEWERS, "dora")), store)
    left, answered = grown.left("anna", FIRST)
    assert len(left) == 15 and [vote.clip for vote in answered] == [before[0]]
    assert [clip for clip in left if clip in set(before)] == before[1:]
    assert {name: store.reviewers()[name] for name in REVIEWERS} == links
    assert len(grown.left("dora", FIRST)[0]) == 16
    # Without --reviewers the study knows who votes.
    assert Study(dataclasses.replace(options, reviewers=()), store).reviewers == (*REVIEWERS, "dora")


def test_addresses_tell_nothing_of_path_person_or_label(options: StudyOptions, store: Store, tmp_path: Path) -> None:
    study = Study(options, store)
    codes = {study.code(clip_id) for clip_id in study.clips}
    assert len(codes) == 8 and all(len(code) == 16 and int(code, 16) for code in codes)
    # Whoever knows the paths cannot compute them: another study has other names.
    other = Study(options, Store(str(tmp_path / "other.sqlite3")))
    assert not codes & {other.code(clip_id) for clip_id in study.clips}


def test_keys_are_single_and_cover_the_papers_54_expressions() -> None:
    assert keys_for(["angry", "happy", "sad"]) == ["1", "2", "3"]
    many = [f"expression {number}" for number in range(52)] + ["happy", "angry"]
    keys = keys_for(many)
    assert len(set(keys)) == 54 and all(len(key) == 1 and key.isalnum() and key != "0" for key in keys)
    assert keys_for(["zeal", *"abcdefghi"])[0] == "z"
    assert keys_for([f"l{number}" for number in range(70)]).count("") == 9


def test_a_vote_twice_by_one_request_is_one_vote_and_a_second_tab_does_not_overwrite(
    options: StudyOptions, store: Store
) -> None:
    clip = Study(options, store).left("anna", FIRST)[0][0]
    first = store.cast("anna", clip, "happy", request="one-request")
    assert store.cast("anna", clip, "happy", request="one-request") == first
    with pytest.raises(Conflict) as refused:
        cast(store, "anna", clip, "sad")
    assert refused.value.standing == first
    changed = cast(store, "anna", clip, "sad", seen=first.id)
    assert [vote.choice for vote in store.votes()] == ["sad"]
    with pytest.raises(Conflict):
        store.withdraw("anna", first.id)
    assert store.withdraw("anna", changed.id).choice == "sad"
    assert store.votes() == []
    # What was taken back is still in the file.
    kept = sqlite3.connect(store.path).execute("SELECT choice, withdrawn IS NOT NULL FROM votes ORDER BY id")
    assert kept.fetchall() == [("happy", 1), ("sad", 1)]


def test_many_threads_lose_no_vote_and_cast_none_twice(options: StudyOptions, store: Store) -> None:
    study = Study(options, store)

    def answer(reviewer: str) -> None:
        for clip in study.left(reviewer, FIRST)[0]:
            try:
                cast(store, reviewer, clip, "happy")
            except Conflict:
                continue

    threads = [threading.Thread(target=answer, args=(name,)) for name in REVIEWERS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((vote.reviewer, vote.clip) for vote in store.votes()) == sorted(
        (name, clip) for name in REVIEWERS for clip in study.clips
    )


def test_the_database_is_for_its_owner_alone_and_writes_through(store: Store) -> None:
    assert os.stat(store.path).st_mode & 0o077 == 0
    (mode,) = store._database.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = store._database.execute("PRAGMA synchronous").fetchone()
    assert (mode, synchronous) == ("wal", 2)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.sqlite3").write_bytes(b"a photograph" * 100)
    with pytest.raises(InputError, match="no database of votes"):
        Store(str(tmp_path / "votes.sqlite3"))


def test_a_database_that_cannot_be_opened_or_written_is_told_by_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "votes.sqlite3"
    told = r"`study` holds '.*votes\.sqlite3', which cannot be used \(%s\)"
    path.mkdir()
    with pytest.raises(InputError, match=told % "unable to open database file"):
        Store(str(path))
    path.rmdir()
    Store(str(path)).close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **how: connect(f"file:{path}?mode=ro", uri=True, **how))
    with pytest.raises(InputError, match=told % "attempt to write a readonly database"):
        Store(str(path))
    with pytest.raises(InputError, match=told % "Not a directory"):
        Store(str(path / "votes.sqlite3"))


@pytest.mark.parametrize("name", ["afile", "/proc/x/y", "/proc"])
def test_a_study_that_cannot_be_written_is_told_in_a_line(
    name: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "afile").touch()
    study = str(tmp_path / name)
    assert run_command(main, [f"--videos_root={samples}", f"--study={study}"]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert error.startswith(f"error: `study` {study!r} cannot be used (") and error.count("\n") == 1


def test_the_export_keeps_every_row_column_and_line_ending_and_adds_the_votes(
    options: StudyOptions, store: Store, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = [{**row, "lamp": f'left, "{place}"', "reviewer_ben": "calm"} for place, row in enumerate(rows)]
    write_annotations(Path(options.annotations), rows, newline="\r\n", bom=True)
    with open(options.annotations, "ab") as file:
        file.write(b"too,few\r\n\r\n")
    study = Study(options, store)
    assert [row.reason for row in study.left_out] == ["wrong_number_of_columns"]
    cast(store, "anna", rows[0]["video"], "happy", remark="glasses")
    cast(store, "ben", rows[1]["video"], CANNOT_TELL)
    assert export(study, str(tmp_path / "out.csv")) == 2
    content = (tmp_path / "out.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfvideo,") and b"\r\n\r\n" in content and b"too,few" in content
    written = rows_of(tmp_path / "out.csv")
    assert [{name: row[name] for name in rows[0]} for row in written[:8]] == [
        {**row, "reviewer_ben": CANNOT_TELL if place == 1 else "calm"} for place, row in enumerate(rows)
    ]
    assert [row["reviewer_anna"] for row in written[:8]] == ["happy", *[""] * 7]
    assert written[0]["remark_anna"] == "glasses"
    assert not list(tmp_path.glob("*.tmp-*"))
    # Written over the annotations themselves, it can be read and written again.
    export(study, options.annotations)
    again = Study(options, store)
    export(again, str(tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == content


def test_a_table_of_a_spreadsheet_keeps_its_coding_and_separator(
    options: StudyOptions, store: Store, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    lines = ["sep=;", ";".join(name.title() for name in rows[0]) + ";Reviewer Anna"]
    lines += [";".join(row.values()) + ";" * (1 + place % 2) for place, row in enumerate(rows)]
    Path(options.annotations).write_bytes("\r\n".join([*lines, ""]).encode("utf-16"))
    study = Study(options, store)
    assert len(study.clips) == 8 and not study.left_out
    cast(store, "anna", rows[1]["video"], "happy")
    cast(store, "ben", rows[1]["video"], "sad")
    assert export(study, str(tmp_path / "out.csv")) == 2
    written = (tmp_path / "out.csv").read_bytes().decode("utf-16").split("\r\n")
    assert written[:2] == ["sep=;", f"{lines[1]};reviewer_ben;reviewer_chris"]
    assert written[3] == ";".join([*rows[1].values(), "happy", "sad", ""])
    census = chunks.partition(str(tmp_path / "out.csv"), str(tmp_path / "building"), AnnotationOptions(review="none"))
    assert census.clips == 8 and census.ballots.reviewers == ("reviewer_anna", "reviewer_ben", "reviewer_chris")


def test_quotation_marks_behind_a_blank_are_no_part_of_what_is_exported(
    options: StudyOptions, store: Store, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    lines = [list(rows[0]), *(row.values() for row in rows)]
    Path(options.annotations).write_text("".join(", ".join(f'"{value}"' for value in line) + "\n" for line in lines))
    study = Study(options, store)
    cast(store, "anna", rows[1]["video"], "happy")
    assert export(study, str(tmp_path / "out.csv")) == 1
    written = rows_of(tmp_path / "out.csv")
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    assert written[1]["reviewer_anna"] == "happy"


def test_the_build_keeps_and_drops_what_a_calculation_by_hand_says(
    options: StudyOptions, store: Store, tmp_path: Path
) -> None:
    study = Study(options, store)
    clips = list(study.clips)
    label = {clip_id: clip.expression for clip_id, clip in study.clips.items()}
    other = {clip_id: next(name for name in study.labels if name != label[clip_id]) for clip_id in clips}
    planted = {
        clips[0]: (label[clips[0]],) * 3,  # kept by both rules
        clips[1]: (label[clips[1]], label[clips[1]], other[clips[1]]),  # by the majority alone
        clips[2]: (label[clips[2]], other[clips[2]], other[clips[2]]),  # contradicts the label
        clips[3]: (other[clips[3]],) * 3,  # contradicts the label
        clips[4]: (label[clips[4]], label[clips[4]], CANNOT_TELL),  # by the majority alone
        clips[5]: (CANNOT_TELL,) * 3,  # nobody knows
        clips[6]: (label[clips[6]],) * 3,  # kept by both rules
        # clips[7] is seen by nobody.
    }
    for clip_id, choices in planted.items():
        for reviewer, choice in zip(REVIEWERS, choices, strict=True):
            cast(store, reviewer, clip_id, choice)
    assert study.disputed() == [clips[place] for place in (1, 2, 4, 5)]
    export(study, str(tmp_path / "out.csv"))
    for review, kept, dropped in (
        ("unanimous", (0, 6), {"reviewers_disagree": 3, "reviewers_contradict_label": 2, "not_reviewed": 1}),
        ("majority", (0, 1, 4, 6), {"reviewers_contradict_label": 3, "not_reviewed": 1}),
    ):
        census = chunks.partition(str(tmp_path / "out.csv"), str(tmp_path / review), AnnotationOptions(review=review))
        found = [clip.clip_id for chunk in census.chunks for clip in chunks.read_clips(str(tmp_path / review), chunk)]
        assert sorted(found) == sorted(clips[place] for place in kept), review
        assert dict(census.rejected) == dropped, review


def test_second_votes_replace_first_ones_in_the_final_export_alone(
    options: StudyOptions, store: Store, tmp_path: Path
) -> None:
    study = Study(options, store)
    clip = next(iter(study.clips))
    for reviewer, choice in zip(REVIEWERS, ("happy", "happy", "sad"), strict=True):
        cast(store, reviewer, clip, choice)
    store.open_second_round()
    with pytest.raises(Conflict, match="second round is open"):
        store.withdraw("chris", store.votes(FIRST, "chris")[0].id)
    cast(store, "chris", clip, "happy", round=SECOND)
    assert {name: vote.choice for name, vote in study.final()[clip].items()} == dict.fromkeys(REVIEWERS, "happy")
    export(study, str(tmp_path / "final.csv"))
    export(study, str(tmp_path / "first.csv"), first_round=True)
    assert rows_of(tmp_path / "final.csv")[0]["reviewer_chris"] == "happy"
    assert rows_of(tmp_path / "first.csv")[0]["reviewer_chris"] == "sad"


def test_a_reviewer_in_another_spelling_is_the_one_whom_the_study_knows(
    options: StudyOptions, store: Store, tmp_path: Path
) -> None:
    study = Study(options, store)
    clip = next(iter(study.clips))
    cast(store, "anna", clip, "happy")
    again = Study(dataclasses.replace(options, reviewers=("Anna ", "BEN", "dora")), store)
    assert again.reviewers == ("anna", "ben", "dora") and list(store.reviewers()) == [*REVIEWERS, "dora"]
    assert export(again, str(tmp_path / "out.csv")) == 1
    assert Study(dataclasses.replace(options, reviewers=()), store).reviewers == (*REVIEWERS, "dora")
    with pytest.raises(InputError, match=r"names somebody twice\. Received: 'anna,Anna'"):
        Study(dataclasses.replace(options, reviewers=("anna", "Anna")), store)


def test_a_study_that_knows_one_reviewer_twice_is_mended(
    options: StudyOptions, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    clips = list(Study(options, store).clips)
    links = store.reviewers()
    # As an earlier version did.
    store.add_reviewers(["Anna"])
    for name, place, choice in (("anna", 0, "happy"), ("anna", 1, "happy"), ("Anna", 1, "sad"), ("Anna", 2, "sad")):
        cast(store, name, clips[place], choice)
    cast(store, "anna", clips[3], "happy")
    for reviewers in (("Anna", "ben", "chris"), ()):
        study = Study(dataclasses.replace(options, reviewers=reviewers), store)
        assert study.reviewers == REVIEWERS and store.reviewers() == links
        choices = {vote.clip: vote.choice for vote in store.votes(FIRST, "anna")}
        assert choices == dict(zip(clips, ("happy", "sad", "sad", "happy"), strict=False)), "the later vote stands"
    assert "['anna', 'Anna'] are one reviewer: anna has all their votes" in caplog.text
    withdrawn = store._database.execute("SELECT choice FROM votes WHERE withdrawn IS NOT NULL").fetchall()
    assert withdrawn == [("happy",)], "and the earlier one is kept"


def test_votes_agree_though_another_spelling_stands_since(
    options: StudyOptions, store: Store, rows: list[dict[str, str]]
) -> None:
    clip = rows[0]["video"]
    said = rows[0]["expression"]
    for name in REVIEWERS:
        study = Study(options, store)
        cast(store, name, clip, study.clips[clip].expression)
        # More clips, by somebody who writes capitals.
        more = [{**row, "video": f"{name}{number}.mp4", "expression": said.upper()} for number, row in enumerate(rows)]
        rows = [*rows, *more]
        write_annotations(Path(options.annotations), rows)
    study = Study(options, store)
    assert {vote.choice for vote in store.votes()} == {said, said.upper()}
    assert study.disputed() == []
    assert {vote.choice for vote in study.standing()[clip].values()} == {said.upper()}
    assert [vote.choice for vote in study.left("anna", FIRST)[1]] == [said.upper()]


@pytest.mark.parametrize("above", ["\n", "\n \n", "\nsep=,\n"])
def test_an_export_of_tables_one_behind_the_other_below_empty_lines_is_one_table(
    options: StudyOptions, store: Store, rows: list[dict[str, str]], tmp_path: Path, above: str
) -> None:
    header = ",".join(rows[0])
    lines = [header, *(",".join(row.values()) for row in rows[:2]), header.title() + ",,", ",".join(rows[2].values())]
    Path(options.annotations).write_text(above + "\n".join([*lines, ""]))
    study = Study(options, store)
    assert len(study.clips) == 3 and not study.left_out
    for row in rows[:3]:
        cast(store, "ben", row["video"], "happy")
    assert export(study, str(tmp_path / "out.csv")) == 3
    new = ",reviewer_anna,reviewer_ben,reviewer_chris"
    votes = ",,happy,"
    assert (tmp_path / "out.csv").read_text() == above + "\n".join(
        [header + new, lines[1] + votes, lines[2] + votes, header.title() + new, lines[4] + votes, ""]
    )
    census = chunks.partition(str(tmp_path / "out.csv"), str(tmp_path / "building"), AnnotationOptions(review="none"))
    assert census.clips == 3 and not census.rejected
    # And once more, over its own columns.
    export(Study(dataclasses.replace(options, annotations=str(tmp_path / "out.csv")), store), str(tmp_path / "2.csv"))
    assert (tmp_path / "2.csv").read_text() == (tmp_path / "out.csv").read_text()


def test_breaks_do_not_count_as_pace() -> None:
    times = (0, 5, 12, 16, 9000, 9006)
    votes = [Vote(place, "anna", str(place), FIRST, "happy", "", str(place), at) for place, at in enumerate(times)]
    assert pace(votes) == 5.5
    assert pace(votes[:1]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reviewers": ()}, "`reviewers` is empty"),
        ({"reviewers": ("anna", "anna")}, "names somebody twice"),
        ({"annotations": "/nowhere.csv"}, r"`annotations` '/nowhere.csv' cannot be read"),
        ({"reviewer_columns": "reviewer"}, "must have one star"),
        ({"predictions": "/nowhere.jsonl"}, "`predictions` '/nowhere.jsonl' cannot be read"),
    ],
)
def test_a_study_that_cannot_be_says_why(
    options: StudyOptions, store: Store, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Study(dataclasses.replace(options, **change), store)


def test_the_command_exports_without_serving(
    options: StudyOptions, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [f"--annotations={options.annotations}", f"--videos_root={options.videos_root}", "--reviewers=anna,ben"]
    flags += [f"--study={tmp_path / 'study'}", f"--export={tmp_path / 'out.csv'}"]
    assert main(flags) == 0
    assert "0 votes of 2 reviewers" in capsys.readouterr().out
    assert {"reviewer_anna", "reviewer_ben"} <= set(rows_of(tmp_path / "out.csv")[0])
