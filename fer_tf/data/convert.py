"""From a public set's files to a data folder: records in the one schema, converted once and read like any other data.

A set's reader (one file in `fer_tf/data/public/`) yields a row for each image. What follows is the same for all sets:
each image is decoded once, so that a damaged one is found here and by name, the rows are shuffled by a stable hash, and
the folder appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import pickle
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fer_tf import environment, files, tfrecords
from fer_tf.data.folder import DataFolder
from fer_tf.data.public_set import DAMAGED, FAULTS, LeftOut, PublicSet, Row, Source, faults, order_hash
from fer_tf.data.schema import SCHEMA_VERSION, FaceRecord, encode
from fer_tf.data.statistics import POSE_LETTERS
from fer_tf.errors import InputError
from fer_tf.labels import POSES, SPLITS
from fer_tf.lock import only_writer

# Changes when equal files would give other records.
VERSION = 3
ROOT = "data/public"
# A set with more damaged images than this is itself damaged, or not the set.
MAX_DAMAGED = 0.05
# Source bytes for one shard; a shard's images are held in memory while they are shuffled.
SHARD_BYTES = 32e6
PROGRESS_SECONDS = 5.0
# Names in a note; all of them stand in rejected.jsonl.
LISTED = 10


def records_of(name: str, public_set: PublicSet, data: str, held_out: float) -> str:
    """Returns the data folder with a public set's records, made now unless it is there for the files as they are.

    It lies in `data/public`, or in the folder that the environment variable FER_TF_PUBLIC names.

    Args:
      name: the set's task, such as `jaffe`.
      public_set: the set.
      data: its folder or file, or a data folder made of it earlier, perhaps on another machine.
      held_out: share of its training part to hold out.

    Raises:
      InputError: when there is no such set, or too much of it is damaged, or nothing can be written.
    """
    if not os.path.exists(data):
        raise InputError(f"`data` {data!r} does not exist; give the folder (or, for FER2013, the CSV) of {name}.")
    if os.path.isfile(data) and not public_set.takes_file:
        raise InputError(f"`data` {data!r} is a file; give the folder of {name}.")
    options = {"held_out": held_out} if public_set.holds_out else {}
    listing = _listing(data, public_set.named(data) if public_set.named else ())
    set_name = f"{name}/{public_set.version}" if public_set.version else name
    about = [VERSION, SCHEMA_VERSION, set_name, os.path.realpath(data), options, listing]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    root = environment.public_folder(ROOT)
    folder = os.path.join(root, f"{name}-{key}")
    try:
        # The next process finds what the first has made.
        with only_writer(root, environment.PUBLIC_VARIABLE, wait=True):
            if os.path.exists(folder):
                return folder
            for left in glob.glob(os.path.join(glob.escape(root), f"{files.UNFINISHED}*")):
                shutil.rmtree(left)
            with files.whole_path(folder) as partial:
                shards = max(1, round(sum(size for _, size, _ in listing) / SHARD_BYTES))
                source = public_set.read(data, held_out)
                summary = _write(source, source.expressions or public_set.expressions, data, partial, shards)
                about = {"set": name, "source": os.path.realpath(data), **options, **summary}
                DataFolder(partial).write_dataset(about)
    except files.CannotWrite as error:
        raise InputError(f"the records of {name}: {error}. {environment.PUBLIC_VARIABLE} may name another.") from None
    logging.info("%s: %d faces are now records in %s", name, summary["counts"]["faces"], folder)
    return folder


def _listing(data: str, named: Iterable[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of the files of a set, in order: they tell whether it changed, unread.

    Args:
      data: the set's folder or file.
      named: files that its table names, wherever they are.
    """
    folder = "" if os.path.isfile(data) else os.path.join(os.path.abspath(data), "")
    others = sorted({os.path.abspath(path) for path in named})
    listed = [_about(path, path) for path in others if not folder or not path.startswith(folder)]
    if not folder:
        return [_about("", data), *listed]
    paths = files.matching(data, files.ANY_DEPTH)
    # A folder among them is one that cannot be read.
    if closed := next(filter(os.path.isdir, paths), ""):
        raise InputError(f"`data`: the folder {closed!r} cannot be read; change its permissions, or move it away.")
    return [_about(f"/{os.path.relpath(path, data)}", path) for path in paths if os.path.isfile(path)] + listed


def _about(name: str, path: str) -> tuple[str, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return name, 0, -1
    return name, found.st_size, found.st_mtime_ns


class _Facts:
    """What is known of a set when all its rows have been seen; about 200 bytes a face."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._expressions = expressions
        self.usages: list[str] = []
        self.left_out: list[LeftOut] = []
        self.resolution = ""
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.persons: set[tuple[str, str]] = set()
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self.usages)

    def add(self, row: Row, height: int, width: int) -> None:
        label = self._expressions.index(row.expression)
        self.usages.append(row.usage)
        votes = np.asarray(row.distribution, np.float32).tobytes()
        self._digests.append(f" {row.image_id} {label} ".encode() + hashlib.sha256(row.image).digest() + votes)
        self.resolution = self.resolution or f"{height} × {width}"
        self.kinds[row.expression, row.pose] += 1
        self.persons.add((row.person, row.pose))

    def fingerprint(self, splits: Sequence[str]) -> str:
        """A hash of every face, label and split, in the reader's order."""
        digest = hashlib.sha256()
        for wanted in sorted(SPLITS):
            for split, face in zip(splits, self._digests, strict=True):
                if split == wanted:
                    digest.update(split.encode() + face)
        return digest.hexdigest()

    def statistics(self) -> dict[str, Any]:
        """What the report shows of a corpus, as far as the set tells."""
        by_expression, by_pose = Counter[str](), Counter[str]()
        for (expression, pose), count in self.kinds.items():
            by_expression[expression] += count
            by_pose[pose] += count
        others = sorted(set(by_pose) - {"", *POSE_LETTERS})
        poses = [*(pose for pose in POSE_LETTERS if by_pose[pose]), *others]
        row = {
            "expressions": len(by_expression),
            "subjects": len({person for person, _ in self.persons if person}) or None,
            "poses": len(poses) or None,
            "images": len(self),
            "sequences": None,
            "resolution": self.resolution,
            "pose_list": ", ".join(POSE_LETTERS.get(pose, pose) for pose in poses) or "-",
        }
        return {
            "table_1": row,
            "images_per_expression": {name: by_expression[name] for name in self._expressions},
            "images_per_pose": {pose: by_pose[pose] for pose in poses},
            "subjects_per_pose": {pose: sum(seen == pose for _, seen in self.persons) for pose in poses},
        }


def _write(source: Source, expressions: Sequence[str], data: str, folder: str, shards: int) -> dict[str, Any]:
    """Writes a set's records and rejected.jsonl, and returns what dataset.json says of them."""
    facts = _Facts(expressions)
    files.make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as spool:
        _spool(source.rows, facts, data, spool, shards)
        parts = source.parts(Counter(facts.usages))
        splits = [parts.split_of[usage] for usage in facts.usages]
        for shard in range(shards):
            _write_shard(spool, folder, shard, shards, splits, expressions)
    files.write_lines(DataFolder(folder).rejected, (json.dumps(vars(row)) for row in facts.left_out))
    statistics, counts = facts.statistics(), Counter(splits)
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": facts.fingerprint(splits),
        "expressions": list(expressions),
        # Faces of unknown pose are one kind.
        "poses": list(statistics["images_per_pose"]) or [""],
        "persons": sorted({person for person, _ in facts.persons if person}),
        "splits": {split: counts[split] for split in SPLITS},
        "counts": {"faces": len(facts), "left_out": len(facts.left_out)},
        "records": {"files": shards, "examples": len(facts)},
        "notes": [*parts.notes, *left_out_notes(facts.left_out)],
        "val_of_training": parts.val_of_training,
        "landmark_model": "none",
        "detector": "none",
        "statistics": statistics,
    }


def _spool(rows: Iterable[Row | LeftOut], facts: _Facts, data: str, spool: str, shards: int) -> None:
    """Decodes each row's image and puts the row down in the shard of its hash.

    Raises:
      InputError: when more than MAX_DAMAGED of the images are damaged, missing or otherwise at fault.
    """
    damaged: list[LeftOut] = []
    with contextlib.ExitStack() as stack:
        spools = [stack.enter_context(open(os.path.join(spool, str(shard)), "wb")) for shard in range(shards)]
        told = time.monotonic()
        for row in rows:
            size = row if isinstance(row, LeftOut) else decoded_size(row)
            if isinstance(size, LeftOut) and size.reason in FAULTS:
                damaged.append(size)
                logging.warning("%s: %s is left out, because %s: %s", data, size.image_id, size.reason, size.detail)
            elif isinstance(size, LeftOut):
                facts.left_out.append(size)
            else:
                order = order_hash(row.image_id.encode())
                pickle.dump((order, len(facts), row, size), spools[order % shards])
                facts.add(row, *size)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                logging.info("converting %s: %d faces so far", data, len(facts))
    facts.left_out += damaged
    if len(damaged) > MAX_DAMAGED * (len(facts) + len(damaged)):
        raise InputError(
            f"{len(damaged)} of {len(facts) + len(damaged)} images of {data} cannot be used, more than "
            f"{100 * MAX_DAMAGED:.0f} %: {faults(damaged)}"
        )


def decoded_size(row: Row) -> tuple[int, int] | LeftOut:
    """Returns an image's height and width, decoded as training decodes it, or why it cannot be used."""
    import tensorflow as tf

    from fer_tf.data.inputs import decode_image

    if not row.image:
        return LeftOut(row.image_id, DAMAGED, "the file is empty")
    try:
        height, width = decode_image(row.image).shape[:2]
    except tf.errors.OpError as error:
        told = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()
        return LeftOut(row.image_id, DAMAGED, " ".join(told.split())[:200])
    return height, width


def _write_shard(
    spool: str, folder: str, shard: int, shards: int, splits: Sequence[str], expressions: Sequence[str]
) -> None:
    """Writes one shard of records, in order of their hashes, so that classes and persons are mixed."""
    rows = []
    with open(os.path.join(spool, str(shard)), "rb") as file, contextlib.suppress(EOFError):
        while True:
            rows.append(pickle.load(file))
    rows.sort(key=lambda found: found[:2])
    records = (encode(_record(row, size, splits[number], expressions)) for _, number, row, size in rows)
    tfrecords.write(DataFolder(folder).face_file(shard, shards), records)


def _record(row: Row, size: tuple[int, int], split: str, expressions: Sequence[str]) -> FaceRecord:
    """A public set's image as a record: what only the pipeline knows of a face is empty."""
    return FaceRecord(
        image_id=row.image_id,
        image=row.image,
        image_format="png" if row.image.startswith(b"\x89PNG") else "jpeg",
        height=size[0],
        width=size[1],
        expression=row.expression,
        expression_id=expressions.index(row.expression),
        pose=row.pose,
        pose_id=POSES.index(row.pose) if row.pose in POSES else -1,
        person=row.person,
        gender=row.gender,
        split=split,
        distribution=row.distribution,
    )


def left_out_notes(rows: Sequence[LeftOut]) -> tuple[str, ...]:
    """Returns a sentence for each reason, with the images' names where they are few."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.reason, []).append(os.path.basename(row.image_id))
    return tuple(
        f"left out, because {reason}: {', '.join(sorted(found)) if len(found) <= LISTED else f'{len(found):,} images'}"
        for reason, found in names.items()
    )
