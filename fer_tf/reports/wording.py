"""How numbers are said on a page, in a card and in a log line: shares in per cent, intervals or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def percent(share: float) -> str:
    """Returns a share, 0 to 1, in per cent with one digit, without the sign: `66.7`."""
    return f"{100 * share:.1f}"


def between(interval: Sequence[float] | None) -> str:
    """Returns an interval of shares in per cent, `61.2 to 71.5`; `unknown` when it could not be had."""
    return "unknown: too few" if unknown(interval) else f"{percent(interval[0])} to {percent(interval[1])}"


def brackets(low: float, high: float, over: str, sign: str = "") -> str:
    """Returns an interval of percentages or points, `[40.0, 90.0]`, or why there is none.

    Args:
      low, high: its ends; nan when it could not be had.
      over: what the bootstrap drew, `persons` or `faces`.
      sign: `+` writes the sign of positive numbers too.
    """
    if unknown((low, high)):
        return f"no interval: fewer than two {over}"
    return f"[{low:{sign}.1f}, {high:{sign}.1f}]"


def accuracy(share: float, interval: Sequence[float] | None, over: str) -> str:
    """Returns an accuracy with its interval: `66.7 % (61.2 to 71.5)`, or the words that say why it has none."""
    known = f"no interval: fewer than two {over}" if unknown(interval) else between(interval)
    return f"{percent(share)} % ({known})"


def accuracy_of(scores: Mapping[str, Any]) -> str:
    """Returns `accuracy` of what `fer_tf.evaluation` scored."""
    return accuracy(scores["accuracy"], scores["accuracy_interval"], scores["interval_over"])


def mean_class_of(scores: Mapping[str, Any]) -> str:
    """Returns the mean over the classes in the same words; alone where scores of before 0.2 have no interval of it."""
    if "mean_class_accuracy_interval" not in scores:
        return f"{percent(scores['mean_class_accuracy'])} %"
    return accuracy(scores["mean_class_accuracy"], scores["mean_class_accuracy_interval"], scores["interval_over"])


def taken_off(row: Mapping[str, Any]) -> str:
    """Returns what `fer_tf.evaluation.across.score_relative` took off in words: `half of the mean of all faces`."""
    part = {0.5: "half of ", 1.0: ""}.get(row["strength"], f"{row['strength']:g} of ")
    return f"{part}the mean of {row['to']}"


def unknown(interval: Sequence[float] | None) -> bool:
    """Whether an interval could not be had: too few persons or faces to draw from."""
    return interval is None or any(math.isnan(end) for end in interval)


def duration(seconds: float) -> str:
    """Returns a time as one number with its unit: `8.3 s`, `12 min`, `7.6 h`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
