"""The four learning tasks of section 4.1: which part of which task every face belongs to.

A split is a pure function of ids and labels: items are ranked by a stable hash of their id and the seed, and the
lowest ranks up to an exact quota form a part. `plan` finds the quotas' limits from arrays of 8-byte keys, so memory
is a few dozen bytes a face; `split` compares keys with limits, so any worker tags its own faces alone.
docs/paper.md says what was chosen where the paper is silent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import SPLITS, TASKS, word_key

TRAIN, VAL, TEST, LEFT_OUT = 0, 1, 2, -1
Unit = Literal["image", "clip", "person"]
UNITS = get_args(Unit)

# Section 4.1 states counts, not shares; these ratios give them back exactly.
PAPER_IMAGES = 219_719
PAPER_ER_SS = (175_000, 19_719, 25_000)
PAPER_PERSONS, PAPER_TEST_PERSONS = 119, 21
RARE_CLASSES_PERCENT, RARE_TEST_PERCENT = 20, 90

_ALL = 1 << 64


@dataclass(frozen=True)
class TaskOptions:
    """How the tasks are split.

    Attributes:
      seed: changes every random choice of a split.
      er_ss_unit: what ER-SS shuffles: `image` as the paper does, or whole clips or persons.
      rare_pose: ER-UP's rare pose, any of the annotations'.
      val_share: share of the training part that ER-UE, ER-UP and ER-ZID give to validation, 0 to 0.5; the paper
        has no validation part there, and 0 gives its counts.
    """

    seed: int = 0
    er_ss_unit: Unit = "image"
    rare_pose: str = "half_left"
    val_share: float = 0.1

    def __post_init__(self) -> None:
        if self.er_ss_unit not in UNITS:
            raise not_one_of("er_ss_unit", self.er_ss_unit, UNITS)
        if not self.rare_pose.strip():
            raise InputError("`rare_pose` must name a pose of the annotations. Received: none.")
        object.__setattr__(self, "rare_pose", word_key(self.rare_pose))
        if not 0 <= self.val_share <= 0.5:
            raise InputError(f"`val_share` must be from 0 to 0.5. Received: {self.val_share}.")


@dataclass(frozen=True)
class FaceKeys:
    """What a split looks at, one element a face.

    Attributes:
      image, clip, moment, person: uint64 (N,), `stable_hash` of the ids; clips filmed together share a moment.
      expression, pose: int (N,), positions in the vocabularies.
    """

    image: np.ndarray
    clip: np.ndarray
    moment: np.ndarray
    person: np.ndarray
    expression: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class SplitPlan:
    """The limits that `plan` found; plain values, which are sent to workers.

    Attributes:
      options: the options it was made with.
      er_ss: ranks below the first limit are test, below the second validation.
      rare_expressions: ER-UE's rare classes, positions in the vocabulary.
      er_ue_test: for each rare class, the limit of its test ranks.
      er_ue_val, er_up_val: limit of the moments that are validation.
      rare_pose: ER-UP's rare pose, a position in the poses, or -1 when the corpus has none of it.
      er_up_test: limit of the rare pose's test ranks.
      er_zid: limits of the persons that are test, and test or validation.
    """

    options: TaskOptions
    er_ss: tuple[int, int]
    rare_expressions: tuple[int, ...]
    er_ue_test: tuple[int, ...]
    er_ue_val: int
    rare_pose: int
    er_up_test: int
    er_up_val: int
    er_zid: tuple[int, int]


def stable_hash(text: str) -> int:
    """Returns a 64-bit hash of a text that is the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def er_ss_quotas(count: int) -> tuple[int, int, int]:
    """Returns ER-SS's train, validation and test sizes: the paper's shares, rounded, none empty from 3 items on."""
    train, _, test = ((2 * count * part + PAPER_IMAGES) // (2 * PAPER_IMAGES) for part in PAPER_ER_SS)
    if count >= 3:
        test = max(test, 1)
        train = min(train, count - test - 1)
    return train, count - train - test, test


def rare_test_quota(count: int) -> int:
    """Returns how many of a rare group's images are tested (ER-UE, ER-UP): 90 %, rounded down, so one always trains."""
    return count * RARE_TEST_PERCENT // 100


def rare_class_quota(classes: int) -> int:
    """Returns how many classes ER-UE makes rare: 20 %, rounded; at least one of two or more."""
    return max((classes * RARE_CLASSES_PERCENT + 50) // 100, 1) if classes >= 2 else 0


def zero_shot_quotas(persons: int) -> tuple[int, int]:
    """Returns ER-ZID's numbers of training and test persons: 98 and 21 of 119 (the paper's sentence swaps them)."""
    test = (2 * persons * PAPER_TEST_PERSONS + PAPER_PERSONS) // (2 * PAPER_PERSONS)
    if persons >= 2:
        test = max(test, 1)
    return persons - test, test


def val_quota(count: int, share: float) -> int:
    """Returns how many of a training part's units become validation; at least one of three or more."""
    if share == 0 or count < 3:
        return 0
    return max(int(np.floor(count * share + 0.5)), 1)


def plan(faces: FaceKeys, expressions: Sequence[str], poses: Sequence[str], options: TaskOptions) -> SplitPlan:
    """Returns the limits that split these faces with exact quotas.

    Args:
      faces: all faces of the corpus.
      expressions, poses: the vocabularies that the ids of `faces` point into.
      options: seed, unit of ER-SS and validation share.
    """
    # A labels file may name expressions that the corpus has no faces of; these are not rare but absent.
    known = np.unique(faces.expression).tolist()
    by_hash = sorted(known, key=lambda i: stable_hash(f"er_ue/{options.seed}/class/{expressions[i]}"))
    rare = tuple(sorted(by_hash[: rare_class_quota(len(known))]))
    ranks = _rank(faces.image, "er_ue", options)
    er_ue_test = tuple(_test_limit(ranks[faces.expression == expression]) for expression in rare)

    pose = list(poses).index(options.rare_pose) if options.rare_pose in poses else -1
    er_up_test = _test_limit(_rank(faces.image, "er_up", options)[faces.pose == pose])

    persons = np.unique(_rank(faces.person, "er_zid", options))
    train_persons, test_persons = zero_shot_quotas(len(persons))
    val_persons = val_quota(train_persons, options.val_share)
    return SplitPlan(
        options=options,
        er_ss=er_ss_limits(faces, options),
        rare_expressions=rare,
        er_ue_test=er_ue_test,
        er_ue_val=_val_limit(faces.moment[~np.isin(faces.expression, rare)], "er_ue/val", options),
        rare_pose=pose,
        er_up_test=er_up_test,
        er_up_val=_val_limit(faces.moment[faces.pose != pose], "er_up/val", options),
        er_zid=(_limit(persons, test_persons), _limit(persons, test_persons + val_persons)),
    )


def split(faces: FaceKeys, limits: SplitPlan) -> dict[str, np.ndarray]:
    """Returns each task's part of every face.

    Args:
      faces: any of the corpus's faces.
      limits: from `plan` over the whole corpus.

    Returns:
      for each of `TASKS`, int8 (N,): 0 train, 1 validation, 2 test; `part_name` gives the tag.
    """
    options = limits.options
    er_ss = er_ss_parts(faces, limits.er_ss, options)
    er_zid = _parts(_rank(faces.person, "er_zid", options), *limits.er_zid)

    ranks = _rank(faces.image, "er_ue", options)
    rare = np.isin(faces.expression, limits.rare_expressions)
    er_ue = np.where(_below(_rank(faces.moment, "er_ue/val", options), limits.er_ue_val) & ~rare, VAL, TRAIN)
    for expression, limit in zip(limits.rare_expressions, limits.er_ue_test, strict=True):
        er_ue[(faces.expression == expression) & _below(ranks, limit)] = TEST

    rare = faces.pose == limits.rare_pose
    er_up = np.where(_below(_rank(faces.moment, "er_up/val", options), limits.er_up_val) & ~rare, VAL, TRAIN)
    er_up[rare & _below(_rank(faces.image, "er_up", options), limits.er_up_test)] = TEST
    parts = {"er_ss": er_ss, "er_ue": er_ue, "er_up": er_up, "er_zid": er_zid}
    return {task: parts[task].astype(np.int8) for task in TASKS}


def er_ss_limits(faces: FaceKeys, options: TaskOptions) -> tuple[int, int]:
    """Returns ER-SS's limits, of test and of test or validation, for the options' unit."""
    units = np.unique(_rank(getattr(faces, options.er_ss_unit), "er_ss", options))
    _, val, test = er_ss_quotas(len(units))
    return _limit(units, test), _limit(units, test + val)


def er_ss_parts(faces: FaceKeys, limits: tuple[int, int], options: TaskOptions) -> np.ndarray:
    """Returns ER-SS's part of every face, int (N,)."""
    return _parts(_rank(getattr(faces, options.er_ss_unit), "er_ss", options), *limits)


def part_name(code: int) -> str:
    """Returns `train`, `val`, `test`, or an empty tag for a face that the task leaves out."""
    return "" if code == LEFT_OUT else SPLITS[code]


def part_sizes(parts: np.ndarray) -> dict[str, int]:
    """Returns how many faces each part of a split has."""
    return {SPLITS[code]: int((parts == code).sum()) for code in (TRAIN, VAL, TEST)}


def describe(splits: Mapping[str, np.ndarray], limits: SplitPlan, expressions: Sequence[str]) -> dict[str, Any]:
    """Returns what `dataset.json` says of each of `TASKS`: its parts' sizes, and what is rare in it.

    Args:
      splits: each task's part of every face, int8 (N,), as `split` returns them.
      limits: the plan that they were split by.
      expressions: the vocabulary.
    """
    tasks: dict[str, dict[str, Any]] = {task: part_sizes(splits[task]) for task in TASKS}
    tasks["er_ss"]["unit"] = limits.options.er_ss_unit
    tasks["er_ue"]["rare_expressions"] = [expressions[place] for place in limits.rare_expressions]
    tasks["er_up"]["rare_pose"] = limits.options.rare_pose
    return tasks


def _rank(keys: np.ndarray, purpose: str, options: TaskOptions) -> np.ndarray:
    """Mixes the seed and the purpose into keys, one to one (the finalizer of SplitMix64)."""
    ranks = np.asarray(keys, np.uint64) ^ np.uint64(stable_hash(f"{purpose}/{options.seed}"))
    ranks = (ranks ^ (ranks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    ranks = (ranks ^ (ranks >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ranks ^ (ranks >> np.uint64(31))


def _limit(ranks: np.ndarray, count: int) -> int:
    """The smallest limit that exactly `count` of the distinct ranks lie below."""
    return _ALL if count >= len(ranks) else int(np.partition(ranks, count)[count])


def _test_limit(ranks: np.ndarray) -> int:
    return _limit(ranks, rare_test_quota(len(ranks)))


def _val_limit(moments: np.ndarray, purpose: str, options: TaskOptions) -> int:
    ranks = np.unique(_rank(moments, purpose, options))
    count = val_quota(len(ranks), options.val_share)
    return _limit(ranks, count) if count else 0


def _below(ranks: np.ndarray, limit: int) -> np.ndarray:
    return np.ones(len(ranks), bool) if limit >= _ALL else ranks < np.uint64(limit)


def _parts(ranks: np.ndarray, test_limit: int, val_limit: int) -> np.ndarray:
    return np.where(_below(ranks, test_limit), TEST, np.where(_below(ranks, val_limit), VAL, TRAIN))
