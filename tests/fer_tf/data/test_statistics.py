"""The paper's statistics, counted by hand on a corpus small enough for it."""

from __future__ import annotations

import numpy as np

from fer_tf.data import statistics
from fer_tf.data.tasks import FaceKeys


def test_describe_counts_images_subjects_and_sequences_as_table_1_does() -> None:
    faces = FaceKeys(
        image=np.arange(6, dtype=np.uint64),
        clip=np.array([1, 1, 2, 2, 3, 4], np.uint64),
        moment=np.array([1, 1, 1, 1, 2, 3], np.uint64),
        person=np.array([7, 7, 7, 7, 8, 9], np.uint64),
        expression=np.array([0, 0, 0, 0, 1, 1]),
        pose=np.array([0, 0, 1, 1, 0, 1]),
    )
    persons = {"a": ("female", 20), "b": ("male", -1), "c": ("", 61)}
    found = statistics.describe(faces, ("happy", "sad", "never"), ("front", "bird_view"), persons)
    assert found["table_1"] == {
        "expressions": 2,
        "subjects": 3,
        "poses": 2,
        "images": 6,
        "sequences": 4,
        "resolution": "256 × 256",
        "pose_list": "F, BV",
    }
    assert found["images_per_expression"] == {"happy": 4, "sad": 2, "never": 0}
    assert found["images_per_pose"] == {"front": 3, "bird_view": 3}
    assert found["subjects_per_pose"] == {"front": 2, "bird_view": 2}
    assert found["images_per_expression_and_pose"] == [[2, 2], [1, 1], [0, 0]]
    assert found["genders"] == {"female": 1, "male": 1, "unknown": 1}
    assert (found["ages"]["youngest"], found["ages"]["oldest"]) == (20, 61)
    assert found["ages"]["bands"]["18-24"] == 1 and sum(found["ages"]["bands"].values()) == 2
