"""k-means finds the groups that were planted, and says when there are none."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.faces.eyes import FEATURES
from fer_tf.reports import clusters
from fer_tf.reports.clusters import FaceTable

NAMES = [f"expression_{number:02d}" for number in range(12)]


def planted(strength: float, persons: int = 10, seed: int = 0) -> FaceTable:
    """12 expressions in 4 groups of 3, seen on people and poses whose own faces differ far more."""
    rng = np.random.default_rng(seed)
    centres = strength * np.repeat(rng.normal(size=(4, 7)), 3, axis=0)
    rows, labels = [], []
    for person in range(persons):
        for pose in ("front", "half_left"):
            own = 5 * rng.normal(size=7)
            for index, name in enumerate(NAMES):
                rows.append(own + centres[index] + 0.3 * rng.normal(size=7))
                labels.append((name, f"P{person}", pose))
    expressions, people, poses = np.array(labels).T
    return FaceTable(np.array(rows), expressions, people, poses)


def test_planted_groups_are_found_and_stable() -> None:
    found = clusters.group_expressions(planted(2.0), 4, samples=8)
    assert found.names == tuple(NAMES)
    assert found.groups.tolist() == np.repeat([0, 1, 2, 3], 3).tolist()
    assert found.stability > 0.95 and found.samples == 8
    assert found.plane.shape == (12, 2)


def test_groups_without_a_cause_are_not_stable() -> None:
    assert clusters.group_expressions(planted(0.0), 4, samples=8).stability < 0.5


def test_persons_own_faces_are_taken_off() -> None:
    faces = planted(2.0)
    moved = FaceTable(
        faces.features + (faces.persons == "P3")[:, None] * 100.0, faces.expressions, faces.persons, faces.poses
    )
    _, before = clusters.expression_means(faces)
    _, after = clusters.expression_means(moved)
    np.testing.assert_allclose(after, before, atol=1e-8)


def test_a_hidden_patch_does_not_spoil_the_mean() -> None:
    faces = planted(2.0)
    features = faces.features.copy()
    features[::5, 0] = np.nan
    found = clusters.group_expressions(FaceTable(features, faces.expressions, faces.persons, faces.poses), samples=5)
    assert np.isfinite(found.means).all()
    assert found.groups.tolist() == np.repeat([0, 1, 2, 3], 3).tolist()


def test_the_same_seed_gives_the_same_stability() -> None:
    first, second = (clusters.group_expressions(planted(0.3), 4, samples=10, seed=3) for _ in range(2))
    assert first.stability == second.stability and first.stability_interval == second.stability_interval


def test_groups_are_described_by_what_sets_them_apart() -> None:
    means = np.zeros((3, 7))
    means[0, FEATURES.index("brow_slope")] = 2
    means[1:, FEATURES.index("eye_aperture")] = -1
    groups = clusters.Groups(("angry", "sad", "tired"), np.array([0, 1, 1]), means, means[:, :2], 1.0, (1, 1), 1)
    rows = clusters.describe(groups)
    assert rows[0][0] == "angry" and rows[0][1].startswith("more brow slope")
    assert rows[1][0] == "sad, tired" and rows[1][1].startswith("less eye aperture")


def test_faces_of_a_data_folder_are_measured(toy_data: str) -> None:
    faces = clusters.measure_faces(toy_data, max_faces=0)
    assert faces.features.shape == (160, 7) and faces.unmeasured == 0
    slope = faces.features[:, FEATURES.index("brow_slope")]
    assert slope[faces.expressions == "angry"].min() > 0 > slope[faces.expressions == "sad"].max()
    found = clusters.group_expressions(faces, 3, samples=5)
    assert found.stability == 1.0


def test_more_groups_than_expressions_is_refused(toy_data: str) -> None:
    with pytest.raises(InputError, match="`groups` must be from 2 to 3"):
        clusters.group_expressions(clusters.measure_faces(toy_data), 4)
