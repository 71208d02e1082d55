"""What a model card tells of sets that the network was not trained for, beside others' networks on the same faces."""

from __future__ import annotations

from typing import Any

from fer_tf.evaluation.across import VIEWS
from fer_tf.reports import wording
from fer_tf.reports.paper_tables import SET_NAMES
from fer_tf.reports.wording import percent


def across_section(sets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns the tables of the section; empty where no other set was judged.

    Args:
      sets: what `trainer.across` found, by name; under `beside` it may have others' networks on the same faces.
    """
    rows: list[tuple[str, ...]] = []
    classes: list[tuple[str, list[tuple[str, ...]]]] = []
    tightness: list[tuple[str, ...]] = []
    shares: list[str] = []
    relatives: list[tuple[str, ...]] = []
    for name, found in sets.items():
        for view, title in VIEWS.items():
            networks = {"Fa-Net": found, **found.get("beside", {})}
            answered = {network: scores[view] for network, scores in networks.items() if view in scores}
            where = f"{SET_NAMES.get(name, name)}, {title}"
            rows += [_row(where, network, part) for network, part in answered.items()]
            if answered:
                classes.append((where, _classes(answered)))
            for network, part in answered.items():
                shares = [f"{row['share']:g}" for row in part["tightness"]]
                tightness.append((where, network, *(percent(row["accuracy"]) for row in part["tightness"])))
                relatives += [(where, network, *_relative(row)) for row in part.get("relative", ())]
    if not rows:
        return {}
    notes = [line for found in sets.values() for line in found.get("beside_notes", ())]
    return {
        "rows": rows,
        "classes": classes,
        "shares": shares,
        "tightness": tightness,
        "relatives": relatives,
        "notes": sorted(set(notes)),
    }


def _row(where: str, network: str, part: dict[str, Any]) -> tuple[str, ...]:
    counts = f"{part['faces']:,}", f"{part['lost']:,}"
    ece = part["calibration"].get("ece")
    shares = wording.accuracy_of(part), wording.mean_class_of(part)
    return where, network, *counts, *shares, "-" if ece is None else percent(ece)


def _relative(row: dict[str, Any]) -> tuple[str, ...]:
    """What was taken off, accuracy, mean class and the class that is worst."""
    worst = min(counts[label] / sum(counts) for label, counts in enumerate(row["confusion"]) if sum(counts))
    return wording.taken_off(row), *(percent(share) for share in (row["accuracy"], row["mean_class_accuracy"], worst))


def _classes(answered: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Faces and accuracies of each expression, after a heading row of the networks' names."""
    first = next(iter(answered.values()))["by_class"]
    rows = [("expression", "faces", *answered)]
    for label, row in first.items():
        if row["faces"]:
            shares = (part["by_class"].get(label, {}).get("accuracy") for part in answered.values())
            rows.append((label, f"{row['faces']:,}", *("-" if share is None else percent(share) for share in shares)))
    return rows
