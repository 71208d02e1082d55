"""A data folder or a public set as the report and `look` need it: its labels, poses, counts and fingerprint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.data import public
from fer_tf.data.inputs import DATASET_FILE, FaceSet
from fer_tf.data.statistics import POSE_LETTERS
from fer_tf.errors import InputError
from fer_tf.reports.paper_tables import SET_NAMES


@dataclass(frozen=True)
class Corpus:
    """What is known of some data.

    Attributes:
      data: where it is.
      name: what Table 1 calls it.
      summary: dataset.json, or of a public set the same fields as far as they are known.
      faces: a public set's faces; None for a data folder.
      task: which public set, or empty.
    """

    data: str
    name: str
    summary: dict[str, Any] = field(repr=False)
    faces: FaceSet | None = field(default=None, repr=False)
    task: str = ""

    @property
    def fingerprint(self) -> str:
        return self.summary["fingerprint"]

    def fingerprint_of(self, flags: dict[str, Any]) -> str:
        """Returns the fingerprint that this data has for a run with these flags, which may split it otherwise."""
        share = flags.get("held_out", public.HELD_OUT)
        if self.task != "fer2013" or flags.get("task") != self.task or share == public.HELD_OUT:
            return self.fingerprint
        return public.read(self.task, self.data, share).fingerprint

    @property
    def statistics(self) -> dict[str, Any]:
        return self.summary["statistics"]


def read_corpus(data: str, tasks: Sequence[str] = ()) -> Corpus | None:
    """Returns a data folder, or a public set in one of its published layouts; None when there is neither.

    Args:
      data: a data folder of beam_pipelines.build, or a public set's folder or file.
      tasks: the public sets that it may be; all when empty.

    Raises:
      InputError: when a dataset.json cannot be read, or when `tasks` names one public set and the data is not that.
    """
    path = Path(data, DATASET_FILE)
    if path.exists():
        return Corpus(data, "this corpus", _read(path))
    if not Path(data).exists():
        return None
    if Path(data).is_file():
        # The one set that is a file; another's reader would hide what is wrong with it.
        tasks = tasks or ("fer2013",)
    for task in tasks or SET_NAMES:
        try:
            return _public(task, data)
        except InputError:
            if len(tasks) == 1:
                raise
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; run beam_pipelines.build again.") from None
    if "statistics" not in summary:
        raise InputError(f"{path} has no `statistics`; run beam_pipelines.build again.")
    return summary


def _public(task: str, data: str) -> Corpus:
    import cv2

    faces = public.read(task, data)
    labels, poses, persons = (
        np.concatenate([getattr(part, name) for part in faces.parts.values()])
        for name in ("labels", "poses", "persons")
    )
    known = [pose for pose in POSE_LETTERS if (poses == pose).any()]
    counts = np.bincount(labels, minlength=len(faces.expressions)).tolist()
    height, width = cv2.imdecode(np.frombuffer(faces.parts["train"].images[0], np.uint8), cv2.IMREAD_GRAYSCALE).shape
    row = {
        "expressions": sum(count > 0 for count in counts),
        "subjects": len(set(persons.tolist()) - {""}) or None,
        "poses": len(known) or None,
        "images": len(labels),
        "sequences": None,
        "resolution": f"{height} × {width}",
        "pose_list": ", ".join(POSE_LETTERS[pose] for pose in known) or "-",
    }
    statistics = {
        "table_1": row,
        "images_per_expression": dict(zip(faces.expressions, counts, strict=True)),
        "images_per_pose": {pose: int((poses == pose).sum()) for pose in known},
        "subjects_per_pose": {pose: len(set(persons[poses == pose].tolist()) - {""}) for pose in known},
    }
    summary = {
        "fingerprint": faces.fingerprint,
        "expressions": list(faces.expressions),
        # Faces of unknown pose are one kind.
        "poses": known or [""],
        "statistics": statistics,
    }
    return Corpus(data, f"{SET_NAMES[task]}, as found", summary, faces, task)
