"""The pairs of one task's split as a stream of batches for FaPE-GAN, and a survey of what it will see."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.data import schema
from fer_tf.data.augment import Augmentation, Draws, warp
from fer_tf.data.schema import FACE_SIZE, PairRecord
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import SPLITS, TASKS

# Serialized pairs held to be shuffled: about 50 kB each.
SHUFFLE_BUFFER = 2048
READ_BATCH = 256
UNCHANGED = Augmentation()


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


def pair_files(data: str) -> list[str]:
    """Returns a data folder's pair files in order.

    Raises:
      InputError: when there is none.
    """
    import tensorflow as tf

    files = sorted(tf.io.gfile.glob(os.path.join(data, schema.PAIRS_GLOB)))
    if not files:
        raise InputError(
            f"no pairs in {data!r} ({schema.PAIRS_GLOB} matches nothing); run python -m beam_pipelines.build first"
        )
    return files


def survey(data: str, task: str) -> PairSurvey:
    """Counts a data folder's pairs for a task by one pass over its files.

    Raises:
      InputError: for an unknown task, no pair files, no training pair at all, or training targets without mask.
    """
    import tensorflow as tf

    if task not in TASKS:
        raise not_one_of("task", task, TASKS)
    names = (task, "source_pose", "target_pose", "target_id", "target_mask", "same_moment")
    tally = _Tally()
    dataset = tf.data.TFRecordDataset(pair_files(data)).batch(READ_BATCH)
    dataset = dataset.map(lambda batch: _facts(schema.parse(batch, PairRecord, names), task))
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


def _facts(parsed: dict[str, Any], task: str) -> dict[str, Any]:
    import tensorflow as tf

    facts = {name: parsed[name] for name in ("source_pose", "target_pose", "target_id", "same_moment")}
    return {**facts, "split": parsed[task], "masked": tf.strings.length(parsed["target_mask"]) > 0}


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
      seed: seed of the order and of the changes.
      augmentation: what changes at random in a pair. It is mirrored as a whole and takes one brightness and contrast;
        the source moves by itself, the target together with its mask.
    """

    data: str
    task: str
    split: str = "train"
    image_size: int = 64
    batch_size: int = 16
    seed: int = 0
    augmentation: Augmentation = UNCHANGED

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
        files = list(order.permutation(pair_files(self.data)))
        dataset = self._serialized(files).shuffle(SHUFFLE_BUFFER, seed=int(order.integers(2**31)))
        # Skipped before anything is decoded, so a resumed epoch starts at once.
        dataset = dataset.batch(self.batch_size, drop_remainder=True).skip(skip)
        dataset = tf.data.Dataset.zip(dataset, tf.data.Dataset.counter(skip))

        def changed(serialized: Any, step: Any) -> dict[str, Any]:
            seed = tf.stack([tf.constant(self.seed * 100_003 + number, tf.int64), step])
            return change(self._images(serialized), seed, self.augmentation)

        return dataset.map(changed, tf.data.AUTOTUNE, deterministic=True).prefetch(2)

    def in_order(self, limit: int = 0) -> Any:
        """Returns the same batches each time, with what is needed to measure them, the last one possibly smaller.

        Args:
          limit: how many pairs at most, mixed; 0 takes all in the files' order.

        Returns:
          tf.data.Dataset of dicts: those of `epoch`, and `source_face` uint8 (B, 256, 256, 3), ids, poses,
          expression, person and landmarks.
        """
        names = ("source_id", "target_id", "source_pose", "target_pose", "expression", "person")
        names += ("source_landmarks", "target_landmarks", "source")

        def measurable(serialized: Any) -> dict[str, Any]:
            facts = schema.parse(serialized, PairRecord, names)
            return {
                **facts,
                "source_face": images_of(facts["source"], 3, FACE_SIZE, "uint8"),
                **scaled(self._images(serialized)),
            }

        dataset = self._serialized(pair_files(self.data))
        # A shard holds one person's pairs side by side: the first ones would all be alike.
        dataset = dataset.shuffle(SHUFFLE_BUFFER, seed=0).take(limit) if limit else dataset
        return dataset.batch(self.batch_size).map(measurable).prefetch(2)

    def _serialized(self, files: list[str]) -> Any:
        import tensorflow as tf

        def belongs(record: Any) -> Any:
            return schema.parse(record, PairRecord, (self.task,))[self.task] == self.split

        return tf.data.TFRecordDataset(files).filter(belongs)

    def _images(self, serialized: Any) -> dict[str, Any]:
        """Returns source, target and mask, values 0 to 255."""
        parsed = schema.parse(serialized, PairRecord, ("source", "target", "target_mask"))
        columns = {"source": ("source", 3), "target": ("target", 3), "mask": ("target_mask", 1)}
        return {
            name: images_of(parsed[column], channels, self.image_size) for name, (column, channels) in columns.items()
        }


def change(batch: dict[str, Any], seed: Any, options: Augmentation) -> dict[str, Any]:
    """Returns a changed batch of pairs as FaPE-GAN reads it.

    Args:
      batch: `source` and `target` float32 (B, S, S, 3), `mask` float32 (B, S, S, 1), values 0 to 255.
      seed: int (2,), the batch's own seed.
      options: what may change; `erase` and `mixup` do not apply to pairs.
    """
    import tensorflow as tf

    source, size = batch["source"], batch["source"].shape[1]
    draws = Draws(tf.shape(source)[0], seed)
    target = tf.concat([batch["target"], batch["mask"]], -1)
    if options.flip:
        mirrored = (draws.uniform(0.0, 1.0) < 0.5)[:, None, None, None]
        source, target = (tf.where(mirrored, images[:, :, ::-1], images) for images in (source, target))
    if options.rotation or options.scale or options.shift:
        moves = dataclasses.replace(options, flip=False)
        source, target = (warp(images, size, 1.0, draws, moves) for images in (source, target))
    target, mask = target[..., :3], target[..., 3:]
    if options.contrast or options.brightness:
        gain = draws.around(1.0, options.contrast)[:, None, None, None]
        offset = 127.5 + 255.0 * draws.around(0.0, options.brightness)[:, None, None, None]
        source, target = (tf.clip_by_value((x - 127.5) * gain + offset, 0.0, 255.0) for x in (source, target))
    return scaled({"source": source, "target": target, "mask": mask})


def scaled(batch: dict[str, Any]) -> dict[str, Any]:
    """Returns a batch of `source`, `target` and `mask`, values 0 to 255, as FaPE-GAN reads it."""
    return {
        "source": face_input(batch["source"]),
        "target": face_input(batch["target"]),
        "mask": mask_input(batch["mask"]),
    }


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
        lambda raw: tf.cast(decode_image(raw, channels, image_size), dtype),
        encoded,
        fn_output_signature=tf.TensorSpec((image_size, image_size, channels), dtype),
    )


def decode_image(encoded: Any, channels: int, image_size: int) -> Any:
    """Returns encoded bytes as float32 (image_size, image_size, channels), values 0 to 255, averaged when shrunk.

    Args:
      encoded: scalar string tensor, JPEG or PNG of FACE_SIZE.
      channels: 1 or 3.
      image_size: side of the result, pixels.
    """
    import tensorflow as tf

    # A JPEG shrinks by 2, 4 or 8 while it is decoded, for a third of the time.
    ratio = max(ratio for ratio in (1, 2, 4, 8) if ratio == 1 or FACE_SIZE // ratio >= image_size)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels, ratio=ratio),
        lambda: tf.io.decode_image(encoded, channels, expand_animations=False),
    )
    size = (image_size, image_size)
    image = tf.cast(image, tf.float32)
    same = tf.reduce_all(tf.shape(image)[:2] == size)
    image = tf.cond(same, lambda: image, lambda: tf.image.resize(image, size, method="area"))
    return tf.ensure_shape(image, (*size, channels))
