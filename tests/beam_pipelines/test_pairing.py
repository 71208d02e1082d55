"""Which target a face gets: filmed together before anything else, nearest in time, few, and the same in any order."""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipelines import pairing
from beam_pipelines.pairing import Pair, TaggedClip
from fer_tf.data.annotations import AnnotatedClip
from fer_tf.labels import F2ED_POSES


def clip(pose: str, take: str, times: list[float]) -> TaggedClip:
    name = f"{take}/{pose}.mp4"
    frames = np.round(np.array(times) * 25).astype(np.int32)
    none = tuple(np.zeros(len(times), np.int8) for _ in range(4))
    annotated = AnnotatedClip(name, "P1", "happy", pose, group=take)
    return TaggedClip(annotated, name, 0, F2ED_POSES.index(pose), frames, np.array(times), none)


def test_a_clip_filmed_together_wins_over_a_nearer_frame_of_another_take() -> None:
    clips = [clip("front", "1", [0.4]), clip("half_left", "1", [0.0, 0.2]), clip("half_left", "2", [0.4])]
    found = [pair for pair in pairing.choose(clips, 2, seed=0) if pair.source_clip == 0]
    assert found == [Pair(0, 0, 1, 1, same_moment=False)]


def test_without_a_clip_filmed_together_another_take_serves_and_is_not_called_the_same_moment() -> None:
    clips = [clip("front", "1", [0.4]), clip("half_left", "2", [0.0, 0.4])]
    assert pairing.choose(clips, 2, seed=0)[0] == Pair(0, 0, 1, 1, same_moment=False)


@pytest.mark.parametrize(("gap", "same"), [(0.0, True), (0.05, True), (0.08, False)])
def test_the_same_moment_is_at_most_one_and_a_half_frames_away(gap: float, same: bool) -> None:
    clips = [clip("front", "1", [0.4]), clip("half_left", "1", [0.4 + gap])]
    assert [pair.same_moment for pair in pairing.choose(clips, 1, seed=0)] == [same, same]


def test_targets_filmed_together_are_taken_before_others_and_no_more_than_asked_for() -> None:
    clips = [
        clip("front", "1", [0.1]),
        clip("half_left", "2", [0.1]),
        clip("half_right", "1", [0.1]),
        clip("bird_view", "2", [0.1]),
    ]
    for seed in range(5):
        found = [pair for pair in pairing.choose(clips, 1, seed) if pair.source_clip == 0]
        assert found == [Pair(0, 0, 2, 0, same_moment=True)]
    assert len([pair for pair in pairing.choose(clips, 9, 0) if pair.source_clip == 0]) == 3
    assert pairing.choose(clips, 0, 0) == []


def test_which_pose_is_taken_changes_with_face_and_seed_alone() -> None:
    times = [float(number) for number in range(40)]
    clips = [clip(pose, "1", times) for pose in F2ED_POSES]
    chosen = pairing.choose(clips, 1, seed=0)
    assert chosen == pairing.choose(clips, 1, seed=0) != pairing.choose(clips, 1, seed=1)
    assert {pair.target_clip for pair in chosen if pair.source_clip == 0} == {1, 2, 3}
    assert all(clips[pair.source_clip].pose_id != clips[pair.target_clip].pose_id for pair in chosen)


def test_a_pair_has_a_tasks_tag_only_when_both_faces_have_it() -> None:
    source = {"er_ss": "train", "er_ue": "train", "er_up": "", "er_zid": "test"}
    target = {"er_ss": "train", "er_ue": "val", "er_up": "train", "er_zid": "test"}
    assert pairing.pair_tags(source, target) == {"er_ss": "train", "er_ue": "", "er_up": "", "er_zid": "test"}
