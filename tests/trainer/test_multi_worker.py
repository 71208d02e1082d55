"""Several workers: what they read, who writes, that they equal one process, and what a killed one costs."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cluster import workers
from cluster.workers import WorkersConfig
from fer_tf.config import of
from fer_tf.data import inputs, parts, schema
from fer_tf.data.augment import Augmentation
from fer_tf.errors import InputError
from fer_tf.models.fa_net import FaNetSpec
from trainer import runtime, shown
from trainer.config import TaskConfig

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("cluster", "task", "number", "count"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, 1, 2),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "chief", "index": 0}, 0, 3),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "worker", "index": 0}, 1, 3),
        ({}, {}, 0, 1),
    ],
)
def test_tf_config_tells_each_worker_its_number_and_who_is_chief(
    monkeypatch: pytest.MonkeyPatch, cluster: dict, task: dict, number: int, count: int
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert (runtime.worker(), runtime.workers(), runtime.is_chief()) == (number, count, number == 0)


def test_a_stage_that_one_worker_must_do_is_refused_on_several(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TF_CONFIG", workers.tf_configs(2)[0])
    with pytest.raises(InputError, match="`stage` 'evaluate' runs on one worker; TF_CONFIG names 2"):
        runtime.set_up(of(TaskConfig, stage="evaluate", run_dir=str(tmp_path)))


def share(part: inputs.Part, worker: int, count: int) -> np.ndarray:
    """Every image that a worker sees in one epoch, as rows of pixels."""
    batches = inputs.training_batches(
        part,
        4,
        image_size=16,
        channels=1,
        crop=1.0,
        batch_size=8,
        steps_per_epoch=len(part) // 8,
        augmentation=Augmentation(),
        seed=0,
        worker=worker,
        workers=count,
    )
    faces = [faces for faces, _ in batches.take(len(part) // 8).as_numpy_iterator()]
    return np.concatenate(faces).reshape(-1, 256)


def unequal_shards(toy_data: str, folder: Path) -> inputs.Part:
    """Two shards of 40 and 8 real faces and one of 24 synthetic ones, each another noise."""
    rng = np.random.default_rng(0)
    first = next(iter(tf.data.TFRecordDataset(glob.glob(f"{toy_data}/records/*")).as_numpy_iterator()))
    record = dataclasses.replace(schema.decode(first), mask=b"", er_ss="train")
    files = []
    for shard, count in enumerate((40, 8, 24)):
        files.append(str(folder / str(shard)))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for number in range(count):
                image = tf.io.encode_png(rng.integers(0, 256, (16, 16, 1), np.uint8)).numpy()
                face = dataclasses.replace(record, image_id=f"{shard}#{number}", image=image, synthetic=int(shard == 2))
                writer.write(schema.encode(face))
    real, made = (parts.survey(chosen, "er_ss", 4)["train"] for chosen in (files[:2], files[2:]))
    return parts.joined([real, made])


@pytest.mark.parametrize("count", [2, 4])
def test_an_epoch_of_several_workers_shows_every_face_once_however_the_shards_are_filled(
    toy_data: str, tmp_path: Path, count: int
) -> None:
    part = unequal_shards(toy_data, tmp_path)
    shares = [share(part, worker, count) for worker in range(count)]
    assert {len(faces) for faces in shares} == {len(part) / count}
    seen = Counter(face.tobytes() for faces in shares for face in faces)
    assert len(seen) == len(part) == 72 and set(seen.values()) == {1}
    assert set(seen) == {face.tobytes() for face in share(part, 0, 1)}


def test_every_worker_measures_batch_statistics_on_the_same_faces_as_one_alone(
    toy_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, spec = unequal_shards(toy_data, tmp_path), FaNetSpec(tuple("abcd"), image_size=16)

    def measured_on() -> np.ndarray:
        batches = shown.statistics_batches(part, spec, 8, seed=3, flip=True)
        return np.stack([faces for faces, _ in batches.as_numpy_iterator()])

    monkeypatch.delenv("TF_CONFIG", raising=False)
    alone = measured_on()
    assert alone.shape[:2] == (9, 8)
    for config in workers.tf_configs(2):
        monkeypatch.setenv("TF_CONFIG", config)
        np.testing.assert_array_equal(measured_on(), alone)


def test_an_odd_batch_is_said(toy_data: str) -> None:
    part = inputs.read_records(toy_data, "er_ss").parts["train"]
    with pytest.raises(InputError, match="`batch_size` 8 cannot be shared equally by 3 workers"):
        share(part, 0, 3)


# Batch norm divides by small variances: it turns rounding into visible differences within a few steps.
@pytest.mark.slow
@pytest.mark.parametrize(("steps", "batch_norm"), [(6, False), (1, True)])
def test_two_workers_equal_one_process_on_the_same_global_batches(
    toy_data: str, tmp_path: Path, steps: int, batch_norm: bool
) -> None:
    command = [sys.executable, "-m", "tests.trainer.multi_worker_program", toy_data]
    two = WorkersConfig(workers=2, restarts=0, logs=str(tmp_path))
    assert workers.run(two, [*command, str(tmp_path / "two"), "2", str(steps), str(batch_norm)]) == 0
    subprocess.run([*command, str(tmp_path / "one"), "2", str(steps), str(batch_norm)], check=True, cwd=ROOT)
    chief, other, one = (np.load(tmp_path / f"{name}.npz") for name in ("two.0", "two.1", "one.0"))
    assert set(chief.files) == set(one.files)
    for name in one.files:
        np.testing.assert_array_equal(chief[name], other[name], err_msg=name)
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(chief[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(one.files) > 20


@pytest.mark.slow
def test_a_killed_worker_costs_a_restart_and_the_chief_alone_writes(toy_data: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    flags = ["--epochs=6", "--batch_size=16", "--image_size=32", "--precision=float32", f"--data={toy_data}"]
    command = [sys.executable, "-m", "trainer.task", "--task=er_ss", "--stage=fa_net", f"--run_dir={run_dir}", *flags]
    launcher = [sys.executable, "-m", "cluster.workers", f"--logs={tmp_path}", "--restarts=2", "--", *command]
    with open(tmp_path / "chief.log", "w") as log:
        process = subprocess.Popen(launcher, cwd=ROOT, stdout=log, stderr=log)
    try:
        while process.poll() is None and not (run_dir / "fa_net/checkpoints/ckpt-2.index").exists():
            time.sleep(0.2)
        assert process.poll() is None, (tmp_path / "chief.log").read_text()[-3000:]
        os.kill(second_worker(process.pid), signal.SIGKILL)
        assert process.wait(1800) == 0, (tmp_path / "chief.log").read_text()[-3000:]
    finally:
        process.terminate()
    printed, log = (tmp_path / "chief.log").read_text(), (run_dir / "log.txt").read_text()
    assert "a worker ended with code -9; restart 1 of 2" in printed
    assert "epochs 1 to 6" in log and "epochs 3 to 6" in log, "it began anew, or never resumed"
    assert len(json.loads((run_dir / "fa_net/history.json").read_text())["history"]) == 6
    assert "epoch 6/6" in (tmp_path / "worker_1.log").read_text(), "the second worker took no part"
    assert log.count("epoch 6/6") == 1, "more than the chief wrote the log"
    assert len(list((run_dir / "fa_net/checkpoints").glob("*.index"))) == 2


def second_worker(launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for pid in children:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        config = next(value for value in environment if value.startswith(b"TF_CONFIG="))
        if json.loads(config.split(b"=", 1)[1])["task"]["index"] == 1:
            return int(pid)
    raise AssertionError(f"no second worker among {children}")
