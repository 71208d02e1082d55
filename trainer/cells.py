"""The trainings that a table is made of: each in a folder of its own below the table's, skipped when it is done."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Iterator, Sequence

import keras

from fer_tf import files
from fer_tf.config import replace
from fer_tf.run_folder import RunFolder
from fer_tf.runs import PERSONS_LEFT_OUT, Run
from trainer import fa_net, runtime
from trainer.config import TaskConfig
from trainer.recipes import recipe_of


def run(table: TaskConfig, cell: TaskConfig, stages: tuple[str, ...]) -> None:
    """Runs stages of one folder of a table; each skips what is done.

    A cell has its own folder under a hosted trainer's log folder, where one cell would replace another's page.

    Args:
      table: the table's flags.
      cell: those of the cell, whose run folder lies below the table's.
      stages: names of `trainer.config.STAGES`.
    """
    with runtime.cell_logs(cell.run.run_dir.removeprefix(f"{table.run.run_dir.rstrip('/')}/")):
        run_stages(cell, stages)


def run_stages(cell: TaskConfig, stages: tuple[str, ...]) -> None:
    """Runs stages under the cell's own log and seed; nothing when they end with scores that are there."""
    if stages[-1] == "evaluate" and is_done(cell):
        return
    with runtime.run_log(cell.folder):
        runtime.set_up(cell)
        for stage in stages:
            logging.info("stage %s of %s in %s", stage, cell.task, cell.run.run_dir)
            importlib.import_module(f"trainer.{stage}").run(cell)
    # Dozens of networks in one process: their graphs would pile up.
    keras.backend.clear_session()


def is_done(cell: TaskConfig) -> bool:
    """Whether a cell has all scores that are asked for, and over the views that are asked for."""
    if not cell.folder.is_evaluated:
        return False
    scores = cell.folder.read_metrics()
    # Before scores told it, they were of the face alone.
    same_views = scores.get("tta", "none") == cell.fa_net.tta
    return same_views and (not cell.fa_net.persons_left_out or PERSONS_LEFT_OUT in scores)


def with_equal_steps(config: TaskConfig) -> TaskConfig:
    """Returns flags under which real and synthetic faces take as many steps as the real ones alone.

    An epoch shows as many faces, drawn anew from both, so that each of its steps has the same learning rate.
    """
    faces = fa_net.read_faces(replace(config, synthetic=False))
    real = fa_net.pass_faces(faces.parts["train"], len(faces.expressions), fa_net.sampling_of(config.fa_net))
    asked = config.fa_net.epoch_faces
    return replace(config, epoch_faces=asked or recipe_of(config.task, config.fa_net).passes * real)


def finished(table: TaskConfig, folders: Sequence[str]) -> list[Run]:
    """Returns the evaluated runs among some folders below a table's, which may lie on a remote file system."""
    found = {name: RunFolder(files.join(table.run.run_dir, name)) for name in folders}
    return [
        Run(folder, name, folder.read_metrics(), folder.read_config())
        for name, folder in found.items()
        if folder.is_evaluated
    ]


class Progress:
    """Tells after each training how many are done and how long the rest takes, by what those of this call took.

    Args:
      title: the table's.
      trainings: how many it has.
      done: how many of them are done.
    """

    def __init__(self, title: str, trainings: int, done: int) -> None:
        self._title, self._all, self._done = title, trainings, done
        self._seconds: list[float] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Around one training."""
        began = time.monotonic()
        yield
        self._seconds.append(time.monotonic() - began)
        self._done += 1
        hours = sum(self._seconds) / len(self._seconds) * (self._all - self._done) / 3600
        done = f"{self._title}: {self._done} of {self._all} trainings are done"
        print(f"{done}; about {hours:.1f} hours left", flush=True)
