"""Finished runs as the report reads them: what was trained, with what command, and what came out."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.metrics import bootstrap_interval, paired_bootstrap

METRICS_FILE, CONFIG_FILE = "metrics.json", "config.json"
# runs/<task>, and the folders of a whole table: runs/all/<task>/seed-<n>/<row>.
MAX_DEPTH = 4


@dataclass(frozen=True)
class Run:
    """One evaluated run folder.

    Attributes:
      folder: where it is.
      name: its path below the folder of runs.
      metrics: its metrics.json.
      config: its config.json: flags, command, versions, machine; may be empty.
    """

    folder: str
    name: str
    metrics: dict[str, Any]
    config: dict[str, Any]

    @property
    def flags(self) -> dict[str, Any]:
        return self.config.get("flags", {})

    @property
    def task(self) -> str:
        return self.metrics["task"]

    @property
    def seed(self) -> int:
        return int(self.flags.get("seed", 0))

    @property
    def pretrained(self) -> bool:
        """Whether it began with another Fa-Net's weights."""
        return bool(self.flags.get("init_from"))

    @property
    def synthetic(self) -> bool:
        """Whether FaPE-GAN's faces were in its training part."""
        own = any(Path(self.folder, "synthetic", "records").glob("*.tfrecord"))
        return bool(self.flags.get("synthetic", True)) and (bool(self.flags.get("synthetic_from")) or own)

    @property
    def test(self) -> dict[str, Any]:
        return self.metrics.get("test", {})

    @property
    def command(self) -> str:
        """The command line that made it, or what is known of it."""
        argv = self.config.get("command") or []
        if not argv:
            return "unknown: config.json names no command"
        return shlex.join(["python", "-m", "trainer.task", *argv[1:]])

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """image_id, person, pose, label and logits of the test part, or None."""
        path = Path(self.folder, "fa_net", "predictions_test.npz")
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class Accuracy:
    """An accuracy over one or more runs that differ in their seed alone.

    Attributes:
      value, low, high: mean and its 95 % bootstrap interval, %; nan where unknown.
      faces: test faces.
      over: what the bootstrap draws, `persons` or `faces`.
      runs: the runs.
    """

    value: float
    low: float
    high: float
    faces: int
    over: str
    runs: tuple[Run, ...]


def find_runs(folder: str) -> list[Run]:
    """Returns every evaluated run below a folder, or the folder itself when it is one; sorted by name.

    Raises:
      InputError: when a metrics.json cannot be read.
    """
    root = Path(folder)
    found = [Path(where) for where, folders, files in os.walk(root) if _keep(root, where, folders, files)]
    return [read_run(root, path) for path in sorted(found)]


def _keep(root: Path, where: str, folders: list[str], files: list[str]) -> bool:
    # Checkpoints and event files lie below: no need to look there.
    if METRICS_FILE in files or len(Path(where).relative_to(root).parts) >= MAX_DEPTH:
        folders.clear()
    return METRICS_FILE in files


def read_run(root: Path, path: Path) -> Run:
    """Returns the evaluated run in a folder.

    Raises:
      InputError: when its config.json or metrics.json cannot be read.
    """
    run = read_unscored(root, path)
    metrics = _read_json(path / METRICS_FILE)
    if "task" not in metrics or "test" not in metrics:
        raise InputError(f"{path / METRICS_FILE} has no `task` or no `test`; run trainer.task --stage=evaluate again.")
    return dataclasses.replace(run, metrics=metrics)


def read_unscored(root: Path, path: Path) -> Run:
    """Returns the run in a folder without its metrics, such as one that has trained FaPE-GAN alone."""
    name = path.relative_to(root).as_posix()
    config = _read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).exists() else {}
    return Run(str(path), path.name if name == "." else name, {}, config)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; run trainer.task --stage=evaluate again.") from None


def accuracy_of(runs: Sequence[Run]) -> Accuracy | None:
    """Returns the accuracy of runs that differ in their seed, or None without any test face.

    Each face counts with its mean over the runs, and whole persons are drawn where they are known.
    """
    runs = tuple(run for run in runs if run.test.get("faces"))
    if not runs:
        return None
    test = runs[0].test
    if len(runs) == 1 or any(run.predictions is None for run in runs):
        # One run's interval is not that of several runs' mean.
        known = test.get("accuracy_interval") if len(runs) == 1 else None
        low, high = known or (np.nan, np.nan)
        value = float(np.mean([run.test["accuracy"] for run in runs]))
        return Accuracy(100 * value, 100 * low, 100 * high, test["faces"], test["interval_over"], runs)
    right = _mean_hits(runs)
    values = np.array(list(right.values()))
    groups = _persons(right)
    low, high = bootstrap_interval(values, groups)
    over = "faces" if groups is None else "persons"
    return Accuracy(100 * float(values.mean()), 100 * low, 100 * high, len(values), over, runs)


def difference_of(first: Sequence[Run], second: Sequence[Run]) -> Accuracy | None:
    """Returns how much more accurate the second runs are on the same faces, in points; None without such faces.

    Each face that all runs have is compared with itself; persons are drawn, and seeds where there are several.
    """
    if not first or not second or any(run.predictions is None for run in (*first, *second)):
        return None
    hits = [[_mean_hits([run]) for run in runs] for runs in (first, second)]
    seen = [key for key in hits[0][0] if all(key in run for runs in hits for run in runs)]
    if not seen:
        return None
    groups = _persons(seen)
    found = paired_bootstrap(*(np.array([[run[key] for key in seen] for run in runs]) for runs in hits), groups)
    low, high, value = (100 * found[name] for name in ("low", "high", "difference"))
    return Accuracy(value, low, high, len(seen), "faces" if groups is None else "persons", (*first, *second))


def _mean_hits(runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """The share of runs that are right, by image_id and person."""
    hits: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        found = run.predictions
        for name, person, hit in zip(found["image_id"], found["person"], _hits(found), strict=True):
            hits.setdefault((str(name), str(person)), []).append(hit)
    return {key: float(np.mean(values)) for key, values in hits.items()}


def _persons(faces: Iterable[tuple[str, str]]) -> list[str] | None:
    """The person of each face, or None when they are not known."""
    persons = [person for _, person in faces]
    return persons if len(set(persons) - {""}) > 1 else None


def _hits(predictions: dict[str, np.ndarray]) -> np.ndarray:
    return (predictions["logits"].argmax(1) == predictions["label"]).astype(float)


def best(runs: Sequence[Run]) -> Run | None:
    """Returns the run with the highest accuracy on the validation part, which the test part did not choose."""
    scored = [run for run in runs if run.test.get("faces")]
    return max(scored, key=lambda run: run.metrics.get("val", {}).get("accuracy", -1.0), default=None)
