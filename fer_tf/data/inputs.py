"""The faces of a task as tf.data batches, the same whether they come from TFRecords or from a public set's files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf.data.augment import Augmentation, augment
from fer_tf.data.folder import fingerprint_of
from fer_tf.data.preprocess import preprocess
from fer_tf.data.schema import FACES_GLOB, FaceRecord, parse
from fer_tf.errors import InputError
from fer_tf.labels import SPLITS

DATASET_FILE = "dataset.json"
# Encoded faces held for shuffling; at 20 KB each this is 80 MB.
SHUFFLE_BUFFER = 4096
TABLE_FIELDS = ("image_id", "expression_id", "person", "pose", "gender", "age", "synthetic")


@dataclass(frozen=True)
class Part:
    """One split's faces: a table with a row per face, and where the encoded images are.

    Attributes:
      image_ids, persons, poses, genders: str (N,); empty strings where unknown.
      labels: int64 (N,), positions in the face set's `expressions`.
      ages: int64 (N,), years, -1 where unknown.
      images: the encoded images in the table's order; None when they stay in `files`.
      files: record files; their faces of `split` for `task`, in order, are the table's rows.
      task, split: which tag of the records counts.
    """

    image_ids: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    poses: np.ndarray
    genders: np.ndarray
    ages: np.ndarray
    images: tuple[bytes, ...] | None = None
    files: tuple[str, ...] = ()
    task: str = ""
    split: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: np.ndarray) -> Part:
        """Returns the table of some faces alone (bool mask or indices); without images."""
        columns = ("image_ids", "labels", "persons", "poses", "genders", "ages")
        return Part(**{name: getattr(self, name)[chosen] for name in columns})

    def encoded(self, seed: Any = None, worker: int = 0, workers: int = 1) -> Any:
        """Returns a tf.data.Dataset of (image bytes, label); in the table's order, or shuffled by an int64 seed.

        Of several workers each gets every `workers`-th file (every `workers`-th image where they are in memory).
        """
        import tensorflow as tf

        if self.images is not None:
            images, labels = self.images[worker::workers], self.labels[worker::workers]
            faces = tf.data.Dataset.from_tensor_slices((_strings(images), labels))
            return faces if seed is None else faces.shuffle(len(labels), seed=seed, reshuffle_each_iteration=False)
        return _from_records(self.files[worker::workers], self.task, self.split, ("image", "expression_id"), seed)


@dataclass(frozen=True)
class FaceSet:
    """A task's data.

    Attributes:
      expressions: label names; a class's id is its position.
      parts: train, val and test (a public set may lack test).
      fingerprint: changes when any real face, label or split changes.
      synthetic_fingerprint: changes when any synthetic face of the training part does; empty without any.
      landmark_model: what aligned the faces, or `none`.
      notes: what a reader of the scores must know, such as how val was made.
      val_of_training: whether val was held out of the set's own training part, so that a network from elsewhere may
        have been trained on it.
    """

    expressions: tuple[str, ...]
    parts: dict[str, Part]
    fingerprint: str
    landmark_model: str = "none"
    notes: tuple[str, ...] = field(default=())
    val_of_training: bool = False
    synthetic_fingerprint: str = ""


def read_records(data: str, task: str, synthetic: Sequence[str] = ()) -> FaceSet:
    """Returns a task's faces from the data folder that beam_pipelines.build wrote.

    Args:
      data: the data folder.
      task: one of er_ss, er_ue, er_up, er_zid.
      synthetic: record files of synthetic faces that join the training part.

    Raises:
      InputError: when the folder is none, a shard is missing or corrupt, the train or test part is empty, or a
        synthetic face was made from one that is not in the training part.
    """
    import json

    import tensorflow as tf

    path = os.path.join(data, DATASET_FILE)
    if not tf.io.gfile.exists(path):
        raise InputError(f"`data` {data!r} has no {DATASET_FILE}; run `python -m beam_pipelines.build` first.")
    with tf.io.gfile.GFile(path) as file:
        dataset = json.load(file)
    files = record_files(os.path.join(data, FACES_GLOB))
    parts = {split: survey(files, task, split) for split in SPLITS}
    for split in SPLITS:
        expected = dataset.get("tasks", {}).get(task, {}).get(split)
        if expected is not None and expected != len(parts[split]):
            raise InputError(
                f"{data}: {len(parts[split])} faces have `split/{task}` = {split!r}, {DATASET_FILE} says {expected}; "
                "shards are missing or from another build. Run beam_pipelines.build again."
            )
    require_faces(parts, ("train", "test"), f"task {task!r} in {data}")
    if synthetic:
        _check_sources(synthetic, task, set(parts["train"].image_ids.tolist()))
        parts["train"] = survey((*files, *synthetic), task, "train")
    expressions = tuple(dataset["expressions"])
    return FaceSet(
        expressions,
        parts,
        dataset["fingerprint"],
        dataset.get("landmark_model", "none"),
        synthetic_fingerprint=fingerprint_of(synthetic),
    )


def _check_sources(synthetic: Sequence[str], task: str, train: set[str]) -> None:
    """Raises InputError when synthetic faces were made from others than the training part's: they would leak."""
    import tensorflow as tf

    names = ("image_id", "synthetic_source", "synthetic_target")
    for path in synthetic:
        try:
            for image_id, *sources in _from_records((path,), task, "train", names).as_numpy_iterator():
                for source in sources:
                    if source.decode() not in train:
                        raise InputError(
                            f"{path}: the synthetic face {image_id.decode()!r} was made from {source.decode()!r}, "
                            f"which is not in the training part of {task!r}; it was made from other data. Make the "
                            "faces again in another --run_dir."
                        )
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            reason = error.message.splitlines()[0][:200]
            raise InputError(f"{path} is corrupt ({reason}); remove its folder and make the faces again.") from None


def require_faces(parts: dict[str, Part], splits: Sequence[str], where: str) -> None:
    """Raises InputError when one of the parts has no face."""
    for split in splits:
        if not len(parts[split]):
            counts = {name: len(part) for name, part in parts.items()}
            raise InputError(f"the {split} part of {where} is empty; faces by part: {counts}.")


def record_files(pattern: str) -> tuple[str, ...]:
    """Returns the shards that match a pattern, sorted; raises InputError when there are none or some are missing."""
    import tensorflow as tf

    files = tuple(sorted(tf.io.gfile.glob(pattern)))
    if not files:
        raise InputError(f"no record files {pattern!r}; run `python -m beam_pipelines.build` first.")
    stem, shards = files[0].rsplit("-of-", 1)[0][:-5], int(files[0].rsplit("-of-", 1)[1].split(".")[0])
    wanted = tuple(f"{stem}{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards))
    if files != wanted:
        odd = sorted(set(wanted) ^ set(files))
        raise InputError(f"record files do not form one set of {shards} shards; missing or left over: {odd[0]}.")
    return files


def survey(files: Sequence[str], task: str, split: str) -> Part:
    """Returns one split's table, reading the records once; no image is decoded.

    Args:
      files: record files.
      task: one of er_ss, er_ue, er_up, er_zid.
      split: `train`, `val` or `test`.

    Raises:
      InputError: naming the file when a shard is cut off or corrupt.
    """
    import tensorflow as tf

    columns: dict[str, list[np.ndarray]] = {name: [] for name in TABLE_FIELDS}
    for path in files:
        try:
            for batch in _from_records((path,), task, split, TABLE_FIELDS).batch(1024).as_numpy_iterator():
                for name, values in zip(TABLE_FIELDS, batch, strict=True):
                    columns[name].append(values)
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            reason = error.message.splitlines()[0][:200]
            raise InputError(f"{path} is corrupt ({reason}); run beam_pipelines.build again.") from None
    table = {name: np.concatenate(values) if values else np.zeros(0) for name, values in columns.items()}
    if split != "train" and (synthetic := int(table["synthetic"].sum())):
        raise InputError(f"{synthetic} synthetic faces are tagged {split!r} for {task!r}; they may only be in train.")
    return Part(
        image_ids=_decoded(table["image_id"]),
        labels=table["expression_id"].astype(np.int64),
        persons=_decoded(table["person"]),
        poses=_decoded(table["pose"]),
        genders=_decoded(table["gender"]),
        ages=table["age"].astype(np.int64),
        files=tuple(files),
        task=task,
        split=split,
    )


def _from_records(files: Sequence[str], task: str, split: str, names: tuple[str, ...], seed: Any = None) -> Any:
    """A tf.data.Dataset of tuples of fields; with a seed, files and faces are shuffled and files interleaved."""
    import tensorflow as tf

    def wanted(fields: dict[str, Any]) -> Any:
        return fields[task] == split

    def pick(fields: dict[str, Any]) -> tuple:
        return tuple(fields[name] for name in names)

    paths = tf.data.Dataset.from_tensor_slices(list(files))
    if seed is None:
        records = tf.data.TFRecordDataset(list(files), num_parallel_reads=1)
    else:
        paths = paths.shuffle(len(files), seed=seed, reshuffle_each_iteration=False)
        records = paths.interleave(
            tf.data.TFRecordDataset, cycle_length=8, block_length=4, num_parallel_calls=tf.data.AUTOTUNE
        )
    fields = records.map(lambda record: parse(record, FaceRecord, (*names, task)), num_parallel_calls=2)
    chosen = fields.filter(wanted).map(pick)
    return chosen if seed is None else chosen.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)


def _strings(values: Sequence[bytes]) -> np.ndarray:
    return np.array(values, dtype=object)


def _decoded(values: np.ndarray) -> np.ndarray:
    return np.array([value.decode() for value in values], dtype=object)


def _decode(encoded: Any, image_size: int, channels: int, crop: float = 1.0) -> Any:
    """Image bytes to float32 (image_size, image_size, channels), 0 to 1."""
    import tensorflow as tf

    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return preprocess(image[None], image_size, channels, crop)[0]


def training_batches(
    part: Part,
    num_classes: int,
    *,
    image_size: int,
    channels: int,
    crop: float,
    batch_size: int,
    steps_per_epoch: int,
    augmentation: Augmentation,
    seed: int,
    first_epoch: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> Any:
    """Returns an endless tf.data.Dataset of (faces, one-hot labels) that starts at any epoch.

    Epoch e's order and changes depend on the seed and e alone, so that a resumed run sees what an unbroken one would.

    Args:
      part: the training part.
      num_classes: length of the one-hot labels.
      image_size: side of the network's input, pixels.
      channels: 1 or 3.
      crop: share of the side that the network sees, as in `preprocess`.
      batch_size: images in a global step; the last, smaller batch of an epoch is left to the next shuffle.
      steps_per_epoch: batches taken from each pass.
      augmentation: what may change.
      seed: run seed.
      first_epoch: the epoch to start at, from 0.
      worker, workers: this worker's place among those that share each global step; each reads files of its own and
        gives `batch_size / workers` images.
    """
    import tensorflow as tf

    if batch_size % workers:
        raise InputError(f"`batch_size` {batch_size} cannot be shared equally by {workers} workers.")
    if part.images is None and len(part.files) < workers:
        raise InputError(
            f"{workers} workers share {len(part.files)} record files; build again with --num_shards={workers}."
        )
    batch_size //= workers
    side = round(image_size / crop)

    def one_epoch(epoch: Any) -> Any:
        # A process-wide seed would be mixed into the shuffle's, which fails for a seed that is a tensor; this clears it
        # for the function being traced, not for the process.
        tf.random.set_seed(None)
        faces = part.encoded(tf.constant(seed * 1_000_003, tf.int64) + epoch, worker, workers)
        return faces.repeat().take(steps_per_epoch * batch_size)

    def change(step: Any, batch: tuple) -> tuple:
        faces, labels = batch
        draw = [seed, step * workers + worker]
        return augment(faces, tf.one_hot(labels, num_classes), image_size, crop, draw, augmentation)

    # A large but finite count: flat_map over an infinite range confuses the cardinality that fit asks for.
    epochs = tf.data.Dataset.range(first_epoch, first_epoch + 1_000_000)
    faces = epochs.flat_map(one_epoch).map(
        lambda encoded, label: (_decode(encoded, side, channels), label), num_parallel_calls=tf.data.AUTOTUNE
    )
    batches = faces.batch(batch_size, drop_remainder=True).enumerate(start=first_epoch * steps_per_epoch)
    return batches.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def evaluation_batches(part: Part, *, image_size: int, channels: int, crop: float, batch_size: int = 128) -> Any:
    """Returns a tf.data.Dataset of (faces, labels int64) in the table's order, each face once, unchanged."""
    import tensorflow as tf

    faces = part.encoded().map(
        lambda encoded, label: (_decode(encoded, image_size, channels, crop), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return faces.batch(batch_size).prefetch(2)
