"""metrics.json as one self-contained HTML page: the headline, the figures, the break-downs."""

from __future__ import annotations

import html
from typing import Any

from fer_tf.evaluation import figures

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } caption { text-align: left; font-weight: 600; }
td, th { padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } img { max-width: 100%; } .small { color: #555; font-size: .9rem; }
"""
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
    title = f"Fa-Net on {result['task']}, recipe {result['recipe']}"
    parts = [f"<h1>{html.escape(title)}</h1>", _headline(result), _scores(result)]
    if test.get("faces"):
        names = [name for name, row in test["by_class"].items()]
        parts.append(_picture(figures.confusion_matrix(test["confusion"], names, "Confusion, test part, %")))
        rows = test["calibration"]["calibrated"]["reliability"]
        columns = [[row[name] for row in rows] for name in ("confidence", "accuracy", "count")]
        parts.append(_picture(figures.reliability_diagram(*columns, title="Reliability, test part, calibrated")))
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
    return (
        f"{unfinished}<p><b>{_percent(test['accuracy'])}</b> of {test['faces']:,} test faces are right "
        f"(95 % bootstrap interval {_interval(test['accuracy_interval'])}, drawn over {test['interval_over']}). "
        f"Chance is {_percent(test['chance'])}, always the most frequent class {_percent(test['majority'])}.</p>"
    )


def _scores(result: dict[str, Any]) -> str:
    rows = []
    for name in ("val", "test", "test_without_equal_copies", "test_without_near_copies"):
        split = result.get(name, {})
        if split.get("faces"):
            calibration = split["calibration"]
            values = [split["accuracy"], split["mean_class_accuracy"], split["macro_f1"]]
            errors = [calibration["uncalibrated"]["ece"], calibration["calibrated"]["ece"]]
            cells = "".join(f"<td>{_percent(value)}</td>" for value in values + errors)
            rows.append(f"<tr><td>{name.replace('_', ' ')}</td><td>{split['faces']:,}</td>{cells}</tr>")
    head = "<tr><th>part<th>faces<th>accuracy<th>mean class<th>macro F1<th>ECE<th>ECE calibrated</tr>"
    return f"<table><caption>Scores</caption>{head}{''.join(rows)}</table>"


def _breakdown(rows: dict[str, dict[str, Any]], caption: str) -> str:
    body = []
    for name, row in rows.items():
        accuracy = "no face" if row["accuracy"] is None else _percent(row["accuracy"])
        body.append(
            f"<tr><td>{html.escape(name)}<td>{row['faces']:,}<td>{accuracy}<td>{_interval(row['interval'])}</tr>"
        )
    head = "<tr><th><th>faces<th>accuracy<th>95 % interval</tr>"
    return f"<table><caption>{caption}</caption>{head}{''.join(body)}</table>"


def _foot(result: dict[str, Any]) -> str:
    spec, training = result["spec"], result["training"]
    lines = [
        f"{spec['variant']}, {spec['image_size']} pixels, temperature {spec['temperature']:.3f}, "
        f"test-time augmentation: {result['tta']}",
        f"data {result['data_fingerprint'][:16]}, landmarks: {spec['landmark_model']}",
        *result["notes"],
    ]
    if training:
        lines.append(
            f"trained {training['epoch']} epochs in {training['seconds'] / 60:.0f} minutes; kept epoch "
            f"{training['best_epoch']}, chosen on the validation part ({_percent(training['best_score'])})"
        )
    return f"<p class=small>{'<br>'.join(html.escape(line) for line in lines)}</p>"


def _picture(figure: Any) -> str:
    return f"<img alt='' src='{figures.data_uri(figures.to_svg(figure), 'image/svg+xml')}'>"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(interval: list[float] | None) -> str:
    return "unknown: too few" if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}"
