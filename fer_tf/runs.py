"""The runs below a folder, each with what it says of itself."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.labels import FA_NET
from fer_tf.run_folder import PERSONS, TEST, NetworkFolder, RunFolder

# By its name in metrics.json.
PERSONS_LEFT_OUT = "persons_left_out"
# runs/<task>, and the folders of a whole table: runs/all/<task>/seed-<n>/<row>.
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Run:
    """One run folder as it was found, with what it says of itself.

    Attributes:
      folder: the run folder.
      name: its path below the folder of runs.
      metrics: its metrics.json; empty for a run that is not evaluated.
      config: its config.json: flags, command, versions, machine; may be empty.
      part: which faces its scores and answers are of, `test` or `persons` (see `persons_left_out`).
    """

    folder: RunFolder
    name: str
    metrics: dict[str, Any]
    config: dict[str, Any]
    part: str = TEST

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
    def method(self) -> str:
        """What was trained: `fa_net` or a competitor's name."""
        return self.flags.get("method", FA_NET)

    @property
    def pretrained(self) -> bool:
        """Whether it began with another Fa-Net's weights."""
        return bool(self.flags.get("init_from"))

    @property
    def synthetic(self) -> bool:
        """Whether FaPE-GAN's faces were in its training part; of a run that did not record it, what its flags say."""
        if "synthetic_fingerprint" in self.metrics:
            return bool(self.synthetic_fingerprint)
        borrowed = bool(self.flags.get("synthetic_from"))
        return bool(self.flags.get("synthetic", True)) and (borrowed or self.folder.has_synthetic)

    @property
    def averaged(self) -> bool:
        """Whether its weights are other runs', or their mean, so that its flags say nothing of a training."""
        return bool(self.config.get("averaged"))

    @property
    def fingerprint(self) -> str | None:
        """Of the real data that it was trained and tested on; None when it is not known."""
        return self.metrics.get("data_fingerprint")

    @property
    def synthetic_fingerprint(self) -> str:
        """Of the synthetic faces that it was trained on; empty without any, and for a run that did not record it."""
        return self.metrics.get("synthetic_fingerprint", "")

    @property
    def test(self) -> dict[str, Any]:
        """The scores of the part."""
        return self.metrics.get(PERSONS_LEFT_OUT if self.part == PERSONS else self.part, {})

    @property
    def command(self) -> str:
        """The command line that made it, or what is known of it."""
        argv = self.config.get("command") or []
        if not argv:
            return "unknown: config.json names no command"
        module = "trainer.average" if self.averaged else "trainer.task"
        return shlex.join(["python", "-m", module, *argv[1:]])

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """image_id, person, pose, label and logits of the part, or None."""
        return self.folder.read_predictions(self.part)

    @property
    def persons_left_out(self) -> Run | None:
        """The run as it answers all faces of its set, each without its person; None if it did not."""
        return dataclasses.replace(self, part=PERSONS) if PERSONS_LEFT_OUT in self.metrics else None


def find_runs(root: str) -> list[Run]:
    """Returns every evaluated run below a folder, or the folder itself when it is one; sorted by name.

    Raises:
      InputError: when a config.json or metrics.json cannot be read.
    """
    return _found(root, lambda folder: folder.is_evaluated)


def find_gans(root: str) -> list[Run]:
    """Returns every run below a folder whose FaPE-GAN has drawn held-out faces, evaluated or not; sorted by name."""
    return _found(root, lambda folder: bool(folder.gan.samples))


def newest_finished(root: str) -> RunFolder | None:
    """Returns the run right below a folder whose Fa-Net was finished last, or None."""
    folders = [RunFolder(entry.path) for entry in os.scandir(root)] if os.path.isdir(root) else []
    finished = [folder for folder in folders if folder.fa_net.is_finished]
    return max(finished, key=lambda folder: files.stat(folder.fa_net.mark)[1], default=None)


def _found(root: str, wanted: Callable[[RunFolder], bool]) -> list[Run]:
    """The wanted run folders below a folder, but none inside a wanted one: there lie checkpoints and event files."""
    found = []
    for where, folders, _ in os.walk(root):
        if NetworkFolder(where).has_spec:
            # A network's own folder: no run, though FaPE-GAN's has a metrics.json too.
            folders.clear()
            continue
        depth = len(os.path.relpath(where, root).split(os.sep)) if where != root else 0
        folder = RunFolder(where)
        if is_one := wanted(folder):
            name = os.path.relpath(where, root).replace(os.sep, "/")
            name = os.path.basename(os.path.abspath(root)) if name == "." else name
            found.append(Run(folder, name, folder.read_metrics(), folder.read_config()))
        if is_one or depth >= _MAX_DEPTH:
            folders.clear()
    return sorted(found, key=lambda run: run.folder.path)
