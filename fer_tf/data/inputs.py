"""The faces of a task as tf.data batches, from the records of a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_tf.data.augment import Augmentation, augment
from fer_tf.data.folder import DATASET_FILE, DataFolder, fingerprint_of
from fer_tf.data.parts import AS_THEY_ARE, Part, Sampling, joined, survey
from fer_tf.data.preprocess import central_crop, preprocess
from fer_tf.data.schema import FaceRecord, key_of, tag_of
from fer_tf.data.stored import Stored, from_records
from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import TASKS


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
      set_classes: of several sets (see `fer_tf.data.mixed`), which classes each has; empty for one.
      picture_share: of pictures that others cut around faces, see `fer_tf.data.public_set.PublicSet`.
      may_repeat: whether nobody has checked that the parts share no picture, as with a public set's own parts.
    """

    expressions: tuple[str, ...]
    parts: dict[str, Part]
    fingerprint: str
    landmark_model: str = "none"
    notes: tuple[str, ...] = field(default=())
    val_of_training: bool = False
    synthetic_fingerprint: str = ""
    picture_share: float = 1.0
    may_repeat: bool = False
    set_classes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def read_records(
    data: str,
    task: str,
    synthetic: Sequence[str] = (),
    held_out: float | None = None,
    needs: Sequence[str] = ("train", "test"),
) -> FaceSet:
    """Returns a task's faces from the data folder that beam_pipelines.build wrote, or that a public set became.

    Args:
      data: the data folder.
      task: one of er_ss, er_ue, er_up, er_zid, or the public set that the folder holds.
      synthetic: record files of synthetic faces that join the training part.
      held_out: the share of a public set's training part that is expected to be held out, if it matters.
      needs: the parts that must have a face.

    Raises:
      InputError: when the folder is none or of another set, a shard is missing or corrupt, a part that is needed is
        empty, or a synthetic face was made from one that is not in the training part.
    """
    folder = DataFolder(data)
    dataset = folder.dataset
    if (found := dataset.get("set", "")) != ("" if task in TASKS else task):
        raise InputError(f"`data` {data!r} holds {found or 'faces of beam_pipelines.build'}; `task` is {task!r}.")
    if held_out is not None and dataset.get("held_out", held_out) != held_out:
        raise InputError(
            f"`data` {data!r} was made with --held_out={dataset['held_out']}. Received: {held_out}; give the set as it "
            "was published, or the same share."
        )
    remedy = f"remove {data}, it is made again" if found else "run beam_pipelines.build again"
    parts = survey(folder.face_files, task, len(dataset["expressions"]), remedy, folder.tags(task))
    splits = dataset.get("splits" if found else "tasks", {})
    for split, part in parts.items():
        expected = splits.get(split) if found else splits.get(task, {}).get(split)
        if expected is not None and expected != len(part):
            raise InputError(
                f"{data}: {len(part)} faces have `{key_of(FaceRecord, tag_of(task))}` = {split!r}, {DATASET_FILE} says "
                f"{expected}; shards are missing or from another build. {remedy[0].upper()}{remedy[1:]}."
            )
    require_faces(parts, needs, f"task {task!r} in {data}")
    if synthetic:
        _check_sources(synthetic, task, set(parts["train"].image_ids.tolist()))
        made = survey(synthetic, task, len(dataset["expressions"]))["train"]
        parts["train"] = joined([parts["train"], made])
        # All may have been rejected, or be another task's.
        synthetic = synthetic if len(made) else ()
    return FaceSet(
        expressions=tuple(dataset["expressions"]),
        parts=parts,
        fingerprint=dataset["fingerprint"],
        landmark_model=dataset.get("landmark_model", "none"),
        notes=tuple(dataset.get("notes", ())),
        val_of_training=dataset.get("val_of_training", False),
        may_repeat=bool(found),
        synthetic_fingerprint=fingerprint_of(synthetic),
    )


def _check_sources(synthetic: Sequence[str], task: str, train: set[str]) -> None:
    """Raises InputError when synthetic faces were made from others than the training part's: they would leak."""
    import tensorflow as tf

    names = ("image_id", "synthetic_source", "synthetic_target")
    for path in synthetic:
        try:
            for image_id, *sources in from_records(Stored((path,), task, "train", 0, (0,)), names).as_numpy_iterator():
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


def decode_image(encoded: Any, channels: int = 3, at_least: int = 0) -> Any:
    """Returns encoded bytes, scalar string, as uint8 (H, W, channels): the one way to read a picture in a graph.

    Outside of graphs `fer_tf.faces.media` reads what users bring: it turns by EXIF, and knows more formats.

    Args:
      encoded: JPEG, PNG, GIF or BMP.
      channels: 1 or 3.
      at_least: side, pixels, that is enough of an aligned face: a JPEG is then shrunk by 2, 4 or 8 while it is decoded,
        for a third of the time. 0 decodes the whole picture.
    """
    import tensorflow as tf

    def whole() -> Any:
        return tf.io.decode_image(encoded, channels, expand_animations=False)

    ratio = max((ratio for ratio in (2, 4, 8) if at_least and FACE_SIZE // ratio >= at_least), default=1)
    if ratio == 1:
        return whole()
    return tf.cond(tf.io.is_jpeg(encoded), lambda: tf.io.decode_jpeg(encoded, channels, ratio=ratio), whole)


def prepared(encoded: Any, image_size: int, channels: int, crop: float = 1.0, kept: Any = None) -> Any:
    """Returns encoded bytes as what a network reads: float32 (image_size, image_size, channels), 0 to 1.

    `kept` is the share of the side that is there at all, float32 scalar; all of it without one.
    """
    image = decode_image(encoded)[None]
    return preprocess(image if kept is None else central_crop(image, kept), image_size, channels, crop)[0]


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
    sampling: Sampling = AS_THEY_ARE,
    first_epoch: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> Any:
    """Returns an endless tf.data.Dataset of (faces, targets) that starts at any epoch; targets as in `Part.targets`.

    Epoch e's order and changes depend on the seed and e alone, so that a resumed run sees what an unbroken one would.

    Args:
      part: the training part.
      num_classes: length of a target.
      image_size: side of the network's input, pixels.
      channels: 1 or 3.
      crop: share of the side that the network sees, as in `preprocess`.
      batch_size: images in a global step; the last, smaller batch of an epoch is left to the next shuffle.
      steps_per_epoch: batches taken from each pass.
      augmentation: what may change.
      seed: run seed.
      sampling: what the targets are and how often a face is seen.
      first_epoch: the epoch to start at, from 0.
      worker, workers: this worker's place among those that share each global step; each gives `batch_size / workers`
        images, and together they give each face of an epoch once.
    """
    import tensorflow as tf

    if batch_size % workers:
        raise InputError(f"`batch_size` {batch_size} cannot be shared equally by {workers} workers.")
    if steps_per_epoch < 1:
        # Passes without a batch would follow one another for ever.
        raise InputError(f"`steps_per_epoch` must be at least 1. Received: {steps_per_epoch}.")
    batch_size //= workers
    side = round(image_size / crop)

    # Nothing here is Python that depends on a tensor: looking for it takes a second.
    plain = tf.autograph.experimental.do_not_convert

    @plain
    def one_epoch(epoch: Any) -> Any:
        # A process-wide seed would be mixed into the shuffle's, which fails for a seed that is a tensor; this clears it
        # for the function being traced, not for the process.
        tf.random.set_seed(None)
        own_seed = tf.constant(seed * 1_000_003, tf.int64) + epoch
        faces = part.targets(num_classes, own_seed, sampling, worker, workers)
        return faces.repeat().take(steps_per_epoch * batch_size)

    @plain
    def read(encoded: Any, target: Any, kept: Any) -> tuple:
        return prepared(encoded, side, channels, kept=kept if part.is_cut else None), target

    @plain
    def change(step: Any, batch: tuple) -> tuple:
        faces, targets = batch
        draw = [seed, step * workers + worker]
        return augment(faces, targets, image_size, crop, draw, augmentation)

    # A large but finite count: flat_map over an infinite range confuses the cardinality that fit asks for.
    epochs = tf.data.Dataset.range(first_epoch, first_epoch + 1_000_000)
    faces = epochs.flat_map(one_epoch).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    batches = faces.batch(batch_size, drop_remainder=True).enumerate(start=first_epoch * steps_per_epoch)
    return batches.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def evaluation_batches(part: Part, *, image_size: int, channels: int, crop: float, batch_size: int = 128) -> Any:
    """Returns a tf.data.Dataset of (faces, labels int64) in the table's order, each face once, unchanged."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def read(face: tuple, kept: Any) -> tuple:
        return prepared(face[0], image_size, channels, crop, kept if part.is_cut else None), face[1]

    kept = tf.data.Dataset.from_tensor_slices(part.kept)
    faces = tf.data.Dataset.zip((part.encoded(), kept)).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return faces.batch(batch_size).prefetch(2)
