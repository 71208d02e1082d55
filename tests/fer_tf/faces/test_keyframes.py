"""The keyframe rules, on numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.faces import keyframes
from fer_tf.faces.keyframes import FrameStats


def stats(distance: np.ndarray, *, times: np.ndarray | None = None, sharpness: np.ndarray | None = None) -> FrameStats:
    count = len(distance)
    return FrameStats(
        times=np.arange(count) / 25 if times is None else times,
        distance=np.asarray(distance, float),
        motion=np.abs(np.diff(distance, prepend=distance[:1])),
        sharpness=np.ones(count) if sharpness is None else sharpness,
    )


def test_apex_keeps_the_late_frames_of_a_clip_from_rest_to_apex() -> None:
    kept = keyframes.choose(stats(np.linspace(0, 20, 12)), "apex", 40)
    assert kept.tolist() == [7, 8, 9, 10, 11]


def test_apex_keeps_the_middle_of_a_clip_that_returns_to_rest() -> None:
    kept = keyframes.choose(stats(10 * np.sin(np.linspace(0, np.pi, 101))), "apex", 40)
    assert kept.min() >= 20 and kept.max() <= 80 and 50 in kept


@pytest.mark.parametrize("rule", keyframes.RULES)
def test_a_long_clip_gives_at_most_the_limit_in_ascending_order(rule: str) -> None:
    rng = np.random.default_rng(0)
    made = stats(np.abs(rng.normal(10, 4, 5000)), sharpness=rng.uniform(0.9, 1, 5000))
    kept = keyframes.choose(made, rule, 40)
    assert 30 <= len(kept) <= 40 and np.all(np.diff(kept) > 0)
    assert np.array_equal(kept, keyframes.choose(made, rule, 40))
    assert kept[0] < 300 and kept[-1] > 4700, "one burst must not take every place"


def test_of_two_equal_moments_the_sharper_is_kept() -> None:
    sharpness = np.where(np.arange(400) % 2 == 0, 1.0, 0.7)
    kept = keyframes.choose(stats(np.r_[0, np.full(399, 9.0)], sharpness=sharpness), "apex", 20)
    assert np.all(kept % 2 == 0)


def test_frames_blurred_by_motion_are_left_out() -> None:
    sharpness = np.ones(12)
    sharpness[9] = 0.3
    assert 9 not in keyframes.choose(stats(np.linspace(0, 20, 12), sharpness=sharpness), "apex", 40)


def test_motion_keeps_the_moments_of_change() -> None:
    distance = np.zeros(1000)
    distance[500:510] = np.linspace(0, 30, 10)
    distance[510:] = 30
    assert set(keyframes.choose(stats(distance), "motion", 4)) & set(range(501, 511))


@pytest.mark.parametrize("rule", keyframes.RULES)
def test_a_clip_in_which_nothing_moves_falls_back_to_even_frames(rule: str) -> None:
    kept = keyframes.choose(stats(np.full(100, 0.2)), rule, 10)
    assert len(kept) == 10 and set(np.diff(kept)) <= {9, 10, 11}


def test_even_frames_are_even_in_time_and_not_in_number() -> None:
    # 90 frames in the first second, 10 in the other nine.
    times = np.r_[np.linspace(0, 1, 90, endpoint=False), np.linspace(1, 10, 10)]
    kept = keyframes.choose(stats(np.zeros(100), times=times), "uniform", 10)
    assert np.sum(times[kept] < 1) <= 2 and np.sum(times[kept] >= 1) >= 8


@pytest.mark.parametrize("rule", keyframes.RULES)
def test_one_frame_is_kept_and_none_gives_none(rule: str) -> None:
    assert keyframes.choose(stats(np.zeros(1)), rule, 5).tolist() == [0]
    assert keyframes.choose(stats(np.zeros(0)), rule, 5).tolist() == []


def expressive(count: int = 60) -> np.ndarray:
    """Distances of a clip from rest to apex and back, twice."""
    return 4 * np.abs(np.sin(np.linspace(0, 2 * np.pi, count)))


@pytest.mark.parametrize("rule", keyframes.RULES)
@pytest.mark.parametrize("places", [[30], [30, 31], [0], [59], [5, 20, 45], [58, 59]])
def test_a_few_frames_that_come_and_go_suddenly_change_nothing(rule: str, places: list[int]) -> None:
    clean, flashed = expressive(), expressive()
    flashed[places] = 60
    wanted = set(keyframes.choose(stats(clean), rule, 60)) - set(places)
    kept = set(keyframes.choose(stats(flashed), rule, 60))
    assert not kept & set(places)
    assert len(kept ^ wanted) <= 2, "the frames beside a flash may differ"


def test_a_flash_in_a_clip_in_which_nothing_moves_leaves_even_frames() -> None:
    distance = np.full(100, 0.2)
    distance[40] = 50
    kept = keyframes.choose(stats(distance), "apex", 10)
    assert len(kept) == 10 and 40 not in kept


def test_a_cut_shortly_before_the_end_is_no_flash() -> None:
    distance = np.r_[np.zeros(8), np.full(4, 30.0)]
    assert {8, 9, 10, 11} <= set(keyframes.choose(stats(distance), "apex", 40))
    assert len(keyframes.choose(stats(distance), "uniform", 40)) == 12


def test_a_quick_expression_is_no_flash() -> None:
    quick = np.r_[np.zeros(40), np.linspace(0, 4, 4), [4, 4], np.linspace(4, 0, 4), np.zeros(40)]
    assert {43, 44, 45, 46} <= set(keyframes.choose(stats(quick), "apex", 40))


def test_a_clip_that_begins_with_a_black_frame_rests_behind_it() -> None:
    rng = np.random.default_rng(0)
    faces = [rng.uniform(100, 140, (12, 16)) + 0.3 * number for number in range(8)]
    assert keyframes.first_at_rest(faces) == 0
    assert keyframes.first_at_rest([np.zeros((12, 16)), *faces[:7]]) == 1
    assert keyframes.first_at_rest([np.zeros((12, 16)), np.full((12, 16), 255.0), *faces[:6]]) == 2
    assert keyframes.first_at_rest(faces[:1]) == 0
    steps = [np.full((12, 16), 20.0 * number) for number in range(8)]
    assert keyframes.first_at_rest(steps) == 0, "a clip that moves much all the time rests where it begins"
