"""Makes faces of a plan with a trained FaPE-GAN and says of each whether it may be used."""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.data import schema
from fer_tf.data.pairs import face_input, images_of, mask_input
from fer_tf.data.schema import FaceRecord
from fer_tf.faces import landmarks, media
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import TASKS
from fer_tf.synthesis.judge import FaceMeasure, FaceMeter, QualityLimits, enlarge, to_uint8
from fer_tf.synthesis.plan import FaceFacts, Item, read_at

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
        return mirrored(record, self.item.pose, self.pose_id) if self.item.mirrored else record


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
      processes: how many share the judging; 1 judges in this one.

    Raises:
      InputError: no trained FaPE-GAN there, or no predictor.
    """

    def __init__(
        self,
        gan_folder: str,
        task: str,
        limits: QualityLimits | None = None,
        landmark_model: str = "",
        processes: int = 1,
    ) -> None:
        import tensorflow as tf

        from fer_tf.models.fape_gan import load_generator

        self._model, self.spec = load_generator(gan_folder)
        self._generate = tf.function(
            self._faces, input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False
        )
        self._task, self._limits = task, limits or QualityLimits()
        self._meter = FaceMeter(landmark_model, processes)
        self._warned = False
        self._descriptors: OrderedDict[str, np.ndarray] = OrderedDict()

    def make(self, requests: Sequence[Request]) -> list[Made]:
        """Returns what became of each request, in order; one pass of the generator for all of them."""
        if not requests:
            return []
        sources = [read_at(request.source) for request in requests]
        targets = [request.read_target() for request in requests]
        self._compare_predictors(targets[0].landmark_model)
        generated = self.generate(sources, targets)
        measures = self._meter.measure(self._descriptors_of(sources), generated, [face.landmarks for face in targets])
        items = [request.item for request in requests]
        return [self._judge(*parts) for parts in zip(items, sources, targets, generated, measures, strict=True)]

    def generate(self, sources: Sequence[FaceRecord], targets: Sequence[FaceRecord]) -> np.ndarray:
        """Returns the sources' faces in the targets' poses, uint8 (N, S, S, 3) at the generator's size, not judged."""
        return to_uint8(self._generate([source.image for source in sources], [target.mask for target in targets]))

    def forget(self) -> None:
        """Drops the kept descriptors of sources, such as before a time is taken."""
        self._descriptors.clear()

    def close(self) -> None:
        """Ends the worker processes."""
        self._meter.close()

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

    def _judge(
        self, item: Item, source: FaceRecord, target: FaceRecord, generated: np.ndarray, measure: FaceMeasure
    ) -> Made:
        reason = self._limits.rejection(measure)
        if reason:
            return Made(item, None, reason, measure)
        changes = {
            "image": media.encode_jpeg(enlarge(generated)),
            "image_format": "jpeg",
            "height": FACE_SIZE,
            "width": FACE_SIZE,
        }
        return Made(item, as_synthetic(item, source, target, self._task, **changes), "", measure)

    def _descriptors_of(self, records: Sequence[FaceRecord]) -> np.ndarray:
        """Returns the descriptors of sources, float32 (N, 128); of those seen lately without computing them again."""
        new = {record.image_id: record for record in records if record.image_id not in self._descriptors}
        if new:
            faces = [media.decode(record.image) for record in new.values()]
            found = self._meter.descriptors(faces, [record.landmarks for record in new.values()])
            self._descriptors.update(zip(new, found, strict=True))
        known = np.array([self._descriptors[record.image_id] for record in records])
        while len(self._descriptors) > DESCRIPTORS:
            self._descriptors.popitem(last=False)
        return known


def mirrored(record: FaceRecord, pose: str, pose_id: int) -> FaceRecord:
    """Returns a face record as the mirror shows it, without its image: mask, points and pose.

    Args:
      record: the face.
      pose, pose_id: the pose that the mirror shows, and its position in dataset.json's `poses`.
    """
    mask = media.decode(record.mask, channels=1)
    return dataclasses.replace(
        record,
        image=b"",
        mask=media.encode_png(mask[:, ::-1]),
        landmarks=landmarks.mirrored(record.landmarks, record.width),
        pose=pose,
        pose_id=pose_id,
    )


def as_synthetic(item: Item, source: FaceRecord, target: FaceRecord, task: str, **changes: object) -> FaceRecord:
    """Returns the record of a made face: in the task's training part alone, and it names its two images.

    Args:
      item: the face of the plan.
      source: whose person it shows.
      target: whose pose, mask and landmarks it follows.
      task: the task that it is for; the other tasks' tags are empty.
      **changes: the image's fields, and what else differs.
    """
    tags = {name: "train" if name == task else schema.NO_SPLIT for name in TASKS}
    return dataclasses.replace(
        source,
        image_id=item.image_id,
        mask=target.mask,
        landmarks=target.landmarks,
        box=target.box,
        expression=item.expression,
        pose=target.pose,
        pose_id=target.pose_id,
        synthetic=1,
        synthetic_source=item.source_id,
        synthetic_target=item.target_id,
        **{**tags, **changes},
    )
