"""Tables 1, 4 and 5 of the paper with this system's results beside its numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fer_tf.data import public
from fer_tf.evaluation.run_scores import (
    OVER_DRAWS,
    Accuracy,
    Measure,
    accuracy_of,
    by_draw,
    differ_only_in,
    difference_of,
    is_choosing,
    same_but_seed,
)
from fer_tf.labels import TASKS
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
# Table 5.
ALONE = "Fa-Net"
# What a practitioner tries first against rare classes and poses, by the flags that ask for it.
REMEDIES: dict[str, dict[str, Any]] = {
    "mirroring": {"mirror": True},
    "oversampling": {"balance": "sampling"},
    "balanced softmax": {"balance": "softmax"},
    "mixup": {"mixup": 0.2},
}
REMEDY = "Fa-Net and the plain remedy that was chosen"
TABLE_5 = {
    "Fa-Net": {"er_ss": 72.7, "er_ue": 27.3, "er_up": 36.3, "er_zid": 6.7},
    "FaPE-GAN+Fa-Net": {"er_ss": 73.6, "er_ue": 30.8, "er_up": 39.9, "er_zid": 7.1},
}
SET_NAMES = public.titles()
TASK_NAMES = {"er_ss": "ER-SS", "er_ue": "ER-UE", "er_up": "ER-UP", "er_zid": "ER-ZID"}


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
        both = self.fresh, self.pretrained[source]
        return self.fresh if self.fresh and differ_only_in("init_from", *both) else []


def rows_4(runs: Sequence[Run], tasks: Sequence[str] = tuple(TABLE_4)) -> list[Rows4]:
    """Returns what there is of Table 4, set by set and recipe by recipe."""
    found = []
    for task in tasks:
        of_task = [run for run in of_fa_net(runs) if run.task == task]
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
        _difference_cell(fresh, tuned),
        _difference_cell(fresh, tuned, MEAN_CLASS),
        _difference_cell(*without_persons) if all(without_persons) else Cell("-"),
    )


def numbers_4(runs: Sequence[Run], tasks: Sequence[str] = tuple(TABLE_4)) -> list[dict[str, Any]]:
    """Returns Table 4's own numbers as JSON values: each row's accuracies in % by seed, and the paired differences."""
    table = []
    for found in rows_4(runs, tasks):
        for source, chosen in {"": found.fresh, **found.pretrained}.items():
            if not chosen:
                continue
            entry = {"task": found.task, "recipe": found.recipe, "init_from": source, **_numbers(chosen)}
            if first := found.compared(source) if source else []:
                for measure in ("accuracy", MEAN_CLASS):
                    if difference := difference_of(first, chosen, measure):
                        entry[f"{measure}_difference"] = _ends(difference)
            table.append(entry)
    return table


def table_5(runs: Sequence[Run]) -> Table:
    """Returns Table 5, the four tasks with and without FaPE-GAN's faces."""
    rows, runs = [], of_fa_net(runs)
    for row, printed in TABLE_5.items():
        rows.append((Cell(f"{row}, paper on F2ED"), *(Cell(f"{printed[task]:.1f}", PAPER) for task in TASKS)))
    gains = [TABLE_5["FaPE-GAN+Fa-Net"][task] - TABLE_5["Fa-Net"][task] for task in TASKS]
    rows.append((Cell("difference, paper"), *(Cell(f"{gain:+.1f}", PAPER) for gain in gains)))
    used: list[Run] = []
    by_row = {row: [runs_5(runs, row, task) for task in TASKS] for row in TABLE_5}
    for row, found in by_row.items():
        flag = " --synthetic=false" if row == ALONE else ""
        needs = [f"needs a run: python -m trainer.task --task={task}{flag}" for task in TASKS]
        used += [run for chosen in found for run in chosen]
        rows.append((Cell(f"{row}, this system", OWN), *map(own_cell, found, needs)))
    pairs = zip(*by_row.values(), strict=True)
    rows.append((Cell("difference, this system", OWN), *(_difference_cell(*pair) for pair in pairs)))
    if used:
        for row, found in by_row.items():
            rows.append((Cell(f"mean class: {row}", OWN), *(own_cell(chosen, "-", MEAN_CLASS) for chosen in found)))
        gained = [_difference_cell(real, both, MEAN_CLASS) for real, both in zip(*by_row.values(), strict=True)]
        rows.append((Cell("mean class: difference", OWN), *gained))
    remedied = [runs_5(runs, REMEDY, task) for task in TASKS]
    if any(remedied):
        needs = "needs a run of trainer.task --task=all"
        rows.append((Cell(REMEDY, OWN), *(_remedy_cell(found, needs) for found in remedied)))
        against = zip(remedied, by_row["FaPE-GAN+Fa-Net"], strict=True)
        rows.append((Cell("FaPE-GAN beside the plain remedy", OWN), *(_difference_cell(*pair) for pair in against)))
    chance = [
        Cell(f"{100 * run.test['chance']:.1f}")
        if (run := next((r for r in used if r.task == task), None))
        else Cell("-")
        for task in TASKS
    ]
    rows.append((Cell("chance, this system"), *chance))
    columns = ("accuracy, %", *(TASK_NAMES[task] for task in TASKS))
    notes = ("The paper's corpus has 54 expressions (chance 1.9 %); compare differences, not levels.", *notes_5(runs))
    return Table(
        "table_5", "Table 5. Accuracy on the four tasks, with and without FaPE-GAN", columns, tuple(rows), notes
    )


def runs_5(runs: Sequence[Run], row: str, task: str) -> list[Run]:
    """Returns the runs, equal but for their seed and draw, that stand in a cell of Table 5."""
    reported = [run for run in of_fa_net(runs) if run.task == task and not is_choosing(run)]
    if row == REMEDY:
        return same_but_seed([run for run in reported if remedy_of(run.flags) and not run.synthetic])
    return same_but_seed([run for run in reported if not _is_remedied(run.flags) and run.synthetic == (row != ALONE)])


def remedy_of(flags: Mapping[str, Any]) -> str:
    """Returns which of the plain remedies a run's flags ask for, or an empty text."""
    return next((name for name, given in REMEDIES.items() if all(flags.get(k) == v for k, v in given.items())), "")


def _is_remedied(flags: Mapping[str, Any]) -> bool:
    """Whether a run's flags ask for a remedy of any kind or strength, with which it is neither of the main rows."""
    off = {"mirror": False, "balance": "none", "mixup": 0.0}
    return any(flags.get(name, plain) != plain for name, plain in off.items())


def best_remedy(runs: Sequence[Run], task: str) -> str:
    """Returns the plain remedy that is most accurate on the draw that settings are chosen on, or an empty text."""
    tried = [run for run in of_fa_net(runs) if run.task == task and is_choosing(run) and remedy_of(run.flags)]
    best = max(tried, key=lambda run: run.test["accuracy"], default=None)
    return remedy_of(best.flags) if best else ""


def notes_5(runs: Sequence[Run]) -> list[str]:
    """Returns which draws of the splits chose and which are reported, and whether FaPE-GAN beats the plain remedies."""
    chosen_on = sorted({run.flags["split_seed"] for run in runs if is_choosing(run)})
    reported = {run.flags.get("split_seed", -1) for run in runs if not is_choosing(run)} - {-1}
    if not reported:
        return []
    chosen = {TASK_NAMES[task]: remedy for task in TASKS if (remedy := best_remedy(runs, task))}
    notes = [
        f"Mean over the draws {', '.join(map(str, sorted(reported)))} of the splits (--split_seed) and over seeds, "
        f"with intervals over {OVER_DRAWS}. {_chosen(chosen_on, chosen)}"
    ]
    beaten = {
        TASK_NAMES[task]: found
        for task in TASKS
        if (found := difference_of(runs_5(runs, REMEDY, task), runs_5(runs, "FaPE-GAN+Fa-Net", task)))
    }
    if short := [name for name, found in beaten.items() if not found.low > 0]:
        notes.append(f"FaPE-GAN's faces are not shown to add more than the plain remedy on {', '.join(short)}.")
    return notes


def _chosen(draws: Sequence[int], remedies: Mapping[str, str]) -> str:
    if not draws or not remedies:
        return "Nothing was chosen on another draw."
    names = ", ".join(f"{remedy} for {task}" for task, remedy in remedies.items())
    return f"Draw {', '.join(map(str, draws))} chose the plain remedy ({names}) and is not reported."


def numbers_5(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns Table 5's own numbers as JSON values: each row's accuracies in % by seed, and the paired difference."""
    table: dict[str, Any] = {}
    for task in TASKS:
        rows = {row: runs_5(runs, row, task) for row in (*TABLE_5, REMEDY)}
        entry: dict[str, Any] = {
            row: {**_numbers(found), "draws": [run.flags.get("split_seed", -1) for run in found]}
            for row, found in rows.items()
            if found
        }
        compared: tuple[tuple[str, str, Measure], ...] = (
            ("difference", ALONE, "accuracy"),
            ("mean_class_difference", ALONE, MEAN_CLASS),
            ("beside_remedy", REMEDY, "accuracy"),
        )
        for name, first, measure in compared:
            if found := difference_of(rows[first], rows["FaPE-GAN+Fa-Net"], measure):
                entry[name] = _ends(found)
        if remedy := best_remedy(runs, task):
            entry["remedy"] = remedy
        table[task] = entry
    return table


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    known = [name for name in ("accuracy", MEAN_CLASS) if all(name in run.test for run in runs)]
    return {name: [100 * run.test[name] for run in runs] for name in known} | {"seeds": [run.seed for run in runs]}


def _ends(found: Accuracy) -> dict[str, float | None]:
    """A difference with its interval and p value, which JSON has no nan for."""
    ends = {"low": found.low, "high": found.high, "p": found.p}
    return {"difference": found.value, **{name: None if math.isnan(end) else end for name, end in ends.items()}}


def of_fa_net(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs that trained Fa-Net, and no competitor."""
    return [run for run in runs if run.method == "fa_net"]


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
    note = f"{interval} seed{'s' if len(accuracy.runs) > 1 else ''} {seeds}{interim}"
    return Cell(f"{accuracy.value:.1f}", OWN, note, accuracy)


def persons_out_cell(runs: Sequence[Run]) -> Cell:
    """Returns the cell of the runs that answered all faces of their set by classifiers that never saw the person."""
    return own_cell([found for run in runs if (found := run.persons_left_out)], "-")


def _remedy_cell(runs: Sequence[Run], needs: str) -> Cell:
    cell = own_cell(runs, needs)
    return dataclasses.replace(cell, note=f"{cell.note}; {remedy_of(runs[0].flags)}") if runs else cell


def _difference_cell(first: Sequence[Run], second: Sequence[Run], measure: Measure = "accuracy") -> Cell:
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
