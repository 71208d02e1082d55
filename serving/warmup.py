"""Warm-up requests that travel with the model: whoever loads it runs them before the first user's request."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from fer_tf import tfrecords
from fer_tf.data.inputs import decode_image
from fer_tf.data.schema import FaceRecord, key_of
from fer_tf.faces.align import FACE_SIZE

# The name and place that TensorFlow Serving looks for.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WARMUP_BATCHES = (1, 8, 32)


def example_face() -> bytes:
    """A smooth 256 x 256 JPEG, about as large as a face crop; the same on every machine."""
    y, x = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE] / FACE_SIZE
    image = np.stack([x, y, (x + y) / 2], axis=-1) * 160 + 40 * np.sin(24 * x * y)[..., None] + 40
    return tf.io.encode_jpeg(image.clip(0, 255).astype(np.uint8)).numpy()


def write_warmup(version_dir: str, model_name: str) -> str:
    """Writes the warm-up file of a version (TFRecords of PredictionLog) and returns its path."""
    path = os.path.join(version_dir, WARMUP_FILE)
    tfrecords.write(path, (log.SerializeToString(deterministic=True) for log in _logs(model_name)))
    return path


def read_warmup(version_dir: str) -> list[prediction_log_pb2.PredictionLog]:
    """Returns the warm-up requests of a version; none when the file is missing."""
    path = os.path.join(version_dir, WARMUP_FILE)
    if not os.path.exists(path):
        return []
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in tfrecords.read(path)]


def _logs(model_name: str) -> Iterator[prediction_log_pb2.PredictionLog]:
    face = example_face()
    pixels = decode_image(face).numpy()
    inputs = [("serving_default", "image_bytes", np.array([face] * size, object)) for size in WARMUP_BATCHES]
    inputs.append(("embed", "image_bytes", np.array([face], object)))
    inputs.append(("predict_images", "images", pixels[None]))
    for signature, key, value in inputs:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model_name
        request.model_spec.signature_name = signature
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        yield prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = "classify"
    example = request.input.example_list.examples.add()
    example.features.feature[key_of(FaceRecord, "image")].bytes_list.value.append(face)
    yield prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))
