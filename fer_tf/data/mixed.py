"""Several sets under one vocabulary: what is trained on together, with declared mappings of their labels.

    faces = mixed.read("ferplus=/sets/ferplus,er_ss=data/faces", mapping="er_ss.laughing=happy,er_ss.thinking=-")

The classes are the first set's, then what the others add. A set that lacks a class says nothing about it: neither do
its faces pull at that class in training, nor are they answered with it when the set is scored.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from fer_tf.data import public
from fer_tf.data.inputs import FaceSet, read_records
from fer_tf.data.parts import joined, renamed
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import SPLITS, TASKS

NAME = "mixed"
LEFT_OUT = "-"


def read(data: str, mapping: str = "", weights: str = "", held_out: float = public.HELD_OUT) -> FaceSet:
    """Returns several sets' faces as one.

    Args:
      data: `task=path` for each set, with commas; a task is a public set's or one of a data folder's.
      mapping: `task.label=name` for each label that is to have another name, or `-` for one whose faces are left out.
      weights: `task=number`, how often a set's faces are seen in an epoch where that is not once.
      held_out: as for `public.read`.

    Raises:
      InputError: an unknown task or label, or what a set's own reader raises.
    """
    paths = paths_of(data)
    if len(paths) < 2:
        raise InputError(f"`data` must name two sets or more, such as ferplus=PATH,jaffe=PATH. Received: {data!r}.")
    sets = {task: read_set(task, path, held_out) for task, path in paths.items()}
    _refuse_same_data(sets)
    names = names_of(sets, entries("mapping", mapping))
    times = _weights(sets, entries("set_weights", weights))
    expressions = tuple(dict.fromkeys(name for new in names.values() for name in new if name != LEFT_OUT))
    classes = {
        task: [-1 if name == LEFT_OUT else expressions.index(name) for name in new] for task, new in names.items()
    }
    # A network is to see one framing: pictures that show more around the face are cut to the tightest set's.
    tightest = min(faces.picture_share for faces in sets.values())
    kept = {task: tightest / faces.picture_share for task, faces in sets.items()}
    parts = {
        split: joined(
            [
                renamed(faces.parts[split], classes[task], len(expressions), task, times[task], kept[task])
                for task, faces in sets.items()
            ]
        )
        for split in SPLITS
    }
    notes = {task: _notes(faces, names[task], times[task]) for task, faces in sets.items()}
    about = [[task, faces.fingerprint, names[task], times[task]] for task, faces in sets.items()]
    aligned = sorted({faces.landmark_model for faces in sets.values()} - {"none"})
    return FaceSet(
        expressions=expressions,
        parts=parts,
        fingerprint=hashlib.sha256(json.dumps(about).encode()).hexdigest(),
        landmark_model=" and ".join(aligned) or "none",
        notes=tuple(f"{task}: {note}" for task, own in notes.items() for note in own),
        val_of_training=any(faces.val_of_training for faces in sets.values()),
        picture_share=tightest,
        may_repeat=True,
        set_classes={task: tuple(sorted(set(new) - {-1})) for task, new in classes.items()},
    )


def _refuse_same_data(sets: dict[str, FaceSet]) -> None:
    """Refuses one corpus under two of its tasks: what the one trains on the other tests."""
    first: dict[str, str] = {}
    for task, faces in sets.items():
        if task in TASKS and faces.fingerprint in first:
            raise InputError(
                f"`data` gives the same faces to {first[faces.fingerprint]} and {task}, whose parts are others: what "
                "one trains on the other tests. Name a data folder once."
            )
        first[faces.fingerprint] = task


def read_set(
    task: str, data: str, held_out: float = public.HELD_OUT, needs: tuple[str, ...] = ("train", "test")
) -> FaceSet:
    """Returns the faces of one public set, or of a data folder for a task; `needs` as for `read_records`."""
    return read_records(data, task, needs=needs) if task in TASKS else public.read(task, data, held_out, needs)


def paths_of(data: str) -> dict[str, str]:
    """Returns the path of each set that `task=path` with commas names; raises InputError for an unknown task."""
    paths = entries("data", data)
    for task in paths:
        if task not in (*public.NAMES, *TASKS):
            raise not_one_of("data", task, (*public.NAMES, *TASKS))
    return paths


def entries(field: str, text: str) -> dict[str, str]:
    """Returns `key=value` pairs with commas as a dict; raises InputError for anything else, or a key given twice."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = entry.partition("=")
        if not separator or not key or not value or key in found:
            raise InputError(
                f"`{field}` must be key=value, with commas, each key once. Received: {entry!r} in {text!r}."
            )
        found[key] = value
    return found


def names_of(sets: dict[str, FaceSet], mapping: dict[str, str]) -> dict[str, list[str]]:
    """Returns each set's labels under the names that a mapping gives them (see `read`)."""
    labels = {f"{task}.{label}": (task, label) for task, faces in sets.items() for label in faces.expressions}
    for key in mapping:
        if key not in labels:
            raise not_one_of("mapping", key, labels)
    return {
        task: [mapping.get(f"{task}.{label}", label) for label in faces.expressions] for task, faces in sets.items()
    }


def _weights(sets: dict[str, FaceSet], weights: dict[str, str]) -> dict[str, float]:
    for task, text in weights.items():
        if task not in sets:
            raise not_one_of("set_weights", task, sets)
        try:
            good = 0 < float(text) < np.inf
        except ValueError:
            good = False
        if not good:
            raise InputError(f"`set_weights` of {task} must be a number above 0. Received: {text!r}.")
    return {task: float(weights.get(task, 1.0)) for task in sets}


def _notes(faces: FaceSet, names: list[str], weight: float) -> list[str]:
    renames = [
        f"{old} is {new}" for old, new in zip(faces.expressions, names, strict=True) if new not in (old, LEFT_OUT)
    ]
    left = [old for old, new in zip(faces.expressions, names, strict=True) if new == LEFT_OUT]
    counts = ", ".join(f"{len(part):,} {split}" for split, part in faces.parts.items())
    seen = "" if weight == 1 else f", seen {weight:g} times an epoch"
    return [
        f"{counts} faces{seen}",
        *faces.notes,
        *(["; ".join(renames)] if renames else []),
        *([f"left out: {', '.join(left)}"] if left else []),
    ]


def answerable(faces: FaceSet, split: str, logits: np.ndarray) -> np.ndarray:
    """Returns logits in which no face is answered with a class that its set does not have.

    Args:
      faces: one set or several.
      split: the part that was answered.
      logits: float32 (N, num_classes), in the part's order.
    """
    if not faces.set_classes:
        return logits
    known = np.zeros(logits.shape, bool)
    sets = faces.parts[split].sets
    for task, classes in faces.set_classes.items():
        known[np.ix_(sets == task, classes)] = True
    return np.where(known, logits, np.float32(-1e9))
