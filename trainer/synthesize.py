"""Stage `synthesize`: FaPE-GAN's faces for a task's training part, balanced and checked (section 4.2)."""

from __future__ import annotations

import logging
from typing import Any

from fer_tf.data.folder import DataFolder
from fer_tf.data.synthesis import counts_of, plan, training_faces
from fer_tf.errors import InputError
from fer_tf.evaluation import synthesis
from fer_tf.evaluation.face_quality import QualityLimits
from fer_tf.evaluation.synthesis import Synthesizer
from trainer import fape_gan
from trainer.config import TaskConfig


def run(config: TaskConfig) -> None:
    """Makes the task's synthetic faces, or goes on at the shard where an interrupted run stopped.

    Writes `synthetic/records`, `synthetic/rejected.jsonl` and, when all is done, `synthetic/plan.json`.

    Raises:
      InputError: no trained FaPE-GAN, no training faces, or faces that were made with other flags.
    """
    folder = config.folder.synthetic
    if not fape_gan.is_wanted(config):
        logging.info("no synthetic faces are made: this run needs none of its own")
        return
    if config.synthetic_ratio == 0:
        _refuse_leftovers(folder)
        logging.info("no synthetic faces: --synthetic_ratio=0")
        return
    if synthesis.is_finished(folder, options_of(config)):
        logging.info("synthetic faces are finished: %s", folder)
        return
    faces = training_faces(DataFolder(config.data).face_files, config.task)
    items = plan(faces, config.synthetic_ratio, config.seed, config.mirror_targets)
    if not items:
        raise InputError(
            f"no face can be synthesized for task {config.task!r}: no expression of its {len(faces)} training faces is "
            "seen in two poses."
        )
    maker = Synthesizer(config.folder.gan.path, config.task, limits_of(config), config.landmark_model)
    requests, shards = synthesis.requests_of(faces, items), synthesis.shards_of(len(items))
    for shard in range(shards):
        synthesis.write_shard(folder, shard, shards, requests[shard::shards], maker)
        logging.info("synthetic shard %d of %d is written", shard + 1, shards)
    counts = synthesis.finish(folder, shards, options_of(config), counts_of(faces))
    logging.info("synthetic faces of %s: %s", config.task, counts)
    if not counts["kept"]:
        logging.warning(
            "all %d synthetic faces were rejected: Fa-Net will train on real faces alone. Train FaPE-GAN longer "
            "(--gan_epochs) or relax --max_identity_distance and --max_landmark_error.",
            len(items),
        )


def limits_of(config: TaskConfig) -> QualityLimits:
    """Returns the quality limits that a config's flags give."""
    return QualityLimits(config.max_identity_distance, config.max_landmark_error)


def options_of(config: TaskConfig) -> dict[str, Any]:
    """Returns what decides the faces, as plan.json keeps it."""
    limits = limits_of(config)
    return synthesis.options_of(config.task, config.synthetic_ratio, config.seed, config.mirror_targets, limits)


def _refuse_leftovers(folder: str) -> None:
    if DataFolder(folder).has_faces:
        raise InputError(f"`synthetic_ratio` is 0, but {folder} has faces; remove it, or give --synthetic=false.")
