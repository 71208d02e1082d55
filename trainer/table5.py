"""`--task=all`: Table 5 of the paper, Fa-Net alone against FaPE-GAN + Fa-Net on the four tasks (section 5).

Plain remedies are tried on one draw of the splits, and the best of them, Fa-Net and FaPE-GAN + Fa-Net are reported on
the draws after it. Each draw takes its test part from all faces, so some are tested in both: the table says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fer_tf import files
from fer_tf.config import replace, to_dict
from fer_tf.data import draws
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.labels import TASKS
from fer_tf.reports import table_5, tables
from fer_tf.reports.table_5 import ALONE, BOTH, REMEDIES
from fer_tf.run_folder import RunFolder
from fer_tf.runs import Run
from trainer import cells, runtime
from trainer.config import TaskConfig
from trainer.recipes import recipe_of

FOLDERS = {ALONE: "real", BOTH: "synthetic", **{name: name.replace(" ", "_") for name in REMEDIES}}


@dataclass(frozen=True)
class Cell:
    """One training of the table.

    Attributes:
      task: one of the four.
      draw: the draw of the splits, -1 for the data's own.
      seed: of the training.
      row: Fa-Net, FaPE-GAN+Fa-Net, or one of the remedies.
      chooses: whether settings are chosen on it, so that it is not reported.
    """

    task: str
    draw: int
    seed: int
    row: str
    chooses: bool = False

    @property
    def folder(self) -> str:
        """Its folder below the table's."""
        return f"{self._of_draw('-')}seed-{self.seed}/{FOLDERS[self.row]}"

    @property
    def gan(self) -> str:
        """The folder, below the table's, of the FaPE-GAN whose faces every seed of the draw is trained on."""
        return f"{self._of_draw('/')}gan"

    def _of_draw(self, end: str) -> str:
        kind = "choosing" if self.chooses else "draw"
        return f"{self.task}/" if self.draw < 0 else f"{self.task}/{kind}-{self.draw}{end}"


def run(config: TaskConfig) -> None:
    """Trains what is missing of the table, then writes and prints it; the same command goes on after a stop.

    A FaPE-GAN is trained once for a task and draw, and its faces serve every seed. All rows take the same number of
    optimizer steps at the same learning rates: with synthetic faces too an epoch shows as many as there are real ones.
    """
    _refuse_what_rows_decide(config)
    runtime.set_up(config)
    _refuse_the_other_layout(config)
    first = choosing_cells(config)
    every = [*first, *reported_cells(config, dict.fromkeys(TASKS, next(iter(REMEDIES))))]
    progress = cells.Progress("Table 5", len(every), sum(_is_done(config, cell) for cell in every))
    for cell in first:
        _train(config, cell, progress)
    for cell in reported_cells(config, chosen_remedies(config)):
        _train(config, cell, progress)
    print(_write(config))


def _refuse_what_rows_decide(config: TaskConfig) -> None:
    """Refuses flags that would make all rows alike, or leave one without faces, before anything is trained."""
    flags, default = to_dict(config), to_dict(TaskConfig())
    rows = ("synthetic", "synthetic_from", *dict.fromkeys(name for given in REMEDIES.values() for name in given))
    for name in rows:
        if flags[name] != default[name]:
            raise InputError(
                f"`{name}` is what the rows of Table 5 differ in. Received: {flags[name]!r} with --task=all; leave it "
                "out, or train one row by its own --task."
            )
    if not config.synthesis.synthetic_ratio:
        raise InputError("`synthetic_ratio` 0 leaves Table 5's second row without synthetic faces; give more than 0.")


def _refuse_the_other_layout(config: TaskConfig) -> None:
    """Refuses to begin a table over draws beside one of the data's own split, which an earlier version began."""
    own = reported_cells(replace(config, draws=0, split_seed=-1), {})
    if config.run.draws and any(RunFolder(files.join(config.run.run_dir, cell.folder)).has_begun for cell in own):
        raise InputError(
            f"{config.run.run_dir} holds a table of the data's own split. Give --draws=0 (and its --seeds) to go on "
            "with it, or another --run_dir for a table over several draws."
        )


def remedies_of(config: TaskConfig) -> list[str]:
    """Returns the plain remedies that change something: a recipe may mirror or mix faces by itself."""
    own = recipe_of(TASKS[0], config.fa_net).augmentation
    known = {"mirroring": own.flip, "mixup": own.mixup > 0}
    return [name for name in REMEDIES if not known.get(name)]


def choosing_cells(config: TaskConfig) -> list[Cell]:
    """Returns the trainings on the draw that chooses: none when the data's own split alone is reported."""
    if not config.run.draws:
        return []
    draw = max(config.split_seed, 0)
    return [Cell(task, draw, config.run.seed, row, True) for task in TASKS for row in (ALONE, *remedies_of(config))]


def reported_cells(config: TaskConfig, remedies: dict[str, str]) -> list[Cell]:
    """Returns the trainings that are reported, draw after draw.

    Args:
      config: the table's flags.
      remedies: the plain remedy that was chosen for each task; no row where there is none.
    """
    begin = max(config.split_seed, 0) + 1
    reported = range(begin, begin + config.run.draws) if config.run.draws else [config.split_seed]
    seeds = range(config.run.seed, config.run.seed + config.run.seeds)
    return [
        Cell(task, draw, seed, row)
        for draw in reported
        for task in TASKS
        for seed in seeds
        for row in (ALONE, BOTH, *([remedies[task]] if config.run.draws and remedies.get(task) else []))
    ]


def chosen_remedies(config: TaskConfig) -> dict[str, str]:
    """Returns the remedy that is best on the draw that chooses, by task."""
    runs = _finished(config, choosing_cells(config))
    return {task: table_5.best_remedy(runs, task) for task in TASKS}


def _train(config: TaskConfig, cell: Cell, progress: cells.Progress) -> None:
    """Trains and scores one cell, and before it the FaPE-GAN that it needs; what is done is skipped."""
    drawn = _drawn(config, cell.draw)
    if cell.row == BOTH:
        gan = _config(drawn, config, cell.task, cell.gan)
        cells.run(config, gan, ("fape_gan", "synthesize"))
    if not _is_done(config, cell):
        with progress.one():
            cells.run(config, cell_config(drawn, config, cell), ("fa_net", "evaluate"))
        _write(config)


def _is_done(table: TaskConfig, cell: Cell) -> bool:
    return cells.is_done(_config(table, table, cell.task, cell.folder))


def _drawn(config: TaskConfig, draw: int) -> TaskConfig:
    """Returns the table's flags with the data of a draw, which all its cells share."""
    if draw < 0:
        return config
    data = draws.draw(DataFolder(config.data), config.folder.draw(draw), draw)
    return replace(config, data=data.path, split_seed=draw)


def _config(drawn: TaskConfig, table: TaskConfig, task: str, folder: str, **changes: Any) -> TaskConfig:
    return replace(drawn, task=task, run_dir=files.join(table.run.run_dir, folder), **changes)


def cell_config(drawn: TaskConfig, table: TaskConfig, cell: Cell) -> TaskConfig:
    """Returns the flags of one Fa-Net of the table."""
    changes: dict[str, Any] = {"stage": "fa_net", "seed": cell.seed, "synthetic": cell.row == BOTH}
    changes |= REMEDIES.get(cell.row, {})
    if cell.draw >= 0:
        # What tells a draw that chooses from one that is reported (`run_scores.is_choosing`).
        changes["draws"] = 0 if cell.chooses else max(1, table.run.draws)
    flags = _config(drawn, table, cell.task, cell.folder, **changes)
    if cell.row != BOTH:
        return flags
    return cells.with_equal_steps(replace(flags, synthetic_from=files.join(table.run.run_dir, cell.gan)))


def _finished(config: TaskConfig, wanted: list[Cell]) -> list[Run]:
    return cells.finished(config, [cell.folder for cell in wanted])


def _write(config: TaskConfig) -> str:
    """Writes what is finished of the table, which is the report's; returns it as text."""
    remedies = chosen_remedies(config)
    runs = _finished(config, [*choosing_cells(config), *reported_cells(config, remedies)])
    text = tables.to_markdown(table_5.table_5(runs))
    about = {"chosen_on": [cell.draw for cell in choosing_cells(config)][:1], "remedies": remedies}
    numbers = {"tasks": table_5.numbers_5(runs), "paper": table_5.TABLE_5, **about}
    config.folder.write_table("table5", numbers, text)
    return text
