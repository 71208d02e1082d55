"""One small training that many tests look at; what it leaves is read only."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from fer_tf.data.public import jaffe
from fer_tf.evaluation.saliency import CAM_LAYER
from fer_tf.models import fa_net as networks
from fer_tf.models.light_cnn import FEATURES_LAYER, LOGITS_LAYER, FusedBatchNormalization
from fer_tf.synthesis.judge import Eyes
from trainer import tensorboard
from trainer.task import main

PERSONS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
SMALL = ("--epochs=2", "--batch_size=32", "--image_size=16", "--precision=float32", "--synthetic=false")


def flags(data: Any, run_dir: Any, *more: str) -> list[str]:
    return [f"--data={data}", f"--run_dir={run_dir}", *SMALL, *more]


def read(*parts: Any) -> Any:
    with open(os.path.join(*parts)) as file:
        return json.load(file)


def small_network(spec: networks.FaNetSpec, seed: int = 0, **options: Any) -> keras.Model:
    """What a Fa-Net has around its layers (batch statistics, dropout, features, head), and hardly a layer."""
    start = keras.initializers.GlorotUniform(seed)
    faces = keras.Input((spec.image_size, spec.image_size, spec.channels))
    x = keras.layers.Conv2D(8, 3, 4, "same", use_bias=False, kernel_initializer=start, name="stem_conv")(faces)
    x = keras.layers.ReLU(name=CAM_LAYER)(FusedBatchNormalization(name="stem_norm")(x))
    x = keras.layers.Dense(16, kernel_initializer=start, name="feature_dense")(keras.layers.Flatten()(x))
    features = keras.layers.Activation("linear", dtype="float32", name=FEATURES_LAYER)(x)
    head = keras.layers.Dense(spec.num_classes, kernel_initializer=start, dtype="float32", name=LOGITS_LAYER)
    return keras.Model(faces, head(keras.layers.Dropout(spec.dropout, seed=seed)(features)))


@contextlib.contextmanager
def small_networks() -> Iterator[None]:
    """Puts `small_network` in LightCNN's place, which takes ten seconds of CPU to trace: for what happens around it.

    An evaluation draws no pictures for TensorBoard either.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "build", small_network)
        leave_out_board(patch)
        yield


def leave_out_board(patch: pytest.MonkeyPatch) -> None:
    """Leaves out what trainings and evaluations draw for TensorBoard, seconds of CPU: for tests of something else."""
    patch.setattr(tensorboard, "write_evaluation", lambda *_: None)
    for name in ("inputs", "validation"):
        patch.setattr(tensorboard.TrainingPictures, name, lambda *_: None)


@pytest.fixture
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what an evaluation draws for TensorBoard."""
    monkeypatch.setattr(tensorboard, "write_evaluation", lambda *_: None)


@pytest.fixture
def tiny() -> Iterator[None]:
    """See `small_networks`."""
    with small_networks():
        yield


@pytest.fixture(scope="session")
def trained(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a run of er_ss, trained and evaluated."""
    folder = str(tmp_path_factory.mktemp("run") / "er_ss")
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def drawn_jaffe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """213 pictures that a face detector is not asked about: a pattern of the expression on one of the person."""
    folder, rng, number = tmp_path_factory.mktemp("jaffe"), np.random.default_rng(0), 0
    patterns = {code: rng.integers(0, 256, (6, 6)) for code in jaffe.CODES}
    for person in PERSONS:
        own = rng.integers(0, 256, (6, 6))
        for code, pattern in patterns.items():
            for take in range(1, 5 if person == "KA" and code in ("AN", "HA", "SA") else 4):
                number += 1
                coarse = 0.7 * pattern + 0.3 * own + rng.normal(0, 12, (6, 6))
                image = cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(folder / f"{person}.{code}{take}.{number}.tiff"), image)
    return folder


@pytest.fixture
def sees_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the detector content with every second face; the other measures stay dlib's."""
    calls = iter(range(10**9))
    monkeypatch.setattr(Eyes, "finds_face", lambda self, face: next(calls) % 2 == 0)
