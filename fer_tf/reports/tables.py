"""Tables of cells that know where their numbers come from, as HTML cells, CSV, LaTeX and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from fer_tf.evaluation.run_scores import Accuracy
from fer_tf.reports.wording import unknown

PAPER, OWN, MISSING, PLAIN, MARKED = "paper", "own", "missing", "plain", "marked"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
      text: what stands in it.
      kind: `paper` (printed in the paper), `own` (this system's), `missing` (what data it would need), `marked` (what
        a reader shall not miss) or `plain`.
      note: a second, smaller line, such as the interval.
      accuracy: the number behind an `own` cell, if it is one.
    """

    text: str
    kind: str = PLAIN
    note: str = ""
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
      key: file name, such as `table_5`.
      title: caption.
      columns: headings.
      rows: cells, as many in each row as there are headings.
      notes: remarks below it.
      right: whether all columns but the first hold numbers, which stand at the right.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = field(default=())
    right: bool = False


def to_csv(table: Table) -> str:
    """Returns a table as CSV; an interval follows its number in brackets."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows)
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Returns a table in Markdown, its notes below it; a missing cell is a dash."""
    body = [["-" if cell.kind == MISSING else f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows]
    lines = [table.columns, ["---"] * len(table.columns), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "".join(f"\n{note}\n" for note in table.notes)


def numbers_to_csv(tables: Sequence[Table]) -> str:
    """Returns every number of this system and of the paper, one a line, with interval, seeds and command."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ("table", "row", "column", "source", "value", "low", "high", "faces", "interval over", "seeds", "runs")
    writer.writerow((*head, "command"))
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns[1:], row[1:], strict=True):
                if cell.kind in (PAPER, OWN):
                    writer.writerow((table.key, row[0].text, column, cell.kind, *_number(cell)))
    return buffer.getvalue()


def _number(cell: Cell) -> tuple:
    """Value, low, high, faces, interval over, seeds, runs and command of a cell."""
    found = cell.accuracy
    if found is None:
        return (cell.text, *[""] * 7)
    seeds = " ".join(str(run.seed) for run in found.runs)
    names = " ".join(run.name for run in found.runs)
    commands = "; ".join(run.command for run in found.runs)
    ends = ("", "") if unknown((found.low, found.high)) else (f"{found.low:.3f}", f"{found.high:.3f}")
    interval = (f"{found.value:.3f}", *ends)
    return (*interval, found.faces, found.over, seeds, names, commands)


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}"}
_LATEX |= {"^": "\\textasciicircum{}", "×": "$\\times$", "±": "$\\pm$", "<": "$<$", ">": "$>$"}


def escape_latex(text: str) -> str:
    """Returns text that LaTeX prints as it is."""
    return "".join(_LATEX.get(char, char) for char in text)


def to_latex(table: Table) -> str:
    """Returns a table as a LaTeX `table` that needs no package; a missing cell is a dash."""
    lines = ["\\begin{table}", "\\centering", f"\\begin{{tabular}}{{l{'c' * (len(table.columns) - 1)}}}", "\\hline"]
    lines += [" & ".join(escape_latex(name) for name in table.columns) + " \\\\", "\\hline"]
    for row in table.rows:
        texts = ["--" if cell.kind == MISSING else f"{cell.text} {cell.note}".strip() for cell in row]
        lines.append(" & ".join(escape_latex(text) for text in texts) + " \\\\")
    caption = escape_latex(table.title.split(". ", 1)[-1] + "." + "".join(f" {note}" for note in table.notes))
    lines += ["\\hline", "\\end{tabular}", f"\\caption{{{caption}}}", f"\\label{{tab:{table.key}}}", "\\end{table}"]
    return "\n".join(lines) + "\n"
