"""Table 5 of the paper: the four tasks with and without FaPE-GAN's faces, and beside the plain remedies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fer_tf.evaluation.run_scores import (
    OVER_DRAWS,
    Accuracy,
    Measure,
    difference_of,
    differences_beside_synthetic_faces,
    is_choosing,
    is_drawn,
    same_but_seed,
)
from fer_tf.labels import TASK_NAMES, TASKS
from fer_tf.reports.paper_tables import (
    MEAN_CLASS,
    difference_cell,
    ends_of,
    notes_of,
    numbers_of,
    own_cell,
    trained,
)
from fer_tf.reports.tables import MISSING, OWN, PAPER, Cell, Table
from fer_tf.runs import Run

ALONE, BOTH = "Fa-Net", "FaPE-GAN+Fa-Net"
# What a practitioner tries first against rare classes and poses, by the flags that ask for it.
REMEDIES: dict[str, dict[str, Any]] = {
    "mirroring": {"mirror": True},
    "oversampling": {"balance": "sampling"},
    "balanced softmax": {"balance": "softmax"},
    "mixup": {"mixup": 0.2},
}
REMEDY = "Fa-Net and the plain remedy that was chosen"
TABLE_5 = {
    ALONE: {"er_ss": 72.7, "er_ue": 27.3, "er_up": 36.3, "er_zid": 6.7},
    BOTH: {"er_ss": 73.6, "er_ue": 30.8, "er_up": 39.9, "er_zid": 7.1},
}


def table_5(runs: Sequence[Run]) -> Table:
    """Returns Table 5, the four tasks with and without FaPE-GAN's faces."""
    rows, runs = [], trained(runs)
    for row, printed in TABLE_5.items():
        rows.append((Cell(f"{row}, paper on F2ED"), *(_printed(printed.get(task)) for task in TASKS)))
    alone, both = TABLE_5.values()
    gains = {task: both[task] - alone[task] for task in alone}
    rows.append((Cell("difference, paper"), *(_printed(gains.get(task), "+") for task in TASKS)))
    used: list[Run] = []
    by_row = {row: [runs_5(runs, row, task) for task in TASKS] for row in TABLE_5}
    for row, found in by_row.items():
        flag = " --synthetic=false" if row == ALONE else ""
        needs = [f"needs a run: python -m trainer.task --task={task}{flag}" for task in TASKS]
        used += [run for chosen in found for run in chosen]
        rows.append((Cell(f"{row}, this system", OWN), *map(own_cell, found, needs)))
    pairs = zip(*by_row.values(), strict=True)
    rows.append((Cell("difference, this system", OWN), *(_gain_cell(*pair) for pair in pairs)))
    if used:
        for row, found in by_row.items():
            rows.append((Cell(f"mean class: {row}", OWN), *(own_cell(chosen, "-", MEAN_CLASS) for chosen in found)))
        gained = [_gain_cell(real, both, MEAN_CLASS) for real, both in zip(*by_row.values(), strict=True)]
        rows.append((Cell("mean class: difference", OWN), *gained))
    remedied = [runs_5(runs, REMEDY, task) for task in TASKS]
    if any(remedied):
        needs = "needs a run of trainer.task --task=all"
        rows.append((Cell(REMEDY, OWN), *(_remedy_cell(found, needs) for found in remedied)))
        against = zip(remedied, by_row[BOTH], strict=True)
        rows.append((Cell("FaPE-GAN beside the plain remedy", OWN), *(_gain_cell(*pair) for pair in against)))
    chance = [
        Cell(f"{100 * run.test['chance']:.1f}")
        if (run := next((r for r in used if r.task == task), None))
        else Cell("-")
        for task in TASKS
    ]
    rows.append((Cell("chance, this system"), *chance))
    columns = ("accuracy, %", *(TASK_NAMES[task] for task in TASKS))
    notes = (
        "The paper's corpus has 54 expressions (chance 1.9 %); compare differences, not levels.",
        *notes_5(runs),
        *notes_of(used),
    )
    return Table(
        "table_5", "Table 5. Accuracy on the four tasks, with and without FaPE-GAN", columns, tuple(rows), notes
    )


def _printed(number: float | None, sign: str = "") -> Cell:
    """A number of the paper, which has none of a task that was added since."""
    return Cell("-") if number is None else Cell(f"{number:{sign}.1f}", PAPER)


def runs_5(runs: Sequence[Run], row: str, task: str) -> list[Run]:
    """Returns the runs, equal but for their seed and draw, that stand in a cell of Table 5."""
    reported = [run for run in trained(runs) if run.task == task and not is_choosing(run)]
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
    tried = [run for run in trained(runs) if run.task == task and is_choosing(run) and remedy_of(run.flags)]
    best = max(tried, key=lambda run: run.test["accuracy"], default=None)
    return remedy_of(best.flags) if best else ""


def notes_5(runs: Sequence[Run]) -> list[str]:
    """Returns which draws of the splits chose and which are reported, and whether FaPE-GAN beats the plain remedies."""
    choosing = [run for run in runs if is_choosing(run)]
    shown = [run for row in (*TABLE_5, REMEDY) for task in TASKS for run in runs_5(runs, row, task) if is_drawn(run)]
    reported = {run.flags["split_seed"] for run in shown}
    if not reported:
        return []
    chosen_on = sorted({run.flags["split_seed"] for run in choosing})
    chosen = {TASK_NAMES[task]: remedy for task in TASKS if (remedy := best_remedy(runs, task))}
    notes = [
        f"Mean over the draws {', '.join(map(str, sorted(reported)))} of the splits (--split_seed) and over seeds, "
        f"with intervals over {OVER_DRAWS}. {_chosen(chosen_on, chosen)}{_chosen_on_these(choosing, shown)}"
    ]
    beaten = {
        TASK_NAMES[task]: found
        for task in TASKS
        if (found := gain_of(runs_5(runs, REMEDY, task), runs_5(runs, BOTH, task)))
    }
    if short := [name for name, found in beaten.items() if not found.low > 0]:
        notes.append(f"FaPE-GAN's faces are not shown to add more than the plain remedy on {', '.join(short)}.")
    return notes


def _chosen(draws: Sequence[int], remedies: Mapping[str, str]) -> str:
    if not draws or not remedies:
        return "Nothing was chosen on another draw."
    names = ", ".join(f"{remedy} for {task}" for task, remedy in remedies.items())
    return f"Draw {', '.join(map(str, draws))} chose the plain remedy ({names}) and is not reported."


def _chosen_on_these(choosing: Sequence[Run], shown: Sequence[Run]) -> str:
    """How many of the faces that are reported were among those that chose: each draw takes its own from all."""
    chose, tested = (
        {(run.task, name) for run in found if run.predictions for name in run.predictions["image_id"].tolist()}
        for found in (choosing, shown)
    )
    both = len(chose & tested) / max(len(tested), 1)
    return f" Of the faces tested here {both:.0%} were tested in it too." if both else ""


def numbers_5(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns Table 5's own numbers as JSON values: each row's accuracies in % by seed, and the paired difference."""
    table: dict[str, Any] = {}
    for task in TASKS:
        rows = {row: runs_5(runs, row, task) for row in (*TABLE_5, REMEDY)}
        entry: dict[str, Any] = {
            row: {**numbers_of(found), "draws": [run.flags.get("split_seed", -1) for run in found]}
            for row, found in rows.items()
            if found
        }
        compared: tuple[tuple[str, str, Measure], ...] = (
            ("difference", ALONE, "accuracy"),
            ("mean_class_difference", ALONE, MEAN_CLASS),
            ("beside_remedy", REMEDY, "accuracy"),
        )
        for name, first, measure in compared:
            if found := gain_of(rows[first], rows[BOTH], measure):
                entry[name] = ends_of(found)
        if remedy := best_remedy(runs, task):
            entry["remedy"] = remedy
        table[task] = entry
    return table


def _remedy_cell(runs: Sequence[Run], needs: str) -> Cell:
    cell = own_cell(runs, needs)
    return dataclasses.replace(cell, note=f"{cell.note}; {remedy_of(runs[0].flags)}") if runs else cell


def gain_of(first: Sequence[Run], second: Sequence[Run], measure: Measure = "accuracy") -> Accuracy | None:
    """Returns what runs with FaPE-GAN's faces have more than others, where neither remedies nor else differ."""
    return None if _unlike(first, second) else difference_of(first, second, measure)


def _unlike(first: Sequence[Run], second: Sequence[Run]) -> list[str]:
    """The flags in which runs differ beside synthetic faces and remedies; none where a row is empty."""
    remedies = {name for given in REMEDIES.values() for name in given}
    return differences_beside_synthetic_faces(first, second, *remedies) if first and second else []


def _gain_cell(first: Sequence[Run], second: Sequence[Run], measure: Measure = "accuracy") -> Cell:
    if names := _unlike(first, second):
        return Cell(f"not compared: the rows differ in {', '.join(names)}", MISSING)
    cell = difference_cell(first, second, measure)
    steps = [[run.metrics.get("training", {}).get("steps", 0) for run in runs] for runs in (first, second)]
    if not all(map(all, steps)) or not all(steps):
        return cell
    few, many = sorted(sum(of_row) / len(of_row) for of_row in steps)
    # Draws that one row has and the other not yet differ by a step or two.
    return (
        cell if many < 1.05 * few else dataclasses.replace(cell, note=f"{cell.note}, {many / few:.1f} times the steps")
    )
