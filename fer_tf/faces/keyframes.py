"""Which frames of a clip are kept: the rule that the paper's "key images generation" (section 3.1) leaves open.

The rules work on three numbers a frame, so a clip of any length can be judged without holding its frames.
This module runs in the decoder's process: it imports numpy alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Rule = Literal["apex", "motion", "uniform"]
RULES = get_args(Rule)

# Below this mean absolute difference (grey levels) a clip counts as still: what is left is noise of the codec.
STILL = 0.5
# The apex rule keeps frames that are at least this far on the way from rest to the clip's farthest frame. On rendered
# clips from rest to apex, a classifier trained on apex frames was right on 12 % of the frames below a share of 0.3, on
# 36 % at 0.4 to 0.5, 56 % at 0.5 to 0.6, and on 68 to 74 % from 0.6 on: there the clip's label holds.
APEX_SHARE = 0.6
# The shortest slice of time of which one frame waits to be kept.
FINEST_S = 1 / 64
# Frames with less fine detail than this share of the usual are blurred by motion.
BLURRED = 0.6


# A flash, a black frame or one that was decoded badly comes and goes suddenly: by this many grey levels, and by this
# many times what is usual between frames, for no longer than this.
SUDDEN_LEVELS, SUDDEN_TIMES, SUDDEN_S = 3.0, 5.0, 0.25
# At a clip's beginning and end so many frames count as sudden.
AT_THE_ENDS = 2
# Frames that come and go suddenly are left out when they would set the scale: by this much above the others.
SETS_THE_SCALE = 1.5


@dataclass(frozen=True)
class FrameStats:
    """What the rules know of each frame of a clip, in order.

    Attributes:
      times: float (n,), seconds, not decreasing.
      distance: float (n,), mean absolute difference from the clip's resting frame, grey levels.
      motion: float (n,), mean absolute difference from the frame before, grey levels.
      sharpness: float (n,), energy of the fine detail, relative only.
    """

    times: np.ndarray
    distance: np.ndarray
    motion: np.ndarray
    sharpness: np.ndarray

    def __len__(self) -> int:
        return len(self.times)


def choose(stats: FrameStats, rule: str, limit: int, among: Collection[int] | None = None) -> np.ndarray:
    """Returns the kept frames' numbers in ascending order, at most `limit`.

    `apex` keeps frames far from the resting face, `motion` frames where much changes, each one frame per slice
    of time and the sharper of equals; a clip in which nothing moves, and `uniform`, keep frames evenly in time.
    A few frames that come and go suddenly, as in a flash, neither are kept nor set the scale.

    Args:
      stats: the clip's frames.
      rule: one of RULES.
      limit: the most frames to keep, at least 1.
      among: the frames that can be kept; None for all. The others set the scale all the same.
    """
    if len(stats) == 0:
        return np.zeros(0, int)
    may_be_kept, value = _rated(stats, rule)
    pool = np.flatnonzero(may_be_kept if among is None else may_be_kept & _are(among, stats))
    if not value.any():
        return pool[_uniform(stats.times[pool], limit)]
    if len(pool) <= limit:
        return pool
    span = max(float(stats.times[pool[-1]] - stats.times[pool[0]]), 1e-9)
    slices = np.minimum((limit * (stats.times[pool] - stats.times[pool[0]]) / span).astype(int), limit - 1)
    return pool[_best_of_each(slices, value[pool])]


def thin(stats: FrameStats, rule: str, limit: int, among: Collection[int]) -> np.ndarray:
    """Returns the frames, of those given, that `choose` may want later on, in ascending order: at most `limit` + 1.

    Of each slice of time the best stays. A longer clip has slices twice as long, of which each holds two earlier ones
    whole, so that a frame which stays each time is the best of all that came.

    Args:
      stats: the frames of a clip so far.
      rule, limit: as for `choose`.
      among: the frames that are left.
    """
    may_be_kept, value = _rated(stats, rule)
    pool = np.flatnonzero(_are(among, stats))
    longer = np.log2(max(float(stats.times[-1]) / limit / FINEST_S, 1))
    slices = (stats.times[pool] / (FINEST_S * 2 ** np.ceil(longer))).astype(int)
    return pool[_best_of_each(slices, np.where(may_be_kept, value, value - 10)[pool])]


def _are(among: Collection[int], stats: FrameStats) -> np.ndarray:
    chosen = np.zeros(len(stats), bool)
    chosen[list(among)] = True
    return chosen


def _rated(stats: FrameStats, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Which frames the rule may keep, bool (n,), and what each is worth, float (n,); nothing where nothing moves."""
    sudden = _sudden(stats)
    # The frame behind a flash did not move.
    motion = np.where(np.r_[False, sudden[:-1]], np.median(stats.motion), stats.motion)
    signal = {"apex": stats.distance, "motion": motion, "uniform": np.zeros(len(stats))}[rule]
    scale = float(signal[~sudden].max())
    if scale <= STILL:
        return ~sudden, np.zeros(len(stats))
    kept = ~sudden & (signal >= APEX_SHARE * scale) if rule == "apex" else ~sudden
    kept = kept & (stats.sharpness >= BLURRED * np.median(stats.sharpness[kept]))
    return kept, signal / scale + 0.25 * stats.sharpness / max(float(stats.sharpness[~sudden].max()), 1e-9)


def first_at_rest(images: Sequence[np.ndarray]) -> int:
    """Returns which of a clip's first frames shows it at rest: the first, or the first behind a flash or black frame.

    Args:
      images: float (h, w) each, equally large, a few.
    """
    motion = np.array([np.abs(after - before).mean() for before, after in itertools.pairwise(images)])
    jumps = np.flatnonzero(motion[: len(motion) // 2] > _sudden_level(motion)) if len(motion) else motion
    return int(jumps[-1]) + 1 if len(jumps) else 0


def _sudden_level(motion: np.ndarray) -> float:
    return max(SUDDEN_LEVELS, SUDDEN_TIMES * float(np.median(motion)))


def _sudden(stats: FrameStats) -> np.ndarray:
    """Which frames come and go suddenly and would set the scale, bool (n,)."""
    sudden = np.zeros(len(stats), bool)
    if len(stats) < 3:
        return sudden
    jumps = np.flatnonzero(stats.motion > _sudden_level(stats.motion[1:]))
    edges = np.unique(np.r_[0, jumps, len(stats)])
    ends = np.r_[stats.times, stats.times[-1] + np.median(np.diff(stats.times))]
    for start, end in itertools.pairwise(edges):
        if start == 0 or end == len(stats):
            # Nothing tells whether what was there comes back: a cut looks the same.
            sudden[start:end] = end - start <= AT_THE_ENDS
        else:
            sudden[start:end] = _is_back(stats, start, end) and ends[end] - ends[start] <= SUDDEN_S
    if sudden.all() or not sudden.any():
        return np.zeros(len(stats), bool)
    return sudden & (stats.distance > SETS_THE_SCALE * stats.distance[~sudden].max())


def _is_back(stats: FrameStats, start: int, end: int) -> bool:
    """Whether what was there before a few frames is there again behind them."""
    away = min(stats.motion[start], stats.motion[end])
    return bool(abs(stats.distance[end] - stats.distance[start - 1]) < away / 2)


def _uniform(times: np.ndarray, limit: int) -> np.ndarray:
    """Frames nearest to evenly spaced moments, so that a variable frame rate does not bunch them."""
    if len(times) <= limit:
        return np.arange(len(times))
    wanted = times[0] + (times[-1] - times[0]) * (np.arange(limit) + 0.5) / limit
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    nearest = np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after)
    return np.unique(nearest)


def _best_of_each(slices: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Where the best of each slice stands, in order: one burst must not take every place."""
    order = np.lexsort((np.arange(len(slices)), -value, slices))
    first = np.r_[True, np.diff(slices[order]) != 0]
    return np.sort(order[first])
