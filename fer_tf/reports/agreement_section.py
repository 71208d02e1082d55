"""How well the reviewers agree, as tables: on the build's page and on the page of who runs a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fer_tf.reports.tables import MARKED, MISSING, OWN, Cell, Table
from fer_tf.reports.wording import percent

# More pairs of expressions would not be read.
MOST_CONFUSIONS = 20
RULES = {
    "unanimous": "every reviewer who voted names the intended label (--review=unanimous)",
    "majority": "more than half of those who voted name it (--review=majority)",
}
NAMES = {"dawid_skene": "Dawid and Skene"}
CHANCE = "1 is agreement on every clip, 0 what chance would give. Intervals are of 95 %, over resampled clips."


def tables(agreement: Mapping[str, Any]) -> tuple[Table, ...]:
    """Returns the tables of a description.

    Args:
      agreement: what `fer_tf.evaluation.agreement.describe` gives.
    """
    found = [_overall(agreement), kept(agreement), _per_expression(agreement)]
    if agreement["pairs"]:
        found.append(_pairs(agreement["pairs"]))
    if agreement["confusions"]:
        found.append(_confusions(agreement["confusions"]))
    return tuple(found)


def _overall(agreement: Mapping[str, Any]) -> Table:
    names = {
        "fleiss_kappa": ("Fleiss' kappa", "of the clips that every reviewer has seen"),
        "krippendorff_alpha": ("Krippendorff's alpha", "of all clips that two or more have seen"),
    }
    rows = [
        (Cell(title, note=of), _measure(agreement[key]), Cell(f"{agreement[key]['clips']:,}"))
        for key, (title, of) in names.items()
    ]
    note = "Cannot tell is an answer of its own here; as the build has it, it is a vote for no label."
    return Table("agreement", "Agreement", ("measure", "value", "clips"), tuple(rows), (CHANCE, note), right=True)


def kept(agreement: Mapping[str, Any]) -> Table:
    """Returns the table of what each rule keeps, of what `agreement.describe` gives."""
    rules = RULES | {"dawid_skene": f"a model is at least {100 * agreement['sure']:.0f} % sure of it"}
    reviewed = agreement["reviewed"]
    rows = []
    for rule, meaning in rules.items():
        count = agreement["kept"][rule]
        share = f"{percent(count / reviewed)} %" if reviewed else ""
        rows.append((Cell(NAMES.get(rule, rule), note=meaning), Cell(f"{count:,}", OWN), Cell(share)))
    note = (
        "The model weighs each reviewer by the errors that the others' votes show. "
        "It is a second opinion: the build does not use it."
    )
    columns = ("rule", "clips kept", f"of {reviewed:,} reviewed")
    return Table("kept", "What each rule keeps", columns, tuple(rows), (note,), right=True)


def _per_expression(agreement: Mapping[str, Any]) -> Table:
    rows = [
        (
            Cell(name.replace("_", " ")),
            Cell(f"{told['clips']:,}"),
            *(Cell(f"{told['kept'][rule]:,}") for rule in ("unanimous", "majority", "dawid_skene")),
            Cell(f"{told['votes']:,}"),
            _measure(told["kappa"]),
        )
        for name, told in agreement["per_expression"].items()
    ]
    columns = ("expression", "clips", "unanimous", "majority", NAMES["dawid_skene"], "votes", "kappa")
    note = "Kappa is Fleiss' of this expression against all others."
    return Table("agreement_per_expression", "By expression", columns, tuple(rows), (note,), right=True)


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            Cell(" and ".join(pair["reviewers"])),
            Cell(f"{pair['clips']:,}"),
            Cell(f"{percent(pair['same'] / pair['clips'])} %" if pair["clips"] else ""),
            _measure(pair["kappa"]),
        )
        for pair in pairs
    ]
    columns = ("reviewers", "clips of both", "same answer", "Cohen's kappa")
    return Table("agreement_pairs", "By pair of reviewers", columns, tuple(rows), right=True)


def _confusions(confusions: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (Cell(" and ".join(name.replace("_", " ") for name in found["names"])), Cell(f"{found['count']:,}"))
        for found in confusions[:MOST_CONFUSIONS]
    )
    rest = len(confusions) - len(rows)
    notes = (
        "Counted once for every two reviewers of a clip.",
        *((f"{rest:,} rarer ones are not shown.",) * (rest > 0)),
    )
    return Table("confusions", "What is taken for what", ("one says, another says", "times"), rows, notes, right=True)


def _measure(measured: Mapping[str, Any]) -> Cell:
    if measured["value"] is None:
        return Cell("none", MISSING, "too few votes, or all are one")
    if measured["low"] is None:
        return Cell(f"{measured['value']:.3f}", OWN, "no interval: too few clips")
    low = measured["low"] > 0
    return Cell(f"{measured['value']:.3f}", OWN if low else MARKED, f"[{measured['low']:.3f}, {measured['high']:.3f}]")
