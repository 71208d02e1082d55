"""`--task=all`: Table 5 of the paper, Fa-Net alone against FaPE-GAN + Fa-Net on the four tasks (section 5)."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from fer_tf import files
from fer_tf.evaluation import metrics
from fer_tf.labels import TASKS
from fer_tf.reports import wording
from fer_tf.reports.paper_tables import TABLE_5 as PAPER
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


@dataclass(frozen=True)
class _Scores:
    """One row's test results of a task: `right` float (seeds, faces) of 0 and 1, and the faces' ids and persons."""

    right: np.ndarray
    image_ids: np.ndarray
    persons: np.ndarray
    seeds: list[int]


def _scores(config: TaskConfig, task: str, row: str) -> _Scores | None:
    """Returns what is finished of a row, or None."""
    found, seeds = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        run = _config(config, task, f"seed-{seed}", FOLDERS[row]).folder
        if not run.is_evaluated:
            continue
        found.append(run.read_predictions("test"))
        seeds.append(seed)
    if not found:
        return None
    right = np.stack([part["logits"].argmax(1) == part["label"] for part in found]).astype(float)
    return _Scores(right, found[0]["image_id"], found[0]["person"], seeds)


def results(config: TaskConfig) -> dict[str, Any]:
    """Returns the table's numbers so far: each row's accuracies in % by seed, and the paired difference."""
    table: dict[str, Any] = {}
    for task in TASKS:
        rows = {row: _scores(config, task, row) for row in ROWS}
        entry: dict[str, Any] = {
            row: {"accuracy": (100 * scores.right.mean(1)).tolist(), "seeds": scores.seeds}
            for row, scores in rows.items()
            if scores is not None
        }
        if all(scores is not None for scores in rows.values()):
            entry["difference"] = _difference(*rows.values())
        table[task] = entry
    return table


def _difference(first: _Scores, second: _Scores) -> dict[str, float]:
    """Returns the mean difference in points with its interval: faces are paired, persons and seeds are drawn."""
    order_1, order_2 = np.argsort(first.image_ids), np.argsort(second.image_ids)
    found = metrics.paired_bootstrap(first.right[:, order_1], second.right[:, order_2], first.persons[order_1])
    return {name: value if name == "p" else 100 * value for name, value in found.items()}


def _write(config: TaskConfig) -> str:
    """Writes what is finished of the table; returns it as text."""
    table = results(config)
    text = as_text(table)
    config.folder.write_table_5({"tasks": table, "paper": PAPER}, text)
    return text


def as_text(table: dict[str, Any]) -> str:
    """Returns the table in Markdown: the two rows, their difference with its 95 % interval, the paper's numbers."""
    head = ["accuracy, %", *(task.upper().replace("_", "-") for task in TASKS)]
    body = [[row, *(_accuracy(table[task].get(row)) for task in TASKS)] for row in ROWS]
    body.append(["difference [95 % interval]", *(_points(table[task].get("difference")) for task in TASKS)])
    body += [[f"{row}, paper on F2ED", *(f"{PAPER[row][task]}" for task in TASKS)] for row in ROWS]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _accuracy(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    values = np.array(entry["accuracy"])
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} ({len(values)} seed{'s' if len(values) > 1 else ''})"


def _points(entry: dict[str, float] | None) -> str:
    if entry is None:
        return "-"
    return f"{entry['difference']:+.1f} {wording.brackets(entry['low'], entry['high'], 'persons', '+')}"
