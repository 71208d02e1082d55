"""The stage that trains FaPE-GAN: its folder, its resume, and how it stops."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf import files
from fer_tf.config import of, replace
from fer_tf.data.inputs import read_records
from fer_tf.data.schema import PairRecord
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage, losses
from fer_tf.models.fape_gan import FapeGan, load_generator
from fer_tf.reports import report
from fer_tf.runs import find_gans, find_runs
from tests import programs
from tests.fer_tf.data.test_pairs import rewritten
from trainer import fape_gan, runtime, task
from trainer.config import GanOptions, TaskConfig
from trainer.gan_monitor import Monitor


def config_of(data: str, run_dir: Path, **changes: Any) -> TaskConfig:
    small = {
        "gan_epochs": 1,
        "gan_image_size": 16,
        "gan_channels": 4,
        "gan_batch_size": 32,
        "gan_quality_pairs": 4,
        "gan_final_pairs": 0,
        "precision": "float32",
        "stage": "fape_gan",
        "gan_recipe": "paper",
    }
    return of(TaskConfig, data=data, run_dir=str(run_dir), **{**small, **changes})


@pytest.fixture(scope="module")
def finished(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two short epochs."""
    run_dir = tmp_path_factory.mktemp("gan") / "run"
    flags = ["--task=er_up", "--stage=fape_gan", f"--data={toy_data}", f"--run_dir={run_dir}", "--gan_epochs=2"]
    flags += ["--gan_image_size=16", "--gan_channels=4", "--gan_batch_size=32", "--gan_quality_pairs=4"]
    flags += ["--gan_recipe=paper", "--gan_final_pairs=8"]
    assert task.main([*flags, "--precision=float32"]) == 0
    return run_dir / "fape_gan"


def test_a_finished_run_tells_its_story(finished: Path) -> None:
    assert [(one.task, one.faces) for one in lineage.read(str(finished))] == [("er_up", 96)]
    history = json.loads((finished / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [0, 1]
    wanted = {"generator_loss", "generator_l1", "discriminator_loss", "discriminator_accuracy", "held_out_l1"}
    wanted |= {"held_out_ssim", "held_out_landmark_error", "held_out_identity_kept", "held_out_face_found"}
    assert wanted <= set(history[0])
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["survey"]["splits"]["train"] == 288
    held_out = metrics["held_out"]
    assert held_out["pairs"] == 8
    assert held_out["real_targets"]["held_out_l1"] == 0 < held_out["generated"]["held_out_l1"]
    _, spec = load_generator(str(finished))
    assert (spec.image_size, spec.base_channels, spec.recipe) == (16, 4, "paper")


def test_each_epoch_draws_source_mask_generated_and_target(finished: Path) -> None:
    pictures = sorted(path.name for path in (finished / "samples").glob("*.png"))
    assert pictures == ["epoch-0001.png", "epoch-0002.png"]
    first, second = (tf.io.decode_png((finished / "samples" / name).read_bytes()).numpy() for name in pictures)
    assert first.shape == (4 * 16, 4 * 16, 3)
    columns = [np.array_equal(first[:, x : x + 16], second[:, x : x + 16]) for x in range(0, 64, 16)]
    # The same pairs each time: only what is generated changes.
    assert columns == [True, True, False, True]


def test_tensorboard_has_the_losses_and_the_pictures(finished: Path) -> None:
    events = next((finished.parent / "tensorboard" / "fape_gan").glob("events.*"))
    tags = {
        value.tag
        for raw in tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
        for value in tf.compat.v1.Event.FromString(raw).summary.value
    }
    assert {"train/generator_loss", "train/discriminator_accuracy", "held_out/identity_kept"} <= tags
    assert any(tag.startswith("held_out/source_mask_generated_target") for tag in tags)


def test_a_report_takes_a_generators_measurements_for_no_run(finished: Path, toy_data: str, tmp_path: Path) -> None:
    # As below `--task=all`, whose generators stand in folders of their own, and in a run before its Fa-Net is judged.
    assert (finished / "metrics.json").exists()
    assert find_runs(str(finished.parent)) == []
    assert [run.name for run in find_gans(str(finished.parent.parent))] == ["run"]
    flags = [f"--runs={finished.parent.parent}", f"--data={toy_data}", "--max_faces=8"]
    assert report.main([*flags, f"--output={tmp_path}/report"]) == 0
    assert "Table 5" in (tmp_path / "report" / "report.html").read_text()


def test_a_finished_stage_is_skipped(finished: Path, toy_data: str) -> None:
    before = (finished / "generator.weights.h5").stat().st_mtime_ns
    fape_gan.run(config_of(toy_data, finished.parent, task="er_up", gan_epochs=2))
    assert (finished / "generator.weights.h5").stat().st_mtime_ns == before


RUN = """
import os, signal, sys
import trainer.fape_gan as stage
from trainer import task
kill_at, run_dir = int(sys.argv[1]), sys.argv[2]
save = stage._Trainer.checkpoint
def save_and_die(self, step):
    save(self, step)
    if (int(self.epoch.numpy()), step) == (1, kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
stage._Trainer.checkpoint = save_and_die
flags = ["--task=er_ss", "--stage=fape_gan", "--data={data}", "--gan_epochs=2", "--gan_image_size=16"]
flags += ["--gan_channels=4", "--gan_batch_size=32", "--gan_quality_pairs=0", "--gan_final_pairs=0"]
# The comparing Fa-Net does not learn, and takes long to trace.
flags += ["--gan_checkpoint_steps=4", "--gan_face_net=none"]
flags += ["--gan_recipe=best", "--deterministic", "--precision=float32"]
code = task.main([*flags, "--run_dir=" + run_dir])
if len(sys.argv) > 3:
    code += task.main([*flags, "--run_dir=" + sys.argv[3]])
sys.exit(code)
"""


def test_a_run_killed_with_signal_9_ends_with_the_weights_of_one_that_was_not(toy_data: str, tmp_path: Path) -> None:
    script = RUN.format(data=toy_data)
    killed, whole = str(tmp_path / "killed"), str(tmp_path / "whole")

    # 9 steps an epoch: it dies in the second one, after step 4, and goes on there; then one runs uninterrupted.
    assert programs.run(script, "4", killed).returncode == -signal.SIGKILL
    assert not os.path.exists(f"{killed}/fape_gan/FINISHED")
    assert programs.run(script, "-1", killed, whole).returncode == 0
    log = Path(killed, "log.txt").read_text()
    assert "goes on at epoch 1, step 4" in log
    assert _variables(killed).keys() == _variables(whole).keys()
    for name, value in _variables(whole).items():
        np.testing.assert_array_equal(_variables(killed)[name], value, err_msg=name)
    # The epoch that went on has the means of all of its steps.
    assert files.read_json(f"{killed}/fape_gan/history.json") == files.read_json(f"{whole}/fape_gan/history.json")


def test_an_epoch_that_stopped_after_its_last_step_has_its_means_and_older_checkpoints_go_on(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(toy_data, tmp_path / "run", gan_quality_pairs=0, gan_checkpoint_steps=9, gan_face_net="none")
    gan = fape_gan.build(config.gan, 0)
    gan.compile()

    def trainer() -> fape_gan._Trainer:
        return fape_gan._Trainer(config, gan, None, 9, Monitor(config.folder, None), config.folder.gan)  # type: ignore

    for value, tracker in enumerate(gan.trackers.values()):
        tracker.total.assign(6.0 * value)
        tracker.count.assign(4.0)
    trainer().checkpoint(9)
    gan.reset_metrics()
    assert trainer()._one_epoch(0) == {name: 1.5 * value for value, name in enumerate(gan.trackers)}
    trainer().continue_means()
    assert [float(tracker.result()) for tracker in gan.trackers.values()] == [1.5 * value for value in range(5)]

    # As version 0.1 wrote them.
    config, whole = replace(config, run_dir=str(tmp_path / "older")), tf.train.Checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(tf.train, "Checkpoint", lambda sums=None, **parts: whole(**parts))
        trainer().checkpoint(7)
    names = tf.train.load_checkpoint(config.folder.gan.checkpoints).get_variable_to_shape_map()
    assert not any(name.startswith("sums") for name in names)
    older = trainer()
    assert int(older.step.numpy()) == 7 and not older._sums.numpy().any()
    older.checkpoint(8)
    assert int(trainer().step.numpy()) == 8


def _variables(run_dir: str) -> dict[str, np.ndarray]:
    """All that the last checkpoint holds: networks, both optimizers, the average, epoch and step."""
    reader = tf.train.load_checkpoint(f"{run_dir}/fape_gan/checkpoints")
    names = [
        name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "save_counter" not in name
    ]
    # The networks' weights stand under their optimizers, which hold them too.
    wanted = {"generator_optimizer", "discriminator_optimizer", "average", "epoch", "step", "sums"}
    assert wanted <= {name.split("/")[0] for name in names}
    return {name: reader.get_tensor(name) for name in names}


def test_a_loss_that_becomes_nan_stops_the_run_with_the_step(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = losses.l1
    # 0 / 0 from the first step on; what it would have saved must not exist.
    monkeypatch.setattr(losses, "l1", lambda target, generated: real(target, generated) * tf.constant(np.nan))
    with pytest.raises(runtime.TrainingFailed, match=r"generator_l1.* became nan or infinite at step 1 of epoch 1"):
        fape_gan.run(config_of(toy_data, tmp_path / "run"))
    assert not (tmp_path / "run" / "fape_gan" / "checkpoints").exists()


def test_a_generator_that_gives_one_face_for_all_is_called_collapsed(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(self: FapeGan) -> keras.Model:
        source, mask = keras.Input((16, 16, 3)), keras.Input((16, 16, 1))
        return keras.Model([source, mask], keras.ops.zeros_like(source) * source * mask)

    monkeypatch.setattr(FapeGan, "averaged_generator", constant)
    monkeypatch.setattr(Monitor, "_draw", lambda *_: None)
    monkeypatch.setattr(fape_gan._Trainer, "_one_epoch", lambda *_: {})
    # The second time the last epoch is already in the checkpoint.
    for _ in range(2):
        with pytest.raises(runtime.TrainingFailed, match=r"collapsed: for 3 epochs .* 0\.0%"):
            fape_gan.run(config_of(toy_data, tmp_path / "run", gan_epochs=3))
        assert not (tmp_path / "run" / "fape_gan" / "FINISHED").exists()


def test_a_full_disk_is_named_and_the_same_command_finishes_once_there_is_space(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fape_gan._Trainer, "_one_epoch", lambda *_: {})
    config = config_of(toy_data, tmp_path / "run", gan_quality_pairs=0)
    with monkeypatch.context() as patched:
        patched.setattr(fape_gan, "save_generator", full)
        with pytest.raises(files.CannotWrite, match=r"cannot write to .*fape_gan: .*No space left.*free some"):
            fape_gan.run(config)
    assert not (tmp_path / "run" / "fape_gan" / "FINISHED").exists()
    fape_gan.run(config)
    assert (tmp_path / "run" / "fape_gan" / "FINISHED").exists()


def test_the_network_to_begin_with_gives_the_frechet_distance(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fape_gan._Trainer, "_one_epoch", lambda *_: {})
    few = {"gan_quality_pairs": 0, "gan_final_pairs": 4}
    fape_gan.run(config_of(toy_data, tmp_path / "with", init_from="pretrained", **few))
    fape_gan.run(config_of(toy_data, tmp_path / "without", **few))
    found = [
        json.loads((tmp_path / name / "fape_gan" / "metrics.json").read_text())["held_out"]["generated"]
        for name in ("with", "without")
    ]
    assert found[0]["held_out_frechet"] > 0 and "held_out_frechet" not in found[1]


def test_the_network_that_compares_faces_has_not_seen_the_tested_ones(toy_data: str, tmp_path: Path) -> None:
    faces = read_records(toy_data, "er_ss")
    spec = fa_net.FaNetSpec(faces.expressions, task="er_ss", data_fingerprint=faces.fingerprint)
    fa_net.save_spec(str(tmp_path / "net"), spec)
    with pytest.raises(InputError, match=r"`gan_face_net` .* on this data for the task 'er_ss', whose training part"):
        fape_gan.run(config_of(toy_data, tmp_path / "run", task="er_zid", gan_face_net=str(tmp_path / "net")))
    assert not (tmp_path / "run" / "fape_gan").exists()


def test_dlibs_descriptor_compares_faces_as_it_was_published_and_leaves_no_lineage(
    toy_data: str, tmp_path: Path
) -> None:
    flags = {"gan_face_net": "dlib", "gan_face_weight": 4.0, "gan_batch_size": 96, "gan_quality_pairs": 0}
    fape_gan.run(config_of(toy_data, tmp_path / "run", **flags))
    entry = json.loads((tmp_path / "run" / "fape_gan" / "history.json").read_text())[-1]
    # What is left of the loss when the paper's two terms are taken off.
    distance = (entry["generator_loss"] - 10 * entry["generator_l1"] - entry["generator_adversarial"]) / 4
    assert 0.05 < distance < 2
    assert [one.task for one in lineage.read(str(tmp_path / "run" / "fape_gan"))] == ["er_ss"]


def test_a_run_folder_may_lie_on_another_filesystem(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fape_gan._Trainer, "_one_epoch", lambda *_: {})
    run_dir = "ram://fape_gan_runs/er_ss"
    config = config_of(toy_data, tmp_path, gan_epochs=2)
    fape_gan.run(replace(config, run_dir=run_dir, gan_epochs=1))
    for name in ("FINISHED", "history.json", "metrics.json", "samples/epoch-0001.png"):
        assert tf.io.gfile.exists(f"{run_dir}/fape_gan/{name}")
    assert load_generator(f"{run_dir}/fape_gan")[1].image_size == 16
    # It goes on there too.
    tf.io.gfile.remove(f"{run_dir}/fape_gan/FINISHED")
    fape_gan.run(replace(config, run_dir=run_dir))
    assert [entry["epoch"] for entry in files.read_json(f"{run_dir}/fape_gan/history.json")] == [0, 1]


def test_pairs_without_masks_stop_the_stage_before_it_trains(toy_data: str, tmp_path: Path) -> None:
    data = rewritten(toy_data, tmp_path, lambda record: dataclasses.replace(record, target_mask=b""))
    with pytest.raises(InputError, match="no target mask"):
        fape_gan.run(config_of(data, tmp_path / "run"))


def test_an_empty_pair_set_is_one_clear_line(toy_data: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = rewritten(toy_data, tmp_path, lambda record: dataclasses.replace(record, er_ss="test"))
    with pytest.raises(InputError, match="no training pair for task 'er_ss'"):
        fape_gan.run(config_of(data, tmp_path / "run"))


def test_a_batch_larger_than_the_pairs_is_named(toy_data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`gan_batch_size` 512 is more than the 288 training pairs"):
        fape_gan.run(config_of(toy_data, tmp_path / "run", gan_batch_size=512))


def test_a_pose_with_one_image_is_warned_of_and_trained(
    toy_data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen: list[str] = []

    def change(record: PairRecord) -> PairRecord | None:
        if record.er_ss != "train":
            return None
        if record.target_pose != "bird_view":
            return record
        chosen.append(record.target_id)
        return record if record.target_id == chosen[0] else None

    data = rewritten(toy_data, tmp_path, change)
    with caplog.at_level(logging.WARNING):
        fape_gan.run(config_of(data, tmp_path / "run"))
    assert "pose bird_view has 1 training image" in caplog.text
    # This data has no validation pair either.
    assert "no held-out pairs" in caplog.text
    assert (tmp_path / "run" / "fape_gan" / "FINISHED").exists()


def test_no_gan_is_trained_when_no_synthetic_faces_are_wanted(toy_data: str, tmp_path: Path) -> None:
    fape_gan.run(config_of(toy_data, tmp_path / "run", stage="all", synthetic_ratio=0.0))
    assert not (tmp_path / "run" / "fape_gan").exists()


def test_the_paper_recipe_trains_a_hundred_epochs() -> None:
    assert fape_gan.schedule_of(GanOptions(recipe="paper")).epochs == 100
    assert fape_gan.schedule_of(GanOptions(recipe="paper", epochs=7)).epochs == 7
