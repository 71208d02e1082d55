"""Fa-Net on disk: a LightCNN's weights beside everything that is needed to use them."""

from __future__ import annotations

import dataclasses
import json
import os
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
    dropout: float = 0.5
    temperature: float = 1.0
    task: str = ""
    data_fingerprint: str = ""
    landmark_model: str = "none"

    @property
    def num_classes(self) -> int:
        return len(self.expressions)


def build(spec: FaNetSpec, *, weight_decay: float = 0.0, seed: int = 0) -> keras.Model:
    """Returns a fresh network for the spec: preprocessed faces (see `preprocess`) to logits."""
    return light_cnn(
        spec.variant,
        spec.num_classes,
        spec.image_size,
        spec.channels,
        batch_norm=spec.batch_norm,
        dropout=spec.dropout,
        weight_decay=weight_decay,
        seed=seed,
    )


def save(folder: str, model: keras.Model, spec: FaNetSpec) -> None:
    """Writes weights and spec; each appears under its final name only when it is complete."""
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"partial.{WEIGHTS_FILE}")
    model.save_weights(partial)
    os.replace(partial, os.path.join(folder, WEIGHTS_FILE))
    save_spec(folder, spec)


def save_spec(folder: str, spec: FaNetSpec) -> None:
    """Writes `spec.json` in one step."""
    partial = os.path.join(folder, f"partial.{SPEC_FILE}")
    with open(partial, "w") as file:
        json.dump(dataclasses.asdict(spec), file, indent=2)
    os.replace(partial, os.path.join(folder, SPEC_FILE))


def load_spec(folder: str) -> FaNetSpec:
    """Returns the spec of a saved Fa-Net.

    Raises:
      InputError: when there is none, or it has an unknown or missing field.
    """
    path = os.path.join(folder, SPEC_FILE)
    try:
        with open(path) as file:
            values: dict[str, Any] = json.load(file)
        return FaNetSpec(**{**values, "expressions": tuple(values["expressions"])})
    except FileNotFoundError:
        raise InputError(f"no trained Fa-Net in {folder!r}: {SPEC_FILE} is missing; run trainer.task first") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a Fa-Net spec: {error}") from None


def load(folder: str) -> tuple[keras.Model, FaNetSpec]:
    """Returns a saved Fa-Net and its spec."""
    spec = load_spec(folder)
    model = build(spec)
    model.load_weights(os.path.join(folder, WEIGHTS_FILE))
    return model, spec
