"""Makes the faces of a synthesis plan with a trained FaPE-GAN and keeps those that pass the quality check."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.data.pairs import face_input, images_of, mask_input
from fer_tf.data.schema import FACE_SIZE, FaceRecord
from fer_tf.data.synthesis import Item, as_synthetic
from fer_tf.evaluation.face_quality import FaceMeasure, FaceMeter, QualityLimits, enlarge, to_uint8
from fer_tf.models.fape_gan import load_generator

JPEG_QUALITY = 95
# Descriptors of sources kept: a source has several targets, and its descriptor costs as much as its face.
DESCRIPTORS = 4096


@dataclass(frozen=True)
class Request:
    """One face to make and the two records that it is made from."""

    item: Item
    source: FaceRecord
    target: FaceRecord


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

    Raises:
      InputError: no trained FaPE-GAN there.
    """

    def __init__(self, gan_folder: str, task: str, limits: QualityLimits | None = None) -> None:
        import tensorflow as tf

        self._model, self.spec = load_generator(gan_folder)
        self._generate = tf.function(self._faces, input_signature=[tf.TensorSpec([None], tf.string)] * 2)
        self._task, self._limits, self._meter = task, limits or QualityLimits(), FaceMeter()
        self._descriptors: OrderedDict[str, np.ndarray] = OrderedDict()

    def make(self, requests: Sequence[Request]) -> list[Made]:
        """Returns what became of each request, in order; one pass of the generator for all of them."""
        if not requests:
            return []
        sources, masks = [request.source.image for request in requests], [request.target.mask for request in requests]
        generated = to_uint8(self._generate(sources, masks))
        return [self._judge(*both) for both in zip(requests, generated, strict=True)]

    def _faces(self, sources: Any, masks: Any) -> Any:
        size = self.spec.image_size
        inputs = [face_input(images_of(sources, 3, size)), mask_input(images_of(masks, 1, size))]
        return self._model(inputs, training=False)

    def _judge(self, request: Request, generated: np.ndarray) -> Made:
        face = enlarge(generated)
        identity = self._descriptor_of(request.source)
        measure = self._meter.measure(identity, face, request.target.landmarks)
        reason = self._limits.rejection(measure)
        if reason:
            return Made(request.item, None, reason, measure)
        changes = {"image": _encode(face), "image_format": "jpeg", "height": FACE_SIZE, "width": FACE_SIZE}
        record = as_synthetic(request.item, request.source, request.target, self._task, **changes)
        return Made(request.item, record, "", measure)

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
