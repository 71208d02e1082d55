"""Makes the faces of a synthesis plan with a trained FaPE-GAN and keeps those that pass the quality check."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.data import schema
from fer_tf.data.pairs import face_input, images_of, mask_input
from fer_tf.data.schema import FACE_SIZE, FaceRecord
from fer_tf.data.synthesis import FaceFacts, Item, as_synthetic, mirrored, read_at
from fer_tf.errors import InputError
from fer_tf.evaluation.face_quality import FaceMeasure, FaceMeter, QualityLimits, enlarge, to_uint8
from fer_tf.models.fape_gan import load_generator

PLAN_FILE, REJECTED_FILE, PARTS, OPTIONS_FILE = "plan.json", "rejected.jsonl", "parts", "options.json"
SHARD_FACES = 2000
# Faces that pass through the generator together.
BATCH = 64
JPEG_QUALITY = 95
# Between two lines that say how far a shard is.
PROGRESS_SECONDS = 30.0
# Descriptors of sources kept: a source has several targets, and its descriptor costs as much as its face.
DESCRIPTORS = 4096


@dataclass(frozen=True)
class Request:
    """One face to make, and where the two records are that it is made from.

    Attributes:
      item: the face of the plan.
      source, target: its two real faces.
      pose_id: position of the item's pose in dataset.json's `poses`.
    """

    item: Item
    source: FaceFacts
    target: FaceFacts
    pose_id: int

    def read_target(self) -> FaceRecord:
        """Returns the face whose mask is followed, in the mirror where the item says so."""
        record = read_at(self.target)
        return mirrored(record, self.pose_id) if self.item.mirrored else record


@dataclass(frozen=True)
class Made:
    """What became of a request.

    Attributes:
      item: the face of the plan.
      record: the synthetic face, or None when it was rejected.
      reason: why it was rejected, or empty.
      measure: what was measured of it.
    """

    item: Item
    record: FaceRecord | None
    reason: str
    measure: FaceMeasure


class Synthesizer:
    """Gives faces new poses; made once per process.

    Args:
      gan_folder: folder of a trained FaPE-GAN.
      task: the task whose training part the faces join.
      limits: what a face must keep to be used.
      landmark_model: path of the dlib predictor that made the data; empty for the packaged one.

    Raises:
      InputError: no trained FaPE-GAN there, or no predictor.
    """

    def __init__(
        self, gan_folder: str, task: str, limits: QualityLimits | None = None, landmark_model: str = ""
    ) -> None:
        import tensorflow as tf

        self._model, self.spec = load_generator(gan_folder)
        self._generate = tf.function(self._faces, input_signature=[tf.TensorSpec([None], tf.string)] * 2)
        self._task, self._limits, self._meter = task, limits or QualityLimits(), FaceMeter(landmark_model)
        self._warned = False
        self._descriptors: OrderedDict[str, np.ndarray] = OrderedDict()

    def make(self, requests: Sequence[Request]) -> list[Made]:
        """Returns what became of each request, in order; one pass of the generator for all of them."""
        if not requests:
            return []
        sources = [read_at(request.source) for request in requests]
        targets = [request.read_target() for request in requests]
        self._compare_predictors(targets[0].landmark_model)
        faces = self._generate([source.image for source in sources], [target.mask for target in targets])
        items = [request.item for request in requests]
        return [self._judge(*parts) for parts in zip(items, sources, targets, to_uint8(faces), strict=True)]

    def _compare_predictors(self, used: str) -> None:
        """Warns once when the points of the data are another predictor's than those that faces are judged by."""
        if used != self._meter.landmark_model and not self._warned:
            self._warned = True
            logging.warning(
                "the data's points are by %s and the synthetic faces' by %s, which part them for no fault of a face; "
                "give --landmark_model, as to the build",
                used,
                self._meter.landmark_model,
            )

    def _faces(self, sources: Any, masks: Any) -> Any:
        size = self.spec.image_size
        inputs = [face_input(images_of(sources, 3, size)), mask_input(images_of(masks, 1, size))]
        return self._model(inputs, training=False)

    def _judge(self, item: Item, source: FaceRecord, target: FaceRecord, generated: np.ndarray) -> Made:
        face = enlarge(generated)
        measure = self._meter.measure(self._descriptor_of(source), face, target.landmarks)
        reason = self._limits.rejection(measure)
        if reason:
            return Made(item, None, reason, measure)
        changes = {"image": _encode(face), "image_format": "jpeg", "height": FACE_SIZE, "width": FACE_SIZE}
        return Made(item, as_synthetic(item, source, target, self._task, **changes), "", measure)

    def _descriptor_of(self, record: FaceRecord) -> np.ndarray:
        known = self._descriptors.get(record.image_id)
        if known is None:
            known = self._meter.descriptor(_decode(record.image), record.landmarks)
            self._descriptors[record.image_id] = known
            if len(self._descriptors) > DESCRIPTORS:
                self._descriptors.popitem(last=False)
        return known


def _decode(encoded: bytes) -> np.ndarray:
    """Returns an encoded face as uint8 (H, W, 3), RGB."""
    import cv2

    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def _encode(face: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def options_of(task: str, ratio: float, seed: int, mirror_targets: bool, limits: QualityLimits) -> dict[str, Any]:
    """Returns what decides the faces, as plan.json keeps it."""
    plan = {"task": task, "ratio": ratio, "seed": seed, "mirror_targets": mirror_targets}
    return {**plan, **dataclasses.asdict(limits)}


def shards_of(items: int) -> int:
    """Returns how many record files hold that many faces."""
    return max(1, -(-items // SHARD_FACES))


def requests_of(faces: Sequence[FaceFacts], items: Sequence[Item]) -> list[Request]:
    """Returns the items with the places of their records."""
    by_id = {face.image_id: face for face in faces}
    pose_ids = {face.pose: face.pose_id for face in faces}
    return [Request(item, by_id[item.source_id], by_id[item.target_id], pose_ids[item.pose]) for item in items]


def write_shard(folder: str, shard: int, shards: int, requests: Sequence[Request], maker: Synthesizer) -> None:
    """Makes one record file, and beside it what was measured of every face; does nothing when it is there.

    Args:
      folder: the synthetic folder.
      shard, shards: the file's number, from 0, and how many there are.
      requests: its faces, in order.
      maker: makes and judges them, a batch at a time.
    """
    path = files.join(folder, schema.FACES_PATTERN.format(shard=shard, shards=shards))
    if files.exists(path):
        return
    notes = _notes_path(folder, shard, shards)
    begun = said = time.monotonic()
    # The notes first: a shard that has its name is complete, notes and all.
    with files.whole_file(path) as records, files.whole_file(notes) as lines:
        for start in range(0, len(requests), BATCH):
            for made in maker.make(requests[start : start + BATCH]):
                if made.record is not None:
                    files.write_record(records, schema.encode(made.record))
                facts = {**dataclasses.asdict(made.item), **dataclasses.asdict(made.measure), "reason": made.reason}
                lines.write(f"{json.dumps(facts)}\n".encode())
            done, now = min(start + BATCH, len(requests)), time.monotonic()
            if now - said >= PROGRESS_SECONDS:
                left, said = (now - begun) / done * (len(requests) - done), now
                logging.info(
                    "shard %d of %d: %d of %d faces, %.0f s left", shard + 1, shards, done, len(requests), left
                )


def _notes_path(folder: str, shard: int, shards: int) -> str:
    return files.join(folder, PARTS, f"{shard:05d}-of-{shards:05d}.jsonl")


def finish(folder: str, shards: int, options: dict[str, Any], real: dict[str, int]) -> dict[str, Any]:
    """Joins the shards' notes into `rejected.jsonl` and `plan.json`, whose presence says that all is done.

    Args:
      folder: the synthetic folder.
      shards: how many record files there are.
      options: what the faces were made with.
      real: real training faces of each cell, named `expression/pose`.

    Returns:
      the counts of plan.json: real, planned, kept, and rejected by reason.
    """
    planned: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with files.whole_file(files.join(folder, REJECTED_FILE)) as rejected:
        for shard in range(shards):
            with files.open_to_read(_notes_path(folder, shard, shards)) as lines:
                for line in lines:
                    facts = json.loads(line)
                    cell = f"{facts['expression']}/{facts['pose']}"
                    planned[cell] += 1
                    if facts["reason"]:
                        reasons[facts["reason"]] += 1
                        rejected.write(line)
                    else:
                        kept[cell] += 1
    counts = {"real": sum(real.values()), "planned": planned.total(), "kept": kept.total(), "rejected": dict(reasons)}
    cells = {"real": real, "planned": dict(sorted(planned.items())), "kept": dict(sorted(kept.items()))}
    files.write_json(files.join(folder, PLAN_FILE), {"options": options, "counts": counts, "cells": cells})
    return counts


def is_finished(folder: str, options: dict[str, Any]) -> bool:
    """Whether the faces are there; notes the options before the first face is made.

    Raises:
      InputError: they were made, in whole or in part, with other options.
    """
    path = files.join(folder, PARTS, OPTIONS_FILE)
    if files.exists(path):
        _check_same(folder, files.read_json(path), options)
    else:
        files.write_json(path, options)
    return files.exists(files.join(folder, PLAN_FILE))


def _check_same(folder: str, made: dict[str, Any], options: dict[str, Any]) -> None:
    for name, value in options.items():
        if made.get(name) != value:
            raise InputError(
                f"{folder} was made with {name} {made.get(name)!r}. Received: {value!r}. Remove that folder and the"
                " Fa-Net trained on it, or write elsewhere."
            )
