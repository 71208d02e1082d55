"""metrics.json as one self-contained HTML page: the headline, the figures, the break-downs."""

from __future__ import annotations

import html
from typing import Any

from fer_tf.evaluation import figures, tables

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; line-height: 1.25; } img { max-width: 100%; } .small { color: #555; font-size: .9rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; }
td, th { padding: .15rem 0 .15rem .9rem; text-align: right; vertical-align: bottom; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
@media (max-width: 640px) { table { font-size: .8rem; } td, th { padding-left: .4rem; } th { font-size: .72rem; } }
@media print { @page { margin: 14mm; } body { font-size: 10.5pt; } img { max-width: 120mm; display: block; }
  table, img { break-inside: avoid; } tr { break-inside: avoid; } }
"""
PARTS = {
    "val": "validation",
    "test": "test",
    "test_without_equal_copies": "test, without equal copies",
    "test_without_near_copies": "test, without near copies",
}
BREAKDOWNS = (
    ("by_class", "By expression"),
    ("by_pose", "By pose"),
    ("by_gender", "By gender"),
    ("by_age", "By age"),
    ("by_person", "By person"),
)


def page(result: dict[str, Any]) -> str:
    """Returns the page of an evaluation.

    Args:
      result: what `trainer.evaluate` writes to metrics.json.
    """
    test = result["test"]
    name = {**tables.TASK_NAMES, **tables.SET_NAMES}.get(result["task"], result["task"])
    title = f"Fa-Net on {name}, recipe {result['recipe']}"
    parts = [f"<h1>{html.escape(title)}</h1>", _headline(result), _scores(result)]
    if test.get("faces"):
        names = list(test["by_class"])
        parts.append(_picture(figures.confusion_matrix(test["confusion"], names, "Confusion, test part, %")))
        rows = test["calibration"]["calibrated"]["reliability"]
        parts.append(_picture(figures.reliability_diagram(rows, "Reliability, test part, calibrated")))
        parts += [_breakdown(test[key], caption) for key, caption in BREAKDOWNS if test[key]]
    parts.append(_foot(result))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _headline(result: dict[str, Any]) -> str:
    test = result["test"]
    if not test.get("faces"):
        return "<p>The test part has no face.</p>"
    unfinished = "" if result["finished"] else "<p><b>The training has not finished; these are interim weights.</b></p>"
    interval = test["accuracy_interval"]
    known = f"{_interval(interval)} %, drawn over {test['interval_over']}" if interval else _interval(interval)
    return (
        f"{unfinished}<p><b>{_percent(test['accuracy'])} %</b> of {test['faces']:,} test faces are right "
        f"(95 % bootstrap interval {known}). Guessing gives {_percent(test['chance'])} %, always answering with the "
        f"most frequent class {_percent(test['majority'])} %.</p>"
    )


def _scores(result: dict[str, Any]) -> str:
    rows = []
    for name, title in PARTS.items():
        split = result.get(name, {})
        if split.get("faces"):
            calibration = split["calibration"]
            values = [split["accuracy"], split["mean_class_accuracy"], split["macro_f1"]]
            errors = [calibration["uncalibrated"]["ece"], calibration["calibrated"]["ece"]]
            cells = "".join(f"<td>{_percent(value)}</td>" for value in values + errors)
            rows.append(f"<tr><td>{title}</td><td>{split['faces']:,}</td>{cells}</tr>")
    head = "<tr><th>part<th>faces<th>accuracy<th>mean class<th>macro F1<th>ECE<th>ECE calibrated</tr>"
    return f"<table><caption>Scores, %</caption>{head}{''.join(rows)}</table>"


def _breakdown(rows: dict[str, dict[str, Any]], caption: str) -> str:
    body = []
    for name, row in rows.items():
        accuracy = "no face" if row["accuracy"] is None else _percent(row["accuracy"])
        body.append(
            f"<tr><td>{html.escape(name)}<td>{row['faces']:,}<td>{accuracy}<td>{_interval(row['interval'])}</tr>"
        )
    head = "<tr><th><th>faces<th>accuracy, %<th>95 % interval</tr>"
    return f"<table><caption>{caption}</caption>{head}{''.join(body)}</table>"


def _foot(result: dict[str, Any]) -> str:
    spec, training = result["spec"], result["training"]
    lines = [
        f"{spec['variant']}, {spec['image_size']} pixels, temperature {spec['temperature']:.3f}, "
        f"test-time augmentation: {result['tta']}",
        f"data {result['data_fingerprint'][:16]}, landmarks: {spec['landmark_model']}",
        *result["notes"],
    ]
    if training and not training.get("averaged"):
        why = "the last" if result.get("kept") == "last" else "chosen on the validation part"
        # Without a validation part there is no score.
        score = f" ({_percent(training['best_score'])} %)" if training["best_score"] >= 0 else ""
        lines.append(
            f"trained {training['epoch']} epochs in {training['seconds'] / 60:.0f} minutes; kept epoch "
            f"{training['best_epoch']}, {why}{score}"
        )
    return f"<p class=small>{'<br>'.join(html.escape(line) for line in lines)}</p>"


def _picture(figure: Any) -> str:
    titles = [axes.get_title() for axes in figure.axes]
    return f"<img alt='{html.escape(titles[0])}' src='{figures.data_uri(figures.to_svg(figure), 'image/svg+xml')}'>"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(interval: list[float] | None) -> str:
    return "unknown: too few" if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}"
