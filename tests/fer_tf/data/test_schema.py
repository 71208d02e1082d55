"""The record schema: what is written is what is read, by Python and inside tf.data, and nothing wrong is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord, PairRecord
from fer_tf.errors import InputError

# The contract of docs/architecture.md: trainers of other projects read these keys.
FACE_KEYS = {
    *("image/encoded", "image/format", "image/height", "image/width", "mask/encoded", "face/landmarks", "face/box"),
    *(
        "face/score",
        "label/expression",
        "label/expression_id",
        "label/pose",
        "label/pose_id",
        "label/person",
        "clip/id",
    ),
    *("clip/frame", "clip/time", "split/er_ss", "split/er_ue", "split/er_up", "split/er_zid", "synthetic"),
    *("provenance/landmark_model", "provenance/detector"),
}


def face(**changes: object) -> FaceRecord:
    rng = np.random.default_rng(0)
    record = FaceRecord(
        image_id="a/é.mp4#000003",
        image=b"\x00\xffjpeg",
        image_format="jpeg",
        height=256,
        width=256,
        mask=b"",
        landmarks=rng.normal(size=(68, 2)).astype(np.float32),
        box=np.array([-3.5, 0, 100, 1e6], np.float32),
        score=0.5,
        expression="happy",
        expression_id=0,
        pose="front",
        pose_id=3,
        person="P1",
        clip_id="a/é.mp4",
        frame=3,
        time=0.12,
        landmark_model="m",
        detector="d",
        er_ss="train",
    )
    return dataclasses.replace(record, **changes)


def pair(**changes: object) -> PairRecord:
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    record = PairRecord(
        source=b"s",
        target=b"t",
        target_mask=b"m",
        source_landmarks=points,
        target_landmarks=points + 1,
        source_id="a#000001",
        target_id="b#000001",
        source_pose="front",
        target_pose="half_left",
        expression="happy",
        expression_id=2,
        person="P1",
        same_moment=1,
        er_up="val",
    )
    return dataclasses.replace(record, **changes)


def assert_equal(one: object, other: object) -> None:
    for column in dataclasses.fields(one):
        np.testing.assert_array_equal(
            np.float32(getattr(one, column.name)) if column.type == "float" else getattr(one, column.name),
            np.float32(getattr(other, column.name)) if column.type == "float" else getattr(other, column.name),
        )


@pytest.mark.parametrize("record", [face(), pair()])
def test_a_record_comes_back_as_it_was(record: schema.Record) -> None:
    assert_equal(schema.decode(schema.encode(record), type(record)), record)


def test_equal_records_give_equal_bytes_and_others_do_not() -> None:
    assert schema.encode(face()) == schema.encode(face())
    assert schema.encode(face()) != schema.encode(face(frame=4))


def test_the_keys_are_those_of_the_contract() -> None:
    example = tf.train.Example.FromString(schema.encode(face()))
    assert set(example.features.feature) >= FACE_KEYS


@pytest.mark.parametrize("batched", [False, True])
def test_tf_data_reads_the_fields_asked_for_with_their_shapes(batched: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "faces.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for frame in range(4):
            writer.write(schema.encode(face(frame=frame)))
    names = ("image", "expression_id", "landmarks", "box", "score", "er_ss", "frame")
    data = tf.data.TFRecordDataset(path)
    data = data.batch(4) if batched else data
    parsed = next(iter(data.map(lambda raw: schema.parse(raw, FaceRecord, names))))
    lead = [4] if batched else []
    assert set(parsed) == set(names)
    assert parsed["landmarks"].shape == [*lead, 68, 2] and parsed["box"].shape == [*lead, 4]
    assert parsed["frame"].shape == lead and parsed["frame"].dtype == tf.int64
    first = parsed["landmarks"][0] if batched else parsed["landmarks"]
    np.testing.assert_array_equal(first, face().landmarks)
    assert (parsed["er_ss"][0] if batched else parsed["er_ss"]) == b"train"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (face(landmarks=np.zeros((67, 2), np.float32)), "face/landmarks` needs 136 numbers. Received: 134"),
        (face(box=np.zeros(5, np.float32)), "face/box` needs 4 numbers"),
        (face(er_zid="training"), "split/er_zid` must be one of"),
        (pair(er_ss="Train"), "split/er_ss` must be one of"),
    ],
)
def test_a_wrong_record_is_refused_by_the_name_of_its_key(record: schema.Record, words: str) -> None:
    with pytest.raises(InputError, match=words):
        schema.encode(record)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xff", "not a tf.train.Example"), (b"", "record has no `image/id`"), (schema.encode(pair()), "has no")],
)
def test_bytes_that_are_no_face_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        schema.decode(content)
