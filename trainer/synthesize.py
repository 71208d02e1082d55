"""Stage `synthesize`: FaPE-GAN's faces for a task's training part, balanced and checked (section 4.2)."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections import Counter
from typing import Any

import tensorflow as tf

from fer_tf.data import schema, synthesis
from fer_tf.data.inputs import record_files
from fer_tf.data.synthesis import FaceFacts, Item
from fer_tf.errors import InputError
from fer_tf.evaluation.face_quality import QualityLimits
from fer_tf.evaluation.synthesis import Made, Request, Synthesizer
from trainer import fape_gan, runtime
from trainer.config import TaskConfig

FOLDER = "synthetic"
PLAN_FILE = "plan.json"
REJECTED_FILE = "rejected.jsonl"
SHARD_FACES = 2000
BATCH = 64


def run(config: TaskConfig) -> None:
    """Makes the task's synthetic faces, or goes on at the shard where an interrupted run stopped.

    Writes `synthetic/records`, `synthetic/rejected.jsonl` and, when all is done, `synthetic/plan.json`.

    Raises:
      InputError: no trained FaPE-GAN, no training faces, or faces that were made with other flags.
    """
    folder = runtime.join(config.run_dir, FOLDER)
    if config.synthetic_ratio == 0 or (config.stage == "all" and (not config.synthetic or config.synthetic_from)):
        if config.synthetic and not config.synthetic_from:
            _refuse_leftovers(folder)
        logging.info("no synthetic faces are made: this run needs none of its own")
        return
    if _is_finished(config, folder):
        logging.info("synthetic faces are finished: %s", folder)
        return
    faces = synthesis.training_faces(record_files(os.path.join(config.data, schema.FACES_GLOB)), config.task)
    items = synthesis.plan(faces, config.synthetic_ratio, config.seed)
    if not items:
        raise InputError(
            f"no face can be synthesized for task {config.task!r}: no expression of its {len(faces)} training faces is "
            "seen in two poses."
        )
    maker = Synthesizer(runtime.join(config.run_dir, fape_gan.FOLDER), config.task, limits_of(config))
    shards = -(-len(items) // SHARD_FACES)
    by_id = {face.image_id: face for face in faces}
    for shard in range(shards):
        _write_shard(folder, shard, shards, items[shard::shards], by_id, maker)
        logging.info("synthetic shard %d of %d is written", shard + 1, shards)
    _finish(config, folder, faces, items, shards)


def limits_of(config: TaskConfig) -> QualityLimits:
    """Returns the quality limits that a config's flags give."""
    return QualityLimits(config.max_identity_distance, config.max_landmark_error)


def _options(config: TaskConfig) -> dict[str, Any]:
    return {"task": config.task, "ratio": config.synthetic_ratio, "seed": config.seed, **_limits(config)}


def _limits(config: TaskConfig) -> dict[str, float]:
    return dataclasses.asdict(limits_of(config))


def _is_finished(config: TaskConfig, folder: str) -> bool:
    """Whether the faces are there; raises InputError when they were made with other flags."""
    path = runtime.join(folder, PLAN_FILE)
    if not tf.io.gfile.exists(path):
        return False
    made, wanted = runtime.read_json(path)["options"], _options(config)
    for name, value in wanted.items():
        if made.get(name) != value:
            raise InputError(
                f"{folder} was made with {name} {made.get(name)!r}. Received: {value!r}. Remove that folder and fa_net,"
                " or give another --run_dir."
            )
    return True


def _refuse_leftovers(folder: str) -> None:
    if tf.io.gfile.glob(os.path.join(folder, schema.FACES_GLOB)):
        raise InputError(f"`synthetic_ratio` is 0, but {folder} has faces; remove it, or give --synthetic=false.")


def _write_shard(
    folder: str, shard: int, shards: int, items: list[Item], faces: dict[str, FaceFacts], maker: Synthesizer
) -> None:
    """Writes one record file and its part of the rejected list; each appears under its name only when complete."""
    path = os.path.join(folder, schema.FACES_PATTERN.format(shard=shard, shards=shards))
    rejected_path = os.path.join(folder, "parts", f"{shard:05d}-of-{shards:05d}.jsonl")
    if os.path.exists(path):
        return
    for parent in (path, rejected_path):
        os.makedirs(os.path.dirname(parent), exist_ok=True)
    with tf.io.TFRecordWriter(f"{path}.partial") as writer, open(rejected_path, "w") as rejected:
        for start in range(0, len(items), BATCH):
            for made in maker.make([_request(item, faces) for item in items[start : start + BATCH]]):
                if made.record is not None:
                    writer.write(schema.encode(made.record))
                rejected.write(json.dumps(line_of(made)) + "\n")
    os.replace(f"{path}.partial", path)


def _request(item: Item, faces: dict[str, FaceFacts]) -> Request:
    return Request(item, synthesis.read_at(faces[item.source_id]), synthesis.read_at(faces[item.target_id]))


def line_of(made: Made) -> dict[str, Any]:
    """Returns what is noted of a made face: its two images, its cell, what was measured and why it was rejected."""
    return {**dataclasses.asdict(made.item), **dataclasses.asdict(made.measure), "reason": made.reason}


def _finish(config: TaskConfig, folder: str, faces: list[FaceFacts], items: list[Item], shards: int) -> None:
    """Joins the shards' notes: rejected.jsonl has the rejected faces, plan.json the counts."""
    kept: list[Item] = []
    reasons: Counter[str] = Counter()
    rejected = []
    for shard in range(shards):
        with open(os.path.join(folder, "parts", f"{shard:05d}-of-{shards:05d}.jsonl")) as file:
            for line in map(json.loads, file):
                if line["reason"]:
                    reasons[line["reason"]] += 1
                    rejected.append(json.dumps(line))
                else:
                    kept.append(Item(line["source_id"], line["target_id"], line["expression"], line["pose"]))
    runtime.write_text(runtime.join(folder, REJECTED_FILE), "".join(f"{line}\n" for line in rejected))
    counts = {"real": len(faces), "planned": len(items), "kept": len(kept), "rejected": dict(sorted(reasons.items()))}
    cells = {"real": faces, "planned": items, "kept": kept}
    report = {
        "options": _options(config),
        "counts": counts,
        "cells": {name: synthesis.counts_of(members) for name, members in cells.items()},
    }
    runtime.write_json(runtime.join(folder, PLAN_FILE), report)
    logging.info("synthetic faces of %s: %s", config.task, counts)
    if not kept:
        logging.warning(
            "all %d synthetic faces were rejected: Fa-Net will train on real faces alone. Train FaPE-GAN longer "
            "(--gan_epochs) or relax --max_identity_distance and --max_landmark_error.",
            len(items),
        )
