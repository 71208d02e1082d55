"""The paper's figures and the ones that a report needs, as matplotlib Figures without global state.

Every figure is about 5 inches wide, so that its text is still readable when a phone shows it at full width, and uses
the Okabe-Ito colours or a single-hue scale, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_tf.errors import InputError

# Okabe and Ito's set, without its yellow, which is too light on white paper.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.0
FONT = 9
# Above this many classes a cell's number is too small to be read.
MAX_NUMBERED_CLASSES = 12


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Returns the figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """Returns the figure as SVG bytes, the same for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fer_tf"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_rgb(figure: Figure, dpi: int = 120) -> np.ndarray:
    """Returns the figure as pixels, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def data_uri(content: bytes, media_type: str) -> str:
    """Returns bytes as a `data:` address, for pages that stand alone."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def images_per_expression(images: Mapping[str, int], title: str = "Images per expression") -> Figure:
    """Fig. 2: one bar per expression, the most frequent on top.

    Args:
      images: number of images by expression; zero counts are drawn too.
      title: heading.
    """
    _need(images, "images")
    names = sorted(images, key=lambda name: (images[name], name))
    values = [images[name] for name in names]
    figure, axes = _figure(0.9 + 0.19 * len(names))
    axes.barh(range(len(names)), values, color=COLOURS[0], height=0.75)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(0, max(max(values), 1) * 1.15)
    for position, value in enumerate(values):
        axes.text(value, position, f" {value:,}", va="center", ha="left", fontsize=FONT - 1)
    axes.set_xlabel("images")
    axes.set_title(title, fontsize=FONT + 1)
    return figure


def subjects_and_images_per_pose(
    images: Mapping[str, int], subjects: Mapping[str, int], title: str = "Subjects and images per pose"
) -> Figure:
    """Fig. 3(b): subjects (left) and images (right) by pose.

    Args:
      images: number of images by pose.
      subjects: number of different persons by pose; the same poses.
      title: heading.
    """
    _need(images, "images")
    figure = Figure(figsize=(WIDTH, 1.1 + 0.26 * len(images)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    poses = list(images)[::-1]
    for axes, values, colour, label in (
        (left, [subjects.get(pose, 0) for pose in poses], COLOURS[1], "subjects"),
        (right, [images[pose] for pose in poses], COLOURS[0], "images"),
    ):
        _style(axes)
        axes.barh(range(len(poses)), values, color=colour, height=0.7)
        axes.set_xlim(0, max(max(values), 1) * 1.35)
        for position, value in enumerate(values):
            axes.text(value, position, f" {value:,}", va="center", fontsize=FONT - 1)
        axes.set_xlabel(label, fontsize=FONT)
        axes.locator_params(axis="x", nbins=4, integer=True)
    left.set_yticks(range(len(poses)), [pose.replace("_", " ") for pose in poses])
    figure.suptitle(title, fontsize=FONT + 1)
    return figure


def picture_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray | None]]],
    columns: Sequence[str] = (),
    title: str = "",
    cell: int = 96,
) -> Figure:
    """Figs. 4 and 6: a sheet of pictures with a label per row and per column.

    Args:
      rows: (label, pictures) per row; pictures are uint8 (H, W), (H, W, 1) or (H, W, 3); None leaves a cell empty.
      columns: labels of the columns; may be empty.
      title: heading.
      cell: side of a picture, pixels.
    """
    import cv2

    _need(rows, "rows")
    width = max(len(pictures) for _, pictures in rows)
    gap = 4
    sheet = np.full((len(rows) * (cell + gap), width * (cell + gap), 3), 255, np.uint8)
    for row, (_, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            if picture is None:
                continue
            squeezed = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
            rgb = np.repeat(squeezed[..., None], 3, -1) if squeezed.ndim == 2 else squeezed
            top, start = row * (cell + gap), column * (cell + gap)
            resized = cv2.resize(rgb, (cell, cell), interpolation=cv2.INTER_AREA)
            sheet[top : top + cell, start : start + cell] = resized
    # Placed by hand: the constrained layout cuts long labels beside a picture of fixed shape.
    label_width = 0.1 + max(_text_width(label, FONT - 1) for label, _ in rows)
    picture_width = WIDTH - label_width - 0.05
    picture_height = picture_width * sheet.shape[0] / sheet.shape[1]
    above = (0.28 if title else 0.03) + (0.22 if any(columns) else 0)
    height = picture_height + above + 0.05
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((label_width / WIDTH, 0.05 / height, picture_width / WIDTH, picture_height / height))
    axes.imshow(sheet, interpolation="antialiased", aspect="auto")
    axes.set_yticks(np.arange(len(rows)) * (cell + gap) + cell / 2, [label for label, _ in rows], fontsize=FONT - 1)
    axes.set_xticks([])
    if any(columns):
        widest = max(_text_width(str(name), FONT - 1) for name in columns)
        size = (FONT - 1) * min(1.0, 0.9 * picture_width / width / widest)
        axes.set_xticks(np.arange(len(columns)) * (cell + gap) + cell / 2, columns, fontsize=size)
        axes.xaxis.tick_top()
    axes.tick_params(length=0)
    _style(axes, spines=False, labels=False)
    if title:
        figure.suptitle(title, fontsize=FONT + 1, y=1 - 0.04 / height, va="top")
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Figs. 7 and 8: share of each true class (row) that was given each label (column), in per cent.

    Args:
      counts: int (K, K), images by true class (row) and predicted class (column).
      names: the K class names.
      title: heading.

    Raises:
      InputError: when the matrix is not K x K.
    """
    counts = np.asarray(counts, float)
    if counts.shape != (len(names), len(names)):
        raise InputError(f"`counts` must be {len(names)} x {len(names)}. Received: {counts.shape}.")
    totals = counts.sum(1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure, axes = _figure(WIDTH * 0.95)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    few = len(names) <= MAX_NUMBERED_CLASSES
    size = FONT if len(names) <= 8 else FONT - 2 if few else max(3, FONT - len(names) // 9)
    labels = [f"{name} ({int(total)})" if few else name for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 5 else 0, fontsize=size)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    if few:
        for row, column in np.argwhere(totals[:, 0][:, None] * np.ones_like(share) > 0):
            value = share[row, column]
            colour = "white" if value > 0.5 else "black"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)" if few else "true")
    axes.grid(False)
    axes.set_title(title, fontsize=FONT + 1)
    return figure


def reliability_diagram(rows: Sequence[Mapping[str, float]], title: str = "Reliability") -> Figure:
    """Accuracy against confidence by bin; the diagonal is perfect calibration.

    Args:
      rows: the bins that hold faces, as `fer_tf.evaluation.calibration.reliability` gives them.
      title: heading.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    low, high, count, confidence, accuracy = (
        np.array([row[name] for row in rows]) for name in ("low", "high", "count", "confidence", "accuracy")
    )
    for axes in (upper, lower):
        _style(axes)
    upper.plot([0, 1], [0, 1], "--", color="0.4", label="perfect")
    upper.plot(confidence, accuracy, "o-", color=COLOURS[0], label="this run")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(fontsize=FONT, frameon=False, loc="upper left")
    upper.set_title(title, fontsize=FONT + 1)
    lower.bar((low + high) / 2, count, width=0.9 * (high - low), color=COLOURS[1])
    lower.set(xlabel="confidence", ylabel="images")
    return figure


def expression_groups(
    points: np.ndarray, groups: Sequence[int], names: Sequence[str], title: str = "Expressions in groups"
) -> Figure:
    """Fig. 1(b): the expressions in a plane, coloured and marked by group.

    Args:
      points: float (K, 2), one point per expression.
      groups: the group of each expression, from 0.
      names: the K expressions.
      title: heading.
    """
    figure, axes = _figure(4.2)
    groups = np.asarray(groups)
    for group in np.unique(groups):
        chosen = np.flatnonzero(groups == group)
        colour, marker = COLOURS[group % len(COLOURS)], MARKERS[group % len(MARKERS)]
        axes.scatter(*points[chosen].T, color=colour, marker=marker, s=36, label=f"group {group + 1}")
    size = FONT if len(names) <= 20 else FONT - 3
    for name, point, (dx, dy) in zip(names, points, _label_places(points, names, size), strict=True):
        anchor = {1: "left", -1: "right", 0: "center"}[int(np.sign(dx))]
        place = {"xytext": (dx, dy), "textcoords": "offset points", "ha": anchor, "va": "center"}
        axes.annotate(name, point, fontsize=size, **place)
    axes.margins(0.15)
    axes.set(xlabel="first principal component of the eye features", ylabel="second")
    axes.legend(fontsize=FONT - 1, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes.set_title(title, fontsize=FONT + 1)
    return figure


def _label_places(points: np.ndarray, names: Sequence[str], size: float) -> list[tuple[float, float]]:
    """Offsets in points at which each name covers the fewest others, tried around its mark one name after another."""
    span = np.ptp(points, axis=0)
    # Roughly the axes' size in points, of which the marks fill 1 / 1.3.
    centres = (points - points.min(0)) / np.where(span > 0, span, 1) * (240, 190)
    taken = [(*centre - 4, *centre + 4) for centre in centres]
    places = []
    for centre, name in zip(centres, names, strict=True):
        width, height = 72 * _text_width(name, size), size + 1
        boxes = []
        for dx, dy in ((0, 10), (0, -10), (7, 0), (-7, 0), (6, 9), (-6, 9), (6, -9), (-6, -9)):
            left = centre[0] + dx - width * (0.5 if dx == 0 else float(dx < 0))
            box = (left, centre[1] + dy - height / 2, left + width, centre[1] + dy + height / 2)
            boxes.append((sum(_overlap(box, other) for other in taken), (dx, dy), box))
        _, place, box = min(boxes, key=lambda entry: entry[0])
        taken.append(box)
        places.append(place)
    return places


def _overlap(a: tuple, b: tuple) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def rates_with_intervals(
    names: Sequence[str], rates: Sequence[float], lows: Sequence[float], highs: Sequence[float], title: str
) -> Figure:
    """One dot per name with its interval, in per cent: accuracy per class, pose or person."""
    figure, axes = _figure(0.9 + 0.22 * len(names))
    y = np.arange(len(names))[::-1]
    rates, lows, highs = (100 * np.asarray(values, float) for values in (rates, lows, highs))
    axes.hlines(y, lows, highs, color=COLOURS[5], linewidth=4)
    axes.plot(rates, y, "o", color=COLOURS[0], markersize=5)
    axes.set_yticks(y, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("% right")
    axes.set_title(title, fontsize=FONT + 1)
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _text_width(text: str, size: float) -> float:
    """Width of a text, inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=size, prop=FontProperties()).get_extents().width / 72 if text.strip() else 0.0


def _style(axes: Axes, spines: bool = True, labels: bool = True) -> None:
    if labels:
        axes.tick_params(labelsize=FONT)
    axes.xaxis.label.set_fontsize(FONT)
    axes.yaxis.label.set_fontsize(FONT)
    for name, spine in axes.spines.items():
        spine.set_visible(spines and name in ("left", "bottom"))


def _need(values: Sequence | Mapping, field: str) -> None:
    if not len(values):
        raise InputError(f"`{field}` is empty: there is nothing to draw.")
