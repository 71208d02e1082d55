"""Stage 3: tagged faces and their pairs into shards, each streamed from the finished clips' files.

Images never pass between workers: what is shuffled is where they lie. A clip's faces share a shard, chosen by a
stable hash of the clip's id (a pair's, by person and expression), and stand there in order of clip and frame.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from beam_pipelines import assign, chunks, extract, pairing
from beam_pipelines.chunks import Labels
from beam_pipelines.pairing import TaggedClip
from fer_tf import files, tfrecords
from fer_tf.data import tasks
from fer_tf.data.folder import DataFolder, digest
from fer_tf.data.schema import FaceRecord, decode, encode
from fer_tf.data.tasks import SplitPlan, stable_hash
from fer_tf.labels import TASKS

# At the end of the name of a shard's receipt.
RECEIPT = ".receipt"


@dataclass(frozen=True)
class WritePlan:
    """All that a worker needs to write its shards.

    Attributes:
      building: folder of the chunks; shards go to `out/` in it.
      labels: the vocabularies.
      limits: the tasks' limits.
      face_shards, pair_shards: how many files of each.
      pairs_per_image: the most targets that a source face gets.
      landmark_files: whether each clip's points are also written as text.
    """

    building: str
    labels: Labels
    limits: SplitPlan
    face_shards: int
    pair_shards: int
    pairs_per_image: int
    landmark_files: bool


def made(building: str) -> DataFolder:
    """Returns the data folder as far as it is made, in the folder of a build."""
    return DataFolder(files.join(building, "out"))


class TagChunk(beam.DoFn):
    """From a chunk's number to its clips that have faces, tagged, by shard of faces and by shard of pairs."""

    FACES, PAIRS = "faces", "pairs"

    def __init__(self, plan: WritePlan):
        self.plan = plan

    def process(self, chunk: int) -> Iterator[Any]:
        for clip in tagged_clips(self.plan.building, chunk, self.plan.labels, self.plan.limits):
            annotated = clip.clip
            yield beam.pvalue.TaggedOutput(self.FACES, (stable_hash(annotated.clip_id) % self.plan.face_shards, clip))
            who = stable_hash(f"{annotated.person}\0{annotated.expression}")
            yield beam.pvalue.TaggedOutput(self.PAIRS, (who % self.plan.pair_shards, clip))


def tagged_clips(building: str, chunk: int, labels: Labels, limits: SplitPlan) -> Iterator[TaggedClip]:
    """Yields a chunk's clips that have faces, with their labels' ids and their faces' parts."""
    clips, index = chunks.read_clips(building, chunk), chunks.read_index(building, chunk)
    caches = extract.read_summary(building, chunk)["caches"]
    keys = assign.keys_of(clips, index, labels)
    splits = tasks.split(keys, limits)
    places, starts = np.unique(index["clip"], return_index=True)
    for place, start, end in zip(places.tolist(), starts, [*starts[1:], len(index)], strict=True):
        yield TaggedClip(
            clip=clips[place],
            cache=caches[place],
            expression_id=int(keys.expression[start]),
            pose_id=int(keys.pose[start]),
            frames=index["frame"][start:end].copy(),
            times=index["time"][start:end].copy(),
            parts=tuple(splits[task][start:end] for task in TASKS),
        )


class _ShardWriter:
    """Counts and fingerprints the records of one shard while they are written."""

    def __init__(self, path: str):
        self.path = path
        self.counts: collections.Counter = collections.Counter()
        self._digest = 0

    def write(self, records: Iterable[Any]) -> Iterator[dict]:
        with files.whole_file(self.path) as file:
            for record in records:
                content = encode(record)
                tfrecords.append(file, content)
                self._digest += digest(content)
                self.counts["examples"] += 1
                self.counts["bytes"] += len(content)
                for task in TASKS:
                    self.counts[f"{task}/{getattr(record, task)}"] += 1
                self.counts["same_moment"] += getattr(record, "same_moment", 0)
        yield {"path": self.path, "counts": dict(self.counts), "digest": self._digest}


class WriteFaces(beam.DoFn):
    """Writes one shard of face records."""

    def __init__(self, plan: WritePlan):
        self.plan = plan

    def process(self, element: tuple[int, Iterable[TaggedClip]]) -> Iterator[dict]:
        shard, clips = element[0], sorted(filter(None, element[1]), key=lambda clip: clip.clip.clip_id)
        writer = _ShardWriter(made(self.plan.building).face_file(shard, self.plan.face_shards))
        yield from writer.write(record for clip in clips for record in self._records(clip))

    def _records(self, clip: TaggedClip) -> Iterator[FaceRecord]:
        records = [labelled(decode(face), clip, place) for place, face in enumerate(extract.read_faces(clip.cache))]
        if self.plan.landmark_files:
            path = made(self.plan.building).landmark_file(clip.clip.clip_id)
            files.write_lines(path, (landmark_line(record) for record in records))
        yield from records


def labelled(face: FaceRecord, clip: TaggedClip, place: int) -> FaceRecord:
    """Returns a stored face with its clip's labels and its own tags."""
    annotated = clip.clip
    return dataclasses.replace(
        face,
        expression=annotated.expression,
        expression_id=clip.expression_id,
        pose=annotated.pose,
        pose_id=clip.pose_id,
        person=annotated.person,
        gender=annotated.gender,
        age=annotated.age,
        clip_group=annotated.group,
        **clip.tags(place),
    )


def landmark_line(face: FaceRecord) -> str:
    """Returns a face's frame number and its 68 points, x and y in pixels of the crop (section 3.2's text file)."""
    return f"{face.frame} " + " ".join(f"{value:.2f}" for value in np.asarray(face.landmarks).reshape(-1))


class WritePairs(beam.DoFn):
    """Writes one shard of pair records."""

    def __init__(self, plan: WritePlan):
        self.plan = plan

    def process(self, element: tuple[int, Iterable[TaggedClip]]) -> Iterator[dict]:
        shard, clips = element
        writer = _ShardWriter(made(self.plan.building).pair_file(shard, self.plan.pair_shards))
        seed = self.plan.limits.options.seed
        yield from writer.write(pairing.pair_records(filter(None, clips), self.plan.pairs_per_image, seed))


class WriteReceipt(beam.DoFn):
    """Writes beside a shard what it holds, for the driver to add up; runners need not bring results back."""

    def process(self, receipt: dict) -> None:
        files.write_json(receipt["path"] + RECEIPT, receipt)


@dataclass
class WriteShards(beam.PTransform):
    """From chunk numbers to shards of faces and pairs under `<building>/out`.

    Attributes:
      plan: labels, limits and numbers of shards.
    """

    plan: WritePlan

    def expand(self, numbers: beam.PCollection) -> beam.PCollection:
        tagged = (
            numbers
            | "SpreadChunks" >> beam.Reshuffle()
            | "Tag" >> beam.ParDo(TagChunk(self.plan)).with_outputs(TagChunk.FACES, TagChunk.PAIRS)
        )
        faces = self._by_shard(tagged[TagChunk.FACES], TagChunk.FACES, self.plan.face_shards)
        by_person = self._by_shard(tagged[TagChunk.PAIRS], TagChunk.PAIRS, self.plan.pair_shards)
        written = (
            faces | "WriteFaces" >> beam.ParDo(WriteFaces(self.plan)),
            by_person | "WritePairs" >> beam.ParDo(WritePairs(self.plan)),
        )
        return written | "Receipts" >> beam.Flatten() | "WriteReceipt" >> beam.ParDo(WriteReceipt())

    def _by_shard(self, clips: beam.PCollection, kind: str, shards: int) -> beam.PCollection:
        # A shard without clips is written too, empty, so that the numbers in the names have no gaps.
        empty = clips.pipeline | f"Shards/{kind}" >> beam.Create([(shard, None) for shard in range(shards)])
        return (clips, empty) | f"WithEmpty/{kind}" >> beam.Flatten() | f"ByShard/{kind}" >> beam.GroupByKey()


def read_receipts(paths: Sequence[str]) -> tuple[collections.Counter, int]:
    """Returns the counts of some shards and the sum of their digests."""
    counts: collections.Counter = collections.Counter()
    digests = 0
    for path in paths:
        receipt = files.read_json(path + RECEIPT)
        counts.update(receipt["counts"])
        digests += receipt["digest"]
    return counts, digests
