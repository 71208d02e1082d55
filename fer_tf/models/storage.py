"""A network's files on any filesystem that TensorFlow knows; each has its final name only when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any


def join(folder: str, name: str) -> str:
    """Returns a file's path in a folder, local or such as `gs://`."""
    return f"{folder.rstrip('/')}/{name}"


def put(folder: str, name: str, local_path: str) -> None:
    """Copies a finished local file into a folder, under its name only when all of it is there.

    Raises:
      OSError: when the disk is full; what the folder held before is intact.
    """
    import tensorflow as tf

    partial = join(folder, f"partial.{name}")
    try:
        tf.io.gfile.makedirs(folder)
        tf.io.gfile.copy(local_path, partial, overwrite=True)
        tf.io.gfile.rename(partial, join(folder, name), overwrite=True)
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {name} to {folder}: {error.message}") from error


def put_json(folder: str, name: str, value: Any) -> None:
    """Writes a value as JSON in one step; raises OSError as `put` does."""
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, name)
        with open(path, "w") as file:
            json.dump(value, file, indent=2)
        put(folder, name, path)


@contextlib.contextmanager
def readable(folder: str, name: str) -> Iterator[str]:
    """Gives a path that HDF5 can open, which needs a local file to seek in: the file's own, or that of a copy."""
    import tensorflow as tf

    path = join(folder, name)
    with tempfile.TemporaryDirectory() as local:
        if "://" in folder:
            path = os.path.join(local, name)
            tf.io.gfile.copy(join(folder, name), path)
        yield path
