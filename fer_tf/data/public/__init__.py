"""The public sets: one file for each, which says how its published layout is read.

To add a set, add a file here that defines `SET` (see `fer_tf.data.public_set.PublicSet`); its name becomes a `--task`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

from fer_tf.data.convert import records_of
from fer_tf.data.folder import DataFolder
from fer_tf.data.inputs import FaceSet, read_records
from fer_tf.data.public_set import PublicSet
from fer_tf.errors import not_one_of

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
# Share of a training part that is held out to choose weights and fit the temperature, where a set has no such part.
HELD_OUT = 0.05
MAX_HELD_OUT = 0.5


def public_set(name: str) -> PublicSet:
    """Returns a public set; raises InputError when there is none of that name."""
    if name not in NAMES:
        raise not_one_of("task", name, NAMES)
    return importlib.import_module(f"{__name__}.{name}").SET


def pictures_of(task: str) -> str:
    """Returns the task whose pictures a task shows: another public set's, or its own; of any other task itself."""
    return (public_set(task).pictures_of if task in NAMES else "") or task


def holds_out(task: str) -> bool:
    """Returns whether a task is a public set that `held_out` changes."""
    return task in NAMES and public_set(task).holds_out


def titles() -> dict[str, str]:
    """Returns the sets' names as published, by task."""
    return {name: public_set(name).title for name in NAMES}


def folder_of(task: str, data: str, held_out: float = HELD_OUT) -> str:
    """Returns the data folder with a public set's records: `data` itself if it is one, else one made or found.

    Args:
      task: one of NAMES.
      data: the set's folder or file as published, or a data folder that was made of it.
      held_out: share of the training part to hold out, for a set without a part to choose weights on.

    Raises:
      InputError: when the set is incomplete, renamed or damaged, with what was expected and what was found.
    """
    found = public_set(task)
    if DataFolder(data).exists:
        return data
    return records_of(task, found, data, held_out)


def read(task: str, data: str, held_out: float = HELD_OUT, needs: tuple[str, ...] = ("train", "test")) -> FaceSet:
    """Returns a public set's faces; arguments and errors as for `folder_of`, and `needs` as for `read_records`."""
    faces = read_records(folder_of(task, data, held_out), task, held_out=held_out, needs=needs)
    return dataclasses.replace(faces, picture_share=public_set(task).picture_share)
