"""The stage that scores a finished Fa-Net: metrics.json, the predictions, and one page a person can read."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.data.copies import test_copies
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError
from fer_tf.evaluation.scores import score, score_distribution
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import wording
from fer_tf.reports.evaluation_page import page
from fer_tf.run_folder import RunFolder
from trainer import runtime, tensorboard
from trainer.config import TaskConfig
from trainer.fa_net import keeps_last, predict, read_faces, record_lineage


def run(config: TaskConfig) -> None:
    """Scores the run's best weights on its validation and test parts; repeating it gives the same numbers.

    Raises:
      InputError: when the run has no weights yet, or the data is not what it was trained on.
    """
    if not runtime.is_chief():
        return
    run = config.folder
    folder = run.fa_net.path
    model, spec = fa_net.load(folder)
    faces = read_faces(config)
    check_labels(spec, faces, folder)
    lineage.check_judged(spec, faces, folder, config.task)
    _record_lineage(config, faces)
    kept = "last" if keeps_last(config, faces) else "best"
    state = run.fa_net.read_history() or {}
    training = _training(state)
    how = "the last epoch was kept" if kept == "last" else "the weights were chosen on val"
    if count := training.get("averaged"):
        kept, how = "averaged", f"the weights are the mean of {count} networks'"
    started = time.monotonic()
    splits: dict[str, Any] = {}
    for split in ("val", "test"):
        whole = faces.parts[split]
        answers = predict(model, whole, spec, config.tta)
        # What a single label is compared with must be one that more than half agree on.
        clear = whole.has_majority
        part, logits = whole.rows(clear), answers[clear]
        save_predictions(run, split, part, logits)
        splits[split] = score(part, logits, faces.expressions, spec.temperature)
        splits[split] |= score_distribution(whole, answers, spec.temperature)
    if faces.may_repeat:
        splits |= _without_copies(faces, part, logits, spec.temperature)
    result = {
        "task": config.task,
        # A mean of trainings was made by theirs.
        "recipe": " and ".join(run.read_config().get("recipes", [config.recipe])),
        "finished": run.fa_net.is_finished,
        "tta": config.tta,
        "kept": kept,
        "spec": dataclasses.asdict(spec),
        "data_fingerprint": faces.fingerprint,
        "synthetic_fingerprint": state.get("synthetic_fingerprint", faces.synthetic_fingerprint),
        "notes": [*faces.notes, how, *training.pop("notes", [])],
        "training": training,
        **splits,
    }
    run.write_metrics(result)
    files.write_text(run.page, page(result))
    step = result["training"].get("best_epoch", 0)
    tensorboard.write_evaluation(config, model, spec, whole, answers, step)
    test = splits["test"]
    logging.info(
        "evaluated in %.1f s: test accuracy %s of %d faces, 95 %% interval over %s; chance %s %%; %s",
        time.monotonic() - started,
        wording.accuracy(test["accuracy"], test["accuracy_interval"], test["interval_over"]),
        test["faces"],
        test["interval_over"],
        wording.percent(test["chance"]),
        run.page,
    )


def _without_copies(faces: FaceSet, part: Part, logits: np.ndarray, temperature: float) -> dict[str, Any]:
    """The test part's scores without the faces that are also in training, for each way of telling them."""
    clear = faces.parts["test"].has_majority
    return {
        f"test_without_{kind}_copies": score(
            part.rows(~copies[clear]), logits[~copies[clear]], faces.expressions, temperature
        )
        for kind, copies in test_copies(faces).items()
    }


def check_labels(spec: FaNetSpec, faces: FaceSet, folder: str) -> None:
    """Raises InputError when the data's labels are not the network's."""
    if spec.expressions != faces.expressions:
        raise InputError(
            f"{folder} predicts the labels {spec.expressions}. Received data with the labels {faces.expressions}; "
            "evaluate it on data with its own labels, or train a new head with --init_from."
        )


def _record_lineage(config: TaskConfig, faces: FaceSet) -> None:
    """Records the images of a network that an earlier version trained, so that others may borrow it."""
    try:
        record_lineage(config, faces)
    except InputError as error:
        logging.warning("what the network was trained on is not recorded: %s", error)


def save_predictions(run: RunFolder, split: str, part: Part, logits: np.ndarray) -> None:
    """Keeps what was answered to each face of a part."""
    arrays = {
        "image_id": part.image_ids.astype(str),
        "person": part.persons.astype(str),
        "pose": part.poses.astype(str),
        "label": part.labels,
        "logits": logits.astype(np.float32),
    }
    run.write_predictions(split, arrays)


def _training(state: dict[str, Any]) -> dict[str, Any]:
    """What the training left: epochs, seconds, the best epoch, notes."""
    names = ("epoch", "best_epoch", "best_score", "seconds", "notes", "averaged")
    return {name: state[name] for name in names if name in state}
