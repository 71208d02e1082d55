"""Tables 1 and 4 of the paper with this system's results beside its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fer_tf.data import public
from fer_tf.evaluation.run_scores import (
    OVER_DRAWS,
    Accuracy,
    Measure,
    accuracy_of,
    by_draw,
    difference_of,
    differences,
    same_but_seed,
)
from fer_tf.labels import FA_NET
from fer_tf.reports import wording
from fer_tf.reports.tables import MISSING, OWN, PAPER, Cell, Table
from fer_tf.runs import Run

# Table 1 as printed.
TABLE_1_COLUMNS = ("dataset", "#expression", "#subject", "#pose", "#image", "#sequence", "resolution", "pose list")
TABLE_1 = (
    ("CK+", "8", "123", "1", "327", "593", "490 × 640", "F"),
    ("JAFFE", "7", "10", "1", "213", "-", "256 × 256", "F"),
    ("FER2013", "7", "-", "-", "35,887", "-", "48 × 48", "-"),
    ("KDEF", "7", "140", "5", "4,900", "-", "562 × 762", "FL, HL, F, FR, HR"),
    ("F2ED", "54", "119", "4", "219,719", "5,418", "256 × 256", "HL, F, HR, BV"),
)
PERSONS_OUT = "persons left out, %"
MEAN_CLASS: Measure = "mean_class_accuracy"
MEAN_CLASS_COLUMN = "mean class, %"
PERSONS_OUT_NOTE = "Persons left out: all 213 faces, each answered by a method that never saw its person."
# Table 4: without and with pre-training on F2ED.
TABLE_4 = {"fer2013": (62.3, 71.1), "jaffe": (82.9, 95.7)}
SET_NAMES = public.titles()


def table_1(statistics: dict[str, Any] | None, name: str = "this corpus") -> Table:
    """Returns Table 1 with this corpus' row.

    Args:
      statistics: the corpus' `statistics`, or None; a count of None is not known.
      name: what the row is called.
    """
    rows = [tuple(Cell(text, PAPER) for text in row) for row in TABLE_1]
    if statistics is None:
        needs = Cell("needs a data folder: python -m beam_pipelines.build", MISSING)
        rows.append((Cell(name), needs, *[Cell("")] * (len(TABLE_1_COLUMNS) - 2)))
    else:
        own = statistics["table_1"]
        counts = (own[column] for column in ("expressions", "subjects", "poses", "images", "sequences"))
        texts = [name, *("-" if count is None else f"{count:,}" for count in counts)]
        texts += [own["resolution"].replace("x", "×"), own["pose_list"]]
        rows.append(tuple(Cell(text, OWN) for text in texts))
    notes = ("F front, FL and FR full left and right, HL and HR half left and right, BV bird view.",)
    if statistics and (people := _people(statistics)):
        notes += (people,)
    return Table("table_1", "Table 1. This corpus beside the public sets", TABLE_1_COLUMNS, tuple(rows), notes)


def _people(statistics: dict[str, Any]) -> str:
    """Who the data shows, as far as it tells."""
    ages = statistics.get("ages", {})
    known = [] if ages.get("youngest") is None else [f"{ages['youngest']} to {ages['oldest']} years old"]
    known += [f"{count:,} {gender}" for gender, count in statistics.get("genders", {}).items()]
    return f"Persons: {', '.join(known)}." if known else ""


@dataclass(frozen=True)
class Rows4:
    """The runs of one set and recipe in Table 4, those of a row equal but for their seed.

    Attributes:
      task: the public set.
      recipe: of Fa-Net; empty without a run.
      fresh: those that began with fresh weights.
      pretrained: those that began with another network's, by what --init_from names.
    """

    task: str
    recipe: str
    fresh: list[Run]
    pretrained: dict[str, list[Run]]

    def compared(self, source: str) -> list[Run]:
        """Returns the runs that a pre-trained row is compared with: none where more than its beginning differs."""
        return [] if differences(self.fresh, self.pretrained[source], "init_from") else self.fresh


def rows_4(runs: Sequence[Run], tasks: Sequence[str] = tuple(TABLE_4)) -> list[Rows4]:
    """Returns what there is of Table 4, set by set and recipe by recipe."""
    found = []
    for task in tasks:
        of_task = [run for run in trained(runs) if run.task == task]
        recipes = {run.flags.get("recipe", "") for run in of_task}
        for recipe in sorted(recipes, reverse=True) or [""]:
            own = [run for run in of_task if run.flags.get("recipe", "") == recipe]
            sources = sorted({run.flags["init_from"] for run in own if run.pretrained})
            pretrained = {
                source: same_but_seed([run for run in own if run.flags.get("init_from") == source])
                for source in sources
            }
            found.append(Rows4(task, recipe, same_but_seed([run for run in own if not run.pretrained]), pretrained))
    return found


def table_4(runs: Sequence[Run], tasks: Sequence[str] = tuple(TABLE_4)) -> Table:
    """Returns Table 4, Fa-Net with and without pre-training."""
    rows: list[tuple[Cell, ...]] = []
    used: list[Run] = []
    for found in rows_4(runs, tasks):
        fresh, tuned = (f"{value:.1f}" for value in TABLE_4[found.task]) if found.task in TABLE_4 else ("-", "-")
        rows.append(_row_4(found, Cell("no"), fresh, found.fresh))
        used += found.fresh
        for source, chosen in (found.pretrained or {"": []}).items():
            rows.append(_row_4(found, Cell("yes", note=source), tuned, chosen, " --init_from=RUN"))
            used += chosen
            if source and (first := found.compared(source)):
                rows.append(_difference_row_4(found, first, chosen))
    columns = ("data set", "recipe", "pre-trained", "paper, %", "this system, %", MEAN_CLASS_COLUMN, PERSONS_OUT)
    notes = (
        "The paper pre-trains on F2ED, this system on what --init_from names.",
        PERSONS_OUT_NOTE,
        *notes_of(used),
    )
    return Table("table_4", "Table 4. With and without pre-training", columns, tuple(rows), notes)


def _row_4(found: Rows4, start: Cell, printed: str, runs: Sequence[Run], flag: str = "") -> tuple[Cell, ...]:
    return (
        Cell(SET_NAMES[found.task]),
        Cell(found.recipe or "-"),
        start,
        Cell(printed, PAPER),
        own_cell(runs, needs_set(found.task, flag)),
        own_cell(runs, "-", MEAN_CLASS),
        persons_out_cell(runs),
    )


def _difference_row_4(found: Rows4, fresh: Sequence[Run], tuned: Sequence[Run]) -> tuple[Cell, ...]:
    before, after = TABLE_4.get(found.task, (math.nan, math.nan))
    without_persons = [[out for run in runs if (out := run.persons_left_out)] for runs in (fresh, tuned)]
    return (
        Cell(SET_NAMES[found.task]),
        Cell(found.recipe),
        Cell("difference"),
        Cell("-" if math.isnan(before) else f"{after - before:+.1f}", PAPER),
        difference_cell(fresh, tuned),
        difference_cell(fresh, tuned, MEAN_CLASS),
        difference_cell(*without_persons) if all(without_persons) else Cell("-"),
    )


def numbers_4(runs: Sequence[Run], tasks: Sequence[str] = tuple(TABLE_4)) -> list[dict[str, Any]]:
    """Returns Table 4's own numbers as JSON values: each row's accuracies in % by seed, and the paired differences."""
    table = []
    for found in rows_4(runs, tasks):
        for source, chosen in {"": found.fresh, **found.pretrained}.items():
            if not chosen:
                continue
            entry = {"task": found.task, "recipe": found.recipe, "init_from": source, **numbers_of(chosen)}
            if first := found.compared(source) if source else []:
                for measure in ("accuracy", MEAN_CLASS):
                    if difference := difference_of(first, chosen, measure):
                        entry[f"{measure}_difference"] = ends_of(difference)
            table.append(entry)
    return table


def numbers_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns each run's seed and the scores that all of them have, percent, as plain JSON values."""
    known = [name for name in ("accuracy", MEAN_CLASS) if all(name in run.test for run in runs)]
    return {name: [100 * run.test[name] for run in runs] for name in known} | {"seeds": [run.seed for run in runs]}


def ends_of(found: Accuracy) -> dict[str, float | None]:
    """A difference with its interval and p value, which JSON has no nan for."""
    ends = {"low": found.low, "high": found.high, "p": found.p}
    return {"difference": found.value, **{name: None if math.isnan(end) else end for name, end in ends.items()}}


def of_fa_net(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs that trained Fa-Net, and no competitor."""
    return [run for run in runs if run.method == FA_NET]


def trained(runs: Sequence[Run]) -> list[Run]:
    """Returns those of Fa-Net that are a training of their own, as their flags say, and no mean of others' weights."""
    return [run for run in of_fa_net(runs) if not run.averaged]


def own_cell(runs: Sequence[Run], needs: str, measure: Measure = "accuracy") -> Cell:
    """Returns the cell of some runs' accuracy, or what it would need."""
    accuracy = accuracy_of(runs, measure)
    if accuracy is None or math.isnan(accuracy.value):
        return Cell(needs, MISSING)
    interval = _interval(accuracy)
    if accuracy.over == OVER_DRAWS:
        return Cell(f"{accuracy.value:.1f}", OWN, f"{interval} {len(by_draw(runs))} draws, {len(runs)} runs", accuracy)
    seeds = ", ".join(str(run.seed) for run in accuracy.runs)
    interim = "" if all(run.metrics.get("finished", True) for run in accuracy.runs) else "; not finished"
    views = runs[0].metrics.get("tta", "none")
    seen = "" if views == "none" else f"; --tta={views}"
    note = f"{interval} seed{'s' if len(accuracy.runs) > 1 else ''} {seeds}{seen}{interim}"
    return Cell(f"{accuracy.value:.1f}", OWN, note, accuracy)


def persons_out_cell(runs: Sequence[Run]) -> Cell:
    """Returns the cell of the runs that answered all faces of their set by classifiers that never saw the person."""
    return own_cell([found for run in runs if (found := run.persons_left_out)], "-")


def difference_cell(first: Sequence[Run], second: Sequence[Run], measure: Measure = "accuracy") -> Cell:
    """Returns by how many percentage points the second runs are better on the same faces, with the interval."""
    found = difference_of(first, second, measure)
    if found is None:
        return Cell("needs both rows", MISSING)
    # Rounded to nothing it is +0.0 from either side.
    return Cell(f"{round(found.value, 1) + 0.0:+.1f}", OWN, f"{_interval(found, '+')} same faces", found)


def _interval(found: Accuracy, sign: str = "") -> str:
    """An accuracy's interval in brackets, or why there is none; ends so that more words may follow."""
    if not wording.unknown((found.low, found.high)):
        return wording.brackets(found.low, found.high, found.over, sign)
    if len(found.runs) > 1 and any(run.predictions is None for run in found.runs):
        return "no interval: predictions are missing;"
    return f"{wording.brackets(found.low, found.high, found.over)};"


def needs_set(task: str, flags: str = "") -> str:
    """Returns what a cell of a public set would need."""
    return f"needs {SET_NAMES[task]}: python -m trainer.task --task={task} --data=PATH{flags}"


def notes_of(runs: Sequence[Run]) -> list[str]:
    """Returns what the runs' own notes say of their data, as one remark."""
    notes = dict.fromkeys(note for run in runs for note in run.metrics.get("notes", []))
    return [f"Of the data: {'; '.join(notes)}."] if notes else []
