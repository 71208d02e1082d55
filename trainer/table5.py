"""`--task=all`: Table 5 of the paper, Fa-Net alone against FaPE-GAN + Fa-Net on the four tasks (section 5)."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import keras

from fer_tf import files
from fer_tf.labels import TASKS
from fer_tf.reports import paper_tables, tables
from fer_tf.run_folder import Run, RunFolder
from trainer import fa_net, runtime
from trainer.config import TaskConfig
from trainer.recipes import recipe_of

ROWS = ("Fa-Net", "FaPE-GAN+Fa-Net")
FOLDERS = dict(zip(ROWS, ("real", "synthetic"), strict=True))
LOG_VARIABLE = "AIP_TENSORBOARD_LOG_DIR"


def run(config: TaskConfig) -> None:
    """Trains what is missing of the table, then writes and prints it; the same command goes on after a stop.

    A task's FaPE-GAN is trained once and its faces serve every seed. Both rows see the same real faces for the same
    number of optimizer steps: with synthetic faces an epoch is longer, so there are fewer of them.
    """
    runtime.set_up(config)
    for task in TASKS:
        gan = _config(config, task, "gan")
        with _log_folder(config, gan):
            _stages(gan, ("fape_gan", "synthesize"))
        for seed in range(config.seed, config.seed + config.seeds):
            for row in ROWS:
                cell = row_config(config, task, row, seed)
                with _log_folder(config, cell):
                    _stages(cell, ("fa_net", "evaluate"))
                _write(config)
    print(_write(config))


def _config(config: TaskConfig, task: str, *folders: str, **changes: Any) -> TaskConfig:
    return dataclasses.replace(config, task=task, run_dir=files.join(config.run_dir, task, *folders), **changes)


def row_config(config: TaskConfig, task: str, row: str, seed: int) -> TaskConfig:
    """Returns the flags of one Fa-Net of the table."""
    run = _config(config, task, f"seed-{seed}", FOLDERS[row], stage="fa_net", seed=seed, synthetic=row != ROWS[0])
    if row == ROWS[0]:
        return run
    gan = _config(config, task, "gan")
    run = dataclasses.replace(run, synthetic_from=gan.run_dir)
    return _with_equal_steps(run)


def _with_equal_steps(config: TaskConfig) -> TaskConfig:
    """Returns flags under which real and synthetic faces take as many steps as the real ones alone.

    An epoch of both is longer: there are fewer, and the learning rate falls after fewer, so at the same steps.
    """
    real = len(fa_net.read_faces(dataclasses.replace(config, synthetic=False)).parts["train"])
    both = len(fa_net.read_faces(config).parts["train"])
    recipe = recipe_of(config)
    epochs = max(1, round(recipe.epochs * real / both))
    return dataclasses.replace(config, epochs=epochs, decay_epochs=recipe.decay_epochs * real / both)


@contextlib.contextmanager
def _log_folder(table: TaskConfig, cell: TaskConfig) -> Iterator[None]:
    """Gives a cell its own folder under a hosted trainer's log folder, where one cell would replace another's page."""
    root = os.environ.get(LOG_VARIABLE)
    if not root:
        yield
        return
    os.environ[LOG_VARIABLE] = files.join(root, cell.run_dir.removeprefix(f"{table.run_dir.rstrip('/')}/"))
    try:
        yield
    finally:
        os.environ[LOG_VARIABLE] = root


def _stages(config: TaskConfig, stages: tuple[str, ...]) -> None:
    """Runs stages of one folder of the table; each skips what is done."""
    if stages[-1] == "evaluate" and config.folder.is_evaluated:
        return
    with runtime.run_log(config):
        runtime.set_up(config)
        for stage in stages:
            logging.info("stage %s of %s in %s", stage, config.task, config.run_dir)
            importlib.import_module(f"trainer.{stage}").run(config)
    # Dozens of networks in one process: their graphs would pile up.
    keras.backend.clear_session()


def finished(config: TaskConfig) -> list[Run]:
    """Returns the table's evaluated runs, which may lie on a remote file system."""
    names = [
        files.join(task, f"seed-{seed}", FOLDERS[row])
        for task in TASKS
        for seed in range(config.seed, config.seed + config.seeds)
        for row in ROWS
    ]
    folders = {name: RunFolder(files.join(config.run_dir, name)) for name in names}
    return [
        Run(folder, name, folder.read_metrics(), folder.read_config())
        for name, folder in folders.items()
        if folder.is_evaluated
    ]


def _write(config: TaskConfig) -> str:
    """Writes what is finished of the table, which is the report's; returns it as text."""
    runs = finished(config)
    text = tables.to_markdown(paper_tables.table_5(runs))
    config.folder.write_table_5({"tasks": paper_tables.numbers_5(runs), "paper": paper_tables.TABLE_5}, text)
    return text
