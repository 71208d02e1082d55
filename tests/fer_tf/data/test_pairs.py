"""The stream of pairs: what reaches it, in which order, and what cannot."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import pairs, schema
from fer_tf.data.pairs import PairStream, images_of, survey
from fer_tf.data.schema import PairRecord
from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import TASKS

MAGENTA = np.array([255, 0, 255], np.uint8)


def rewritten(toy_data: str, folder: Path, change: Callable[[PairRecord], PairRecord | None]) -> str:
    """The toy data with some of its pairs changed, or left out where `change` gives None."""
    for name in ("dataset.json", "records"):
        (folder / name).symlink_to(Path(toy_data, name))
    for path in sorted(Path(toy_data, "pairs").glob("*.tfrecord")):
        target = folder / "pairs" / path.name
        os.makedirs(target.parent, exist_ok=True)
        with tf.io.TFRecordWriter(str(target)) as writer:
            for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                record = change(schema.decode(raw, PairRecord))
                if record is not None:
                    writer.write(schema.encode(record))
    return str(folder)


def painted(colour: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.broadcast_to(colour[::-1], (FACE_SIZE, FACE_SIZE, 3)))[1].tobytes()


def stacked(stream: PairStream, epoch: int = 0, skip: int = 0) -> np.ndarray:
    return np.concatenate([batch["source"] for batch in stream.epoch(epoch, skip).as_numpy_iterator()])


def stream_of(data: str, task: str = "er_ss", **options: object) -> PairStream:
    return PairStream(data, task, image_size=16, batch_size=8, **options)


@pytest.mark.parametrize("task", TASKS)
def test_no_pixel_of_a_validation_or_test_image_reaches_training(toy_data: str, tmp_path: Path, task: str) -> None:
    # Whatever is not wholly in this task's training part is painted magenta, even if it trains in every other task.
    poison = painted(MAGENTA)
    counter = iter(range(10**6))

    def change(record: PairRecord) -> PairRecord:
        tags = dict.fromkeys(TASKS, "train")
        split = ("train", "val", "test", "")[next(counter) % 4]
        if split != "train":
            record = dataclasses.replace(record, source=poison, target=poison)
        return dataclasses.replace(record, **{**tags, task: split})

    data = rewritten(toy_data, tmp_path, change)
    seen = 0
    for batch in stream_of(data, task, flip=True).epoch(0).as_numpy_iterator():
        for name in ("source", "target"):
            colours = (batch[name] + 1) * 127.5
            assert not (np.abs(colours - MAGENTA) < 1).all(axis=-1).any()
            seen += len(colours)
    assert seen > 0
    # The same look finds the paint where it is.
    held_out = next(iter(stream_of(data, task, split="val").epoch(0).as_numpy_iterator()))
    assert (np.abs((held_out["source"] + 1) * 127.5 - MAGENTA) < 1).all()


def test_a_batch_holds_faces_from_minus_one_to_one_and_masks_from_zero_to_one(toy_data: str) -> None:
    batch = next(iter(stream_of(toy_data).epoch(0)))
    assert batch["source"].shape == batch["target"].shape == (8, 16, 16, 3)
    assert batch["mask"].shape == (8, 16, 16, 1)
    assert -1 <= float(tf.reduce_min(batch["source"])) < float(tf.reduce_max(batch["source"])) <= 1
    assert 0 == float(tf.reduce_min(batch["mask"])) < float(tf.reduce_max(batch["mask"])) <= 1


def test_an_epoch_is_a_function_of_seed_and_number(toy_data: str) -> None:
    stream = stream_of(toy_data)
    assert np.array_equal(stacked(stream), stacked(stream))
    assert not np.array_equal(stacked(stream), stacked(stream, epoch=1))
    assert not np.array_equal(stacked(stream), stacked(dataclasses.replace(stream, seed=1)))


def test_an_epoch_resumed_after_some_steps_goes_on_with_the_same_batches(toy_data: str) -> None:
    stream = stream_of(toy_data, flip=True)
    whole = stacked(stream, epoch=2)
    assert np.array_equal(whole[5 * 8 :], stacked(stream, epoch=2, skip=5))


def test_every_training_pair_comes_once_an_epoch(toy_data: str) -> None:
    stream = PairStream(toy_data, "er_ss", image_size=64, batch_size=8)
    assert len(stacked(stream)) == survey(toy_data, "er_ss").splits["train"] == 288


def test_a_mirrored_pair_is_mirrored_as_a_whole(toy_data: str) -> None:
    plain = next(iter(stream_of(toy_data).epoch(0).as_numpy_iterator()))
    mirrored = next(iter(stream_of(toy_data, flip=True).epoch(0).as_numpy_iterator()))
    turned = [index for index in range(8) if not np.array_equal(plain["source"][index], mirrored["source"][index])]
    assert 0 < len(turned) < 8
    for name in ("source", "target", "mask"):
        for index in turned:
            assert np.array_equal(mirrored[name][index], plain[name][index][:, ::-1])


def test_held_out_pairs_come_in_the_same_order_with_what_is_measured(toy_data: str) -> None:
    stream = stream_of(toy_data, split="val")
    dataset = stream.in_order(12)
    batches = list(dataset.as_numpy_iterator())
    assert sum(len(batch["source"]) for batch in batches) == 12
    assert batches[0]["source_face"].shape == (8, FACE_SIZE, FACE_SIZE, 3)
    assert batches[0]["target_landmarks"].shape == (8, 68, 2)
    again = next(iter(stream.in_order(12).as_numpy_iterator()))
    assert np.array_equal(batches[0]["source_id"], again["source_id"])
    for first, second in zip(batches, dataset.as_numpy_iterator(), strict=True):
        assert np.array_equal(first["source_id"], second["source_id"])
    assert {person.decode() for batch in batches for person in batch["person"]} == {"T003"}


def test_held_out_pairs_are_drawn_from_all_of_the_part(toy_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer of the first pairs alone would never reach those of the last persons."""
    monkeypatch.setattr(pairs, "SHUFFLE_BUFFER", 4)

    def ids(limit: int) -> list[tuple[bytes, bytes]]:
        batches = stream_of(toy_data, split="train").in_order(limit).as_numpy_iterator()
        return [pair for batch in batches for pair in zip(batch["source_id"], batch["target_id"], strict=True)]

    every, some = ids(0), ids(24)
    assert len(set(some)) == 24 < len(every) and some == ids(24)
    places = [every.index(pair) for pair in some]
    assert max(places) > 0.8 * len(every) and min(places) < 0.2 * len(every)


def test_a_jpeg_and_a_png_shrink_alike() -> None:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    png = cv2.imencode(".png", image)[1].tobytes()
    for size in (32, 64, 100, 256):
        first, second = images_of(tf.constant([jpeg, png]), 3, size).numpy()
        assert first.shape == (size, size, 3)
        assert np.abs(first - second).mean() < 2.0


def test_the_survey_counts_poses_targets_and_moments(toy_data: str) -> None:
    found = survey(toy_data, "er_up")
    assert found.splits == {"train": 288, "val": 96, "test": 96}
    assert found.poses["front", "half_left"] == 24
    assert found.targets == dict.fromkeys(("bird_view", "front", "half_left", "half_right"), 24)
    assert found.moments == 288


def test_a_pose_with_one_image_is_seen_by_the_survey(toy_data: str, tmp_path: Path) -> None:
    chosen: list[str] = []

    def change(record: PairRecord) -> PairRecord | None:
        if record.target_pose != "bird_view" or record.er_ss != "train":
            return record
        chosen.append(record.target_id)
        return record if record.target_id == chosen[0] else None

    assert survey(rewritten(toy_data, tmp_path, change), "er_ss").targets["bird_view"] == 1


def test_a_folder_without_training_pairs_says_what_is_there(toy_data: str, tmp_path: Path) -> None:
    data = rewritten(toy_data, tmp_path, lambda record: dataclasses.replace(record, er_ue="test"))
    with pytest.raises(InputError, match=r"no training pair for task 'er_ue'.*'test': 480"):
        survey(data, "er_ue")


def test_a_folder_without_pairs_names_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"beam_pipelines\.build"):
        survey(str(tmp_path), "er_ss")


def test_missing_masks_are_counted_and_named(toy_data: str, tmp_path: Path) -> None:
    def change(record: PairRecord) -> PairRecord:
        return dataclasses.replace(record, target_mask=b"") if record.target_pose == "front" else record

    with pytest.raises(InputError, match=r"72 training pairs have no target mask, such as 'T00\d/\w+/front"):
        survey(rewritten(toy_data, tmp_path, change), "er_ss")


def test_an_unknown_task_or_split_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="er_zid"):
        PairStream("data", "er_xx")
    with pytest.raises(InputError, match="'train', 'val', 'test'"):
        PairStream("data", "er_ss", split="training")
