"""The stage that scores a finished Fa-Net: metrics.json, the predictions, and one page a person can read."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.data import mixed
from fer_tf.data.copies import test_copies
from fer_tf.data.folder import DataFolder
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError
from fer_tf.evaluation.scores import among, score, score_distribution
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import wording
from fer_tf.reports.evaluation_page import page
from fer_tf.run_folder import PERSONS, RunFolder
from fer_tf.runs import PERSONS_LEFT_OUT
from trainer import competitor, persons_out, runtime, tensorboard
from trainer.borrowed import record_lineage
from trainer.config import TaskConfig
from trainer.fa_net import keeps_last, not_validated, predict, read_faces


@dataclass(frozen=True)
class Judged:
    """What is scored.

    Attributes:
      logits: answers a part's faces, float (N, num_classes), from the encoded images on.
      temperature: that its probabilities are calibrated with.
      about: what metrics.json says of it and of its training.
      notes: what a reader of the scores must know.
    """

    logits: Callable[[Part], np.ndarray]
    temperature: float
    about: dict[str, Any]
    notes: tuple[str, ...]


def run(config: TaskConfig) -> None:
    """Scores the run's best weights on its validation and test parts; repeating it gives the same numbers.

    Raises:
      InputError: when the run has no weights yet, or the data is not what it was trained on.
    """
    if not runtime.is_chief():
        return
    run, started = config.folder, time.monotonic()
    faces = read_faces(config)
    judged, write_tensorboard = (_competitor if config.is_competitor else _fa_net)(config, faces)
    splits: dict[str, Any] = {}
    for split in ("val", "test"):
        whole, began = faces.parts[split], time.monotonic()
        answers = mixed.answerable(faces, split, judged.logits(whole))
        speed = len(whole) / max(time.monotonic() - began, 1e-9)
        # What a single label is compared with must be one that more than half agree on.
        clear = whole.has_majority
        part, logits = whole.rows(clear), answers[clear]
        run.write_predictions(split, part.with_answers(logits))
        splits[split] = score(part, logits, faces.expressions, judged.temperature)
        splits[split] |= score_distribution(whole, answers, judged.temperature)
        if faces.set_classes:
            splits[split] |= _chance(faces, part)
            splits[f"{split}_by_set"] = _by_set(faces, whole, answers, judged.temperature)
    if faces.may_repeat:
        splits |= _without_copies(faces, part, logits, judged.temperature)
    # Competitors answer one view alone.
    tta = "none" if config.is_competitor else config.fa_net.tta
    splits |= _without_persons(run, faces, tta)
    result = {
        "task": config.task,
        "method": config.method,
        # A mean of trainings was made by theirs.
        "recipe": " and ".join(run.read_config().get("recipes", [config.fa_net.recipe])),
        "finished": run.classifier.is_finished,
        "tta": tta,
        **judged.about,
        "images_per_second": speed,
        "data_fingerprint": faces.fingerprint,
        **_drawn_from(config),
        "notes": [*faces.notes, *judged.notes],
        **splits,
    }
    run.write_metrics(result)
    files.write_text(run.page, page(result, run.read_evaluations()))
    write_tensorboard(whole, answers)
    test = splits["test"]
    logging.info(
        "evaluated in %.1f s: test accuracy %s, mean class %s, %d faces, 95 %% interval over %s; chance %s %%; %s",
        time.monotonic() - started,
        wording.accuracy_of(test),
        wording.mean_class_of(test),
        test["faces"],
        test["interval_over"],
        wording.percent(test["chance"]),
        run.page,
    )


def _fa_net(config: TaskConfig, faces: FaceSet) -> tuple[Judged, Callable[[Part, np.ndarray], None]]:
    """The run's Fa-Net, and what writes its TensorBoard page from its answers to a part."""
    run = config.folder
    folder = run.fa_net.path
    model, spec = fa_net.load(folder)
    check_labels(spec, faces, folder)
    lineage.check_judged(spec, faces, folder, config.task)
    _record_lineage(config, faces)
    kept = "last" if keeps_last(config, faces) else "best"
    state = run.fa_net.read_history() or {}
    training = _training(state)
    how = "the last epoch was kept" if kept == "last" else "the weights were chosen on val"
    if count := training.get("averaged"):
        kept = "averaged"
        how = "the weights are another run's" if count == 1 else f"the weights are the mean of {count} networks'"
    blind = " and ".join(not_validated(faces)) if len(faces.parts["val"]) else ""
    not_asked = [f"val does not ask what {blind} asks: the temperature is fitted on the other faces"] if blind else []
    notes = (how, *not_asked, *training.pop("notes", []))
    about = {
        "kept": kept,
        "spec": dataclasses.asdict(spec),
        "size_bytes": run.fa_net.weights_bytes,
        "synthetic_fingerprint": state.get("synthetic_fingerprint", faces.synthetic_fingerprint),
        "training": training,
    }

    def write_tensorboard(part: Part, logits: np.ndarray) -> None:
        tensorboard.write_evaluation(config, model, spec, part, logits, training.get("best_epoch", 0))

    return Judged(
        lambda part: predict(model, part, spec, config.fa_net.tta), spec.temperature, about, notes
    ), write_tensorboard


def _competitor(config: TaskConfig, faces: FaceSet) -> tuple[Judged, Callable[[Part, np.ndarray], None]]:
    """The run's competitor, which has no TensorBoard page."""
    fitted = competitor.load(config)
    folder, spec = config.folder.competitor.path, fitted.spec
    if tuple(spec["expressions"]) != faces.expressions or spec["data_fingerprint"] != faces.fingerprint:
        raise InputError(
            f"{folder} was trained on data with fingerprint {spec['data_fingerprint'][:12]}. Received: "
            f"{faces.fingerprint[:12]}; give the data of the training, or take another --run_dir to train anew."
        )
    history = config.folder.competitor.read_history() or {}
    about = {"spec": spec, "size_bytes": spec["size_bytes"], "training": history}
    return Judged(fitted.logits, spec["temperature"], about, ()), lambda part, logits: None


def _drawn_from(config: TaskConfig) -> dict[str, str]:
    """The fingerprint of the corpus that a draw of the splits is of, since several draws are one table."""
    known = {} if config.is_public else DataFolder(config.data).dataset.get("draw", {})
    return {"drawn_from": known["fingerprint"]} if known else {}


def _without_persons(run: RunFolder, faces: FaceSet, tta: str) -> dict[str, Any]:
    """The scores of all faces, each answered by a method that never saw its person; empty where that was not done.

    Answers over other views than the other scores' are left out: metrics.json names one `tta` for all.
    """
    found = run.read_predictions(PERSONS)
    if found is None:
        return {}
    # Before answers told it, they were of the face alone.
    if (answered := str(found.get("tta", "none"))) != tta:
        logging.warning(
            "the answers without each person are of --tta=%s, not %s, and are left out; give "
            "--stage=fa_net --persons_left_out=true --tta=%s before evaluating, which trains nothing anew",
            answered,
            tta,
            tta,
        )
        return {}
    whole = persons_out.with_persons(faces)
    if not np.array_equal(found["image_id"], whole.image_ids.astype(str)):
        logging.warning(
            "the answers without each person are of other faces and are left out: the set has changed since"
        )
        return {}
    return {PERSONS_LEFT_OUT: score(whole, found["logits"], faces.expressions, 1.0)}


def _by_set(faces: FaceSet, whole: Part, answers: np.ndarray, temperature: float) -> dict[str, Any]:
    """The scores of each set's faces apart, among the classes that it has."""
    found = {}
    for task, classes in faces.set_classes.items():
        own = whole.sets == task
        part, logits = among(whole.rows(own), answers[own], classes)
        clear = part.has_majority
        names = [faces.expressions[label] for label in classes]
        found[task] = score(part.rows(clear), logits[clear], names, temperature)
        found[task] |= score_distribution(part, logits, temperature)
    return found


def _without_copies(faces: FaceSet, part: Part, logits: np.ndarray, temperature: float) -> dict[str, Any]:
    """The test part's scores without the faces that are also in training, for each way of telling them."""
    clear = faces.parts["test"].has_majority
    found = {}
    for kind, copies in test_copies(faces).items():
        left, own = part.rows(~copies[clear]), logits[~copies[clear]]
        found[f"test_without_{kind}_copies"] = score(left, own, faces.expressions, temperature) | _chance(faces, left)
    return found


def _chance(faces: FaceSet, part: Part) -> dict[str, float]:
    """What chance is in a part of several sets, where a face is answered among its own set's classes; else empty."""
    if not faces.set_classes or not len(part):
        return {}
    return {"chance": float(np.mean([1 / len(faces.set_classes[name]) for name in part.sets]))}


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


def _training(state: dict[str, Any]) -> dict[str, Any]:
    """What the training left: epochs, seconds, the best epoch, notes."""
    names = ("epoch", "best_epoch", "best_score", "steps", "seconds", "notes", "averaged")
    return {name: state[name] for name in names if name in state}
