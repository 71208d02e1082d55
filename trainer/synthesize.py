"""Stage `synthesize`: FaPE-GAN's faces for a task's training part, balanced and checked (section 4.2)."""

from __future__ import annotations

import logging

from fer_tf.config import to_dict
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.synthesis import shards
from fer_tf.synthesis.plan import counts_of, training_faces
from trainer import fape_gan
from trainer.config import TaskConfig


def run(config: TaskConfig) -> None:
    """Makes the task's synthetic faces, or goes on at the shard where an interrupted run stopped.

    Writes `synthetic/records`, `synthetic/rejected.jsonl` and, when all is done, `synthetic/plan.json`.

    Raises:
      InputError: no FaPE-GAN that is trained to its end, no training faces, or faces that were made with other flags,
        by other weights or for other data.
    """
    folder = config.folder.synthetic
    if not fape_gan.is_wanted(config):
        logging.info("no synthetic faces are made: this run needs none of its own")
        return
    if config.synthesis.synthetic_ratio == 0:
        _refuse_leftovers(folder)
        logging.info("no synthetic faces: --synthetic_ratio=0")
        return
    data = DataFolder(config.data)
    job = shards.job_of(config.folder, folder, to_dict(config), config.synthesis.synthetic_ratio, data)
    if shards.is_finished(job):
        logging.info("synthetic faces are finished: %s", folder)
        return
    faces = training_faces(data.face_files, config.task, data.tags(config.task))
    requests = job.plan(faces)
    if not requests:
        raise job.nothing_to_make(len(faces))
    maker = job.maker(shards.processes_for(len(requests)))
    parts = shards.shards_of(requests)
    try:
        for number, part in enumerate(parts):
            shards.write_shard(folder, number, len(parts), part, maker)
            logging.info("synthetic shard %d of %d is written", number + 1, len(parts))
    finally:
        maker.close()
    counts = shards.finish(job, len(parts), counts_of(faces))
    logging.info("synthetic faces of %s: %s", config.task, counts)
    if not counts["kept"]:
        logging.warning(
            "all %d synthetic faces were rejected: Fa-Net will train on real faces alone. Train FaPE-GAN longer "
            "(--gan_epochs) or relax --max_identity_distance and --max_landmark_error.",
            counts["made"],
        )


def _refuse_leftovers(folder: str) -> None:
    if DataFolder(folder).has_faces:
        raise InputError(f"`synthetic_ratio` is 0, but {folder} has faces; remove it, or give --synthetic=false.")
