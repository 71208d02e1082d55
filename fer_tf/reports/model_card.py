"""The model card, of published weights and of an export: what the network is, how well it does, and its uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_tf.models.fa_net import VARIANTS
from fer_tf.reports import wording
from fer_tf.reports.across_section import across_section
from fer_tf.reports.page import render
from fer_tf.reports.paper_tables import SET_NAMES
from fer_tf.reports.wording import percent

DATA = {
    "fer2013": (
        "FER2013 (Goodfellow et al., ICML 2013 challenge): 28,709 Training and 3,589 PublicTest faces, 48 x 48 grey, "
        "collected by image search; PrivateTest was not used. The set is distributed for research; the rights of its "
        "pictures stay with their owners, and none is part of this repository."
    ),
    "ferplus": (
        "FER+ (Barsoum et al. 2016, Microsoft, MIT licence): ten people's votes on FER2013's pictures, eight "
        "expressions."
    ),
}
RESEARCH = "Weights: research use, because FER2013 is distributed for research."
WEIGHTS = {"fer2013": RESEARCH, "ferplus": RESEARCH}
LIMITS = {
    "fer2013": (
        "The labels of FER2013 are noisy (people agree with them about two times in three); its pictures come from "
        "image search without known age, gender or origin, so the scores say nothing about how errors differ between "
        "groups of people; profile views, covered faces and faces below about 40 pixels are hardly in the data."
    ),
}
LIMITS["ferplus"] = LIMITS["fer2013"]
IBUG = (
    "The landmark model that aligned the faces was trained on iBUG 300-W, which excludes commercial use (its author "
    "says so); name another predictor when you build the data to be free of that."
)
PARTS = {
    "val": "val",
    "test": "test",
    "test_without_equal_copies": "test without equal copies",
    "test_without_near_copies": "test without near copies",
}
BREAKDOWNS = {"by_class": "true class", "by_pose": "pose", "by_gender": "gender", "by_age": "age"}


def published(
    metrics: dict[str, Any], run: dict[str, Any], command: str, weights: str, storage: str, note: str = ""
) -> str:
    """Returns the card of published weights, Markdown.

    Args:
      metrics: the run's metrics.json.
      run: the run's config.json.
      command: what was run, without paths of one machine.
      weights: name and size of the file.
      storage: number format of the kernels in it.
      note: a sentence more on the training.
    """
    libraries = f"TensorFlow {run['versions']['tensorflow']}, Keras {run['versions']['keras']}"
    training = f"`python -m {command}`: {_training(metrics, run['machine'], libraries)}. {note}".strip()
    facts = [
        ("weights", f"{weights}, kernels as {storage} (the scores are of the weights before that rounding)"),
        (
            "load",
            "`fer_tf.Recognizer.load(FOLDER)`, or `--init_from=FOLDER` for a training, with the folder of this card; "
            "`pretrained` and `ferplus` go by their names",
        ),
    ]
    title = f"Fa-Net on {metrics['task']}"
    return _card(title, metrics["spec"], metrics, facts, training, _temperature(metrics, run["flags"]))


def exported(facts: dict[str, Any]) -> str:
    """Returns the card of an export, Markdown.

    Args:
      facts: what its `model.json` holds.
    """
    spec, versions = facts["spec"], facts["versions"]
    rows = [
        ("computed in", facts["precision"]),
        ("exported", f"{facts['exported']}, TensorFlow {versions['tensorflow']}, Keras {versions['keras']}"),
    ]
    title = f"{facts['model_name']}, version {facts['version']}"
    return _card(title, spec, facts["metrics"], rows, "", "stored with the weights")


def _card(
    title: str,
    spec: dict[str, Any],
    metrics: dict[str, Any],
    facts: Sequence[tuple[str, Any]],
    training: str,
    temperature_of: str,
) -> str:
    test = metrics.get("test", {})
    scored = bool(test.get("faces"))
    task = spec.get("task") or metrics.get("task") or ""
    # Of several sets that were trained on together each is told apart.
    sets = {SET_NAMES.get(name, name): part for name, part in _sets_of(metrics).items()}
    told = sets or ({"test part": test} if scored else {})
    tasks = tuple(metrics.get("test_by_set", ())) or (task,)
    return render(
        "model_card.md",
        title=title,
        finished=metrics.get("finished", True),
        about=f"A face crop goes in, the probabilities of {len(spec['expressions'])} expressions come out.",
        facts=[*_network(spec, task), *facts],
        scores=_score_rows(metrics),
        scored=_how_scored(metrics, test) if scored else "",
        breakdowns=[found for name, part in told.items() for found in _breakdowns(part, name if sets else "")],
        confusions=[
            (name, part["expressions"], list(zip(part["expressions"], part["confusion"], strict=True)))
            for name, part in told.items()
        ],
        across=across_section(metrics.get("across", {})),
        calibration=_calibration(test, spec["temperature"], temperature_of) if scored else "",
        training=training,
        rights=_rights(spec, tasks, metrics),
        limits=next((LIMITS[name] for name in tasks if name in LIMITS), ""),
    )


def _network(spec: dict[str, Any], task: str) -> list[tuple[str, str]]:
    variant, side, colour = spec["variant"], spec["image_size"], "RGB" if spec.get("channels", 1) == 3 else "grey"
    return [
        ("network", f"{variant} {VARIANTS[variant].words}, {side} x {side} {colour}"),
        ("labels", ", ".join(spec["expressions"])),
        ("trained for", task or "not recorded"),
        ("data fingerprint", f"`{spec['data_fingerprint']}`" if spec.get("data_fingerprint") else "not recorded"),
        ("faces aligned by", spec.get("landmark_model") or "not recorded"),
        ("calibration", f"softmax of logits / {spec['temperature']:.3f}"),
    ]


def _sets_of(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of each of several sets that has a test face; without one there is no class and no answer to tell."""
    return {name: part for name, part in metrics.get("test_by_set", {}).items() if part.get("faces")}


def _score_rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    parts = [(name, metrics.get(key, {})) for key, name in PARTS.items()]
    for name, part in _sets_of(metrics).items():
        parts.append((f"test of {SET_NAMES.get(name, name)}, its {len(part['expressions'])} classes", part))
    rows = []
    for name, part in parts:
        if part.get("faces"):
            percents = (f"{percent(share)} %" for share in (part["macro_f1"], part["calibration"]["calibrated"]["ece"]))
            accuracies = wording.accuracy_of(part), wording.mean_class_of(part)
            rows.append((name, f"{part['faces']:,}", *accuracies, *percents))
    return rows


def _how_scored(metrics: dict[str, Any], test: dict[str, Any]) -> str:
    notes = "; ".join(metrics.get("notes", ()))
    copies = (
        ' "Without copies" leaves out test faces that are also in training: with equal pixels, or the same picture by '
        "its perceptual hash."
        if any(name.endswith("_copies") for name in metrics)
        else ""
    )
    return (
        f"{f'{notes}. ' if notes else ''}One network, test-time augmentation {metrics.get('tta', 'none')}. "
        f"Intervals are bootstrapped over {test['interval_over']}.{copies} Always answering the most frequent class "
        f"scores {percent(test['majority'])} %."
    )


def _breakdowns(test: dict[str, Any], of: str = "") -> list[tuple[str, list[tuple[str, ...]]]]:
    found = []
    for key, title in BREAKDOWNS.items():
        rows = [
            (name, f"{row['faces']:,}", wording.accuracy(row["accuracy"], row["interval"], test["interval_over"]))
            for name, row in test.get(key, {}).items()
            if row["faces"]
        ]
        if rows:
            found.append((f"{of}, {title}" if of else title, rows))
    return found


def _calibration(test: dict[str, Any], temperature: float, origin: str) -> str:
    errors = (percent(test["calibration"][kind]["ece"]) for kind in ("uncalibrated", "calibrated"))
    return (
        "Calibration, test part: expected calibration error {} % as trained, {} % with the stored temperature "
        "{:.3f}, {}.".format(*errors, temperature, origin)
    )


def _temperature(metrics: dict[str, Any], flags: dict[str, Any]) -> str:
    """What the stored temperature was fitted on; it is 1 until the training has finished."""
    if not metrics["finished"]:
        return "not fitted yet"
    if metrics["val"]["faces"]:
        return "fitted on val"
    if metrics["training"].get("averaged"):
        alone = metrics["training"]["averaged"] == 1
        return "that of the network that was balanced" if alone else "the mean of the networks'"
    # A network that answered another question gives its weights alone, and the temperature stays 1.
    if metrics["spec"]["temperature"] != 1:
        for flag, origin in (("init_from", "that of the network it began with"), ("teacher", "its teacher's")):
            if flags.get(flag):
                return origin
    return "which was fitted on nothing"


def _training(metrics: dict[str, Any], machine: dict[str, Any], libraries: str) -> str:
    """How long the training took and which epoch's weights these are; unknown before it has finished."""
    training, gpus = metrics["training"], len(machine.get("gpus", ()))
    where = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else f"{machine['cores']} shared CPU cores"
    where += f" ({libraries})"
    if count := training.get("averaged"):
        if count == 1:
            return f"the weights of one training, balanced afterwards ({libraries})"
        return f"the mean of the weights of {count} trainings, with statistics measured anew ({libraries})"
    chosen = "the last" if metrics.get("kept") == "last" else "the best on val"
    if not training:
        return f"on {where}; the training had not finished, and the weights are {chosen} until then"
    epochs = f"{training['epoch']} epochs in {training['seconds'] / 3600:.1f} hours on {where}"
    return f"{epochs}; the weights are those of epoch {training['best_epoch']}, {chosen}"


def _rights(spec: dict[str, Any], tasks: Sequence[str], metrics: dict[str, Any]) -> list[str]:
    fingerprint = spec.get("data_fingerprint") or metrics.get("data_fingerprint") or "unknown"
    lines = [
        DATA.get(task, f"The data of the task {task or 'that was not recorded'}, fingerprint {fingerprint}.")
        for task in tasks
    ]
    if any("PrivateTest" in note for note in metrics.get("notes", ())):
        lines = [line.replace("PrivateTest was not used", "PrivateTest was used as the notes say") for line in lines]
    weights = next((WEIGHTS[task] for task in tasks if task in WEIGHTS), "Weights: as the training data allows.")
    lines.append(f"Code: Apache-2.0. {weights}")
    return [*lines, IBUG] if "68_face_landmarks" in spec.get("landmark_model", "") else lines
