"""metrics.json as one page: the headline, the figures, the break-downs."""

from __future__ import annotations

from typing import Any

from fer_tf import competitors
from fer_tf.evaluation.across import VIEWS
from fer_tf.labels import FA_NET, TASK_NAMES
from fer_tf.reports import figures, wording
from fer_tf.reports.page import Picture, render, svg
from fer_tf.reports.paper_tables import SET_NAMES
from fer_tf.reports.tables import Cell, Table
from fer_tf.reports.wording import percent

PARTS = {
    "val": "validation",
    "test": "test",
    "test_without_equal_copies": "test, without equal copies",
    "test_without_near_copies": "test, without near copies",
    "persons_left_out": "all faces, each person left out of training in turn",
}
BREAKDOWNS = (
    ("by_class", "By expression"),
    ("by_pose", "By pose"),
    ("by_gender", "By gender"),
    ("by_age", "By age"),
    ("by_person", "By person"),
)
ACROSS = ("pictures", "faces", "lost", "accuracy", "mean class", "right of found", "confidence")
SCORES = ("part", "faces", "accuracy", "mean class", "macro F1", "ECE", "ECE calibrated")


def page(result: dict[str, Any], others: dict[str, dict[str, Any]] | None = None) -> str:
    """Returns the page of an evaluation.

    Args:
      result: what `trainer.evaluate` writes to metrics.json; empty when the network was scored on other sets alone.
      others: what `trainer.across` found on other sets, by name.
    """
    sets = {SET_NAMES.get(name, name): found for name, found in (others or {}).items()}
    tables = [table for name, found in sets.items() for table in _across(name, found)]
    lines = [f"{name}: {note}" for name, found in sets.items() for note in _across_notes(found)]
    if not result:
        spec = next(iter(sets.values()))["spec"] if sets else {"task": ""}
        title = f"A Fa-Net of {SET_NAMES.get(spec['task'], spec['task'])} on other sets"
        return render("evaluation.html", title=title, own=False, pictures=[], breakdowns=tables, lines=lines)
    test = result["test"]
    name = {**TASK_NAMES, **SET_NAMES}.get(result["task"], result["task"])
    known = bool(test.get("faces"))
    return render(
        "evaluation.html",
        own=True,
        title=f"{_method(result)} on {name}",
        faces=test.get("faces"),
        finished=result["finished"],
        headline=_headline(test) if known else "",
        scores=_scores(result),
        pictures=_pictures(test) if known else [],
        breakdowns=[*(_breakdowns(test) if known else []), *tables],
        lines=[*_lines(result), *lines],
    )


def _across(name: str, found: dict[str, Any]) -> list[Table]:
    """A set that the network was not trained for: its scores, and how they change with the crop and with "unsure"."""
    views = [(view, title) for view, title in VIEWS.items() if view in found]
    rows = []
    for view, shown in views:
        scores = found[view]
        accuracy = wording.accuracy_of(scores)
        confidence = scores["calibration"].get("mean_confidence")
        right = scores["calibration"].get("accuracy_of_found")
        texts = (
            shown,
            f"{scores['faces']:,}",
            f"{scores['lost']:,}",
            accuracy,
            wording.mean_class_of(scores),
            *("-" if value is None else percent(value) for value in (right, confidence)),
        )
        rows.append(tuple(Cell(text) for text in texts))
    tables = [Table(f"across_{name}", f"{name}, which it was not trained for, %", ACROSS, tuple(rows), right=True)]
    classes = [
        (label, *(_share(found[view]["by_class"][label]["accuracy"]) for view, _ in views))
        for label in found["expressions"]
    ]
    tables.append(_table(f"{name}: by expression, accuracy, %", "expression", views, classes))
    poses = found[views[0][0]]["by_pose"]
    if len(poses) > 1:
        rows = []
        for pose in poses:
            rows.append(
                (pose, *(wording.mean_class_of(found[view] | found[view]["by_pose"][pose]) for view, _ in views))
            )
        tables.append(_table(f"{name}: by pose, mean class accuracy, %", "pose", views, rows))
    shares = [
        (f"{row['share']:.2f}", *(percent(found[view]["tightness"][place]["accuracy"]) for view, _ in views))
        for place, row in enumerate(found[views[0][0]]["tightness"])
    ]
    tables.append(_table(f"{name}: accuracy by the share of the face's side that is seen, %", "share", views, shares))
    # A view in which too few faces were found to be compared has fewer rows.
    relatives = [{wording.taken_off(row): row for row in found[view].get("relative", ())} for view, _ in views]
    if taken := dict.fromkeys(text for rows in relatives for text in rows):
        caption = f"{name}: accuracy (mean class) of answers relative to the mean of other faces, without labels, %"
        before = ("as they are", *(_with_mean(found[view]) for view, _ in views))
        after = [
            (text, *(_with_mean(rows[text]) if text in rows else "too few" for rows in relatives)) for text in taken
        ]
        tables.append(_table(caption, "taken off", views, [before, *after]))
    sure = [
        (
            f"{row['threshold']:.1f}",
            *(_answered(found[view]["unsure"][place]) for view, _ in views if found[view]["unsure"]),
        )
        for place, row in enumerate(found[views[0][0]]["unsure"])
    ]
    caption = f'{name}: right of the answered when less confidence means "unsure", %'
    tables.append(_table(caption, "below", views, sure))
    return tables


def _table(caption: str, first: str, views: list[tuple[str, str]], rows: list[tuple[str, ...]]) -> Table:
    columns = (first, *(title for _, title in views))
    return Table(caption, caption, columns, tuple(tuple(Cell(text) for text in row) for row in rows), right=True)


def _with_mean(scores: dict[str, Any]) -> str:
    return f"{percent(scores['accuracy'])} ({percent(scores['mean_class_accuracy'])})"


def _share(value: float | None) -> str:
    return "no face" if value is None else percent(value)


def _answered(row: dict[str, Any]) -> str:
    return "none" if row["accuracy"] is None else f"{percent(row['accuracy'])} of {percent(row['answered'])}"


def _across_notes(found: dict[str, Any]) -> list[str]:
    left = ", ".join(f"{count:,} {name}" for name, count in found["left_out"].items())
    return [
        f"{found['judged']}, answered with {', '.join(found['expressions'])} alone",
        f"data {found['data_fingerprint'][:16]}",
        *([f"left out, because the network does not know them: {left}"] if left else []),
        *found["notes"],
    ]


def _method(result: dict[str, Any]) -> str:
    method = result.get("method", FA_NET)
    return f"Fa-Net (recipe {result['recipe']})" if method == FA_NET else competitors.TITLES.get(method, method)


def _headline(test: dict[str, Any]) -> str:
    interval, over = test["accuracy_interval"], test["interval_over"]
    known = (
        f"no interval: fewer than two {over}"
        if wording.unknown(interval)
        else f"95 % bootstrap interval {wording.between(interval)} %, drawn over {over}"
    )
    return (
        f"{percent(test['accuracy'])} % of {test['faces']:,} test faces are right ({known}); the mean over the classes "
        f"is {wording.mean_class_of(test)}. Guessing gives "
        f"{percent(test['chance'])} %, always answering with the most frequent class {percent(test['majority'])} %."
    )


def _scores(result: dict[str, Any]) -> Table:
    rows = []
    splits = [(name, title, result.get(name, {})) for name, title in PARTS.items()]
    splits += [
        (part, f"{PARTS[part]}, {SET_NAMES.get(task, TASK_NAMES.get(task, task))} alone", split)
        for part in ("val", "test")
        for task, split in result.get(f"{part}_by_set", {}).items()
    ]
    for name, title, split in splits:
        if split.get("faces"):
            calibration = split["calibration"]
            values = [split["accuracy"], split["mean_class_accuracy"], split["macro_f1"]]
            errors = [calibration["uncalibrated"]["ece"], calibration["calibrated"]["ece"]]
            shown = [percent(value) for value in values + errors]
            if name == "persons_left_out":
                # No temperature was fitted to these answers.
                shown[-2:] = "-", "-"
            texts = (title, f"{split['faces']:,}", *shown)
            rows.append(tuple(Cell(text) for text in texts))
    return Table("scores", "Scores, %", SCORES, tuple(rows), right=True)


def _by_votes(result: dict[str, Any]) -> list[str]:
    """How far the answers are from what people voted."""
    lines = []
    for name, title in PARTS.items():
        if found := result.get(name, {}).get("distribution"):
            lines.append(
                f"{title}, all {found['faces']:,} faces that people voted on: cross-entropy with their votes "
                f"{found['cross_entropy']:.3f} nats (at best {found['lowest']:.3f}); {percent(found['accuracy'])} % "
                "are answered as most of them did. The scores above are of the faces on which more than half agree."
            )
    return lines


def _pictures(test: dict[str, Any]) -> list[Picture]:
    confusion = figures.confusion_matrix(test["confusion"], list(test["by_class"]), "")
    rows = test["calibration"]["calibrated"]["reliability"]
    return [
        svg(confusion, "Confusion, test part", "Per cent of each true class; rows add up to 100."),
        svg(figures.reliability_diagram(rows, ""), "Reliability, test part", "After the temperature."),
    ]


def _breakdowns(test: dict[str, Any]) -> list[Table]:
    return [_breakdown(key, test[key], caption) for key, caption in BREAKDOWNS if test[key]]


def _breakdown(key: str, rows: dict[str, dict[str, Any]], caption: str) -> Table:
    body = []
    for name, row in rows.items():
        accuracy = "no face" if row["accuracy"] is None else percent(row["accuracy"])
        texts = (name, f"{row['faces']:,}", accuracy, wording.between(row["interval"]))
        body.append(tuple(Cell(text) for text in texts))
    columns = (caption.removeprefix("By "), "faces", "accuracy, %", "95 % interval")
    return Table(key, caption, columns, tuple(body), right=True)


def _lines(result: dict[str, Any]) -> list[str]:
    spec, training = result["spec"], result["training"]
    lines = [
        f"{spec['variant']}, {spec['image_size']} pixels, temperature {spec['temperature']:.3f}, "
        f"test-time augmentation: {result['tta']}",
        f"data {result['data_fingerprint'][:16]}, landmarks: {spec['landmark_model']}",
        *result["notes"],
        *_by_votes(result),
    ]
    if result.get("images_per_second"):
        size = f", {result['size_bytes'] / 1e6:.1f} MB" if result.get("size_bytes") else ""
        lines.append(f"{result['images_per_second']:,.0f} images a second from the encoded picture to the answer{size}")
    if "chosen" in training:
        chosen = ", ".join(f"{key} {value}" for key, value in training["chosen"].items())
        lines.append(
            f"trained in {training['seconds']:.1f} s on {training['faces']:,} faces; chosen among them: {chosen}"
        )
    elif training and not training.get("averaged"):
        why = "the last" if result.get("kept") == "last" else "chosen on the validation part"
        # Without a validation part there is no score.
        score = f" ({percent(training['best_score'])} %)" if training["best_score"] >= 0 else ""
        lines.append(
            f"trained {training['epoch']} epochs in {training['seconds'] / 60:.0f} minutes; kept epoch "
            f"{training['best_epoch']}, {why}{score}"
        )
    return lines
