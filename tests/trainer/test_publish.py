"""What is published is the run's network in fewer bits, with a card whose numbers are the run's."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.evaluation.scores import score
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.resources import resource
from tests.fer_tf.evaluation.test_scores import EXPRESSIONS, part_of
from trainer.publish import PublishConfig, publish


@pytest.fixture
def run_dir(tmp_path):
    spec = FaNetSpec(EXPRESSIONS, image_size=16, task="er_ss")
    fa_net.save(str(tmp_path / "fa_net"), fa_net.build(spec, seed=1), spec)
    part = part_of([0, 0, 1, 1, 0, 1], ["A", "A", "B", "B", "C", "C"], ["front"] * 6)
    test = score(part, np.eye(3)[[0, 1, 1, 1, 0, 0]] * 4.0, EXPRESSIONS, 1.0)
    metrics = {
        "task": "er_ss",
        "finished": True,
        "tta": "none",
        "notes": ["a note"],
        "spec": {"variant": "light_cnn_9", "image_size": 16, "expressions": EXPRESSIONS, "temperature": 1.0},
        "training": {"epoch": 3, "seconds": 7200.0, "best_epoch": 2},
        "data_fingerprint": "abc",
        "val": test,
        "test": test,
    }
    config = {
        "flags": {"task": "er_ss", "epochs": 3},
        "machine": {"cores": 2},
        "versions": {"tensorflow": "1", "keras": "2"},
    }
    for name, value in (("metrics.json", metrics), ("config.json", config)):
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path


def test_weights_and_card_are_the_runs(run_dir, tmp_path):
    output = str(tmp_path / "published")
    publish(PublishConfig(str(run_dir), output))
    model, spec = fa_net.load(output)
    original, _ = fa_net.load(str(run_dir / "fa_net"))
    images = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    np.testing.assert_allclose(model(images), original(images), atol=0.02)
    assert spec.expressions == EXPRESSIONS
    with open(os.path.join(output, "MODEL_CARD.md")) as file:
        card = file.read()
    # 4 of 6 right; angry 2 of 3, happy 2 of 3; no face of sad.
    assert "| test | 6 | 66.7 %" in card and "| angry | 3 | 66.7 %" in card
    # A row of the confusion alone.
    assert card.count("\n| sad |") == 1
    assert "16 x 16 grey" in card and "3 epochs in 2.0 hours" in card and "epoch 2" in card and "Interim" not in card


@pytest.mark.parametrize(
    ("teacher", "shown"),
    [("/home/someone/teacher", "RUN_DIR"), ("pretrained+/home/someone/teacher", "pretrained+RUN_DIR")],
)
def test_the_card_of_a_taught_run_says_so_without_the_machines_path(teacher, shown, run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    config["flags"] |= {"teacher": teacher, "teacher_weight": 0.5}
    (run_dir / "config.json").write_text(json.dumps(config))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published"), note="It was taught by an earlier run."))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert f"--task=er_ss --epochs=3 --teacher={shown} --teacher_weight=0.5`" in card and "/home/someone" not in card
    assert "It was taught by an earlier run." in card


def test_the_card_repeats_what_the_training_was_told(run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    config["flags"] |= {"learning_rate": 0.03, "image_size": 44, "keep": "last", "init_from": "pretrained"}
    (run_dir / "config.json").write_text(json.dumps(config))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert "--epochs=3 --learning_rate=0.03 --keep=last --image_size=44 --init_from=pretrained`" in card


def test_the_card_repeats_every_other_flag_without_the_machines_paths(run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    given = {"variant": "light_cnn_29", "decay_epochs": 4.0, "channels": 3, "deterministic": True, "synthetic": False}
    folders = {"synthetic_from": "/home/someone/gan", "gan_face_net": "none"}
    left_out = {"stage": "fa_net", "run_dir": "/home/someone/run", "data": "/home/someone/data", "tta": "flip"}
    config["flags"] |= {"recipe": "best", "seed": 0, **given, **folders, **left_out}
    (run_dir / "config.json").write_text(json.dumps(config))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["spec"]["channels"] = 3
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    command = card.split("`python -m trainer.task ")[1].split("`")[0]
    assert command == (
        "--task=er_ss --recipe=best --variant=light_cnn_29 --epochs=3 --decay_epochs=4.0 --channels=3 "
        "--synthetic=false --synthetic_from=RUN_DIR --gan_face_net=none --deterministic=true"
    )
    assert "16 x 16 RGB" in card


def test_the_card_of_a_mean_repeats_what_its_faces_were_called_and_how_often_they_were_seen(run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    names = {"mapping": "er_ss.surprise=delight", "set_weights": "er_ss=0.5", "labels": "majority"}
    config |= {"averaged": ["/home/someone/a", "/home/someone/b"], "balance_strength": 0.5}
    config["flags"] |= {"task": "mixed", "held_out": 0.05, **names}
    (run_dir / "config.json").write_text(json.dumps(config))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert (
        "`python -m trainer.average RUN_DIR RUN_DIR --mapping=er_ss.surprise=delight --set_weights=er_ss=0.5 "
        "--labels=majority --balance_strength=0.5`"
    ) in card


@pytest.mark.parametrize(
    ("init_from", "temperature", "origin"),
    [
        ("pretrained", 0.8, "that of the network it began with"),
        ("pretrained", 1.0, "which was fitted on nothing"),
        ("", 1.0, "which was fitted on nothing"),
    ],
)
def test_the_card_of_a_run_without_a_validation_part_says_so(run_dir, tmp_path, init_from, temperature, origin):
    config = json.loads((run_dir / "config.json").read_text())
    config["flags"] |= {"held_out": 0.0, "keep": "auto", "init_from": init_from}
    (run_dir / "config.json").write_text(json.dumps(config))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["spec"]["temperature"] = temperature
    (run_dir / "metrics.json").write_text(json.dumps(metrics | {"val": {"faces": 0}, "kept": "last"}))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert "--held_out=0.0 --epochs=3" in card and "--keep" not in card
    assert f"stored temperature {temperature:.3f}, {origin}." in card and "the last." in card
    assert "| val |" not in card and "| test | 6 |" in card


def test_weights_that_are_too_large_replace_nothing_and_int8_halves_them(run_dir, tmp_path, monkeypatch):
    output = tmp_path / "published"
    publish(PublishConfig(str(run_dir), str(output), storage="int8"))
    size = (output / fa_net.WEIGHTS_FILE).stat().st_size
    assert f"{size / 1e6:.1f} MB, kernels as int8" in (output / "MODEL_CARD.md").read_text()
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr("trainer.publish.MAX_BYTES", size)
    with pytest.raises(InputError, match=r"bytes as float16, more than the .*; --storage=int8 takes half of float16"):
        publish(PublishConfig(str(run_dir), str(output)))
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_an_unfinished_run_is_published_only_as_interim(run_dir, tmp_path):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    # history.json, which tells the epochs and hours, is written in the end.
    (run_dir / "metrics.json").write_text(json.dumps(metrics | {"finished": False, "training": {}}))
    with pytest.raises(InputError, match="has not finished training; wait, or give --interim"):
        publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    publish(PublishConfig(str(run_dir), str(tmp_path / "published"), interim=True))
    card = (tmp_path / "published" / "MODEL_CARD.md").read_text()
    assert "Interim weights" in card and "the training had not finished, and the weights are the best on val" in card
    assert "hours" not in card
    assert "stored temperature 1.000, not fitted yet." in card and "fitted on val" not in card


def test_a_card_that_cannot_be_written_replaces_no_weights(run_dir, tmp_path):
    publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    before = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    metrics = json.loads((run_dir / "metrics.json").read_text())
    del metrics["test"]["confusion"]
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    network, spec = fa_net.load(str(run_dir / "fa_net"))
    network.set_weights([weight + 1 for weight in network.get_weights()])
    fa_net.save(str(run_dir / "fa_net"), network, spec)
    with pytest.raises(KeyError):
        publish(PublishConfig(str(run_dir), str(tmp_path / "published")))
    assert {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()} == before


def test_a_run_that_was_not_evaluated_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="--stage=evaluate first"):
        publish(PublishConfig(str(tmp_path), str(tmp_path / "published")))


def test_the_repositorys_weights_load_fit_their_card_and_begin_a_training():
    from trainer.borrowed import init_from

    pretrained = resource("pretrained")
    assert os.path.getsize(os.path.join(pretrained, fa_net.WEIGHTS_FILE)) <= 12_000_000
    trained, spec = fa_net.load(pretrained)
    with open(os.path.join(pretrained, "MODEL_CARD.md")) as file:
        card = file.read()
    assert f"# Fa-Net on {spec.task}" in card and ", ".join(spec.expressions) in card
    fresh = fa_net.build(spec, seed=5)
    init_from(fresh, spec, "pretrained")
    image = np.random.default_rng(0).random((1, spec.image_size, spec.image_size, spec.channels), np.float32)
    np.testing.assert_array_equal(fresh(image), trained(image))
