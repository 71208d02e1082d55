"""The reviewed clips in files of bounded size, so that neither the driver nor a worker holds them all."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.data.annotations import (
    AnnotatedClip,
    AnnotatedRow,
    AnnotationOptions,
    BadRow,
    Spellings,
    advice,
    common_folder,
    read_rows,
)
from fer_tf.data.ballots import Ballots
from fer_tf.data.settle import settle
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError
from fer_tf.labels import in_order

# About 40,000 rows; a chunk's rows are sorted in memory.
CHUNK_BYTES = 4 << 20
# Files that may be open at once.
MAX_CHUNKS = 400

# What the later stages need of a face without its pixels: 52 bytes.
FACE_INDEX = np.dtype(
    [
        ("clip", "<i4"),  # the clip's place in its chunk
        ("frame", "<i4"),
        ("time", "<f8"),
        ("image", "<u8"),  # stable_hash(image_id)
        ("perceptual", "<u8"),
        ("pixels", "<u8"),
        ("bytes", "<i4"),  # of the stored face
    ]
)


@dataclass(frozen=True)
class Labels:
    """The vocabularies of a corpus: the labels that kept clips have, in the order of their ids."""

    expressions: tuple[str, ...] = ()
    poses: tuple[str, ...] = ()


@dataclass
class Census:
    """What the annotations hold after review.

    Attributes:
      chunks: the numbers of the chunks that hold clips.
      rows: rows read.
      clips: clips kept.
      labels: the vocabularies.
      persons: for each person, gender and age.
      rejected: rows left out, by reason.
      ballots: the reviewers' votes on kept clips and on those that the review drops.
      merged: names that were read in several spellings, as `Spellings.merged` gives them.
    """

    chunks: tuple[int, ...] = ()
    rows: int = 0
    clips: int = 0
    labels: Labels = Labels()
    persons: dict[str, tuple[str, int]] = field(default_factory=dict)
    rejected: collections.Counter = field(default_factory=collections.Counter)
    ballots: Ballots = field(default_factory=Ballots)
    merged: list[dict] = field(default_factory=list)


def clips_path(building: str, chunk: int) -> str:
    """Returns the file of a chunk's clips."""
    return files.join(building, f"clips/clips-{chunk:05d}.jsonl")


def read_clips(building: str, chunk: int) -> list[AnnotatedClip]:
    """Returns the clips of a chunk in order of their ids."""
    with files.open_to_read(clips_path(building, chunk)) as file:
        return [AnnotatedClip.from_json(line) for line in file.read().splitlines()]


def index_path(building: str, chunk: int) -> str:
    """Returns the file of a chunk's faces without their pixels, `FACE_INDEX`."""
    return files.join(building, f"index/index-{chunk:05d}.npy")


def read_index(building: str, chunk: int) -> np.ndarray:
    """Returns a chunk's faces, `FACE_INDEX`, in order of clip and frame."""
    return np.frombuffer(files.read_bytes(index_path(building, chunk)), FACE_INDEX)


def rejected_path(building: str, name: str) -> str:
    """Returns the list of what a stage, or one of its chunks, left out."""
    return files.join(building, f"rejected/{name}.jsonl")


def rejected_paths(building: str) -> list[str]:
    """Returns the lists of what was left out so far, the annotations' first."""
    return files.matching(files.join(building, "rejected"), "*.jsonl")


def reject_line(stage: str, reason: str, clip: str, **more: Any) -> str:
    """Returns one line of rejected.jsonl."""
    return json.dumps({"stage": stage, "reason": reason, "clip": clip, **more}, ensure_ascii=False)


def partition(path: str, building: str, options: AnnotationOptions) -> Census:
    """Reviews the annotations clip by clip and writes the kept clips into chunks by a stable hash of their id.

    Args:
      path: the annotations CSV, on any filesystem that Beam knows.
      building: folder for the chunks and the list of rejected rows.
      options: review rule, columns and labels.

    Raises:
      InputError: the file cannot be used, or no clip survives.
    """
    count = _chunk_count(path)
    census, spellings, outside = Census(), Spellings(options.labels), ""
    with tempfile.TemporaryDirectory() as folder, files.whole_file(rejected_path(building, "annotations")) as rejected:

        def reject(row: BadRow) -> None:
            nonlocal outside
            if row.reason == "outside_root":
                outside = common_folder(outside, row.clip_id)
            census.rejected[row.reason] += 1
            rejected.write(
                reject_line("annotations", row.reason, row.clip_id, line=row.line, detail=row.detail).encode() + b"\n"
            )

        _scatter(path, folder, count, options, census, spellings, reject)
        expressions: set[str] = set()
        poses: set[str] = set()
        for chunk in range(count):
            with open(_part_path(folder, chunk), encoding="utf-8") as file:
                read = (spellings.resolved_row(AnnotatedRow.from_json(line)) for line in file)
                clips, dropped = settle(read, options.review, census.ballots)
            for row in dropped:
                reject(row)
            if not clips:
                continue
            census.chunks += (chunk,)
            census.clips += len(clips)
            expressions.update(clip.expression for clip in clips)
            poses.update(clip.pose for clip in clips)
            for clip in clips:
                _remember_person(census.persons, clip)
            files.write_lines(clips_path(building, chunk), (clip.to_json() for clip in clips))
    census.ballots.rename(lambda name: spellings.standing("expression", name))
    if not census.clips:
        reasons = ", ".join(f"{reason} {number}" for reason, number in census.rejected.most_common()) or "no rows"
        raise InputError(
            f"{path}: none of {census.rows} rows survives review (`review`={options.review}): {reasons}. "
            f"{advice(census.rejected, outside, options)}"
        )
    census.labels = Labels(options.labels or tuple(sorted(expressions)), in_order(poses))
    census.merged = spellings.merged()
    census.persons = dict(sorted(census.persons.items()))
    return census


def _chunk_count(path: str) -> int:
    if files.is_local(path) and os.path.isdir(path):
        raise InputError(f"`annotations` {path!r} is no file; name the annotations CSV with --annotations.")
    try:
        size, _ = files.stat(path)
    except OSError as error:
        raise InputError(f"`annotations` {path!r} cannot be read: {error}.") from None
    return min(1 + size // CHUNK_BYTES, MAX_CHUNKS)


def _part_path(folder: str, chunk: int) -> str:
    return os.path.join(folder, f"{chunk:05d}.jsonl")


def _scatter(
    path: str,
    folder: str,
    count: int,
    options: AnnotationOptions,
    census: Census,
    spellings: Spellings,
    reject: Any,
) -> None:
    """Writes each row that names a clip to its chunk's file; rows of one clip meet in one chunk."""
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(open(_part_path(folder, n), "w", encoding="utf-8")) for n in range(count)]
        lines: Iterable[bytes] = stack.enter_context(files.open_to_read(path))
        for row in read_rows(lines, path, options, spellings, census.ballots):
            census.rows += 1
            if isinstance(row, AnnotatedRow):
                parts[stable_hash(row.clip.clip_id) % count].write(row.to_json() + "\n")
            else:
                reject(row)


def _remember_person(persons: dict[str, tuple[str, int]], clip: AnnotatedClip) -> None:
    # Of differing values the greatest wins, so that the order of rows does not matter.
    known = persons.get(clip.person, ("", -1))
    persons[clip.person] = (max(known[0], clip.gender), max(known[1], clip.age))
