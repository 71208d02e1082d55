"""Fa-Net on disk: a LightCNN's weights beside everything that is needed to use them."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import keras

from fer_tf.errors import InputError
from fer_tf.models.light_cnn import light_cnn

SPEC_FILE = "spec.json"
WEIGHTS_FILE = "best.weights.h5"


@dataclass(frozen=True)
class FaNetSpec:
    """What a Fa-Net is and how to use it; saved as `spec.json` beside the weights.

    Attributes:
      expressions: label names; a class's id is its position.
      variant: which LightCNN, see `fer_tf.models.light_cnn.VARIANTS`.
      image_size: side of the network's input, pixels.
      channels: 1 (grey) or 3 (RGB).
      crop: share of the face crop's side that `preprocess` keeps, 0 to 1.
      batch_norm: whether the network has batch normalization.
      standardize: whether the network begins by giving each image mean 0 and variance 1.
      dropout: rate before the head.
      temperature: logits are divided by it before the softmax; fitted on the validation part.
      task: the task that it was trained for.
      data_fingerprint: the training data's fingerprint.
      landmark_model: what aligned the training faces, or `none`.
    """

    expressions: tuple[str, ...]
    variant: str = "light_cnn_9"
    image_size: int = 128
    channels: int = 1
    crop: float = 1.0
    batch_norm: bool = True
    standardize: bool = False
    dropout: float = 0.5
    temperature: float = 1.0
    task: str = ""
    data_fingerprint: str = ""
    landmark_model: str = "none"

    @property
    def num_classes(self) -> int:
        return len(self.expressions)


def build(spec: FaNetSpec, *, kernel_variance: tuple[float, float] = (2.0, 2.0), seed: int = 0) -> keras.Model:
    """Returns a fresh network for the spec: preprocessed faces (see `preprocess`) to logits."""
    return light_cnn(
        spec.variant,
        spec.num_classes,
        spec.image_size,
        spec.channels,
        batch_norm=spec.batch_norm,
        standardize=spec.standardize,
        dropout=spec.dropout,
        kernel_variance=kernel_variance,
        seed=seed,
    )


def save(folder: str, model: keras.Model, spec: FaNetSpec, *, half: bool = False) -> None:
    """Writes weights and spec; each appears under its final name only when it is complete.

    Args:
      folder: any folder that TensorFlow can write, local or such as `gs://`.
      model: the network.
      spec: its spec.
      half: stores kernels as float16, for half the size and a relative error below 0.05 %.

    Raises:
      OSError: when the disk is full; what the folder held before is intact.
    """
    # HDF5 needs a local file to seek in.
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, WEIGHTS_FILE)
        model.save_weights(path)
        if half:
            _halve(path)
        _put(folder, WEIGHTS_FILE, path)
    save_spec(folder, spec)


def _halve(path: str) -> None:
    """Rewrites a weights file's matrices as float16; vectors (biases, variances) keep float32 for their range."""
    import h5py

    with h5py.File(path) as source, h5py.File(f"{path}.half", "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                target.require_group(name).attrs.update(item.attrs)
            else:
                values = item[()]
                small = getattr(values, "ndim", 0) >= 2 and values.dtype == "float32"
                target.create_dataset(name, data=values.astype("float16") if small else values)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    os.replace(f"{path}.half", path)


def save_spec(folder: str, spec: FaNetSpec) -> None:
    """Writes `spec.json` in one step."""
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, SPEC_FILE)
        with open(path, "w") as file:
            json.dump(dataclasses.asdict(spec), file, indent=2)
        _put(folder, SPEC_FILE, path)


def _put(folder: str, name: str, local_path: str) -> None:
    """Copies a finished local file into a folder, under its name only when all of it is there."""
    import tensorflow as tf

    partial = f"{folder.rstrip('/')}/partial.{name}"
    try:
        tf.io.gfile.makedirs(folder)
        tf.io.gfile.copy(local_path, partial, overwrite=True)
        tf.io.gfile.rename(partial, f"{folder.rstrip('/')}/{name}", overwrite=True)
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {name} to {folder}: {error.message}") from error


def load_spec(folder: str) -> FaNetSpec:
    """Returns the spec of a saved Fa-Net.

    Raises:
      InputError: when there is none, or it has an unknown or missing field.
    """
    import tensorflow as tf

    path = os.path.join(folder, SPEC_FILE)
    try:
        with tf.io.gfile.GFile(path) as file:
            values: dict[str, Any] = json.load(file)
        return FaNetSpec(**{**values, "expressions": tuple(values["expressions"])})
    except tf.errors.NotFoundError:
        raise InputError(f"no trained Fa-Net in {folder!r}: {SPEC_FILE} is missing; run trainer.task first") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a Fa-Net spec: {error}") from None


def load(folder: str) -> tuple[keras.Model, FaNetSpec]:
    """Returns a saved Fa-Net and its spec."""
    spec = load_spec(folder)
    model = build(spec)
    load_weights(model, folder)
    return model, spec


def load_weights(model: keras.Model, folder: str) -> None:
    """Fills a network with a folder's weights, stored as float32 or float16; nothing in the file is executed.

    Raises:
      InputError: when the file is missing or does not fit the network.
    """
    import tensorflow as tf

    path = f"{folder.rstrip('/')}/{WEIGHTS_FILE}"
    if not tf.io.gfile.exists(path):
        raise InputError(f"no weights in {folder!r}: {WEIGHTS_FILE} is missing; run trainer.task first")
    with tempfile.TemporaryDirectory() as local:
        if "://" in folder:
            tf.io.gfile.copy(path, os.path.join(local, WEIGHTS_FILE))
            path = os.path.join(local, WEIGHTS_FILE)
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} does not fit its {SPEC_FILE}, or is damaged: {reason}") from None
