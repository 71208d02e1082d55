"""Scores of a classifier in plain numpy: accuracy, mean class accuracy, F1, confusion, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_tf.errors import InputError

# Numbers drawn at a time by a bootstrap: 32 MB in each of three arrays.
MAX_DRAWS = 4_000_000


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns counts, int64 (num_classes, num_classes): rows are true classes, columns predicted ones."""
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape:
        raise InputError(f"`predictions` must match `labels` {labels.shape}. Received: {predictions.shape}.")
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the share of right predictions; nan without faces."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions))) if len(labels) else float("nan")


def class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Returns each class's recall, float64 (num_classes,); nan for a class without faces."""
    totals = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def mean_class_accuracy(confusion: np.ndarray) -> float:
    """Returns the mean recall over the classes that have faces."""
    recalls = class_accuracy(confusion)
    return float(np.mean(recalls[~np.isnan(recalls)])) if (~np.isnan(recalls)).any() else float("nan")


def macro_f1(confusion: np.ndarray) -> float:
    """Returns the mean F1 over the classes that occur among the true or the predicted labels."""
    hits = np.diag(confusion).astype(float)
    occurrences = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = occurrences > 0
    return float(np.mean(2 * hits[present] / occurrences[present])) if present.any() else float("nan")


def mean_over_classes(values: np.ndarray, classes: Sequence[int] | np.ndarray | None) -> float:
    """Returns the mean over the classes of their values' means, each class as much as the others; nan without values.

    Args:
      values: float (N,), such as 1 for a right prediction and 0 for a wrong one.
      classes: (N,) the true class of each value; None for one class, whose mean is that of all values.
    """
    kinds = _kinds(classes, len(values))
    return float(np.mean(np.bincount(kinds, values) / np.bincount(kinds))) if len(kinds) else float("nan")


def _kinds(classes: Sequence[int] | np.ndarray | None, count: int) -> np.ndarray:
    """The place of each class among those that occur, (count,); of one class without any."""
    return np.zeros(count, int) if classes is None else np.unique(classes, return_inverse=True)[1]


def units(persons: Sequence[str], image_ids: Sequence[str]) -> tuple[np.ndarray | None, str]:
    """Returns what a bootstrap draws whole, and what it is called.

    A face whose person is unknown is drawn by itself: all of them together would be one person of many faces.

    Args:
      persons: (N,) empty where unknown.
      image_ids: (N,) of the same faces.

    Returns:
      str (N,), None where no person is known and single faces are drawn; and `persons`, `faces` or both.
    """
    who, faces = np.asarray(persons, str), np.asarray(image_ids, str)
    known = who != ""
    if not known.any():
        return None, "faces"
    # No person's name has the sign that stands before a face's.
    own = np.where(known, who, np.char.add("\x1f", faces))
    return own, "persons" if known.all() else "persons and faces of unknown ones"


def bootstrap_interval(
    values: np.ndarray,
    groups: Sequence[str] | None = None,
    *,
    classes: Sequence[int] | np.ndarray | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of a mean, drawing whole groups when they are given.

    Faces of one person are not independent, so an interval over faces would be too narrow: persons are drawn.

    Args:
      values: float (N,), such as 1 for a right prediction and 0 for a wrong one; or (seeds, N) of several trainings,
        of which each draw takes its seeds with replacement too.
      groups: (N,) the person of each value; None draws single values.
      classes: (N,) the true class of each value, for the interval of `mean_over_classes`; None for that of the mean.
      samples: bootstrap draws.
      level: coverage, 0 to 1.
      seed: of the draws.

    Returns:
      (low, high); (nan, nan) with fewer than two values, or fewer than two groups.
    """
    means = _bootstrap_means([np.atleast_2d(np.asarray(values, float))], groups, classes, samples, seed)
    if means is None:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(means[0], [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    groups: Sequence[str] | None = None,
    *,
    classes: Sequence[int] | np.ndarray | None = None,
    samples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Returns the mean difference `second - first` over the same faces, its 95 % interval and a two-sided p value.

    Where a method was trained with several seeds, each draw also takes its seeds with replacement: what another
    training would have given belongs to the interval as much as what other persons would.

    Args:
      first, second: float (N,) or (seeds, N), 1 for a right prediction and 0 for a wrong one, of the same faces in the
        same order; the numbers of seeds may differ.
      groups: (N,) persons, drawn whole; None draws faces.
      classes: (N,) the true class of each face, for the difference of means over classes; None for that of means.
      samples: bootstrap draws.
      seed: of the draws.

    Returns:
      `difference`, `low`, `high` and `p`; the last three are nan with fewer than two faces or groups. `p` is at least
      2 / (samples + 1), and 1 where no draw differs.
    """
    first, second = (np.atleast_2d(np.asarray(rows, float)) for rows in (first, second))
    if first.shape[1] != second.shape[1]:
        raise InputError(f"`second` must have the {first.shape[1]} faces of `first`. Received: {second.shape[1]}.")
    difference = mean_over_classes(second.mean(0), classes) - mean_over_classes(first.mean(0), classes)
    means = _bootstrap_means((first, second), groups, classes, samples, seed)
    if means is None:
        return {"difference": difference, **dict.fromkeys(("low", "high", "p"), float("nan"))}
    found = means[1] - means[0]
    low, high = np.quantile(found, [0.025, 0.975])
    # What was measured counts as a draw more on either side: so many cannot tell a p of 0 from one of 1 / samples.
    sides = (1 + np.array([np.sum(found <= 0), np.sum(found >= 0)])) / (1 + samples)
    p = min(1.0, 2 * sides.min())
    return {"difference": difference, "low": float(low), "high": float(high), "p": float(p)}


def bootstrap_over_draws(
    draws: Sequence[Sequence[np.ndarray]],
    groups: Sequence[Sequence[str]],
    *,
    classes: Sequence[Sequence[int]] | None = None,
    samples: int = 2000,
    seed: int = 0,
) -> np.ndarray | None:
    """Returns resampled means over several draws of a split, float64 (methods, samples).

    Each sample takes draws, persons and seeds with replacement: the same persons in every draw, since a person who is
    easy is so in all of them, and the same draws and persons for all methods, which are compared on them.

    Args:
      draws: for each draw, the methods' float (seeds, N), 1 for a right prediction and 0 for a wrong one.
      groups: for each draw, (N,) the person of each face.
      classes: for each draw, (N,) the true class of each face, for means over classes; None for plain ones.
      samples: bootstrap samples.
      seed: of the samples.

    Returns:
      the means, nan where a sample has no face; None with fewer than two persons or fewer than two draws.
    """
    persons, places = np.unique(np.concatenate([np.asarray(who, str) for who in groups]), return_inverse=True)
    if len(persons) < 2 or len(draws) < 2:
        return None
    rng = np.random.default_rng(seed)
    taken = rng.multinomial(len(persons), np.full(len(persons), 1 / len(persons)), samples).astype(float)
    shares = rng.multinomial(len(draws), np.full(len(draws), 1 / len(draws)), samples).T
    index = np.split(places, np.cumsum([len(who) for who in groups])[:-1])
    totals, weight = np.zeros((len(draws[0]), samples)), np.zeros(samples)
    of_classes = classes or [None] * len(draws)
    for methods, who, share, known_classes in zip(draws, index, shares, of_classes, strict=True):
        cells = _Cells(who, len(persons), known_classes)
        faces = cells.resampled(taken, np.ones((1, len(who))))
        # A draw whose tested persons are none of the sample's says nothing in it.
        known = share * (faces.sum(axis=(1, 2)) > 0)
        weight += known
        for method, rows in enumerate(methods):
            seeds = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), samples) / len(rows)
            totals[method] += known * (_over_classes(cells.resampled(taken, rows), faces) * seeds).sum(axis=1)
    return np.where(weight > 0, totals / np.maximum(weight, 1), np.nan)


class _Cells:
    """Sums values by what is drawn whole and by class.

    Args:
      index: (N,) the group of each face, 0 to groups - 1.
      groups: how many there are.
      classes: (N,) the true class of each face; None for one class.
    """

    def __init__(self, index: np.ndarray, groups: int, classes: Sequence[int] | np.ndarray | None) -> None:
        kinds = _kinds(classes, len(index))
        self._shape = (groups, int(kinds.max(initial=0)) + 1)
        self._cell = index * self._shape[1] + kinds

    def resampled(self, taken: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns the sums of rows' values in each sample, float64 (samples, rows, classes).

        Args:
          taken: float (samples, groups), how often a sample took each group.
          rows: float (rows, N).
        """
        size = self._shape[0] * self._shape[1]
        sums = np.stack([np.bincount(self._cell, row, size).reshape(self._shape) for row in rows], axis=1)
        return np.tensordot(taken, sums, axes=1)


def _over_classes(sums: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The mean over the classes that a sample has, (samples, rows), of sums and counts (samples, rows, classes)."""
    rates = sums / np.maximum(faces, 1)
    return rates.sum(axis=-1) / np.maximum((faces > 0).sum(axis=-1), 1)


def _bootstrap_means(
    methods: Sequence[np.ndarray],
    groups: Sequence[str] | None,
    classes: Sequence[int] | np.ndarray | None,
    samples: int,
    seed: int,
) -> np.ndarray | None:
    """The means of resampled values, float64 (methods, samples); None when there is nothing to draw from.

    Args:
      methods: float (seeds, N) each; a draw takes the same faces of all methods, and of each its own seeds.
      groups: (N,) what is drawn whole; None draws single faces.
      classes: (N,) for the mean over their means; None for the mean of all values.
    """
    index = np.arange(methods[0].shape[1])
    if groups is not None:
        _, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    size = int(index.max(initial=-1)) + 1
    if size < 2:
        return None
    cells = _Cells(index, size, classes)
    rng = np.random.default_rng(seed)
    means = np.empty((len(methods), samples))
    block = max(1, MAX_DRAWS // size)
    for start in range(0, samples, block):
        part = slice(start, min(start + block, samples))
        drawn = rng.integers(0, size, (part.stop - start, size))
        # How often each sample took each group: a cell of a table of counts for each number drawn.
        drawn += size * np.arange(len(drawn))[:, None]
        taken = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        faces = cells.resampled(taken, np.ones((1, len(index))))
        for method, rows in enumerate(methods):
            seeds = len(rows)
            shares = rng.multinomial(seeds, [1 / seeds] * seeds, len(drawn)) / seeds if seeds > 1 else [[1.0]]
            means[method, part] = (_over_classes(cells.resampled(taken, rows), faces) * shares).sum(axis=1)
    return means
