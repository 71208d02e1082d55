"""Expressions in groups by k-means over the eye features (section 3.2, Fig. 1(b)), and how stable the groups are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.eyes import FEATURES, eye_features

MAX_FACES = 4000
BOOTSTRAP_SAMPLES = 200


@dataclass(frozen=True)
class FaceTable:
    """Eye features of real faces.

    Attributes:
      features: float64 (N, 7), in the order of `fer_tf.faces.eyes.FEATURES`; nan where a patch is hidden.
      expressions, persons, poses: str (N,).
      unmeasured: faces whose landmarks gave no features.
    """

    features: np.ndarray
    expressions: np.ndarray
    persons: np.ndarray
    poses: np.ndarray
    unmeasured: int = 0


@dataclass(frozen=True)
class Groups:
    """The expressions' groups.

    Attributes:
      names: the expressions, sorted.
      groups: int (K,), each expression's group, from 0 in the order of first appearance.
      means: float (K, 7), each expression's features in standard deviations from its people's mean.
      plane: float (K, 2), the means on their first two principal components.
      stability: mean adjusted Rand index between these groups and those of bootstrap samples of persons; 1 is
        the same groups every time, 0 what chance gives.
      stability_interval: the middle 95 % of the bootstrap samples.
      samples: number of bootstrap samples.
    """

    names: tuple[str, ...]
    groups: np.ndarray
    means: np.ndarray
    plane: np.ndarray
    stability: float
    stability_interval: tuple[float, float]
    samples: int


def measure_faces(data: str, max_faces: int = MAX_FACES) -> FaceTable:
    """Returns the eye features of a data folder's real faces.

    Args:
      data: the data folder.
      max_faces: at most about this many faces, spread evenly over the records; 0 measures all.

    Raises:
      InputError: when there are no records.
    """
    rows, labels, unmeasured = [], [], 0
    for face in DataFolder(data).faces(about=max_faces):
        if face.synthetic:
            continue
        try:
            rows.append(eye_features(face.landmarks, media.decode(face.image, channels=1)))
        except InputError:
            unmeasured += 1
            continue
        labels.append((face.expression, face.person, face.pose))
    if not rows:
        raise InputError(f"`data` {data!r} has no face whose eyes can be measured.")
    expressions, persons, poses = np.array(labels).T
    return FaceTable(np.array(rows), expressions, persons, poses, unmeasured)


def expression_means(faces: FaceTable) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the expressions and their mean features.

    The mean of each person in each pose is taken off first, because people's brows and cameras' angles differ more
    than expressions do; a feature is then divided by its standard deviation over all faces.
    """
    centred = faces.features.copy()
    for rows in _groups_of([f"{person}\n{pose}" for person, pose in zip(faces.persons, faces.poses, strict=True)]):
        centred[rows] -= _nanmean(centred[rows])
    spread = np.sqrt(_nanmean(centred**2))
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    names = tuple(sorted(set(faces.expressions.tolist())))
    return names, np.stack([_nanmean(scaled[faces.expressions == name]) for name in names])


def group_expressions(faces: FaceTable, groups: int = 4, *, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0) -> Groups:
    """Returns the expressions in groups by k-means, with the groups' stability over bootstrap samples of persons.

    Args:
      faces: measured faces.
      groups: k; the paper has 4.
      samples: bootstrap samples; a sample draws as many persons as there are, with replacement.
      seed: of k-means and of the samples.

    Raises:
      InputError: when there are not more expressions than groups.
    """
    from threadpoolctl import threadpool_limits

    # For a few dozen points the threads only wait for each other, for a second on a busy machine.
    with threadpool_limits(1):
        return _group(faces, groups, samples, seed)


def _group(faces: FaceTable, groups: int, samples: int, seed: int) -> Groups:
    from sklearn.metrics import adjusted_rand_score

    names, means = expression_means(faces)
    if not 2 <= groups < len(names):
        raise InputError(
            f"`groups` must be from 2 to {len(names) - 1} for {len(names)} expressions. Received: {groups}."
        )
    found = k_means(means, groups, seed)
    rows_of = list(_groups_of(faces.persons.tolist()))
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(samples if len(rows_of) > 1 else 0):
        drawn = [rows_of[index] for index in rng.integers(0, len(rows_of), len(rows_of))]
        resampled, again = expression_means(_drawn(faces, drawn))
        common = [names.index(name) for name in resampled]
        if len(common) > groups:
            scores.append(adjusted_rand_score(found[common], k_means(again, groups, seed)))
    low, high = np.quantile(scores, [0.025, 0.975]) if scores else (np.nan, np.nan)
    mean = float(np.mean(scores)) if scores else float("nan")
    return Groups(names, found, means, _plane(means), mean, (float(low), float(high)), len(scores))


def k_means(points: np.ndarray, groups: int, seed: int = 0) -> np.ndarray:
    """Returns each point's group, int (N,), numbered in the order of first appearance."""
    from sklearn.cluster import KMeans

    labels = KMeans(groups, n_init=10, random_state=seed).fit_predict(points)
    order = list(dict.fromkeys(labels.tolist()))
    return np.array([order.index(label) for label in labels])


def describe(groups: Groups) -> list[tuple[str, str]]:
    """Returns, for each group, its expressions and the two features that set it apart most."""
    rows = []
    for group in range(groups.groups.max() + 1):
        inside = groups.groups == group
        centre = groups.means[inside].mean(0)
        strongest = np.argsort(-np.abs(centre))[:2]
        what = [f"{'more' if centre[i] > 0 else 'less'} {FEATURES[i].replace('_', ' ')}" for i in strongest]
        rows.append(
            (", ".join(name for name, member in zip(groups.names, inside, strict=True) if member), ", ".join(what))
        )
    return rows


def _drawn(faces: FaceTable, drawn: Sequence[np.ndarray]) -> FaceTable:
    rows = np.concatenate(drawn)
    # A person who is drawn twice counts as two, each with its own mean.
    persons = np.concatenate([np.full(len(part), f"{number}") for number, part in enumerate(drawn)])
    return FaceTable(faces.features[rows], faces.expressions[rows], persons, faces.poses[rows])


def _groups_of(keys: Sequence[str]) -> Iterator[np.ndarray]:
    _, inverse = np.unique(np.asarray(keys), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over rows without nan; 0 where there is nothing else."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def _plane(means: np.ndarray) -> np.ndarray:
    centred = means - means.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # A fixed sign, so that the figure does not flip between machines.
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(1)].diagonal())[:, None]
    return centred @ axes.T
