"""Tables 2 and 3: the paper's competitors, as printed and as trained here, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence

from fer_tf import competitors
from fer_tf.evaluation.run_scores import best
from fer_tf.labels import FA_NET, RECIPES
from fer_tf.reports.paper_tables import (
    MEAN_CLASS,
    MEAN_CLASS_COLUMN,
    PERSONS_OUT,
    PERSONS_OUT_NOTE,
    needs_set,
    notes_of,
    own_cell,
    persons_out_cell,
)
from fer_tf.reports.tables import OWN, PAPER, PLAIN, Cell, Table
from fer_tf.reports.wording import duration
from fer_tf.runs import Run

# By method, accuracy as printed, %; in the paper's order.
TABLE_2 = {
    "bag_of_words": 67.4,
    "vgg_svm": 66.3,
    "googlenet": 65.2,
    "mollahosseini": 66.4,
    "dnnrl": 70.6,
    "attention_cnn": 70.0,
    FA_NET: 71.1,
}
TABLE_3 = {"fisherface": 89.2, "salient_patches": 92.6, "cnn_svm": 95.3, "attention_cnn": 92.8, FA_NET: 95.7}
COLUMNS = ("model", "printed, %", "this system, %", MEAN_CLASS_COLUMN, "training", "images a second", "size")


def table_2(runs: Sequence[Run]) -> Table:
    """Returns Table 2, accuracy on FER2013's test part."""
    return _table("table_2", "Table 2. Accuracy on FER2013", "fer2013", TABLE_2, runs)


def table_3(runs: Sequence[Run]) -> Table:
    """Returns Table 3, accuracy on JAFFE's test part, and with each person left out of training in turn."""
    return _table("table_3", "Table 3. Accuracy on JAFFE", "jaffe", TABLE_3, runs)


def _table(key: str, title: str, task: str, printed: dict[str, float], runs: Sequence[Run]) -> Table:
    of_task = [run for run in runs if run.task == task]
    with_persons = task == "jaffe"
    rows, used = [], []
    for method in (*printed, *(name for name in competitors.NAMES if name not in printed)):
        found = [run for run in of_task if run.method == method]
        kinds = [(recipe, _of_recipe(found, recipe)) for recipe in RECIPES] if method == FA_NET else [("", found)]
        if method not in printed and not found:
            # The paper prints no number of it, and nobody asked for it.
            continue
        for recipe, chosen in kinds:
            run = best(chosen)
            used += [run] if run else []
            name = competitors.TITLES.get(method, method) + (f", recipe {recipe}" if recipe else "")
            flag = f" --recipe={recipe}" if recipe else f" --method={method}"
            chosen = [run] if run else []
            own, mean = own_cell(chosen, needs_set(task, flag)), own_cell(chosen, "-", MEAN_CLASS)
            value = Cell(f"{printed[method]:.1f}", PAPER) if method in printed else Cell("-")
            persons = [persons_out_cell(chosen)] if with_persons else []
            rows.append((Cell(name, OWN if run else PLAIN), value, own, mean, *persons, *_cost(run)))
    columns = (*COLUMNS[:4], PERSONS_OUT, *COLUMNS[4:]) if with_persons else COLUMNS
    notes = (
        "Of several runs of a method the one with the best validation accuracy stands here. Training, speed and size "
        "are that run's, on its own machine; images a second from the encoded picture to the answer.",
        *((PERSONS_OUT_NOTE,) * with_persons),
        *notes_of(used),
    )
    return Table(key, title, columns, tuple(rows), notes if used else ())


def _of_recipe(runs: Sequence[Run], recipe: str) -> list[Run]:
    return [run for run in runs if run.metrics.get("recipe", run.flags.get("recipe", "best")) == recipe]


def _cost(run: Run | None) -> tuple[Cell, Cell, Cell]:
    """Training time, images a second and size of a run, as far as it tells."""
    if run is None:
        return Cell(""), Cell(""), Cell("")
    training = run.metrics.get("training", {})
    # A mean of trainings has the seconds of none: its history says 0.
    seconds = None if training.get("averaged") else training.get("seconds")
    speed, size = run.metrics.get("images_per_second"), run.metrics.get("size_bytes")
    return (
        Cell("-" if seconds is None else duration(seconds)),
        Cell("-" if not speed else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"),
        Cell("-" if not size else f"{size / 1e6:.1f} MB"),
    )
