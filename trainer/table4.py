"""`--task=pretraining`: Table 4 of the paper, public sets from fresh weights and after a multi-pose corpus (section 5).

    python -m trainer.task --task=pretraining --data=er_ss=data/faces,jaffe=PATH,fer2013=PATH --seeds=3

The corpus is one of the four tasks of a data folder. Fa-Net is trained on it once, and once more with FaPE-GAN's faces
as well, in as many steps; then on each public set from fresh weights and from each of the two, for the same epochs.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from fer_tf import files
from fer_tf.config import replace
from fer_tf.data import mixed
from fer_tf.errors import InputError
from fer_tf.labels import RECIPES, TASKS
from fer_tf.reports import paper_tables, tables
from trainer import cells, fa_net, persons_out, runtime
from trainer.config import TABLE_4, FaNetOptions, GanOptions, PretrainingOptions, SynthesisOptions, TaskConfig
from trainer.recipes import recipe_of

# Where a row begins, which is also its folder's name: the corpus' network, of real faces or of FaPE-GAN's too.
FRESH, REAL, SYNTHETIC = "fresh", "real", "synthetic"


@dataclass(frozen=True)
class Cell:
    """One training of the table.

    Attributes:
      task: the public set.
      recipe: of Fa-Net.
      seed: of the training.
      start: where it begins.
    """

    task: str
    recipe: str
    seed: int
    start: str

    @property
    def folder(self) -> str:
        """Its folder below the table's."""
        return f"{self.task}/{self.recipe}-seed-{self.seed}/{self.start}"


@dataclass(frozen=True)
class Sets:
    """What the table is of.

    Attributes:
      task: the corpus' task.
      corpus: its data folder.
      public: each public set's path.
    """

    task: str
    corpus: str
    public: dict[str, str]


def run(config: TaskConfig) -> None:
    """Trains what is missing of the table, then writes and prints it; the same command goes on after a stop.

    The other recipe in the same run folder adds its rows, and shares the corpus' FaPE-GAN.

    Raises:
      InputError: `data` does not name a corpus and public sets, or one of them cannot be read.
    """
    sets = sets_of(config.data)
    runtime.set_up(config)
    # Before the first training, for hours later a wrong path would be told too late.
    with runtime.run_log(config.folder):
        fa_net.read_faces(_on_corpus(config, sets, "", synthetic=False))
        faces = {task: fa_net.read_faces(_on_set(config, sets, task, "")) for task in sets.public}
    shared = {task: persons_out.are_shared(found) for task, found in faces.items()}
    wanted = {cell: _flags_of(config, sets, cell, shared[cell.task]) for cell in cells_of(config, sets)}
    for cell, flags in wanted.items():
        runtime.refuse_other_flags(flags)
        if cell.start != FRESH:
            runtime.refuse_other_flags(_corpus_network(config, sets, cell))
    progress = cells.Progress("Table 4", len(wanted), sum(map(cells.is_done, wanted.values())))
    for cell, flags in wanted.items():
        if cells.is_done(flags):
            continue
        with progress.one():
            if cell.start != FRESH:
                _pretrain(config, sets, cell)
            cells.run(config, flags, ("fa_net", "evaluate"))
        _write(config, sets)
    print(_write(config, sets))


def sets_of(data: str) -> Sets:
    """Returns the corpus and the public sets that `data` names; raises InputError where it does not."""
    example = f"--task={TABLE_4} --data=er_ss=data/faces,jaffe=PATH,fer2013=PATH"
    if "=" not in data:
        raise InputError(f"`data` must name the corpus and the public sets, such as {example}. Received: {data!r}.")
    paths = mixed.paths_of(data)
    corpora = [name for name in paths if name in TASKS]
    if len(corpora) != 1 or len(paths) < 2:
        raise InputError(
            f"`data` must name one corpus, of a task among {', '.join(TASKS)}, and a public set or more, such as "
            f"{example}. Received: {data!r}."
        )
    return Sets(corpora[0], paths.pop(corpora[0]), paths)


def cells_of(config: TaskConfig, sets: Sets) -> list[Cell]:
    """Returns the trainings on the public sets, in the order in which they are done."""
    with_made = config.fa_net.synthetic and config.synthesis.synthetic_ratio > 0
    starts = (FRESH, REAL, SYNTHETIC) if with_made else (FRESH, REAL)
    recipe = config.fa_net.recipe
    return [Cell(task, recipe, seed, start) for task in sets.public for seed in _seeds(config) for start in starts]


def _seeds(config: TaskConfig) -> range:
    return range(config.run.seed, config.run.seed + config.run.seeds)


def _flags_of(config: TaskConfig, sets: Sets, cell: Cell, shares_persons: bool) -> TaskConfig:
    """The flags of one training on a public set."""
    flags = _on_set(config, sets, cell.task, cell.folder, seed=cell.seed)
    begins = "" if cell.start == FRESH else _corpus_network(config, sets, cell).run.run_dir
    return replace(flags, init_from=begins, persons_left_out=config.fa_net.persons_left_out and shares_persons)


def _on_set(config: TaskConfig, sets: Sets, task: str, folder: str, **changes: Any) -> TaskConfig:
    """The flags of a run of a public set alone, which the corpus' do not bind."""
    alone = dataclasses.replace(
        config, pretraining=PretrainingOptions(), gan=GanOptions(), synthesis=SynthesisOptions()
    )
    where = files.join(config.run.run_dir, folder)
    return replace(
        alone, task=task, data=sets.public[task], run_dir=where, synthetic=True, synthetic_from="", **changes
    )


def _on_corpus(config: TaskConfig, sets: Sets, folder: str, **changes: Any) -> TaskConfig:
    """The flags of a run of the corpus, which those of the public sets' trainings do not bind."""
    where = files.join(config.run.run_dir, sets.task, folder)
    changes = {**vars(config.pretraining), "decay_epochs": 0.0, "persons_left_out": False, **changes}
    return replace(config, task=sets.task, data=sets.corpus, run_dir=where, **changes)


def _corpus_network(config: TaskConfig, sets: Sets, cell: Cell) -> TaskConfig:
    """The flags of the corpus' network that a training begins with, which has the input size of the set's."""
    size = recipe_of(cell.task, config.fa_net).image_size
    folder = f"{cell.recipe}-{size}/{cell.start}"
    flags = _on_corpus(config, sets, folder, image_size=size, synthetic=cell.start == SYNTHETIC)
    if cell.start != SYNTHETIC:
        return flags
    made_in = config.fa_net.synthetic_from or _gan(config, sets).run.run_dir
    return cells.with_equal_steps(replace(flags, synthetic_from=made_in))


def _pretrain(config: TaskConfig, sets: Sets, cell: Cell) -> None:
    """Trains the corpus' network that a training begins with, where that is not done."""
    if cell.start == SYNTHETIC and not config.fa_net.synthetic_from:
        cells.run(config, _gan(config, sets), ("fape_gan", "synthesize"))
    cells.run(config, _corpus_network(config, sets, cell), ("fa_net",))


def _gan(config: TaskConfig, sets: Sets) -> TaskConfig:
    """The flags of the corpus' FaPE-GAN; both recipes of Fa-Net take its faces, so that none of Fa-Net's binds it."""
    return _on_corpus(config, sets, "gan", **vars(FaNetOptions()))


def _write(config: TaskConfig, sets: Sets) -> str:
    """Writes what is finished of the table, of both recipes, and returns it as text."""
    rows = itertools.product(sets.public, RECIPES, _seeds(config), (FRESH, REAL, SYNTHETIC))
    wanted = [Cell(*row) for row in rows]
    runs = cells.finished(config, [cell.folder for cell in wanted])
    text = tables.to_markdown(paper_tables.table_4(runs, tuple(sets.public)))
    paper = {name: paper_tables.TABLE_4[name] for name in sets.public if name in paper_tables.TABLE_4}
    numbers = {"rows": paper_tables.numbers_4(runs, tuple(sets.public)), "paper": paper}
    config.folder.write_table("table4", numbers, text)
    return text
