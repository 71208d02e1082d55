"""The build command on real clips: its records against an answer computed by plain numpy, and the same every time."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from beam_pipelines import build, predict, runner, synthesize
from fer_tf.config import EXIT_USAGE, run_command
from fer_tf.data import draws, schema
from fer_tf.data.folder import DataFolder
from fer_tf.data.schema import FaceRecord, PairRecord
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor
from fer_tf.labels import TASKS
from tests.beam_pipelines.conftest import EXPRESSIONS, Built, read, run, sample_rows, shard_hashes, write_rows


@pytest.fixture(scope="module")
def faces(built: Built) -> list[FaceRecord]:
    return read(built.folder, schema.FACES_GLOB, FaceRecord)


@pytest.fixture(scope="module")
def pairs(built: Built) -> list[PairRecord]:
    return read(built.folder, schema.PAIRS_GLOB, PairRecord)


@pytest.fixture(scope="module")
def dataset(built: Built) -> dict:
    return json.loads((built.folder / "dataset.json").read_text())


def kept_rows(samples: Path) -> dict[str, dict[str, str]]:
    """The rows that unanimous review keeps."""
    return {
        row["video"]: row
        for row in sample_rows(samples)
        if {row[f"reviewer_{n}"] for n in (1, 2, 3)} == {row["expression"]}
    }


def test_the_build_ends_well_and_leaves_nothing_but_final_names(built: Built) -> None:
    assert built.code == 0
    names = sorted(path.name for path in built.folder.iterdir())
    assert names == ["dataset.json", "leaks.jsonl", "pairs", "records", "rejected.jsonl", "report.html"]
    assert [path.name for path in sorted((built.folder / "records").iterdir())] == [
        f"faces-{shard:05d}-of-00003.tfrecord" for shard in range(3)
    ]


def test_every_kept_clip_gives_its_keyframes_with_the_labels_of_its_row(
    built: Built, faces: list[FaceRecord], samples: Path
) -> None:
    rows = kept_rows(samples)
    listed = [json.loads(line) for line in (built.folder / "rejected.jsonl").read_text().splitlines()]
    left_out = [line for line in listed if line["reason"] in ("no_face", "landmarks_off")]
    # Of this face dlib draws the jaw across the cheek.
    assert ("take_1/P003/happy/half_right.mp4", 9) in {(line["clip"], line["frame"]) for line in left_out}
    per_clip = Counter(face.clip_id for face in faces)
    per_clip.update(line["clip"] for line in left_out)
    assert per_clip == dict.fromkeys(rows, 2)
    for face in faces:
        row = rows[face.clip_id]
        assert (face.person, face.expression, face.pose) == (row["person"], row["expression"], row["pose"])
        assert (face.gender, face.age) == (row["gender"], int(row["age"]))
        assert face.image_id == f"{face.clip_id}#{face.frame:06d}"
        assert face.time == pytest.approx(face.frame / 25, abs=1e-3)


def test_a_record_holds_a_face_and_the_mask_of_its_points(faces: list[FaceRecord]) -> None:
    for face in faces[::7]:
        image = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_UNCHANGED)
        mask = cv2.imdecode(np.frombuffer(face.mask, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (256, 256, 3) and mask.shape == (256, 256)
        assert (face.height, face.width, face.landmarks.shape) == (256, 256, (68, 2))
        inside = face.landmarks[((face.landmarks >= 1) & (face.landmarks <= 254)).all(1)].round().astype(int)
        near = cv2.dilate(mask, np.ones((5, 5), np.uint8))
        assert (near[inside[:, 1], inside[:, 0]] > 0).mean() > 0.95
        assert ExtractorOptions.min_score <= face.score <= 1


def test_ids_and_vocabularies_agree_with_dataset_json(faces: list[FaceRecord], dataset: dict) -> None:
    assert dataset["expressions"] == sorted(EXPRESSIONS)
    assert dataset["poses"] == ["front", "half_left", "half_right", "bird_view"]
    for face in faces:
        assert dataset["expressions"][face.expression_id] == face.expression
        assert dataset["poses"][face.pose_id] == face.pose
    assert dataset["persons"] == sorted({face.person for face in faces})
    assert dataset["records"]["examples"] == len(faces) == dataset["counts"]["faces"]
    for task in TASKS:
        counts = Counter(getattr(face, task) for face in faces)
        assert {part: dataset["tasks"][task][part] for part in ("train", "val", "test")} == {
            part: counts[part] for part in ("train", "val", "test")
        }
    assert (dataset["landmark_model"], dataset["detector"]) == (faces[0].landmark_model, faces[0].detector)


def test_splits_hold_the_quotas_of_section_4_1(faces: list[FaceRecord], dataset: dict) -> None:
    count = len(faces)
    sizes = Counter(face.er_ss for face in faces)
    assert sizes["train"] == round(count * 175_000 / 219_719) and sizes["test"] == round(count * 25_000 / 219_719)
    (rare,) = dataset["tasks"]["er_ue"]["rare_expressions"]
    of_rare = Counter(face.er_ue for face in faces if face.expression == rare)
    assert of_rare == {"test": sum(of_rare.values()) * 9 // 10, "train": -(-sum(of_rare.values()) // 10)}
    half_left = Counter(face.er_up for face in faces if face.pose == "half_left")
    assert half_left["test"] == sum(half_left.values()) * 9 // 10 and half_left["val"] == 0
    assert {face.pose for face in faces if face.er_up == "test"} == {"half_left"}
    persons = {part: {face.person for face in faces if face.er_zid == part} for part in ("train", "val", "test")}
    assert [len(persons[part]) for part in ("train", "val", "test")] == [2, 1, 1]
    assert len(set.union(*persons.values())) == 4


def test_a_clips_faces_lie_in_the_shard_of_its_hash_in_order(built: Built) -> None:
    import tensorflow as tf

    for shard in range(3):
        path = built.folder / schema.FACES_PATTERN.format(shard=shard, shards=3)
        ids = [schema.decode(raw).image_id for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
        assert ids == sorted(ids)
        assert all(stable_hash(name.split("#")[0]) % 3 == shard for name in ids)


def test_pairs_are_the_nearest_frames_of_other_poses_filmed_together(
    faces: list[FaceRecord], pairs: list[PairRecord]
) -> None:
    by_id = {face.image_id: face for face in faces}
    for pair in pairs:
        source, target = by_id[pair.source_id], by_id[pair.target_id]
        assert (source.person, source.expression) == (target.person, target.expression)
        assert source.pose != target.pose
        assert (pair.source, pair.target, pair.target_mask) == (source.image, target.image, target.mask)
        np.testing.assert_array_equal(pair.source_landmarks, source.landmarks)
        rivals = [face for face in faces if face.clip_group == source.clip_group and face.pose == target.pose]
        gap = abs(target.time - source.time)
        assert gap == pytest.approx(min(abs(face.time - source.time) for face in rivals), abs=1e-5)
        assert pair.same_moment == (gap <= 0.06)
        for task in TASKS:
            tags = {getattr(source, task), getattr(target, task)}
            assert getattr(pair, task) == (tags.pop() if len(tags) == 1 else "")


def test_every_face_with_another_pose_beside_it_gets_up_to_two_pairs(
    faces: list[FaceRecord], pairs: list[PairRecord]
) -> None:
    found = Counter(pair.source_id for pair in pairs)
    for face in faces:
        poses = {other.pose for other in faces if other.clip_group == face.clip_group} - {face.pose}
        assert found[face.image_id] == min(len(poses), 2)


def test_the_fingerprint_is_that_of_the_set_of_records(built: Built, dataset: dict) -> None:
    import tensorflow as tf

    paths = [str(path) for path in (built.folder / "records").iterdir()]
    digests = [hashlib.sha256(raw).digest() for raw in tf.data.TFRecordDataset(paths).as_numpy_iterator()]
    total = sum(int.from_bytes(digest, "little") for digest in digests) % 2**256
    assert dataset["fingerprint"] == hashlib.sha256(f"{total:064x}/{len(digests)}".encode()).hexdigest()


def test_leaks_counted_are_those_that_a_plain_loop_finds(faces: list[FaceRecord], dataset: dict, built: Built) -> None:
    for task in TASKS:
        for kind, field in (("persons", "person"), ("clips", "clip_id"), ("moments", "clip_group")):
            parts: dict[str, set] = {}
            for face in faces:
                parts.setdefault(getattr(face, field), set()).add(getattr(face, task))
            assert dataset["leaks"][task][kind] == sum(len(part) > 1 for part in parts.values()), (task, kind)
    assert dataset["leaks"]["er_zid"]["persons"] == 0
    assert dataset["leaks"]["er_ss/person"]["persons"] == dataset["leaks"]["er_ss/clip"]["clips"] == 0
    lines = [json.loads(line) for line in (built.folder / "leaks.jsonl").read_text().splitlines()]
    listed = Counter((line["split"], line["shared"]) for line in lines)
    assert listed["er_ss", "clip"] == dataset["leaks"]["er_ss"]["clips"]


def test_the_report_names_every_part_and_needs_no_other_file(built: Built, dataset: dict) -> None:
    page = (built.folder / "report.html").read_text()
    for words in ("Table 1", "Fig. 2", "Fig. 3(b)", "masks", "What was left out", "ER-SS by image, clip or person"):
        assert words in page
    assert f"<b>{dataset['counts']['faces']}</b>" in page
    assert page.count("data:image/jpeg") == len(EXPRESSIONS) * 4
    assert 'src="http' not in page and "<link" not in page and "<script" not in page


def test_the_report_says_how_the_reviewers_agree_on_kept_and_on_dropped_clips(
    built: Built, dataset: dict, samples: Path
) -> None:
    votes = [[row[f"reviewer_{number}"] for number in (1, 2, 3)] for row in sample_rows(samples)]
    found = dataset["agreement"]
    assert found["reviewers"] == ["reviewer_1", "reviewer_2", "reviewer_3"] and found["by_all"] == len(votes)
    assert found["kept"]["unanimous"] == dataset["counts"]["clips_kept"] < len(votes)
    assert found["pairs"][0]["same"] == sum(first == second for first, second, _ in votes)
    page = (built.folder / "report.html").read_text()
    for words in (
        "How the reviewers agree",
        "Krippendorff",
        f"{found['fleiss_kappa']['value']:.3f}",
        "Dawid and Skene",
    ):
        assert words in page


def test_shuffled_annotations_give_the_same_bytes(built: Built, tmp_path: Path, samples: Path) -> None:
    rows = sample_rows(samples)
    random.Random(1).shuffle(rows)
    shuffled = write_rows(tmp_path / "shuffled.csv", rows)
    assert run(shuffled, built.root, tmp_path / "out", f"--extracted={built.extracted}") == 0
    assert shard_hashes(tmp_path / "out") == shard_hashes(built.folder)


def test_another_seed_tags_anew_without_detecting(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: list[FaceRecord]
) -> None:
    def detect(*_: object) -> None:
        raise AssertionError("a finished clip was detected again")

    monkeypatch.setattr(FaceExtractor, "__init__", detect)
    flags = ("--seed=5", "--er_ss_unit=person", "--num_shards=2", "--landmark_files", f"--extracted={built.extracted}")
    assert run(built.annotations, built.root, tmp_path, *flags) == 0
    others = {face.image_id: face for face in read(tmp_path, schema.FACES_GLOB, FaceRecord)}
    assert others.keys() == {face.image_id for face in faces}
    assert all(others[face.image_id].image == face.image for face in faces)
    assert any(others[face.image_id].er_ss != face.er_ss for face in faces)
    parts: dict[str, set] = {}
    for face in others.values():
        parts.setdefault(face.person, set()).add(face.er_ss)
    assert all(len(part) == 1 for part in parts.values())
    face = faces[0]
    lines = (tmp_path / "landmarks" / f"{face.clip_id}.txt").read_text().splitlines()
    _, *points = next(line.split() for line in lines if line.startswith(f"{face.frame} "))
    np.testing.assert_allclose(np.array(points, float).reshape(68, 2), face.landmarks, atol=0.006)


def test_with_majority_review_the_outvoted_clips_come_back(built: Built, tmp_path: Path, samples: Path) -> None:
    rows = [row for row in sample_rows(samples) if row["person"] == "P003"]
    assert any(row["video"] not in kept_rows(samples) for row in rows)
    path = write_rows(tmp_path / "a.csv", rows)
    flags = ("--review=majority", f"--extracted={built.extracted}", "--pairs_per_image=0")
    assert run(path, built.root, tmp_path / "out", *flags) == 0
    assert json.loads((tmp_path / "out/dataset.json").read_text())["counts"]["clips_kept"] == len(rows)


def test_direct_runner_is_the_python_runner_whatever_else_is_there() -> None:
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    assert isinstance(runner.pipeline("DirectRunner", []).runner, FnApiRunner)


def test_a_misspelled_flag_is_refused_and_not_passed_over() -> None:
    with pytest.raises(InputError, match="unknown flag `--max_keyframe`"):
        runner.pipeline("DirectRunner", ["--direct_num_workers=2", "--max_keyframe=3"])
    runner.pipeline("DirectRunner", ["--direct_num_workers=2", "--direct_running_mode=multi_processing"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--runner=FlinkRuner"],
            "`runner` 'FlinkRuner' cannot be used: Unexpected pipeline runner: FlinkRuner. Valid",
        ),
        (["--runner=no.such.Runner"], "`runner` 'no.such.Runner' cannot be used: No module named 'no'."),
        (["--runner=os.Runner"], "`runner` 'os.Runner' cannot be used: module 'os' has no attribute 'Runner'."),
        (["--max_keyframe=3"], "unknown flag `--max_keyframe`"),
    ],
)
def test_a_runner_that_is_none_and_a_misspelled_flag_are_told_before_anything_is_read(
    flags: list[str], words: str, capsys: pytest.CaptureFixture
) -> None:
    for command in (build, predict, synthesize):
        assert run_command(command.main, flags) == EXIT_USAGE
        error = capsys.readouterr().err
        assert f"error: {words}" in error and "Traceback" not in error


def test_without_arguments_the_samples_go_to_data_faces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    job = build.Build(build.BuildConfig(), [])
    assert job.output == str(tmp_path / "data/faces")
    with open(job.annotations, newline="") as file:
        assert len(list(csv.DictReader(file))) == 144


def test_a_draw_with_the_builds_seed_gives_its_tags(built: Built, faces: list[FaceRecord], tmp_path: Path) -> None:
    drawn = draws.draw(DataFolder(str(built.folder)), str(tmp_path / "draw"), 0)
    for task in ("er_ss", "er_ue", "er_zid"):
        assert drawn.tags(task) == {face.image_id: getattr(face, task) for face in faces}


def test_workers_in_another_folder_find_the_predictor(
    workers_elsewhere: Path, samples: Path, other_predictor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workers_elsewhere / "own.dat").symlink_to(other_predictor)
    given: list[str] = []

    def extract_faces(*args: Any) -> None:
        given.append(args[-1].landmark_model)
        raise InputError("enough")

    monkeypatch.setattr(build.extract, "ExtractFaces", extract_faces)
    with pytest.raises(InputError, match="enough"):
        build.main([f"--videos_root={samples}", "--output=out", "--landmark_model=own.dat"])
    assert given == [str(workers_elsewhere / "own.dat")]
