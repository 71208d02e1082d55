"""Where the faces of a part lie, and the streams of their records: the one place that reads TFRecords in a graph.

Outside a graph `fer_tf.tfrecords` does, which needs no TensorFlow and reads one record at a known place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.data.schema import FaceRecord, parse, tag_of

# Records that are handled at a time: one by one, parsing takes twenty times as long.
BATCH = 256
_HASHES = (1 << 63) - 1


def hash_of(texts: Any) -> Any:
    """Returns a hash of each text or encoded image, int64 tensor, by which draws and lineages know them."""
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(texts, _HASHES)


class TagsById:
    """Each image's part of a task by its id, where a draw says it and the records' own tags do not.

    Args:
      tags: parts, or empty texts, by image id.
    """

    def __init__(self, tags: Mapping[str, str]) -> None:
        # By hash, in order: a lookup table would be a resource, which nested datasets handle badly.
        hashes = hash_of(list(tags)).numpy()
        order = np.argsort(hashes)
        self._hashes, self._tags = hashes[order], np.array(list(tags.values()))[order]

    def of(self, image_ids: Any) -> Any:
        """Returns the parts of images, string tensor of any shape; empty for an id that is not known."""
        import tensorflow as tf

        hashes = hash_of(image_ids)
        known = tf.constant(self._hashes)
        place = tf.minimum(tf.searchsorted(known, tf.reshape(hashes, [-1])), len(self._hashes) - 1)
        place = tf.reshape(place, tf.shape(hashes))
        return tf.where(tf.gather(known, place) == hashes, tf.gather(tf.constant(self._tags), place), "")


@dataclass(frozen=True)
class Stored:
    """Where some faces of a part lie.

    Attributes:
      files: record files; their faces of `split` for `task`, in order, are the table's rows.
      task, split: which tag of the records counts.
      faces: how many rows they are.
      classes: the part's class for each class of the records, -1 for one whose faces are left out.
      weight: how often a face is seen in an epoch.
      record_bytes: mean size of the files' records.
      kept: share of a picture's side that is seen, around its centre, before anything else.
      tags: what counts in the place of the records' tags; None when they do.
    """

    files: tuple[str, ...]
    task: str
    split: str
    faces: int
    classes: tuple[int, ...]
    weight: float = 1.0
    record_bytes: float = 0.0
    kept: float = 1.0
    tags: TagsById | None = None

    @property
    def told_by(self) -> str:
        """The field of a record that tells which part it belongs to."""
        return tag_of(self.task) if self.tags is None else "image_id"

    def includes(self, fields: dict[str, Any]) -> Any:
        """Returns which records belong to the part, bool (B,), by their fields as tensors."""
        told = fields[self.told_by]
        return (told if self.tags is None else self.tags.of(told)) == self.split


def records_of(files: Sequence[str]) -> Any:
    """Returns a tf.data.Dataset of serialized records in the files' order."""
    import tensorflow as tf

    return tf.data.TFRecordDataset(list(files), num_parallel_reads=1)


def record_batches(files: Sequence[str], seed: Any = None) -> Any:
    """Returns a tf.data.Dataset of string (up to BATCH,), serialized records; with a seed the files are mixed."""
    import tensorflow as tf

    if seed is None:
        return records_of(files).batch(BATCH)
    paths = tf.data.Dataset.from_tensor_slices(list(files))
    paths = paths.shuffle(len(files), seed=seed, reshuffle_each_iteration=False)
    return paths.interleave(
        lambda path: tf.data.TFRecordDataset(path).batch(BATCH),
        cycle_length=8,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def from_records(stored: Stored, names: tuple[str, ...]) -> Any:
    """Returns a tf.data.Dataset of tuples of fields of some faces, in order."""
    import tensorflow as tf

    told_by = stored.told_by
    kept = np.array(stored.classes) >= 0

    @tf.autograph.experimental.do_not_convert
    def of_split(raw: Any) -> tuple:
        fields = parse(raw, FaceRecord, (*dict.fromkeys((*names, "expression_id", told_by)),))
        wanted = stored.includes(fields)
        if not kept.all():
            wanted &= tf.gather(tf.constant(kept), fields["expression_id"])
        return tuple(tf.boolean_mask(fields[name], wanted) for name in names)

    return record_batches(stored.files).map(of_split, num_parallel_calls=2).unbatch()
