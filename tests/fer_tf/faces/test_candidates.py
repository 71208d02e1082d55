"""Frames that wait to be kept: few at a time, however long the clip, and as good as if all had waited."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fer_tf.faces import keyframes
from fer_tf.faces.decoder import WAITING_TIMES, Candidates
from fer_tf.faces.keyframes import FrameStats

LIMIT, COUNT = 10, 6000
BYTES = 1 << 20


def course(seed: int) -> FrameStats:
    """A face that moves away from rest and back for minutes, with noise and a flash."""
    rng = np.random.default_rng(seed)
    distance = 8 + 6 * np.sin(np.linspace(0, 40, COUNT)) + rng.normal(0, 1, COUNT)
    distance[COUNT // 3] = 200
    motion = np.abs(np.diff(distance, prepend=distance[0]))
    return FrameStats(np.arange(COUNT) / 25, distance, motion, rng.uniform(0.8, 1, COUNT))


@pytest.mark.parametrize("rule", keyframes.RULES)
def test_what_few_waiting_frames_give_is_as_good_and_as_even(rule: str) -> None:
    stats, seen = course(0), 0

    def so_far() -> FrameStats:
        return FrameStats(*(values[:seen] for values in vars(stats).values()))

    candidates = Candidates(SimpleNamespace(stats=so_far), rule, LIMIT)
    most = 0
    for seen in range(1, COUNT + 1):
        candidates.add(SimpleNamespace(index=seen - 1, bytes=BYTES))
        most = max(most, len(candidates._waiting))
    numbers, frames = candidates.kept()
    assert most <= max(WAITING_TIMES * LIMIT, 32), "frames that wait do not grow with the clip"
    assert [frame.index for frame in frames] == numbers
    exact = keyframes.choose(stats, rule, LIMIT)
    assert len(numbers) >= LIMIT - 1 and COUNT // 3 not in numbers
    signal = {"apex": stats.distance, "motion": stats.motion, "uniform": np.ones(COUNT)}[rule]
    assert signal[numbers].mean() > 0.93 * signal[exact].mean()
    widest = np.diff([0, *exact, COUNT]).max()
    assert np.diff([0, *numbers, COUNT]).max() < widest + COUNT / LIMIT


def test_frames_too_large_to_wait_are_decoded_again() -> None:
    stats = course(1)
    candidates = Candidates(SimpleNamespace(stats=lambda: stats), "apex", LIMIT)
    for number in range(50):
        candidates.add(SimpleNamespace(index=number, bytes=100 << 20))
    numbers, frames = candidates.kept()
    assert frames is None and numbers == keyframes.choose(stats, "apex", LIMIT).tolist() and not candidates._waiting
