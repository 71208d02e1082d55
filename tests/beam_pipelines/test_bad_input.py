"""Bad input of every kind beside good clips: the good ones are unharmed, each bad one is named, the exit code tells."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from beam_pipelines import build
from beam_pipelines.progress import ProgressLog
from fer_tf import config, files, tfrecords
from fer_tf.data import schema
from fer_tf.data.folder import DataFolder
from fer_tf.data.schema import FaceRecord
from fer_tf.labels import TASKS
from tests.beam_pipelines.conftest import FLAGS, Built, read, run, write_rows

GOOD = [f"take_1/{person}/happy/{pose}.mp4" for person in ("P001", "P009") for pose in ("front", "half_right")]
COLUMNS = ("video", "person", "gender", "age", "expression", "pose", "take", "reviewer_1", "reviewer_2", "reviewer_3")


def row(video: str, person: str = "P001", pose: str = "front", label: str = "happy") -> dict[str, str]:
    return dict(zip(COLUMNS, (video, person, "female", "31", label, pose, "1", label, label, label), strict=True))


def good_row(video: str) -> dict[str, str]:
    return row(video, video.split("/")[1], Path(video).stem)


def last_frame(path: Path) -> np.ndarray:
    """uint8 (h, w, 3), BGR."""
    with av.open(str(path)) as container:
        *_, frame = container.decode(video=0)
        return frame.to_ndarray(format="bgr24")


@pytest.fixture(scope="module")
def mixed(built: Built, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A build of good clips among bad ones: its folder and exit code."""
    base = tmp_path_factory.mktemp("mixed")
    root, out = base / "root", base / "out"
    for video in GOOD:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(samples / video, root / video)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("This is a letter, no video.\n" * 50)
    whole = (root / GOOD[0]).read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "folder.mp4").mkdir()
    outside = base / "secret.mp4"
    shutil.copyfile(samples / GOOD[0], outside)
    os.symlink(outside, root / "link.mp4")
    frames = [last_frame(samples / f"take_1/{person}/happy/front.mp4") for person in ("P001", "P009")]
    cv2.imwrite(str(root / "one.png"), frames[0])
    cv2.imwrite(str(root / "two.png"), np.hstack(frames))
    cv2.imwrite(str(root / "none.png"), np.full((200, 200, 3), 90, np.uint8))
    bad = ["empty.mp4", "text.mp4", "cut.mp4", "folder.mp4", "link.mp4", "none.png", "gone.mp4", "../secret.mp4"]
    rows = [good_row(video) for video in GOOD] + [row(name) for name in bad]
    rows += [row("one.png"), row("two.png"), row(GOOD[0], pose=""), good_row(GOOD[1])]
    rows += [row("clash.mp4"), row("clash.mp4", person="P009")]
    # One file under two names: said alike, and not.
    os.symlink(root / GOOD[2], root / "zlink.mp4")
    shutil.copyfile(root / "one.png", root / "x.png")
    os.link(root / "x.png", root / "y.png")
    rows += [{**good_row(GOOD[2]), "video": "zlink.mp4"}, row("x.png"), row("y.png", person="P009")]
    return out, run(write_rows(base / "a.csv", rows), root, out)


def rejected(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


def test_clips_that_cannot_be_read_give_exit_code_3_and_each_its_reason(mixed: tuple[Path, int]) -> None:
    out, code = mixed
    assert code == config.EXIT_INCOMPLETE
    reasons = {(line["clip"], line["reason"]) for line in rejected(out)}
    for clip, reason in (
        ("empty.mp4", "empty_file"),
        ("text.mp4", "not_a_video"),
        ("cut.mp4", "truncated"),
        ("folder.mp4", "missing"),
        ("link.mp4", "outside_root"),
        ("../secret.mp4", "outside_root"),
        ("gone.mp4", "missing"),
        ("none.png", "no_face"),
        ("none.png", "no_face_in_clip"),
        ("two.png", "other_face"),
        (GOOD[0], "empty_value"),
        (GOOD[1], "duplicate_row"),
        ("clash.mp4", "conflicting_rows"),
        ("zlink.mp4", "duplicate_row"),
        ("x.png", "conflicting_rows"),
        ("y.png", "conflicting_rows"),
    ):
        assert (clip, reason) in reasons
    counts = json.loads((out / "dataset.json").read_text())["rejected"]
    assert sum(counts.values()) == len(rejected(out))
    assert all("line" in line or "frame" in line for line in rejected(out))


def test_the_good_clips_beside_them_give_the_faces_that_they_give_alone(mixed: tuple[Path, int], built: Built) -> None:
    alone = {face.image_id: face for face in read(built.folder, schema.FACES_GLOB, FaceRecord)}
    faces = {face.image_id: face for face in read(mixed[0], schema.FACES_GLOB, FaceRecord)}
    good = {name: face for name, face in faces.items() if face.clip_id in GOOD}
    assert good.keys() == {name for name in alone if alone[name].clip_id in GOOD}
    assert all(face.image == alone[name].image for name, face in good.items())
    assert set(faces) - set(good) == {"one.png#000000", "two.png#000000"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"video,person,expression\na.mp4,P1,happy\n", "column `pose` is missing"),
        (b"video,person,expression,pose\n\xff\xfe,P1,happy,front\n", "line 2: not UTF-8"),
        (b"video,person,expression,pose,reviewer_1\na.mp4,P1,happy,front,sad\n", "none of 1 rows survives review"),
        (b"video,person,expression,pose\n", "none of 0 rows survives"),
        (b"video,person,expression,pose\ngone.mp4,P1,happy,front\n", "none of the 1 clips lies below `videos_root`"),
    ],
)
def test_annotations_that_cannot_be_used_end_with_code_2_and_one_line(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations.csv").write_bytes(content)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/rejected.jsonl").write_text("an earlier build's\n")
    argv = [f"--videos_root={tmp_path}", f"--output={tmp_path / 'out'}", *FLAGS]
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    told = capsys.readouterr().err
    assert words in told
    assert not (tmp_path / "out/records").exists()
    # Nothing of a good folder is replaced by a run that fails.
    assert (tmp_path / "out/rejected.jsonl").read_text() == "an earlier build's\n"
    listed = tmp_path / "out/rejected.failed.jsonl"
    assert (f"See {listed}." in told) is listed.exists() is words.startswith("none of")
    if b"front" in content and listed.exists():
        assert len(listed.read_text().splitlines()) == 1


def test_progress_that_is_told_in_centuries_stops_nothing(tmp_path: Path) -> None:
    with ProgressLog(str(tmp_path), 1, 1e10) as progress:
        threading.Event().wait(0.2)
        assert progress.is_alive()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--annotations=nowhere.csv", "nowhere.csv' does not exist"),
        (
            "--videos_root=/nowhere/*.mp4",
            "`videos_root` must be the clips' folder, or a glob in it. '/nowhere' is none",
        ),
        ("--videos_root=/usr/share", "clips lies below `videos_root` '/usr/share': "),
        ("--labels_file=nowhere.txt", "nowhere.txt' does not exist"),
        ("--landmark_model=nowhere.dat", "must be a dlib shape predictor file. Received: 'nowhere.dat'"),
        ("--output=/proc/faces", "`output` '/proc/faces' cannot be written to"),
        ("--output=gs://faces[2]", "`output` must not hold *, ? or [, which are marks of patterns. Received: "),
        ("--annotations=take?.csv", "take?.csv' does not exist"),
    ],
)
def test_places_that_are_not_there_are_named(
    flag: str, words: str, built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--annotations={built.annotations}", f"--videos_root={built.root}", f"--output={tmp_path}", flag]
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    assert words in capsys.readouterr().err


def test_what_stops_a_worker_is_told_without_a_traceback(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extracted = shutil.copytree(built.extracted, tmp_path / "extracted")
    empty, cut, *_ = sorted(path for path in extracted.rglob("*.tfrecord") if path.stat().st_size > 10_000)
    empty.write_bytes(b"")
    argv = [f"--annotations={built.annotations}", f"--videos_root={built.root}", f"--output={tmp_path / 'out'}"]
    argv += [*FLAGS, f"--extracted={extracted}"]
    # A finished clip's file of which nothing can be read: the clip is read again.
    assert config.run_command(build.main, argv) in (config.EXIT_OK, config.EXIT_INCOMPLETE)
    assert empty.stat().st_size > 0
    before = json.loads((tmp_path / "out/dataset.json").read_text())["fingerprint"]
    assert before == json.loads((built.folder / "dataset.json").read_text())["fingerprint"]
    # One that is cut off behind its first record is only met while writing, in a worker.
    cut.write_bytes(cut.read_bytes()[:-1])
    capsys.readouterr()
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    error = capsys.readouterr().err
    assert f"error: {cut} is damaged or cut off" in error and "Traceback" not in error and "while running" not in error


def test_a_folder_with_marks_in_its_name_and_annotations_as_a_spreadsheet_writes_them(
    built: Built, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "clips [raw]*"
    (root / "Rene\u0301e").mkdir(parents=True)
    for number, video in enumerate(GOOD):
        shutil.copyfile(samples / video, root / "Rene\u0301e" / f"{number}.mp4")
    lines = [
        "Video;Person;Expression;Pose;Reviewer_1;",
        "Ren\u00e9e\\0.mp4;Ren\u00e9e;Happy;Cam 7;happy;",
        f"{root}/Rene\u0301e/1.mp4;Rene\u0301e;happy;half right;HAPPY;",
        "Ren\u00e9e/2.mp4;P009;happy;cam-7;angry;",
        "Ren\u00e9e/3.MP4;P009;happy;half_right;happy;",
    ]
    (root / "annotations.csv").write_text("\n".join(lines), encoding="utf-16")
    out = tmp_path / "faces [2]*"
    argv = [f"--videos_root={root}", f"--output={out}", *FLAGS, "--max_keyframes=1", "--rare_pose=cam 7"]
    assert config.run_command(build.main, [*argv, "--rare_pose=cam 8"]) == config.EXIT_USAGE
    assert "`rare_pose` must be one of ('half_right', 'cam_7'). Received: 'cam_8'" in capsys.readouterr().err
    assert config.run_command(build.main, [*argv, f"--annotations={root}/annotations.csv"]) == config.EXIT_OK
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["expressions"] == ["happy"] and dataset["poses"] == ["half_right", "cam_7"]
    assert len(dataset["persons"]) == 2 and dataset["counts"]["faces"] == 3
    assert dataset["tasks"]["er_up"]["rare_pose"] == "cam_7"
    assert dataset["rejected"] == {"reviewers_contradict_label": 1}
    assert {entry["column"] for entry in dataset["merged_names"]} == {"person", "expression", "pose"}


@pytest.mark.parametrize("length", [20, 251, 252, 255])
@pytest.mark.parametrize("letter", ["n", "\u00e9"])
def test_points_of_clips_with_names_as_long_as_names_can_be_have_a_file_each(
    tmp_path: Path, length: int, letter: str
) -> None:
    stem = letter * ((length - 4) // len(letter.encode()))
    paths = set()
    for folder in ("", "x/"):
        for ending in (".mp4", ".mov"):
            path = DataFolder(str(tmp_path)).landmark_file(f"{folder}{stem}{ending}")
            files.write_lines(path, ["0 1.00"])
            paths.add(path)
    assert len(paths) == 4
    if length <= 251:
        assert f"{tmp_path}/landmarks/x/{stem}.mp4.txt" in paths


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_refused_before_any_work(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    argv = [f"--annotations={built.annotations}", f"--videos_root={built.root}", f"--output={tmp_path / 'out'}"]
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    assert "cannot be written to" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_told_and_leaves_no_final_name(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tfrecords, "append", full)
    argv = [f"--annotations={built.annotations}", f"--videos_root={built.root}", f"--output={tmp_path}", *FLAGS]
    argv.append(f"--extracted={built.extracted}")
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    assert "is full" in capsys.readouterr().err
    assert not any((tmp_path / name).exists() for name in ("records", "pairs", "dataset.json"))
    assert not list((tmp_path / ".building").rglob("*.tfrecord*"))


def test_a_clip_that_was_turned_is_noted_and_not_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = {
        "counts": {"faces": 9, "persons": 2},
        "records": {"examples": 9, "files": 1},
        "pairs": {"examples": 0, "files": 1},
        "tasks": {task: {"train": 7, "val": 1, "test": 1} for task in TASKS},
        "rejected": {"no_face": 3, "turned": 1, "missing": 2},
    }
    build.Build._say(SimpleNamespace(settings=SimpleNamespace(output="out")), dataset, 1.0)
    said = [line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines() if "rejected.jsonl" in line]
    assert said == ["left out no_face 3", "noted turned 1", "at fault missing 2"]
