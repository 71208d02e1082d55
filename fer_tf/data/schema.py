"""The records: names, types, encode, decode and parse spec of faces and of GAN pairs, each defined once here.

A face record is one `tf.train.Example` in `records/faces-?????-of-?????.tfrecord`; a pair record is one in
`pairs/pairs-?????-of-?????.tfrecord`. Serialization is deterministic: equal values give equal bytes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces.landmarks import NUM_LANDMARKS
from fer_tf.labels import SPLITS, TASKS

SCHEMA_VERSION = 1
NO_SPLIT = ""
# How the image_id of a generated face begins; it goes on with its source's, a `>` and its target's.
SYNTHETIC = "synthetic/"

FACES_PATTERN = "records/faces-{shard:05d}-of-{shards:05d}.tfrecord"
PAIRS_PATTERN = "pairs/pairs-{shard:05d}-of-{shards:05d}.tfrecord"
FACES_GLOB = "records/faces-?????-of-?????.tfrecord"
PAIRS_GLOB = "pairs/pairs-?????-of-?????.tfrecord"


def _column(key: str, kind: str, length: int = 1, optional: bool = False, **options: Any) -> Any:
    """A dataclass field stored under `key`; kind is `bytes`, `str`, `int`, `float` or `floats`, any number of them.

    An optional one is stored only where it differs from its default: records without it keep their bytes, and older
    ones can be read.
    """
    return field(metadata={"key": key, "kind": kind, "length": length, "optional": optional}, **options)


def _no_landmarks() -> np.ndarray:
    return np.zeros((NUM_LANDMARKS, 2), np.float32)


def _no_box() -> np.ndarray:
    return np.zeros(4, np.float32)


@dataclass(frozen=True)
class FaceRecord:
    """One aligned face with everything known of it; the defaults say of everything else that it is not known.

    Attributes:
      image_id: `<clip_id>#<frame number, 6 digits>`; unique in a corpus, the key of every stable hash.
      image: the face as encoded bytes, RGB, 256 x 256.
      image_format: `jpeg` or `png`.
      height, width: the image's size, pixels.
      mask: the landmark mask of section 3.2 as PNG bytes, one channel, 256 x 256.
      landmarks: float32 (68, 2), x and y in pixels of the crop, iBUG order.
      box: float32 (4,), x, y, width, height in pixels of the upright frame.
      score: the detector's confidence, 0 to 1.
      distribution: float32 (K,), each expression's share of the votes on the face, in the order of `expressions`; what
        they lack to 1 went to none of them. Empty for a face with one label.
      expression, expression_id: the label's name and its position in dataset.json's `expressions`.
      pose, pose_id: the camera's pose and its position in dataset.json's `poses`.
      person: the subject's id.
      gender: as annotated, or empty.
      age: years as annotated, or -1.
      clip_id: the clip's path as written in the annotations.
      clip_group: equal for clips filmed together by several cameras.
      frame: the frame's number in the clip, from 0.
      time: the frame's presentation time, seconds.
      er_ss, er_ue, er_up, er_zid: `train`, `val`, `test`, or empty when the task leaves the face out.
      split: the part of a public set that the face belongs to, likewise.
      synthetic: 1 when a generator made the image.
      synthetic_source, synthetic_target: the image_ids it was made from; empty for a real face. Where image_id says
        `>mirrored `, the target's mask and landmarks are those that a mirror shows.
      landmark_model, detector: name and version of what found the points and the box.
    """

    image_id: str = _column("image/id", "str")
    image: bytes = _column("image/encoded", "bytes")
    image_format: str = _column("image/format", "str")
    height: int = _column("image/height", "int")
    width: int = _column("image/width", "int")
    mask: bytes = _column("mask/encoded", "bytes", default=b"")
    landmarks: np.ndarray = _column("face/landmarks", "float", 2 * NUM_LANDMARKS, default_factory=_no_landmarks)
    box: np.ndarray = _column("face/box", "float", 4, default_factory=_no_box)
    score: float = _column("face/score", "float", default=0.0)
    expression: str = _column("label/expression", "str", default="")
    expression_id: int = _column("label/expression_id", "int", default=-1)
    pose: str = _column("label/pose", "str", default="")
    pose_id: int = _column("label/pose_id", "int", default=-1)
    person: str = _column("label/person", "str", default="")
    clip_id: str = _column("clip/id", "str", default="")
    frame: int = _column("clip/frame", "int", default=0)
    time: float = _column("clip/time", "float", default=0.0)
    landmark_model: str = _column("provenance/landmark_model", "str", default="none")
    detector: str = _column("provenance/detector", "str", default="none")
    gender: str = _column("label/gender", "str", default="")
    age: int = _column("label/age", "int", default=-1)
    clip_group: str = _column("clip/group", "str", default="")
    er_ss: str = _column("split/er_ss", "str", default=NO_SPLIT)
    er_ue: str = _column("split/er_ue", "str", default=NO_SPLIT)
    er_up: str = _column("split/er_up", "str", default=NO_SPLIT)
    er_zid: str = _column("split/er_zid", "str", default=NO_SPLIT)
    split: str = _column("split/public", "str", optional=True, default=NO_SPLIT)
    distribution: tuple[float, ...] = _column("label/distribution", "floats", optional=True, default=())
    synthetic: int = _column("synthetic", "int", default=0)
    synthetic_source: str = _column("synthetic/source", "str", default="")
    synthetic_target: str = _column("synthetic/target", "str", default="")


@dataclass(frozen=True)
class PairRecord:
    """Two faces of one person and expression in different poses: what FaPE-GAN learns from (section 4.2).

    A task's split is that of both images when they share it, and empty otherwise, so a pair is usable for
    training only if both of its images are in the task's training part.

    Attributes:
      source, target: the two faces as encoded bytes, RGB, 256 x 256.
      target_mask: the target's landmark mask as PNG bytes, 256 x 256.
      source_landmarks, target_landmarks: float32 (68, 2), pixels of the crop.
      source_id, target_id: image_ids of the two face records.
      source_pose, target_pose: pose names; never equal.
      same_moment: 1 when the clips were filmed together and the two frames show the same moment.
    """

    source: bytes = _column("source/encoded", "bytes")
    target: bytes = _column("target/encoded", "bytes")
    target_mask: bytes = _column("target/mask", "bytes")
    source_landmarks: np.ndarray = _column("source/landmarks", "float", 2 * NUM_LANDMARKS)
    target_landmarks: np.ndarray = _column("target/landmarks", "float", 2 * NUM_LANDMARKS)
    source_id: str = _column("source/id", "str")
    target_id: str = _column("target/id", "str")
    source_pose: str = _column("source/pose", "str")
    target_pose: str = _column("target/pose", "str")
    expression: str = _column("label/expression", "str")
    expression_id: int = _column("label/expression_id", "int")
    person: str = _column("label/person", "str")
    same_moment: int = _column("pair/same_moment", "int", default=0)
    er_ss: str = _column("split/er_ss", "str", default=NO_SPLIT)
    er_ue: str = _column("split/er_ue", "str", default=NO_SPLIT)
    er_up: str = _column("split/er_up", "str", default=NO_SPLIT)
    er_zid: str = _column("split/er_zid", "str", default=NO_SPLIT)


Record = FaceRecord | PairRecord


def tag_of(task: str) -> str:
    """Returns the field of a face record that holds its part for a task: a public set's parts are its own."""
    return task if task in TASKS else "split"


def _columns(record_type: type) -> dict[str, dict[str, Any]]:
    return {column.name: dict(column.metadata, default=column.default) for column in dataclasses.fields(record_type)}


def key_of(record_type: type, name: str) -> str:
    """Returns the Example key of a record's field, such as `label/expression_id`."""
    return _columns(record_type)[name]["key"]


def encode(record: Record) -> bytes:
    """Returns the record as a serialized tf.train.Example.

    Raises:
      InputError: when an array has the wrong length or a split tag is not one of train, val, test or empty.
    """
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    for name, column in _columns(type(record)).items():
        value = getattr(record, name)
        if name in (*TASKS, "split") and value not in (*SPLITS, NO_SPLIT):
            raise InputError(f"`{column['key']}` must be one of {(*SPLITS, NO_SPLIT)}. Received: {value!r}.")
        if column["optional"] and not len(value):
            continue
        feature = example.features.feature[column["key"]]
        if column["kind"] == "float":
            numbers = np.asarray(value, np.float32).reshape(-1)
            if len(numbers) != column["length"]:
                raise InputError(f"`{column['key']}` needs {column['length']} numbers. Received: {len(numbers)}.")
            feature.float_list.value.extend(numbers.tolist())
        elif column["kind"] == "floats":
            feature.float_list.value.extend(np.asarray(value, np.float32).tolist())
        elif column["kind"] == "int":
            feature.int64_list.value.append(int(value))
        else:
            feature.bytes_list.value.append(value.encode() if column["kind"] == "str" else value)
    return example.SerializeToString(deterministic=True)


def decode(serialized: bytes, record_type: type = FaceRecord) -> Any:
    """Returns the record of a serialized tf.train.Example; the inverse of `encode`.

    Raises:
      InputError: when the bytes are no Example or a key is missing.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        features = example_pb2.Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise InputError(f"not a tf.train.Example: {error}") from None
    values: dict[str, Any] = {}
    for name, column in _columns(record_type).items():
        if column["key"] not in features:
            if column["optional"]:
                values[name] = column["default"]
                continue
            raise InputError(f"record has no `{column['key']}`; it has {sorted(features)}")
        feature = features[column["key"]]
        if column["kind"] == "float":
            numbers = np.asarray(feature.float_list.value, np.float32)
            shaped = numbers.reshape(-1, 2) if column["length"] == 2 * NUM_LANDMARKS else numbers
            values[name] = float(numbers[0]) if column["length"] == 1 else shaped
        elif column["kind"] == "floats":
            values[name] = tuple(feature.float_list.value)
        elif column["kind"] == "int":
            values[name] = int(feature.int64_list.value[0])
        else:
            raw = feature.bytes_list.value[0]
            values[name] = raw.decode() if column["kind"] == "str" else raw
    return record_type(**values)


def parse_spec(record_type: type, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the `tf.io.parse_example` features of some fields, keyed by their Example keys."""
    import tensorflow as tf

    types = {"bytes": tf.string, "str": tf.string, "int": tf.int64, "float": tf.float32}
    columns = _columns(record_type)
    spec = {}
    for name in names:
        column = columns[name]
        if column["kind"] == "floats":
            spec[column["key"]] = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
            continue
        shape = [NUM_LANDMARKS, 2] if column["length"] == 2 * NUM_LANDMARKS else [column["length"]]
        shape = [] if column["length"] == 1 else shape
        default = column["default"] if column["optional"] else None
        spec[column["key"]] = tf.io.FixedLenFeature(shape, types[column["kind"]], default)
    return spec


def parse(serialized: Any, record_type: type, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns some fields of serialized Examples as tensors, keyed by field name; for use inside tf.data.

    Args:
      serialized: scalar string tensor, or (B,) for a batch.
      record_type: FaceRecord or PairRecord.
      names: the dataclass fields wanted, such as `("image", "expression_id")`.
    """
    import tensorflow as tf

    spec = parse_spec(record_type, names)
    parse_fn = tf.io.parse_single_example if serialized.shape.rank == 0 else tf.io.parse_example
    parsed = parse_fn(serialized, spec)
    return {name: parsed[key_of(record_type, name)] for name in names}
