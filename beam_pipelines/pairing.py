"""Pairs for FaPE-GAN: the same person and expression from two cameras, at one moment where the cameras ran together.

Section 4.2 trains the generator on a source face and the mask of a target face. For every source face and every
other pose, the target is the frame nearest in time, from a clip filmed together with the source's when there is one,
else from any clip of the same person and expression; `per_image` poses are taken by a stable hash.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.extract import read_faces
from fer_tf.data.annotations import AnnotatedClip
from fer_tf.data.schema import NO_SPLIT, FaceRecord, PairRecord, decode
from fer_tf.data.tasks import part_name, stable_hash
from fer_tf.labels import TASKS

# One and a half frames at the paper's 25 frames a second.
SAME_MOMENT_SECONDS = 0.06
# Clips whose faces are held while their pairs are written.
CLIPS_IN_MEMORY = 16


@dataclass(frozen=True)
class TaggedClip:
    """A clip with faces, ready to be written.

    Attributes:
      clip: its annotations.
      cache: the file that holds its faces.
      expression_id, pose_id: ids of its labels.
      frames: int32 (N,), the faces' frames, in order.
      times: float64 (N,), seconds.
      parts: for each of `TASKS`, int8 (N,).
    """

    clip: AnnotatedClip
    cache: str
    expression_id: int
    pose_id: int
    frames: np.ndarray
    times: np.ndarray
    parts: tuple[np.ndarray, ...]

    def image_id(self, face: int) -> str:
        return f"{self.clip.clip_id}#{self.frames[face]:06d}"

    def tags(self, face: int) -> dict[str, str]:
        """Returns a face's tag in every task."""
        return {task: part_name(int(part[face])) for task, part in zip(TASKS, self.parts, strict=True)}


@dataclass(frozen=True, order=True)
class Pair:
    """Places of a source and a target face: which clip, which of its faces."""

    source_clip: int
    source: int
    target_clip: int
    target: int
    same_moment: bool


def choose(clips: Sequence[TaggedClip], per_image: int, seed: int) -> list[Pair]:
    """Returns the pairs among the clips of one person and expression.

    Args:
      clips: the clips, in order of their ids.
      per_image: the most targets that a source face gets.
      seed: changes which poses are taken.
    """
    by_pose: dict[int, list[int]] = {}
    for place, clip in enumerate(clips):
        by_pose.setdefault(clip.pose_id, []).append(place)
    pairs = []
    for source_clip, clip in enumerate(clips):
        for source in range(len(clip.frames)):
            found = [
                _nearest(clips, source_clip, source, places)
                for pose_id, places in by_pose.items()
                if pose_id != clip.pose_id
            ]
            # Targets filmed together first, then by a hash that neither workers nor the order of rows can change.
            found.sort(key=lambda item: (not item[0], stable_hash(f"pair/{seed}/{clip.image_id(source)}/{item[2]}")))
            pairs += [pair for _, pair, _ in found[:per_image]]
    return pairs


def _nearest(clips: Sequence[TaggedClip], source_clip: int, source: int, places: list[int]) -> tuple[bool, Pair, str]:
    """The target of one pose: whether it was filmed together with the source, the pair, and the pose's name."""
    own = clips[source_clip]
    together = [place for place in places if clips[place].clip.group == own.clip.group]
    at = own.times[source]
    gap, place, target = min(
        (abs(float(clips[place].times[target]) - at), place, target)
        for place in together or places
        for target in [int(np.argmin(np.abs(clips[place].times - at)))]
    )
    same_moment = bool(together) and gap <= SAME_MOMENT_SECONDS
    return bool(together), Pair(source_clip, source, place, target, same_moment), clips[place].clip.pose


def pair_tags(source: dict[str, str], target: dict[str, str]) -> dict[str, str]:
    """Returns a pair's tag in every task: that of both faces when they share it, else empty."""
    return {task: source[task] if source[task] == target[task] else NO_SPLIT for task in TASKS}


def pair_records(clips: Iterable[TaggedClip], per_image: int, seed: int) -> Iterator[PairRecord]:
    """Yields the pair records of some clips, by person, expression, source and target.

    Args:
      clips: clips with faces; all clips of a person and expression, or none.
      per_image: the most targets that a source face gets.
      seed: changes which poses are taken.
    """

    def who(clip: TaggedClip) -> tuple[str, int]:
        return clip.clip.person, clip.expression_id

    @functools.lru_cache(maxsize=CLIPS_IN_MEMORY)
    def faces_of(cache: str) -> list[FaceRecord]:
        return [decode(record) for record in read_faces(cache)]

    ordered = sorted(clips, key=lambda clip: (*who(clip), clip.clip.clip_id))
    for _, members in itertools.groupby(ordered, who):
        group = list(members)
        for pair in sorted(choose(group, per_image, seed)):
            source_clip, target_clip = group[pair.source_clip], group[pair.target_clip]
            source = faces_of(source_clip.cache)[pair.source]
            target = faces_of(target_clip.cache)[pair.target]
            yield PairRecord(
                source=source.image,
                target=target.image,
                target_mask=target.mask,
                source_landmarks=source.landmarks,
                target_landmarks=target.landmarks,
                source_id=source.image_id,
                target_id=target.image_id,
                source_pose=source_clip.clip.pose,
                target_pose=target_clip.clip.pose,
                expression=source_clip.clip.expression,
                expression_id=source_clip.expression_id,
                person=source_clip.clip.person,
                same_moment=int(pair.same_moment),
                **pair_tags(source_clip.tags(pair.source), target_clip.tags(pair.target)),
            )
