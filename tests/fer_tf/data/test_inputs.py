"""Batches hold the task's faces, start at any epoch as an unbroken run would, and bad data is refused by name."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import inputs, schema
from fer_tf.data.augment import Augmentation
from fer_tf.data.folder import DataFolder
from fer_tf.data.parts import survey
from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError

CHANGES = Augmentation(flip=True, rotation=10, erase=0.5)


@pytest.fixture(scope="module")
def faces(toy_data):
    return inputs.read_records(toy_data, "er_ss")


@pytest.fixture
def copy(toy_data, tmp_path):
    shutil.copytree(toy_data, tmp_path / "data")
    return tmp_path / "data"


def shard(folder, number: int = 0) -> str:
    return os.path.join(folder, schema.FACES_PATTERN.format(shard=number, shards=2))


def rewrite(folder, change) -> None:
    """Passes every face record through a function; None drops it."""
    for number in range(2):
        path = shard(folder, number)
        records = [schema.decode(raw.numpy()) for raw in tf.data.TFRecordDataset(path)]
        with tf.io.TFRecordWriter(path) as writer:
            for record in map(change, records):
                if record is not None:
                    writer.write(schema.encode(record))


def update(folder, **values) -> None:
    path = os.path.join(folder, "dataset.json")
    with open(path) as file:
        dataset = json.load(file)
    with open(path, "w") as file:
        json.dump(dataset | values, file)


def batches(part, first_epoch=0, count=6, seed=0):
    dataset = inputs.training_batches(
        part,
        4,
        image_size=16,
        channels=1,
        crop=0.9,
        batch_size=32,
        steps_per_epoch=3,
        augmentation=CHANGES,
        seed=seed,
        first_epoch=first_epoch,
    )
    return [(images.numpy(), labels.numpy()) for images, labels in dataset.take(count)]


def test_the_table_says_who_shows_what(faces):
    train, test = faces.parts["train"], faces.parts["test"]
    assert len(train) == 96 and set(train.persons) == {"T000", "T001", "T002"} and set(test.persons) == {"T004"}
    for image_id, label, pose, gender in zip(train.image_ids, train.labels, train.poses, train.genders, strict=True):
        person, expression, clip = image_id.split("/")
        assert faces.expressions[label] == expression and clip.startswith(pose)
        assert gender == ("female", "male")[int(person[1:]) % 2]


def test_evaluation_batches_are_in_the_tables_order_and_preprocessed(faces, toy_data):
    test = faces.parts["test"]
    dataset = inputs.evaluation_batches(test, image_size=32, channels=1, crop=0.8, batch_size=5)
    images, labels = (np.concatenate(values) for values in zip(*dataset.as_numpy_iterator(), strict=True))
    np.testing.assert_array_equal(labels, test.labels)
    wanted = test.image_ids[7]
    for number in range(2):
        for raw in tf.data.TFRecordDataset(shard(toy_data, number)):
            record = schema.decode(raw.numpy())
            if record.image_id == wanted:
                pixels = tf.io.decode_jpeg(record.image)[None]
                np.testing.assert_allclose(images[7], preprocess(pixels, 32, crop=0.8)[0], atol=1e-6)
                return
    pytest.fail(f"{wanted} is not in the records")


def test_every_epoch_shows_every_face_once_in_another_order(faces):
    part = faces.parts["train"]
    orders = [
        [bytes(image) for image, *_ in part.targets(4, seed).as_numpy_iterator()]
        for seed in (tf.constant(1, tf.int64), tf.constant(2, tf.int64))
    ]
    plain = [bytes(image) for image, _ in part.encoded().as_numpy_iterator()]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(plain)
    assert orders[0] != orders[1] != plain


@pytest.mark.parametrize("process_seed", [None, 7])
def test_a_stream_that_starts_at_an_epoch_is_the_rest_of_the_whole_stream(faces, process_seed):
    tf.random.set_seed(process_seed)
    try:
        whole, rest = batches(faces.parts["train"]), batches(faces.parts["train"], first_epoch=1, count=3)
    finally:
        tf.random.set_seed(None)
    for (images, labels), (expected_images, expected_labels) in zip(rest, whole[3:], strict=True):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)
    assert np.abs(whole[0][0] - whole[3][0]).max() > 0


def test_a_missing_folder_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"has no dataset\.json; run `python -m beam_pipelines\.build` first"):
        inputs.read_records(str(tmp_path), "er_ss")


def test_a_missing_shard_is_named(copy):
    os.remove(shard(copy, 1))
    with pytest.raises(InputError, match=r"2 shards; missing or left over: .*faces-00001-of-00002"):
        inputs.read_records(str(copy), "er_ss")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_corrupt_shard_is_named(copy, damage):
    with open(shard(copy, 1), "r+b") as file:
        if damage == "cut":
            file.truncate(os.path.getsize(shard(copy, 1)) - 1000)
        else:
            file.seek(3000)
            file.write(b"\xff" * 64)
    with pytest.raises(InputError, match=r"faces-00001-of-00002\.tfrecord is corrupt"):
        inputs.read_records(str(copy), "er_ss")


def test_records_of_another_build_are_noticed(copy):
    rewrite(copy, lambda record: None if record.frame == 1 else record)
    with pytest.raises(InputError, match=r"48 faces have `split/er_ss` = 'train', dataset\.json says 96"):
        inputs.read_records(str(copy), "er_ss")


def test_an_empty_split_is_refused_with_the_counts(copy):
    import dataclasses

    rewrite(copy, lambda record: dataclasses.replace(record, er_up="train" if record.er_up == "test" else record.er_up))
    update(copy, tasks={})
    with pytest.raises(InputError, match=r"the test part of task 'er_up' .* is empty; faces by part: .*'train': 128"):
        inputs.read_records(str(copy), "er_up")


def test_a_synthetic_face_in_the_test_part_is_refused(copy):
    import dataclasses

    rewrite(copy, lambda record: dataclasses.replace(record, synthetic=1))
    with pytest.raises(InputError, match="synthetic faces are tagged 'val'"):
        inputs.read_records(str(copy), "er_ss")


def test_synthetic_faces_join_the_training_part_alone(copy, tmp_path):
    import dataclasses

    def made(record, source):
        return dataclasses.replace(
            record, synthetic=1, image_id="s", synthetic_source=source, synthetic_target=record.image_id
        )

    shutil.copytree(copy, tmp_path / "synthetic")
    rewrite(tmp_path / "synthetic", lambda record: made(record, record.image_id) if record.er_ss == "train" else None)
    extra = DataFolder(str(tmp_path / "synthetic")).face_files
    read = inputs.read_records(str(copy), "er_ss", extra).parts
    assert {split: len(part) for split, part in read.items()} == {"train": 192, "val": 32, "test": 32}
    # One that shows a test face, as after another split of the same clips, would leak it into training.
    leaked = read["test"].image_ids[0]
    rewrite(tmp_path / "synthetic", lambda record: made(record, leaked))
    with pytest.raises(InputError, match=f"was made from {leaked!r}, which is not in the training part of 'er_ss'"):
        inputs.read_records(str(copy), "er_ss", extra)
    # Where every face was rejected, the files are there and the run is one of real faces alone.
    rewrite(tmp_path / "synthetic", lambda record: None)
    assert inputs.read_records(str(copy), "er_ss", extra).synthetic_fingerprint == ""


def test_png_and_grey_images_decode_too():
    grey = cv2.imencode(".png", np.full((20, 20), 51, np.uint8))[1].tobytes()
    for channels in (1, 3):
        face = inputs.prepared(grey, 16, channels)
        assert face.shape == (16, 16, channels)
        np.testing.assert_allclose(face, 0.2, atol=1e-5)


@pytest.mark.parametrize("times", [0.3, 1.5])
def test_a_part_of_the_faces_is_drawn_anew_each_epoch_wherever_they_lie(toy_data, tmp_path, times):
    """Files in the order of persons, with more faces than are held for shuffling, as a build writes a large corpus."""
    raw = next(iter(tf.data.TFRecordDataset(shard(toy_data)))).numpy()
    some = dataclasses.replace(schema.decode(raw), er_ss="train")
    count, epochs = 8000, 6
    for number in range(2):
        with tf.io.TFRecordWriter(f"{tmp_path}/{number}") as writer:
            for index in range(number, count, 2):
                one = dataclasses.replace(some, image=str(index).encode(), mask=b"", expression_id=index % 4)
                writer.write(schema.encode(one))
    train = survey([f"{tmp_path}/0", f"{tmp_path}/1"], "er_ss", 4)["train"]
    assert len(train) == count
    views = np.zeros(count, int)
    for epoch in range(epochs):
        shown = train.seen(times).targets(4, epoch).map(lambda image, *_: image).batch(count)
        of_epoch = np.bincount(np.concatenate(list(shown.as_numpy_iterator())).astype(int), minlength=count)
        # Each face as often as it must be, and at most once more.
        assert of_epoch.max() == np.ceil(times) and of_epoch.sum() == pytest.approx(times * count, rel=0.03)
        views += of_epoch
    # Every tenth of the files is seen as much as another, and hardly a face never.
    by_place = views.reshape(10, -1).mean(axis=1)
    np.testing.assert_allclose(by_place, times * epochs, rtol=0.08)
    assert (views == 0).mean() == pytest.approx((1 - min(times, 1)) ** epochs, abs=0.015)
