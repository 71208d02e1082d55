"""One small training that many tests look at; what it leaves is read only."""

from __future__ import annotations

import json
import os
from typing import Any

import keras
import pytest

from fer_tf.models import fa_net as networks
from fer_tf.models.light_cnn import FEATURES_LAYER, LOGITS_LAYER
from trainer.task import main

SMALL = ("--epochs=2", "--batch_size=32", "--image_size=16", "--precision=float32", "--synthetic=false")


def flags(data: Any, run_dir: Any, *more: str) -> list[str]:
    return [f"--data={data}", f"--run_dir={run_dir}", *SMALL, *more]


def read(*parts: Any) -> Any:
    with open(os.path.join(*parts)) as file:
        return json.load(file)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a few dense layers in LightCNN's place, which takes seconds to trace: for what happens around a network."""

    def build(spec: networks.FaNetSpec, seed: int = 0, **options: Any) -> keras.Model:
        drawn = keras.initializers.GlorotUniform(seed)
        faces = keras.Input((spec.image_size, spec.image_size, spec.channels))
        hidden = keras.layers.Dense(16, kernel_initializer=drawn, name="feature_dense")(keras.layers.Flatten()(faces))
        features = keras.layers.BatchNormalization(name=FEATURES_LAYER)(hidden)
        head = keras.layers.Dense(spec.num_classes, kernel_initializer=drawn, dtype="float32", name=LOGITS_LAYER)
        return keras.Model(faces, head(features))

    monkeypatch.setattr(networks, "build", build)


@pytest.fixture(scope="session")
def trained(toy_data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a run of er_ss, trained and evaluated."""
    folder = str(tmp_path_factory.mktemp("run") / "er_ss")
    for stage in ("fa_net", "evaluate"):
        assert main([f"--stage={stage}", *flags(toy_data, folder)]) == 0
    return folder
