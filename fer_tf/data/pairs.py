"""The pairs of one task's split as a stream of batches for FaPE-GAN, and a survey of what it will see."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.data import schema
from fer_tf.data.folder import DataFolder
from fer_tf.data.inputs import decode_image
from fer_tf.data.schema import PairRecord
from fer_tf.data.stored import TagsById, records_of
from fer_tf.errors import InputError, not_one_of
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import SPLITS, TASKS

# Serialized pairs held to be shuffled: about 50 kB each.
SHUFFLE_BUFFER = 2048
READ_BATCH = 256


@dataclass(frozen=True)
class PairSurvey:
    """What the pairs of a data folder hold for one task.

    Attributes:
      splits: pairs per split; the empty name counts the pairs that the task leaves out.
      poses: training pairs per (source pose, target pose).
      targets: distinct training target images per pose.
      moments: training pairs whose two frames show the same moment.
      maskless: ids of targets in the split without a mask, the first ten.
    """

    splits: dict[str, int]
    poses: dict[tuple[str, str], int]
    targets: dict[str, int]
    moments: int
    maskless: tuple[str, ...] = ()


@dataclass
class _Tally:
    splits: Counter = field(default_factory=Counter)
    poses: Counter = field(default_factory=Counter)
    targets: dict[str, set] = field(default_factory=dict)
    moments: int = 0
    maskless: list = field(default_factory=list)


def survey(data: str, task: str) -> PairSurvey:
    """Counts a data folder's pairs for a task by one pass over its files.

    Raises:
      InputError: for an unknown task, no pair files, no training pair at all, or training targets without mask.
    """
    if task not in TASKS:
        raise not_one_of("task", task, TASKS)
    import tensorflow as tf

    tally, folder = _Tally(), DataFolder(data)
    split_of = _split_of(folder, task)
    dataset = records_of(folder.pair_files).batch(READ_BATCH)
    facts = tf.autograph.experimental.do_not_convert(lambda batch: _facts(batch, split_of(batch)))
    dataset = dataset.map(facts)
    for batch in dataset.as_numpy_iterator():
        _count(batch, tally)
    found = PairSurvey(
        dict(tally.splits),
        dict(tally.poses),
        {pose: len(ids) for pose, ids in sorted(tally.targets.items())},
        tally.moments,
        tuple(tally.maskless[:10]),
    )
    if not found.splits.get("train"):
        raise InputError(
            f"no training pair for task {task!r} in {data!r}: FaPE-GAN needs two poses of one person and expression in"
            f" the task's training part. Pairs per split: {found.splits or 'none'}."
        )
    if tally.maskless:
        raise InputError(
            f"{len(tally.maskless)} training pairs have no target mask, such as {found.maskless[0]!r}: the pose cannot"
            " be given without it; build the data again with landmarks"
        )
    return found


def _facts(serialized: Any, split: Any) -> dict[str, Any]:
    import tensorflow as tf

    names = ("source_pose", "target_pose", "target_id", "same_moment")
    parsed = schema.parse(serialized, PairRecord, (*names, "target_mask"))
    masked = tf.strings.length(parsed.pop("target_mask")) > 0
    return {**parsed, "split": split, "masked": masked}


def _split_of(data: DataFolder, task: str) -> Callable[[Any], Any]:
    """Returns a function from serialized pairs, scalar or (B,), to their part: that of both faces, or empty."""
    import tensorflow as tf

    tags = data.tags(task)
    if tags is None:
        return lambda serialized: schema.parse(serialized, PairRecord, (task,))[task]
    table = TagsById(tags)

    def drawn(serialized: Any) -> Any:
        parsed = schema.parse(serialized, PairRecord, ("source_id", "target_id"))
        source, target = table.of(parsed["source_id"]), table.of(parsed["target_id"])
        return tf.where(source == target, source, "")

    return drawn


def _count(batch: dict[str, np.ndarray], tally: _Tally) -> None:
    for index, raw in enumerate(batch["split"]):
        split = raw.decode()
        tally.splits[split] += 1
        if split != "train":
            continue
        source, target = batch["source_pose"][index].decode(), batch["target_pose"][index].decode()
        target_id = batch["target_id"][index].decode()
        tally.poses[source, target] += 1
        tally.targets.setdefault(target, set()).add(target_id)
        tally.moments += int(batch["same_moment"][index])
        if not batch["masked"][index]:
            tally.maskless.append(target_id)


@dataclass(frozen=True)
class PairStream:
    """How pairs become batches.

    Attributes:
      data: the data folder.
      task: the task whose split tags decide.
      split: `train`, `val` or `test`.
      image_size: side of the images, pixels.
      batch_size: pairs in a global batch; an incomplete last batch is dropped when training.
      seed: seed of the order and of the flips.
      flip: whether a pair is mirrored at random; its mask goes along.
    """

    data: str
    task: str
    split: str = "train"
    image_size: int = 64
    batch_size: int = 16
    seed: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise not_one_of("task", self.task, TASKS)
        if self.split not in SPLITS:
            raise not_one_of("split", self.split, SPLITS)

    def epoch(self, number: int, skip: int = 0) -> Any:
        """Returns the shuffled batches of one epoch: the same for the same seed and epoch, on any machine.

        Args:
          number: the epoch, from 0.
          skip: batches to leave out at its start, those that an interrupted run has already seen.

        Returns:
          tf.data.Dataset of dicts: `source` and `target` float32 (B, S, S, 3), values -1 to 1, `mask` float32
          (B, S, S, 1), values 0 to 1.
        """
        import tensorflow as tf

        order = np.random.default_rng((self.seed, number))
        files = list(order.permutation(list(DataFolder(self.data).pair_files)))
        seed = int(order.integers(2**31))
        dataset = self._serialized(files).shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)
        # Skipped before anything is decoded, so a resumed epoch starts at once.
        dataset = dataset.batch(self.batch_size, drop_remainder=True).skip(skip)
        plain = tf.autograph.experimental.do_not_convert
        flips = tf.data.Dataset.counter(skip).map(plain(lambda step: self._flips(number, step)))
        dataset = tf.data.Dataset.zip(dataset, flips)
        dataset = dataset.map(plain(self._decode), os.cpu_count() or 1, deterministic=True).prefetch(2)
        # Autotuning's thread sleeps for up to a minute and can miss the end of an epoch: training then waits for it.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.with_options(options)

    def in_order(self, limit: int = 0) -> Any:
        """Returns the same batches each time, with what is needed to measure them, the last one possibly smaller.

        Args:
          limit: how many pairs at most, drawn from all of the split's; 0 takes all in the files' order.

        Returns:
          tf.data.Dataset of dicts: those of `epoch`, and `source_face` uint8 (B, 256, 256, 3), ids, poses,
          expression, person and landmarks.
        """
        import tensorflow as tf

        names = ("source_id", "target_id", "source_pose", "target_pose", "expression", "person")
        names += ("source_landmarks", "target_landmarks", "source")

        @tf.autograph.experimental.do_not_convert
        def measurable(serialized: Any) -> dict[str, Any]:
            facts = schema.parse(serialized, PairRecord, names)
            return {
                **facts,
                "source_face": images_of(facts["source"], 3, FACE_SIZE, "uint8"),
                **self._decode(serialized),
            }

        dataset = self._serialized(list(DataFolder(self.data).pair_files))
        dataset = _drawn(dataset, limit) if limit else dataset
        return dataset.batch(self.batch_size).map(measurable).prefetch(2)

    def _serialized(self, files: list[str]) -> Any:
        import tensorflow as tf

        split_of = _split_of(DataFolder(self.data), self.task)
        plain = tf.autograph.experimental.do_not_convert
        return records_of(files).filter(plain(lambda record: tf.equal(split_of(record), self.split)))

    def _flips(self, epoch: int, step: Any) -> Any:
        import tensorflow as tf

        if not self.flip:
            return tf.zeros((self.batch_size,), tf.bool)
        seed = tf.stack([tf.constant(self.seed * 100_003 + epoch, tf.int64), step])
        return tf.random.stateless_uniform((self.batch_size,), seed) < 0.5

    def _decode(self, serialized: Any, flips: Any = None) -> dict[str, Any]:
        import tensorflow as tf

        parsed = schema.parse(serialized, PairRecord, ("source", "target", "target_mask"))
        columns = {"source": ("source", 3), "target": ("target", 3), "mask": ("target_mask", 1)}
        batch = {}
        for name, (column, channels) in columns.items():
            images = images_of(parsed[column], channels, self.image_size)
            if flips is not None:
                images = tf.where(flips[:, None, None, None], images[:, :, ::-1], images)
            batch[name] = mask_input(images) if name == "mask" else face_input(images)
        return batch


def _drawn(dataset: Any, limit: int) -> Any:
    """Returns so many elements of a dataset, always the same ones, each as likely as any other.

    A shard holds one person's pairs side by side, so the first ones, even of a buffer, would be of the first persons.
    """
    import tensorflow as tf

    count = int(dataset.reduce(np.int64(0), lambda seen, _: seen + 1))
    if count <= SHUFFLE_BUFFER:
        return dataset.shuffle(SHUFFLE_BUFFER, seed=0, reshuffle_each_iteration=False).take(limit)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(0).permutation(count)[:limit]] = True
    taken = tf.constant(chosen)
    return dataset.enumerate().filter(lambda place, _: taken[place]).map(lambda _, element: element)


def face_input(images: Any) -> Any:
    """Returns faces, values 0 to 255, as FaPE-GAN reads them: -1 to 1."""
    return images / 127.5 - 1.0


def mask_input(images: Any) -> Any:
    """Returns masks, values 0 to 255, as FaPE-GAN reads them: 0 to 1."""
    return images / 255.0


def images_of(encoded: Any, channels: int, image_size: int, dtype: str = "float32") -> Any:
    """Returns encoded images, string (B,), as (B, image_size, image_size, channels), values 0 to 255."""
    import tensorflow as tf

    return tf.map_fn(
        lambda raw: tf.cast(_resized(raw, channels, image_size), dtype),
        encoded,
        fn_output_signature=tf.TensorSpec((image_size, image_size, channels), dtype),
    )


def _resized(encoded: Any, channels: int, image_size: int) -> Any:
    """Returns encoded bytes as float32 (image_size, image_size, channels), values 0 to 255, averaged when shrunk.

    Args:
      encoded: scalar string tensor, JPEG or PNG of FACE_SIZE.
      channels: 1 or 3.
      image_size: side of the result, pixels.
    """
    import tensorflow as tf

    size = (image_size, image_size)
    image = tf.cast(decode_image(encoded, channels, at_least=image_size), tf.float32)
    same = tf.reduce_all(tf.shape(image)[:2] == size)
    image = tf.cond(same, lambda: image, lambda: tf.image.resize(image, size, method="area"))
    return tf.ensure_shape(image, (*size, channels))
