"""The trainer's flags stand in groups and are the flags of before: a run that was begun with them goes on."""

from __future__ import annotations

import pytest

from fer_tf.config import of, to_dict
from fer_tf.errors import InputError
from trainer import runtime
from trainer.config import FaNetOptions, GanOptions, RunOptions, SynthesisOptions, TaskConfig

# What config.json held before the flags had groups.
FLAT = {
    "task": "er_ss",
    "stage": "all",
    "data": "data/faces",
    "run_dir": "runs/er_ss",
    "recipe": "best",
    "variant": "light_cnn_9",
    "epochs": 0,
    "batch_size": 0,
    "learning_rate": 0.0,
    "epoch_faces": 0,
    "decay_epochs": 0.0,
    "keep": "auto",
    "held_out": 0.05,
    "image_size": 0,
    "channels": 1,
    "precision": "auto",
    "strategy": "auto",
    "seed": 0,
    "deterministic": False,
    "init_from": "",
    "teacher": "",
    "teacher_weight": 0.5,
    "profile": "",
    "synthetic": True,
    "tta": "none",
    "synthetic_from": "",
    "seeds": 3,
    "gan_epochs": 0,
    "gan_batch_size": 0,
    "gan_image_size": 0,
    "gan_recipe": "best",
    "gan_face_net": "",
    "gan_face_weight": 5.0,
    "gan_channels": 0,
    "gan_checkpoint_steps": 500,
    "gan_quality_pairs": 64,
    "gan_final_pairs": 512,
    "synthetic_ratio": 1.0,
    "mirror_targets": True,
    "max_identity_distance": 0.6,
    "max_landmark_error": 0.12,
    "landmark_model": "",
}


def test_a_config_json_of_before_the_groups_is_the_same_config() -> None:
    now = of(TaskConfig, seeds=3)
    assert of(TaskConfig, **FLAT) == now
    assert {name: to_dict(now)[name] for name in FLAT} == FLAT


def test_a_run_that_was_begun_before_the_groups_goes_on_and_other_flags_do_not(toy_data: str, tmp_path) -> None:
    config = of(TaskConfig, data=toy_data, run_dir=str(tmp_path), stage="fa_net")
    flat = {**FLAT, "data": toy_data, "run_dir": str(tmp_path)}
    config.folder.write_config({"flags": flat, "data_fingerprint": ""})
    config.folder.write_metrics({"task": "er_ss", "test": {}})
    runtime.set_up(config)
    assert config.folder.read_flags() == flat
    config.folder.write_config({"flags": {**flat, "gan_epochs": 7}})
    with pytest.raises(InputError, match=r"`gan_epochs` was 7 when this run began\. Received: 0"):
        runtime.set_up(config)


@pytest.mark.parametrize(
    ("group", "value", "message"),
    [
        (FaNetOptions, {"epochs": -1}, "`epochs` must be at least 0. Received: -1."),
        (
            FaNetOptions,
            {"learning_rate": float("nan")},
            "`learning_rate` must be a finite number of at least 0. Received: nan.",
        ),
        (FaNetOptions, {"teacher_weight": 2.0}, "`teacher_weight` must be between 0 and 1. Received: 2.0."),
        (FaNetOptions, {"mixup": -0.1}, "`mixup` must be at least 0. Received: -0.1."),
        (GanOptions, {"epochs": -1}, "`gan_epochs` must be at least 0. Received: -1."),
        (GanOptions, {"checkpoint_steps": 0}, "`gan_checkpoint_steps` must be at least 1. Received: 0."),
        (
            SynthesisOptions,
            {"synthetic_ratio": -0.5},
            "`synthetic_ratio` must be at least 0. Received: -0.5.",
        ),
        (RunOptions, {"draws": -1}, "`draws` must be at least 0. Received: -1."),
        (RunOptions, {"seeds": 0}, "`seeds` must be at least 1. Received: 0."),
        (RunOptions, {"profile": "ten"}, "`profile` must be two step numbers such as 20,30. Received: 'ten'."),
    ],
)
def test_a_groups_error_names_the_flag(group: type, value: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        group(**value)
    assert str(error.value) == message
