"""The stage that synthesizes faces: balanced, marked, checked, resumable."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from fer_tf.data import inputs, schema
from fer_tf.data.folder import DataFolder
from fer_tf.data.schema import FaceRecord
from fer_tf.errors import InputError
from fer_tf.evaluation import synthesis
from fer_tf.faces.landmarks import packaged_model
from fer_tf.models import fape_gan
from trainer import synthesize
from trainer.config import TaskConfig

# Anything that an untrained generator draws passes but for the detector, which never sees a face in it.
EVERYTHING = {"max_identity_distance": 100.0, "max_landmark_error": 100.0}


def config_of(data: str, run_dir: Path, **changes: Any) -> TaskConfig:
    options = {"stage": "synthesize", "synthetic_ratio": 0.25, **EVERYTHING, **changes}
    return TaskConfig(data=data, run_dir=str(run_dir), **options)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder whose FaPE-GAN has just been born."""
    spec = fape_gan.spec_of("paper", 16, 4)
    fape_gan.save_generator(str(tmp_path / "fape_gan"), fape_gan.generator(spec), spec)
    return tmp_path


@pytest.fixture
def sees_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the detector content with every second face; the other measures stay dlib's."""
    calls = iter(range(10**9))
    monkeypatch.setattr(synthesis.FaceMeter, "finds_face", lambda self, face: next(calls) % 2 == 0)


def records(run_dir: Path) -> list[FaceRecord]:
    paths = sorted(map(str, (run_dir / "synthetic" / "records").glob("*.tfrecord")))
    return [schema.decode(raw) for raw in tf.data.TFRecordDataset(paths).as_numpy_iterator()]


def real_faces(toy_data: str) -> dict[str, FaceRecord]:
    paths = sorted(map(str, Path(toy_data, "records").glob("*.tfrecord")))
    found = (schema.decode(raw) for raw in tf.data.TFRecordDataset(paths).as_numpy_iterator())
    return {record.image_id: record for record in found}


def test_each_face_is_marked_and_comes_from_two_training_images(toy_data: str, run_dir: Path, sees_faces: None) -> None:
    synthesize.run(config_of(toy_data, run_dir, task="er_ue", mirror_targets=False))
    real, made = real_faces(toy_data), records(run_dir)
    assert len(made) == 12
    for record in made:
        source, target = real[record.synthetic_source], real[record.synthetic_target]
        assert record.synthetic == 1
        # A test or validation image must not come in by the back door.
        assert source.er_ue == target.er_ue == record.er_ue == "train"
        assert record.er_ss == record.er_up == record.er_zid == ""
        assert record.expression == source.expression == target.expression
        assert record.person == source.person
        assert record.pose == target.pose != source.pose
        assert cv_shape(record.image) == (256, 256, 3)


def test_masks_of_the_mirrored_pose_are_followed_too(toy_data: str, run_dir: Path, sees_faces: None) -> None:
    synthesize.run(config_of(toy_data, run_dir, task="er_up"))
    real = real_faces(toy_data)
    pose_ids = {record.pose: record.pose_id for record in real.values()}
    mirrored = [record for record in records(run_dir) if ">mirrored " in record.image_id]
    assert mirrored
    for record in mirrored:
        target = real[record.synthetic_target]
        assert target.er_up == "train"
        assert {record.pose, target.pose} in ({"half_left", "half_right"}, {"front"}, {"bird_view"})
        assert record.pose_id == pose_ids[record.pose]
        made, given = (tf.io.decode_png(face.mask).numpy() for face in (record, target))
        assert made.tolist() == given[:, ::-1].tolist()


def cv_shape(encoded: bytes) -> tuple[int, ...]:
    return tuple(tf.io.decode_jpeg(encoded).shape)


def test_rejected_faces_are_counted_by_reason_and_listed(toy_data: str, run_dir: Path, sees_faces: None) -> None:
    synthesize.run(config_of(toy_data, run_dir))
    plan = json.loads((run_dir / "synthetic" / "plan.json").read_text())
    assert plan["counts"] == {"real": 96, "planned": 24, "kept": 12, "rejected": {"no_face": 12}}
    assert plan["options"]["ratio"] == 0.25
    assert sum(plan["cells"]["planned"].values()) == 24
    rejected = [json.loads(line) for line in (run_dir / "synthetic" / "rejected.jsonl").read_text().splitlines()]
    assert Counter(line["reason"] for line in rejected) == {"no_face": 12}
    assert {"source_id", "target_id", "landmark_error", "identity_distance"} <= rejected[0].keys()


def test_fa_net_trains_on_real_and_synthetic_faces(toy_data: str, run_dir: Path, sees_faces: None) -> None:
    synthesize.run(config_of(toy_data, run_dir))
    files = DataFolder(str(run_dir / "synthetic")).face_files
    real, both = inputs.read_records(toy_data, "er_ss"), inputs.read_records(toy_data, "er_ss", files)
    assert len(both.parts["train"]) == len(real.parts["train"]) + 12
    for split in ("val", "test"):
        assert both.parts[split].image_ids.tolist() == real.parts[split].image_ids.tolist()


def test_when_all_are_rejected_the_run_says_so_and_goes_on(
    toy_data: str, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.1))
    assert "all 10 synthetic faces were rejected" in caplog.text
    assert records(run_dir) == []


def test_an_interrupted_run_goes_on_at_the_next_shard(
    toy_data: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch, sees_faces: None
) -> None:
    monkeypatch.setattr(synthesis, "SHARD_FACES", 10)
    config, write = config_of(toy_data, run_dir), synthesis.write_shard
    started: list[int] = []

    def stop_at_the_last(folder: str, shard: int, *rest: Any) -> None:
        started.append(shard)
        if started == [0, 1, 2]:
            raise KeyboardInterrupt
        write(folder, shard, *rest)

    monkeypatch.setattr(synthesis, "write_shard", stop_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        synthesize.run(config)
    shards = sorted((run_dir / "synthetic" / "records").glob("*.tfrecord"))
    before = [path.stat().st_mtime_ns for path in shards]
    assert len(shards) == 2
    assert not (run_dir / "synthetic" / "plan.json").exists()
    synthesize.run(config)
    assert [path.stat().st_mtime_ns for path in shards] == before
    assert json.loads((run_dir / "synthetic" / "plan.json").read_text())["counts"]["planned"] == 24
    # Finished: a third call does not even load the generator.
    monkeypatch.setattr(synthesize, "Synthesizer", None)
    synthesize.run(config)


def test_faces_of_another_ratio_are_not_mixed_in(toy_data: str, run_dir: Path) -> None:
    synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.05))
    with pytest.raises(InputError, match=r"was made with ratio 0\.05\. Received: 1\.0"):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=1.0))
    with pytest.raises(InputError, match="has faces; remove it"):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.0))


def test_faces_are_judged_by_the_predictor_that_is_named(
    toy_data: str, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"`landmark_model` '.*5_face.*' must give 68 points"):
        synthesize.run(config_of(toy_data, run_dir, landmark_model=packaged_model().replace("68", "5")))
    # Drawn data has the points of no predictor; real data of another build would be told in the same words, once.
    synthesize.run(config_of(toy_data, run_dir, landmark_model=packaged_model()))
    assert caplog.text.count("the data's points are by drawn and the synthetic faces' by shape_predictor_68_face") == 1


def test_without_a_trained_gan_the_command_to_run_is_named(toy_data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run trainer\.task --stage=fape_gan first"):
        synthesize.run(config_of(toy_data, tmp_path))


def test_no_faces_are_made_for_ratio_zero(toy_data: str, tmp_path: Path) -> None:
    synthesize.run(config_of(toy_data, tmp_path, synthetic_ratio=0.0))
    assert not (tmp_path / "synthetic").exists()
