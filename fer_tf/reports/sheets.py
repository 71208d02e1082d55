"""Sheets by expression and pose: a face of each kind with its mask, and mean saliency maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.data.folder import DataFolder
from fer_tf.data.preprocess import preprocess
from fer_tf.data.schema import tag_of
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.labels import TASKS
from fer_tf.reports.figures import data_uri
from fer_tf.run_folder import RunFolder

Kind = tuple[str, str]
# Rows of the sheet of faces; more would not be looked at.
SHEET_EXPRESSIONS = 16
THUMBNAIL = 96


@dataclass(frozen=True)
class SheetFace:
    """One face of the sheet; `image` and `mask` are `data:` addresses."""

    image_id: str
    expression: str
    pose: str
    image: str
    mask: str


@dataclass(frozen=True)
class Sheet:
    """Fig. 4: a face and its mask for each expression and pose.

    Attributes:
      text: what it shows; without rows, what it would need.
      poses: the columns.
      rows: an expression and its faces, one a pose; None where there is none.
    """

    text: str
    poses: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[SheetFace | None, ...]], ...] = ()


def sheet(faces: Iterable[SheetFace], expressions: Sequence[str], poses: Sequence[str]) -> Sheet:
    """Returns the sheet of some faces.

    Args:
      faces: at most one of each expression and pose.
      expressions: those of the data, of which the first are shown.
      poses: those of the data.
    """
    found = {(face.expression, face.pose): face for face in faces}
    names = [name for name in expressions if any(expression == name for expression, _ in found)]
    rows = tuple((name, tuple(found.get((name, pose)) for pose in poses)) for name in names[:SHEET_EXPRESSIONS])
    hidden = max(len(expressions) - SHEET_EXPRESSIONS, 0)
    left = f" {hidden} more expressions are not shown." if hidden else ""
    text = f"A face of every expression in every pose, eyes level, beside the mask that FaPE-GAN aims at.{left}"
    return Sheet(text, tuple(poses), rows)


def sheet_face(image_id: str, expression: str, pose: str, image: bytes, mask: bytes) -> SheetFace:
    """Returns a record's face as the sheet shows it, from the encoded image and mask."""
    return SheetFace(
        image_id, expression, pose, _thumbnail(image, "jpeg", channels=3), _thumbnail(mask, "png", channels=1)
    )


def first_faces(data: str, expressions: Sequence[str], poses: Sequence[str]) -> list[SheetFace]:
    """Returns the first real face of each expression and pose.

    Args:
      data: the data folder.
      expressions, poses: what is wanted; a kind that no record has is left out.
    """
    wanted = {(expression, pose) for expression in expressions for pose in poses}
    return [
        sheet_face(image_id, *kind, image, mask)
        for kind, [(image, mask, image_id)] in _first_of(data, wanted, 1).items()
    ]


def _thumbnail(encoded: bytes, form: str, channels: int) -> str:
    import cv2

    image = media.decode(encoded, channels)
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return data_uri(media.encode_png(small) if form == "png" else media.encode_jpeg(small), f"image/{form}")


def mean_saliency(
    run_dir: str,
    task: str,
    data: str,
    poses: Sequence[str],
    count: int,
    method: str = "layercam",
    expressions: Sequence[str] = (),
) -> tuple[list[tuple[str, list[np.ndarray | None]]], list[str]]:
    """Returns rows of overlays, one row an expression and one column a pose, and the columns' names.

    Args:
      run_dir: folder of a finished run.
      task: its task, whose test part is shown.
      data: the data folder that it was trained on.
      poses: the data's poses; an empty one is an unknown one.
      count: test faces of each expression and pose.
      method: one of `fer_tf.evaluation.saliency.METHODS`.
      expressions: those to show; empty for all.

    Raises:
      InputError: when the test part has no such face.
    """
    from fer_tf.evaluation import saliency
    from fer_tf.models import fa_net

    model, spec = fa_net.load(RunFolder(run_dir).fa_net.path)
    wanted = {(expression, pose) for expression in expressions or spec.expressions for pose in poses}
    found = _first_of(data, wanted, count, task)
    if not found:
        raise InputError(f"the test part of {task!r} in {data!r} has no face of {sorted(wanted)[:4]}.")
    kinds = sorted(found, key=lambda kind: (spec.expressions.index(kind[0]), kind[1]))
    groups = [[media.decode(image)[None] for image, *_ in found[kind]] for kind in kinds]
    # One by one: the pictures of a public set have different sizes, and are cut as others cut them.
    window = spec.window(aligned=task in TASKS)
    inputs = [
        np.concatenate([preprocess(face, spec.image_size, spec.channels, window) for face in group]) for group in groups
    ]
    classes = [spec.expressions.index(kind[0]) for kind, group in zip(kinds, inputs, strict=True) for _ in group]
    maps = saliency.saliency_maps(model, np.concatenate(inputs), classes, method)
    overlays, start = {}, 0
    for kind, group in zip(kinds, inputs, strict=True):
        mean = maps[start : start + len(group)].mean(0)
        overlays[kind] = saliency.overlay(group.mean(0), mean / max(float(mean.max()), 1e-9))
        start += len(group)
    columns = [pose for pose in poses if any(kind[1] == pose for kind in kinds)]
    names = [name for name in spec.expressions if any(kind[0] == name for kind in kinds)]
    rows = [(name, [overlays.get((name, pose)) for pose in columns]) for name in names]
    return rows, [pose.replace("_", " ") for pose in columns]


def _first_of(data: str, wanted: set[Kind], count: int, task: str = "") -> dict[Kind, list[tuple[Any, ...]]]:
    """Image, mask and id of the first real faces of each kind, of a task's test part when one is named."""
    data_folder = DataFolder(data)
    tag, drawn = (tag_of(task), data_folder.tags(task)) if task else ("", None)
    found: dict[Kind, list[tuple[Any, ...]]] = {}
    missing = {kind: count for kind in wanted}
    for face in data_folder.faces():
        kind = face.expression, face.pose
        part = "" if not tag else getattr(face, tag) if drawn is None else drawn.get(face.image_id, "")
        if face.synthetic or kind not in missing or (tag and part != "test"):
            continue
        found.setdefault(kind, []).append((face.image, face.mask, face.image_id))
        missing[kind] -= 1
        if not missing[kind]:
            del missing[kind]
        if not missing:
            break
    return found
