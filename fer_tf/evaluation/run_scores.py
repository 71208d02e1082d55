"""Numbers over several runs: which differ in their seed alone, how accurate they are, and how much more than others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fer_tf.evaluation.metrics import (
    bootstrap_interval,
    bootstrap_over_draws,
    mean_over_classes,
    paired_bootstrap,
    units,
)
from fer_tf.runs import Run

# Flags that say where a run stands and how far it went, not what it is.
_OF_NO_MATTER = (
    "seed",
    "run_dir",
    "stage",
    "profile",
    "synthetic_from",
    "split_seed",
    "seeds",
    "draws",
    "persons_left_out",
    # What a run was last scored with stands among its scores.
    "tta",
)
# Flags of which faces are generated, and of how many faces an epoch shows: two runs, one with FaPE-GAN's faces and one
# without, are compared all the same.
_OF_SYNTHETIC_FACES = (
    "synthetic",
    "borrowed",
    "epoch_faces",
    "synthetic_ratio",
    "mirror_targets",
    "mirror_pairs",
    "max_identity_distance",
    "max_landmark_error",
)
OVER_DRAWS = "persons, draws and seeds"
# Of all faces, or the mean of the classes' own, by their names in metrics.json.
Measure = Literal["accuracy", "mean_class_accuracy"]


class Face(NamedTuple):
    """What tells a test face apart, and what is drawn and averaged over: its person and its true class."""

    image_id: str
    person: str
    label: int


@dataclass(frozen=True)
class Accuracy:
    """An accuracy, or a mean class accuracy, over one or more runs that differ in their seed alone.

    Attributes:
      value, low, high: mean and its 95 % bootstrap interval, %; nan where unknown.
      faces: test faces.
      over: what the bootstrap draws (see `metrics.units`).
      runs: the runs.
      p: of a difference, the two-sided p value; nan where unknown.
    """

    value: float
    low: float
    high: float
    faces: int
    over: str
    runs: tuple[Run, ...]
    p: float = float("nan")


def accuracy_of(runs: Sequence[Run], measure: Measure = "accuracy") -> Accuracy | None:
    """Returns the accuracy of runs that differ in their seed or their draw of the splits, or None without test face.

    Each face counts with its mean over the runs; whole persons are drawn where they are known, and seeds where there
    are several. Over several draws of the splits it is the mean of theirs.
    """
    runs = tuple(run for run in runs if run.test.get("faces"))
    if not runs:
        return None
    if len(draws := by_draw(runs)) > 1:
        return _over_draws([(found,) for found in draws.values()], runs, measure)
    test = runs[0].test
    # Of one run its own page's numbers; runs of before 0.2 have no interval of the mean over the classes.
    own = len(runs) == 1 and f"{measure}_interval" in test
    if own or any(run.predictions is None for run in runs):
        # One run's interval is not that of several runs' mean.
        known = test.get(f"{measure}_interval") if own else None
        low, high = known or (np.nan, np.nan)
        value = float(np.mean([run.test.get(measure, np.nan) for run in runs]))
        return Accuracy(100 * value, 100 * low, 100 * high, test["faces"], test["interval_over"], runs)
    seen, (rows,) = _right(runs)
    (groups, over), classes = _units(seen), _classes(seen, measure)
    low, high = bootstrap_interval(rows, groups, classes=classes)
    value = mean_over_classes(rows.mean(0), classes)
    return Accuracy(100 * value, 100 * low, 100 * high, len(seen), over, runs)


def difference_of(first: Sequence[Run], second: Sequence[Run], measure: Measure = "accuracy") -> Accuracy | None:
    """Returns how much more accurate the second runs are on the same faces, in points; None without such faces.

    Each face that all runs have is compared with itself; persons are drawn, and seeds where there are several. Over
    several draws of the splits it is the mean of the draws that both have, and nothing is said of the others.
    """
    if not first or not second or any(run.predictions is None for run in (*first, *second)):
        return None
    draws = [by_draw(runs) for runs in (first, second)]
    if any(len(of_draw) > 1 or is_drawn(runs[0]) for of_draw, runs in zip(draws, (first, second), strict=True)):
        both = [draw for draw in draws[0] if draw in draws[1]]
        first, second = ([run for draw in both for run in of_draw[draw]] for of_draw in draws)
        if len(both) > 1:
            return _over_draws([(draws[0][draw], draws[1][draw]) for draw in both], (*first, *second), measure)
        if not both:
            return None
    seen, rows = _right(first, second)
    if not seen:
        return None
    groups, over = _units(seen)
    found = paired_bootstrap(*rows, groups, classes=_classes(seen, measure))
    low, high, value = (100 * found[name] for name in ("low", "high", "difference"))
    return Accuracy(value, low, high, len(seen), over, (*first, *second), found["p"])


def by_draw(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns runs by the fingerprint of their data, which each draw of the splits has of its own."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.fingerprint or "", []).append(run)
    return found


def is_drawn(run: Run) -> bool:
    """Whether a run is of a draw of the splits, and not of the data's own."""
    return int(run.flags.get("split_seed", -1)) >= 0


def is_choosing(run: Run) -> bool:
    """Whether a run's draw of the splits is one that settings are chosen on, so that nothing is reported of it."""
    return is_drawn(run) and run.flags.get("draws") == 0


def _over_draws(draws: Sequence[tuple[Sequence[Run], ...]], runs: Sequence[Run], measure: Measure) -> Accuracy | None:
    """The mean over draws of one method's accuracy, or of what the second of two adds to the first's."""
    if any(run.predictions is None for run in runs):
        return None
    tested, rights = zip(*(_right(*methods) for methods in draws), strict=True)
    classes = [_classes(seen, measure) for seen in tested]
    points = np.mean(
        [
            [mean_over_classes(right.mean(0), of) for right in methods]
            for methods, of in zip(rights, classes, strict=True)
        ],
        axis=0,
    )
    groups, _ = _units([face for seen in tested for face in seen])
    ends = np.cumsum([len(seen) for seen in tested])[:-1]
    means = None if groups is None else bootstrap_over_draws(rights, np.split(groups, ends), classes=classes)
    value = points[-1] - (points[0] if len(points) > 1 else 0.0)
    low = high = np.nan
    if means is not None:
        low, high = np.nanquantile(means[-1] - (means[0] if len(points) > 1 else 0.0), [0.025, 0.975])
    faces = sum(map(len, tested))
    return Accuracy(100 * float(value), 100 * float(low), 100 * float(high), faces, OVER_DRAWS, tuple(runs))


def _right(*methods: Sequence[Run]) -> tuple[list[Face], list[np.ndarray]]:
    """The faces that all runs of all methods have, and whether each run is right of them, float (runs, N) a method."""
    hits = [[_hits_of(run) for run in runs] for runs in methods]
    seen = [face for face in hits[0][0] if all(face in run for runs in hits for run in runs)]
    return seen, [np.array([[run[face] for face in seen] for run in runs]) for runs in hits]


def _hits_of(run: Run) -> dict[Face, float]:
    found = run.predictions
    right = (found["logits"].argmax(1) == found["label"]).astype(float)
    columns = (found["image_id"], found["person"], found["label"], right)
    return {
        Face(str(name), str(person), int(label)): float(hit) for name, person, label, hit in zip(*columns, strict=True)
    }


def _units(faces: Sequence[Face]) -> tuple[np.ndarray | None, str]:
    """What is drawn whole of some faces (see `metrics.units`); one person alone gives no interval, as in `scores`."""
    return units([face.person for face in faces], [face.image_id for face in faces])


def _classes(faces: Iterable[Face], measure: Measure) -> list[int]:
    """What a mean is taken over: each face's class, or one class of all."""
    return [face.label if measure == "mean_class_accuracy" else 0 for face in faces]


def best(runs: Sequence[Run]) -> Run | None:
    """Returns the run with the highest accuracy on the validation part, which the test part did not choose."""
    scored = [run for run in runs if run.test.get("faces")]
    return max(scored, key=lambda run: run.metrics.get("val", {}).get("accuracy", -1.0), default=None)


def same_but_seed(runs: Sequence[Run]) -> list[Run]:
    """Returns the best run and those that differ from it in nothing but seed and folder, synthetic faces included."""
    first = best(runs)
    if first is None:
        return []
    return [run for run in runs if run is first or (run.flags and _settings(run) == _settings(first))]


def differences(first: Sequence[Run], second: Sequence[Run], *but: str) -> list[str]:
    """Returns the names of the flags, `data` among them, in which runs differ, but for seeds and some named."""
    settings = [_settings(run) for run in (*first, *second)]
    names = dict.fromkeys(name for known in settings for name in known)
    return [name for name in names if name not in but and any(s.get(name) != settings[0].get(name) for s in settings)]


def differences_beside_synthetic_faces(first: Sequence[Run], second: Sequence[Run], *but: str) -> list[str]:
    """Returns what `differences` does of runs without and with FaPE-GAN's faces; how they are made does not count."""
    found = differences(first, second, *_OF_SYNTHETIC_FACES, *but)
    return [name for name in found if not name.startswith("gan_")]


def _settings(run: Run) -> dict[str, Any]:
    # A flag that is off is as one that was not there yet when the run was made.
    flags = {name: value for name, value in run.flags.items() if name not in _OF_NO_MATTER and value}
    asked = run.metrics.get("tta", "none")
    flags |= {"tta": asked} if asked != "none" else {}
    # A run's own synthetic faces follow from its flags, data and seed; another's are known by their fingerprint alone.
    borrowed = run.synthetic_fingerprint if run.flags.get("synthetic_from") else ""
    if not is_drawn(run):
        return {**flags, "data": run.fingerprint, "borrowed": borrowed}
    # The draws of one corpus stand side by side, and a run with synthetic faces shows as many in an epoch as its draw
    # has real ones. Before there was `epoch_faces`, as many steps were fewer epochs.
    as_many_steps: dict[str, float] = {"epoch_faces": 0} if run.synthetic else {}
    if "epoch_faces" not in run.flags:
        as_many_steps = {"epochs": 0, "decay_epochs": 0.0}
    corpus = run.metrics.get("drawn_from") or os.path.dirname(str(run.flags.get("data", "")))
    return {**flags, "data": corpus, **as_many_steps, "borrowed": bool(borrowed)}
