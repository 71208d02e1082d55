"""Stage 2, on metadata alone: all faces' keys in arrays, the tasks' limits, and what the parts share.

A face costs the driver about 170 bytes here and 250 in the leak check, whatever its image holds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beam_pipelines import chunks
from beam_pipelines.chunks import Census, Labels
from fer_tf.data import leaks, tasks
from fer_tf.data.annotations import AnnotatedClip
from fer_tf.data.tasks import FaceKeys, SplitPlan, TaskOptions, stable_hash


@dataclass(frozen=True)
class Corpus:
    """Every face of the corpus without its pixels, in order of chunk, clip and frame.

    Attributes:
      keys: what splits look at.
      index: `FACE_INDEX` (N,).
      starts: int (chunks + 1,), where each chunk's faces begin.
    """

    keys: FaceKeys
    index: np.ndarray
    starts: np.ndarray


def keys_of(clips: list[AnnotatedClip], index: np.ndarray, labels: Labels) -> FaceKeys:
    """Returns the keys of a chunk's faces.

    Args:
      clips: the chunk's clips.
      index: `FACE_INDEX` (N,), whose `clip` points into `clips`.
      labels: the vocabularies.
    """
    expression_ids = {name: place for place, name in enumerate(labels.expressions)}
    pose_ids = {name: place for place, name in enumerate(labels.poses)}

    def column(values: list[int], kind: type) -> np.ndarray:
        return np.array(values, kind)[index["clip"]] if clips else np.zeros(0, kind)

    return FaceKeys(
        image=index["image"],
        clip=column([stable_hash(clip.clip_id) for clip in clips], np.uint64),
        moment=column([stable_hash(clip.group) for clip in clips], np.uint64),
        person=column([stable_hash(clip.person) for clip in clips], np.uint64),
        expression=column([expression_ids[clip.expression] for clip in clips], np.int32),
        pose=column([pose_ids[clip.pose] for clip in clips], np.int32),
    )


def load(building: str, census: Census) -> Corpus:
    """Returns the keys of all faces that the first stage found."""
    parts, indexes = [], []
    for chunk in census.chunks:
        indexes.append(chunks.read_index(building, chunk))
        parts.append(keys_of(chunks.read_clips(building, chunk), indexes[-1], census.labels))
    keys = FaceKeys(
        *(np.concatenate([getattr(part, column.name) for part in parts]) for column in dataclasses.fields(FaceKeys))
    )
    starts = np.cumsum([0, *(len(index) for index in indexes)])
    return Corpus(keys, np.concatenate(indexes), starts)


def all_splits(corpus: Corpus, labels: Labels, options: TaskOptions) -> tuple[SplitPlan, dict[str, np.ndarray]]:
    """Returns the tasks' limits, and every face's part: in each task, and in ER-SS by each unit (`er_ss/<unit>`)."""
    limits = tasks.plan(corpus.keys, labels.expressions, labels.poses, options)
    splits = tasks.split(corpus.keys, limits)
    for unit in tasks.UNITS:
        by_unit = dataclasses.replace(options, er_ss_unit=unit)
        splits[f"er_ss/{unit}"] = tasks.er_ss_parts(corpus.keys, tasks.er_ss_limits(corpus.keys, by_unit), by_unit)
    return limits, splits


def check_leaks(corpus: Corpus, splits: dict[str, np.ndarray]) -> dict[str, leaks.Leaks]:
    """Returns what the parts of each split share."""
    keys, index = corpus.keys, corpus.index
    return leaks.check(splits, keys.person, keys.clip, keys.moment, index["perceptual"], index["pixels"])


def leak_lines(building: str, census: Census, corpus: Corpus, found: dict[str, leaks.Leaks]) -> Iterator[str]:
    """Yields one line of JSON for every shared person, clip and moment, and for the listed near-duplicates."""
    faces = {int(face) for leak in found.values() for face in leak.near_duplicates.reshape(-1)}
    names: dict[str, dict[int, str]] = {"persons": {}, "clips": {}, "moments": {}}
    shared = {kind: {int(key) for leak in found.values() for key in getattr(leak, kind)} for kind in names}
    image_ids: dict[int, str] = {}
    for place, chunk in enumerate(census.chunks):
        clips = chunks.read_clips(building, chunk)
        for clip in clips:
            for kind, name in (("persons", clip.person), ("clips", clip.clip_id), ("moments", clip.group)):
                key = stable_hash(name)
                if key in shared[kind]:
                    names[kind][key] = name
        for face in faces:
            if corpus.starts[place] <= face < corpus.starts[place + 1]:
                row = corpus.index[face]
                image_ids[face] = f"{clips[row['clip']].clip_id}#{row['frame']:06d}"
    for split, leak in found.items():
        for kind, known in names.items():
            for name in sorted(known[int(key)] for key in getattr(leak, kind)):
                yield json.dumps({"split": split, "shared": kind[:-1], "id": name}, ensure_ascii=False)
        for face, other in leak.near_duplicates.tolist():
            line = {"split": split, "shared": "near_duplicate", "id": image_ids[face], "other": image_ids[other]}
            yield json.dumps(line, ensure_ascii=False)
