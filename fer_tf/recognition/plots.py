"""Results for the eye: a picture with its faces, the course of a clip, and a notebook's first look."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from contextlib import closing

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_tf import files
from fer_tf.faces import media
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.faces.media import Frame
from fer_tf.recognition.drawing import annotate
from fer_tf.recognition.face import Face
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.sources import Source, pictures_of

# Eight colours that a white page shows well; more expressions take them again.
COLOURS = "Dark2"
MOST_PERSONS = 6


class Plot(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return file.getvalue()


def plot(source: Source, faces: Sequence[Face], extractor: FaceExtractor | GivenFaces) -> Plot:
    """Returns a picture with its faces drawn in, or each person's expressions over a clip's time."""
    with closing(pictures_of(source, extractor)) as pictures:
        first = next(pictures)
        return _picture(source.name, first.frame(), faces) if first.still else _course(source.name, faces)


def _picture(name: str, frame: Frame, faces: Sequence[Face]) -> Plot:
    drawn = annotate(frame.rgb, [(face.number, face.box * frame.shrink, face.answer) for face in faces])
    height, width = frame.rgb.shape[:2]
    figure = Plot(figsize=(5 * min(1, width / height), 5 * min(1, height / width)))
    axes = figure.subplots()
    axes.imshow(drawn)
    axes.set_axis_off()
    axes.set_title(f"{_title(name)}: {len(faces)} face{'s' if len(faces) != 1 else ''}", fontsize=9)
    return figure


def _course(name: str, faces: Sequence[Face]) -> Plot:
    persons = sorted({face.number for face in faces}, key=lambda number: -sum(face.number == number for face in faces))
    shown = sorted(persons[:MOST_PERSONS])
    figure = Plot(figsize=(9, 1 + 2 * max(1, len(shown))), layout="constrained")
    figure.suptitle(f"{_title(name)}: {len(persons)} person{'s' if len(persons) != 1 else ''}", fontsize=9)
    if not shown:
        return figure
    expressions = faces[0].answer.expressions
    colours = matplotlib.colormaps[COLOURS].colors  # type: ignore[attr-defined]
    for axes, number in zip(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0], shown, strict=True):
        own = [face for face in faces if face.number == number]
        times = [face.time for face in own]
        for index, expression in enumerate(expressions):
            shares = [face.answer.probabilities[index] for face in own]
            axes.plot(times, shares, label=expression, color=colours[index % len(colours)], linewidth=1.6)
        if own[0].answer.unsure_below:
            axes.axhline(own[0].answer.unsure_below, color="grey", linestyle=":", linewidth=1, label="unsure below")
        axes.set_ylim(0, 1)
        axes.set_ylabel(f"face {number}")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    return figure


def as_html(title: str, faces: Sequence[Face], crops: Sequence[np.ndarray]) -> str:
    """Returns the first faces with their expressions, for a notebook."""
    cells = "".join(_cell(face, crop) for face, crop in zip(faces, crops, strict=False))
    return f"<div><div>{html.escape(title)}</div><div style='display:flex;flex-wrap:wrap;gap:8px'>{cells}</div></div>"


def _cell(face: Face, crop: np.ndarray) -> str:
    best = "<br>".join(f"{html.escape(name)} {100 * share:.0f}&nbsp;%" for name, share in face.answer.best(2))
    best = f"unsure: {best}" if face.unsure else best
    name = _title(face.input)
    where = html.escape(f"{name} {face.time:.2f} s" if face.frame else name)
    return (
        f"<div style='width:112px;font-size:11px;overflow-wrap:anywhere'><img width='112' src='{_as_url(crop)}'>"
        f"<br><b>{best}</b><br>{where}</div>"
    )


def _title(name: str) -> str:
    return files.printable(os.path.basename(name))


def _as_url(crop: np.ndarray) -> str:
    import cv2

    small = cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA)
    return f"data:image/jpeg;base64,{base64.b64encode(media.encode_jpeg(small)).decode()}"
