"""One part of a task's data: a table with a row per face, and what training sees of it, of one set or of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fer_tf.data.schema import FaceRecord, parse, tag_of
from fer_tf.data.stored import Stored, TagsById, from_records, record_batches
from fer_tf.errors import InputError
from fer_tf.labels import SPLITS

# Encoded faces held for shuffling: as many as fit this, however many the set has, but not fewer than the second. An
# epoch waits until they are read, and they need not be all: it shows every face, and files are read side by side, in an
# order drawn anew. Within a file faces lie by clip and so by person: less than all must be drawn (`seen`), not cut off.
SHUFFLE_BYTES, SHUFFLE_BUFFER = 20e6, 4096
COLUMNS = ("image_ids", "labels", "persons", "poses", "genders", "ages", "votes", "sets")
TABLE_FIELDS = ("image_id", "expression_id", "person", "pose", "gender", "age", "synthetic", "distribution")
# From this share of the votes on, a label is its face's majority.
MAJORITY = 0.5
# A target that says nothing about a class, because the face's set does not have it.
UNKNOWN = -1.0

Labels = Literal["distribution", "majority", "draw"]


@dataclass(frozen=True)
class Sampling:
    """What a training face's target is, and how often it is seen.

    Attributes:
      labels: of a face that several people voted on: `distribution` is their shares, `draw` one class drawn by them
        anew in each epoch, `majority` the class of more than half (faces without one are left out); Barsoum et al.
        2016, section 4. Other faces have one label.
      balanced: whether each class is seen equally often, rare ones several times an epoch.
    """

    labels: Labels = "distribution"
    balanced: bool = False


AS_THEY_ARE = Sampling()


def _unknown(count: int) -> np.ndarray:
    return np.full(count, "", object)


@dataclass(frozen=True)
class Part:
    """One split's faces: a table with a row per face, and where the encoded images are.

    Attributes:
      image_ids, persons, poses, genders: str (N,); empty strings where unknown.
      labels: int64 (N,), positions in the face set's `expressions`.
      ages: int64 (N,), years, -1 where unknown.
      votes: float32 (N, num_classes), each class's share of the votes on a face, zeros where it has one label; (N, 0)
        when no face was voted on.
      sets: str (N,), the set that a face is from, where there are several.
      stored: where the images lie, in the table's order.
    """

    image_ids: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    poses: np.ndarray
    genders: np.ndarray
    ages: np.ndarray
    votes: np.ndarray = field(default=None)  # type: ignore[assignment]
    sets: np.ndarray = field(default=None)  # type: ignore[assignment]
    stored: tuple[Stored, ...] = ()

    def __post_init__(self) -> None:
        if self.votes is None:
            object.__setattr__(self, "votes", np.zeros((len(self.labels), 0), np.float32))
        if self.sets is None:
            object.__setattr__(self, "sets", _unknown(len(self.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: np.ndarray) -> Part:
        """Returns the table of some faces alone (bool mask or indices); without records."""
        return Part(**{name: getattr(self, name)[chosen] for name in COLUMNS})

    def with_answers(self, logits: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what a run keeps of a part and the answers to it, by `RunFolder.write_predictions`.

        Args:
          logits: float (N, num_classes).

        Returns:
          dict: image_id, person, pose (unicode, (N,)), label (int64, (N,)) and logits (float32).
        """
        return {
            "image_id": self.image_ids.astype(str),
            "person": self.persons.astype(str),
            "pose": self.poses.astype(str),
            "label": self.labels,
            "logits": logits.astype(np.float32),
        }

    @cached_property
    def has_majority(self) -> np.ndarray:
        """Whether more than half of a face's votes agree, bool (N,); true where it has one label."""
        if not self.votes.shape[1]:
            return np.ones(len(self), bool)
        return (self.votes.max(axis=1) > MAJORITY) | (self.votes.sum(axis=1) == 0)

    def counts(self, num_classes: int, sampling: Sampling) -> np.ndarray:
        """Returns how often each class is seen in an epoch before balancing, float64 (stored, num_classes)."""
        seen = self.has_majority if sampling.labels == "majority" else np.ones(len(self), bool)
        counts, start = [], 0
        for stored in self.stored:
            rows = slice(start, start + stored.faces)
            counts.append(stored.weight * np.bincount(self.labels[rows][seen[rows]], minlength=num_classes))
            start += stored.faces
        return np.array(counts).reshape(len(self.stored), num_classes)

    def masses(self, num_classes: int, sampling: Sampling) -> np.ndarray:
        """Returns what the targets of an epoch add up to for each class before balancing, float64 (num_classes,).

        A face that several people voted on gives each class its share of the votes, as its target does.
        """
        if sampling.labels == "majority" or not self.votes.shape[1]:
            return self.counts(num_classes, sampling).sum(axis=0)
        total = self.votes.sum(axis=1, keepdims=True, dtype=np.float64)
        shares = np.where(total > 0, self.votes / np.maximum(total, 1e-12), np.eye(num_classes)[self.labels])
        weights = np.repeat([stored.weight for stored in self.stored], [stored.faces for stored in self.stored])
        return weights @ shares

    def seen(self, times: float) -> Part:
        """Returns the part with its faces seen so many times as often; by 0.7 seven of ten, which chance decides."""
        return replace(self, stored=tuple(replace(place, weight=place.weight * times) for place in self.stored))

    @property
    def kept(self) -> np.ndarray:
        """`Stored.kept` of each face, float32 (N,)."""
        shares = np.array([place.kept for place in self.stored], np.float32)
        return np.repeat(shares, [place.faces for place in self.stored])

    @property
    def is_cut(self) -> bool:
        """Whether less than a whole picture is seen of some faces."""
        return any(place.kept < 1 for place in self.stored)

    def encoded(self) -> Any:
        """Returns a tf.data.Dataset of (image bytes, label) in the table's order."""
        faces = None
        for stored in self.stored:
            rows = from_records(stored, ("image", "expression_id"))
            if stored.classes != tuple(range(len(stored.classes))):
                rows = _with_classes(rows, stored.classes)
            faces = rows if faces is None else faces.concatenate(rows)
        return faces

    def targets(
        self, num_classes: int, seed: Any, sampling: Sampling = AS_THEY_ARE, worker: int = 0, workers: int = 1
    ) -> Any:
        """Returns a tf.data.Dataset of (image bytes, target float32 (num_classes,), `Stored.kept`), shuffled.

        A target is a face's label or the shares of its votes; UNKNOWN stands where its set does not have the class. Of
        several workers each gets every `workers`-th face of the one order, however the faces lie in their files: each
        worker reads all records, which is cheap, and decodes the images of its own faces alone.

        Args:
          num_classes: length of a target.
          seed: int64 scalar; equal seeds give equal orders.
          sampling: what the targets are and how often a face is seen.
          worker, workers: this worker's place among all.
        """
        counts = self.counts(num_classes, sampling)
        by_class = counts.sum(axis=0)
        factor = np.ones(num_classes)
        if sampling.balanced:
            present = by_class > 0
            factor[present] = by_class.sum() / present.sum() / by_class[present]
        streams = [_targets(stored, num_classes, sampling, factor, seed) for stored in self.stored]
        # By what each holds once rare classes are repeated, or one ends before the others and leaves the rest to them.
        faces = streams[0] if len(streams) == 1 else _mixed(streams, counts @ factor, seed)
        record_bytes = max(1.0, *(stored.record_bytes for stored in self.stored))
        room = max(SHUFFLE_BUFFER, int(SHUFFLE_BYTES / record_bytes))
        faces = faces.shuffle(max(1, min(room, round(by_class.sum()))), seed=seed, reshuffle_each_iteration=False)
        return faces if workers == 1 else faces.shard(workers, worker)


def _with_classes(faces: Any, classes: tuple[int, ...]) -> Any:
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def renamed_face(image: Any, label: Any) -> tuple:
        return image, tf.gather(tf.constant(classes, tf.int64), label)

    return faces.map(renamed_face)


def _targets(stored: Stored, num_classes: int, sampling: Sampling, factor: np.ndarray, seed: Any) -> Any:
    """The faces of one set with their targets, rare ones repeated; in an order that is not yet mixed."""
    import tensorflow as tf

    classes = np.array(stored.classes)
    kept, told_by = classes >= 0, stored.told_by
    to_part = np.zeros((len(classes), num_classes), np.float32)
    to_part[np.flatnonzero(kept), classes[kept]] = 1.0
    unknown = (to_part.sum(axis=0) == 0).astype(np.float32) * UNKNOWN
    rates = np.where(kept, stored.weight * factor[classes], 0.0).astype(np.float32)

    @tf.autograph.experimental.do_not_convert
    def of_split(step: Any, raw: Any) -> tuple:
        fields = parse(raw, FaceRecord, ("image", "expression_id", "distribution", told_by))
        label = fields["expression_id"]
        own_seed = tf.stack([tf.cast(seed, tf.int64), step])
        draws = tf.random.stateless_uniform([2, tf.shape(raw)[0]], own_seed)
        shares, clear = _shares(fields["distribution"], label, tf.constant(to_part), sampling, draws[0])
        rate = tf.where(clear & stored.includes(fields), tf.gather(tf.constant(rates), label), 0.0)
        # A rate of 2.3 is two or three times.
        times = tf.cast(tf.floor(rate + draws[1]), tf.int32)
        index = tf.repeat(tf.range(tf.shape(raw)[0]), times)
        targets = tf.gather(shares + tf.constant(unknown), index)
        return tf.gather(fields["image"], index), targets, tf.fill(tf.shape(index), stored.kept)

    return record_batches(stored.files, seed).enumerate().map(of_split, num_parallel_calls=2).unbatch()


def _shares(distribution: Any, label: Any, to_part: Any, sampling: Sampling, draw: Any) -> tuple[Any, Any]:
    """What a target gives each class of the part, float32 (B, num_classes), and whether the face has a target.

    Args:
      distribution: votes on the records' classes, float32 (B, K), or (B, 0).
      label: int (B,), of the records' classes.
      to_part: float32 (K, num_classes), 1 where a class of the records is one of the part; left out without a 1.
      sampling: what a target is.
      draw: float32 (B,), 0 to 1.
    """
    import tensorflow as tf

    classes = to_part.shape[1]
    one = tf.gather(to_part, label)
    width = tf.shape(distribution)[1]
    votes = tf.cond(width > 0, lambda: tf.matmul(distribution, to_part), lambda: tf.zeros_like(one))
    most = tf.reduce_max(votes, axis=1)
    voted = most > 0
    if sampling.labels == "majority":
        return tf.where(voted[:, None], tf.one_hot(tf.argmax(votes, axis=1), classes), one), ~voted | (most > MAJORITY)
    votes = tf.where(voted[:, None], votes, one)
    shares = tf.math.divide_no_nan(votes, tf.reduce_sum(votes, axis=1, keepdims=True))
    if sampling.labels == "draw":
        above = tf.reduce_sum(tf.cast(tf.cumsum(shares, axis=1) < draw[:, None], tf.int32), axis=1)
        shares = tf.one_hot(tf.minimum(above, classes - 1), classes)
    return shares, tf.ones_like(voted)


def _mixed(streams: Sequence[Any], sizes: np.ndarray, seed: Any) -> Any:
    """Each stream once, interleaved by chance in proportion to what they hold."""
    import tensorflow as tf

    bounds = tf.constant(np.cumsum(sizes)[:-1] / sizes.sum(), tf.float32)

    @tf.autograph.experimental.do_not_convert
    def choice(step: Any) -> Any:
        draw = tf.random.stateless_uniform([], tf.stack([tf.cast(seed, tf.int64) + 1, step]))
        return tf.reduce_sum(tf.cast(draw >= bounds, tf.int64))

    choices = tf.data.Dataset.range(1 << 62).map(choice)
    return tf.data.Dataset.choose_from_datasets(streams, choices, stop_on_empty_dataset=False)


def survey(
    files: Sequence[str],
    task: str,
    num_classes: int,
    remedy: str = "run beam_pipelines.build again",
    tags: Mapping[str, str] | None = None,
) -> dict[str, Part]:
    """Returns the tables of train, val and test, reading the records once; no image is decoded.

    Args:
      files: record files.
      task: one of er_ss, er_ue, er_up, er_zid, or a public set.
      num_classes: how many classes the records have.
      remedy: what to do about a corrupt file, for the error.
      tags: each image's part by its id, in the place of the records' own tags.

    Raises:
      InputError: naming the file when a shard is cut off or corrupt.
    """
    import tensorflow as tf

    names = (*TABLE_FIELDS, tag_of(task))
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}

    @tf.autograph.experimental.do_not_convert
    def fields(raw: Any) -> dict[str, Any]:
        return parse(raw, FaceRecord, names)

    try:
        # A pipeline of all files, for making one takes a tenth of a second.
        for batch in record_batches(files).map(fields).as_numpy_iterator():
            for name, values in batch.items():
                columns[name].append(values)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        reason = error.message.splitlines()[0][:200]
        raise InputError(f"{_first_corrupt(files, fields)} is corrupt ({reason}); {remedy}.") from None
    votes = _padded(columns.pop("distribution"))
    table = {name: np.concatenate(values) if values else np.zeros(0, object) for name, values in columns.items()}
    if tags is not None:
        table[tag_of(task)] = np.array([tags[name.decode()].encode() for name in table["image_id"]], object)
    by_id = None if tags is None else TagsById(tags)
    record_bytes = sum(tf.io.gfile.stat(path).length for path in files) / max(1, len(table["age"]))
    parts = {}
    for split in SPLITS:
        chosen = table[tag_of(task)] == split.encode()
        if split != "train" and (synthetic := int(table["synthetic"][chosen].sum())):
            raise InputError(
                f"{synthetic} synthetic faces are tagged {split!r} for {task!r}; they may only be in train."
            )
        faces = int(chosen.sum())
        classes = tuple(range(num_classes))
        parts[split] = Part(
            image_ids=_decoded(table["image_id"][chosen]),
            labels=table["expression_id"][chosen].astype(np.int64),
            persons=_decoded(table["person"][chosen]),
            poses=_decoded(table["pose"][chosen]),
            genders=_decoded(table["gender"][chosen]),
            ages=table["age"][chosen].astype(np.int64),
            votes=votes[chosen],
            stored=(Stored(tuple(files), task, split, faces, classes, record_bytes=record_bytes, tags=by_id),),
        )
    return parts


def _first_corrupt(files: Sequence[str], fields: Callable[[Any], dict[str, Any]]) -> str:
    """The first file whose records cannot be read."""
    import tensorflow as tf

    for path in files:
        try:
            for _ in record_batches([path]).map(fields):
                pass
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
            return path
    return ", ".join(files)


def _padded(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Distributions of all batches as one table; a batch without any has no columns."""
    width = max((batch.shape[1] for batch in batches), default=0)
    rows = [np.pad(batch, ((0, 0), (0, width - batch.shape[1]))) for batch in batches]
    return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)


def joined(parts: Sequence[Part]) -> Part:
    """Returns several tables with the same classes as one, in order."""
    width = max(part.votes.shape[1] for part in parts)
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS if name != "votes"}
    votes = _padded([np.pad(part.votes, ((0, 0), (0, width - part.votes.shape[1]))) for part in parts])
    return Part(**columns, votes=votes, stored=tuple(stored for part in parts for stored in part.stored))


def renamed(
    part: Part, classes: Sequence[int], num_classes: int, name: str, weight: float = 1.0, seen: float = 1.0
) -> Part:
    """Returns a part of one set as a part of several: with their classes, its name, its weight and its cut.

    Args:
      part: with the set's own classes.
      classes: the new class of each of them, -1 for one whose faces are left out.
      num_classes: how many new classes there are.
      name: the set.
      weight: how often its faces are seen in an epoch.
      seen: share of its pictures' side that is seen (`Stored.kept`).
    """
    classes = np.asarray(classes)
    kept = classes[part.labels] >= 0
    table = part.rows(kept)
    votes = np.zeros((len(table), num_classes if part.votes.shape[1] else 0), np.float32)
    for old, new in enumerate(classes):
        if votes.shape[1] and new >= 0:
            votes[:, new] += table.votes[:, old]
    stored, start = [], 0
    for place in part.stored:
        faces = int(kept[start : start + place.faces].sum())
        start += place.faces
        stored.append(replace(place, faces=faces, classes=tuple(int(new) for new in classes), weight=weight, kept=seen))
    named = np.full(len(table), name, object)
    labels = classes[table.labels]
    if votes.shape[1]:
        # Classes that became one have their votes together, which may outnumber those of the class that led before.
        led = np.take_along_axis(votes, labels[:, None], axis=1)[:, 0] < votes.max(axis=1)
        labels[led] = votes[led].argmax(axis=1)
    return replace(table, labels=labels, votes=votes, sets=named, stored=tuple(stored))


def _decoded(values: np.ndarray) -> np.ndarray:
    return np.array([value.decode() for value in values], dtype=object)
