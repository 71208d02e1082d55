"""The stage that synthesizes faces: balanced, marked, checked, resumable."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from fer_tf.config import of, replace
from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.errors import InputError
from fer_tf.faces.landmarks import packaged_model
from fer_tf.models import fape_gan
from fer_tf.synthesis import shards
from tests.fer_tf.data.test_inputs import update
from trainer import fa_net, synthesize
from trainer.config import TaskConfig

# Anything that an untrained generator draws passes but for the detector, which never sees a face in it.
EVERYTHING = {"max_identity_distance": 100.0, "max_landmark_error": 100.0}


def config_of(data: str, run_dir: Path, **changes: Any) -> TaskConfig:
    options = {"stage": "synthesize", "synthetic_ratio": 0.25, **EVERYTHING, **changes}
    return of(TaskConfig, data=data, run_dir=str(run_dir), **options)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder whose FaPE-GAN has just been born."""
    spec = fape_gan.spec_of("paper", 16, 4)
    fape_gan.save_generator(str(tmp_path / "fape_gan"), fape_gan.generator(spec), spec)
    (tmp_path / "fape_gan" / "FINISHED").touch()
    return tmp_path


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
    assert len(made) > 12
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
    counts = plan["counts"]
    assert (counts["real"], counts["planned"]) == (96, 24) and counts["rejected"].keys() == {"no_face"}
    # A spare face is made for each that is rejected, while its cell has some.
    assert 12 < counts["kept"] <= 24 < counts["made"] == counts["kept"] + counts["rejected"]["no_face"]
    assert plan["options"]["ratio"] == 0.25
    assert sum(plan["cells"]["planned"].values()) == 24
    rejected = [json.loads(line) for line in (run_dir / "synthetic" / "rejected.jsonl").read_text().splitlines()]
    assert Counter(line["reason"] for line in rejected) == counts["rejected"]
    assert {"source_id", "target_id", "landmark_error", "identity_distance"} <= rejected[0].keys()


def test_fa_net_trains_on_real_and_synthetic_faces(toy_data: str, run_dir: Path, sees_faces: None) -> None:
    synthesize.run(config_of(toy_data, run_dir))
    real, both = (fa_net.read_faces(config_of(toy_data, run_dir, synthetic=wanted)) for wanted in (False, True))
    kept = json.loads((run_dir / "synthetic" / "plan.json").read_text())["counts"]["kept"]
    assert len(both.parts["train"]) == len(real.parts["train"]) + kept > 96
    for split in ("val", "test"):
        assert both.parts[split].image_ids.tolist() == real.parts[split].image_ids.tolist()


def test_when_all_are_rejected_the_run_says_so_and_goes_on(
    toy_data: str, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.1))
    assert "all 20 synthetic faces were rejected" in caplog.text
    assert records(run_dir) == []


def test_an_interrupted_run_goes_on_at_the_next_shard(
    toy_data: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch, sees_faces: None
) -> None:
    monkeypatch.setattr(shards, "SHARD_FACES", 10)
    config, write = config_of(toy_data, run_dir), shards.write_shard
    started: list[int] = []

    def stop_at_the_last(folder: str, shard: int, *rest: Any) -> None:
        started.append(shard)
        if started == [0, 1, 2]:
            raise KeyboardInterrupt
        write(folder, shard, *rest)

    monkeypatch.setattr(shards, "write_shard", stop_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        synthesize.run(config)
    with pytest.raises(InputError, match=r"are not finished; run trainer\.task --stage=synthesize to its end"):
        fa_net.read_faces(config)
    written = sorted((run_dir / "synthetic" / "records").glob("*.tfrecord"))
    before = [path.stat().st_mtime_ns for path in written]
    assert len(written) == 2
    assert not (run_dir / "synthetic" / "plan.json").exists()
    synthesize.run(config)
    assert [path.stat().st_mtime_ns for path in written] == before
    assert json.loads((run_dir / "synthetic" / "plan.json").read_text())["counts"]["planned"] == 24
    # Finished: a third call does not even load the generator.
    monkeypatch.setattr(shards.Job, "maker", None)
    synthesize.run(config)


def test_faces_of_another_ratio_are_not_mixed_in(toy_data: str, run_dir: Path) -> None:
    synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.05))
    with pytest.raises(InputError, match=r"was made with ratio 0\.05\. Received: 1\.0"):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=1.0))
    with pytest.raises(InputError, match="has faces; remove it"):
        synthesize.run(config_of(toy_data, run_dir, synthetic_ratio=0.0))


def test_faces_of_a_gan_that_has_not_ended_its_training_are_not_made(toy_data: str, run_dir: Path) -> None:
    (run_dir / "fape_gan" / "FINISHED").unlink()
    with pytest.raises(InputError, match=r"is not trained to its end; run trainer\.task --stage=fape_gan first"):
        synthesize.run(config_of(toy_data, run_dir))
    assert not (run_dir / "synthetic").exists()


def test_faces_of_earlier_weights_or_of_another_split_are_neither_finished_nor_trained_on(
    toy_data: str, run_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = config_of(toy_data, run_dir, synthetic_ratio=0.05)
    synthesize.run(config)
    built_anew = shutil.copytree(toy_data, tmp_path_factory.mktemp("other") / "data")
    update(built_anew, fingerprint="another split")
    with pytest.raises(InputError, match=r"was made with data_fingerprint 'toy.*Received: 'another split'"):
        synthesize.run(replace(config, data=str(built_anew)))
    spec = fape_gan.spec_of("paper", 16, 4)
    fape_gan.save_generator(str(run_dir / "fape_gan"), fape_gan.generator(spec, seed=9), spec)
    with pytest.raises(InputError, match=r"was made with gan '.*Remove that folder and the Fa-Net trained on it"):
        synthesize.run(config)
    with pytest.raises(InputError, match="were made with other weights than FaPE-GAN has now"):
        fa_net.read_faces(config)


def test_faces_that_an_earlier_version_made_are_taken_unless_their_gan_ended_later(
    toy_data: str, run_dir: Path
) -> None:
    config = config_of(toy_data, run_dir, synthetic_ratio=0.05)
    synthesize.run(config)
    for name in ("plan.json", "parts/options.json"):
        path = run_dir / "synthetic" / name
        written = json.loads(path.read_text())
        for key in ("gan", "data_fingerprint"):
            written.get("options", written).pop(key)
        path.write_text(json.dumps(written))
    synthesize.run(config)
    assert len(fa_net.read_faces(config).parts["train"]) == 96
    later = (run_dir / "synthetic" / "plan.json").stat().st_mtime + 60
    os.utime(run_dir / "fape_gan" / "FINISHED", (later, later))
    for stage in (synthesize.run, fa_net.read_faces):
        with pytest.raises(InputError, match="are older than the end of their FaPE-GAN's training; remove"):
            stage(config)


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
