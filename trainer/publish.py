"""`python -m trainer.publish`: a finished run's weights in fewer bits with a model card from its metrics.json."""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage
from trainer import runtime
from trainer.config import TaskConfig

CARD_FILE = "MODEL_CARD.md"
MAX_BYTES = 12_000_000

# The flags that a card always repeats, the teacher's, and those that did not decide the training. It repeats all others
# that were given.
ALWAYS = ("task", "recipe")
TEACHER = ("teacher", "teacher_weight")
OMITTED = ("stage", "run_dir", "data", "profile", "tta")
# Of these it says only that a folder was given.
FOLDERS = ("init_from", "teacher", "synthetic_from", "gan_face_net")

DATA = {
    "fer2013": (
        "FER2013 (Goodfellow et al., ICML 2013 challenge): 28,709 Training and 3,589 PublicTest faces, 48 x 48 grey, "
        "collected by image search; PrivateTest was not used. The set is distributed for research; the rights of its "
        "pictures stay with their owners, and none is part of this repository."
    ),
}
LICENCE = {
    "fer2013": "Code: Apache-2.0. Weights: research use, because FER2013 is distributed for research.",
}

LIMITS = {
    "fer2013": (
        "The labels of FER2013 are noisy (people agree with them about two times in three); its pictures come from "
        "image search without known age, gender or origin, so the scores say nothing about how errors differ between "
        "groups of people; profile views, covered faces and faces below about 40 pixels are hardly in the data. "
    ),
}


@dataclass(frozen=True)
class PublishConfig:
    """What to publish and where.

    Attributes:
      run_dir: a run folder that was evaluated (it holds metrics.json).
      output: folder for the weights, their spec and the card.
      storage: number format of the kernels in the file; int8 takes half of float16 and rounds more.
      interim: publishes a run whose training has not finished, and says so in the card.
      note: a sentence on the training that the run folder does not tell.
    """

    run_dir: str = "runs/fer2013"
    output: str = "models/pretrained"
    storage: Literal["float16", "int8"] = "float16"
    interim: bool = False
    note: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    config, _ = parse(
        PublishConfig, argv, prog="python -m trainer.publish", description="Writes a run's weights and model card."
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    publish(config)
    return EXIT_OK


def publish(config: PublishConfig) -> None:
    """Writes weights, spec and model card.

    Raises:
      InputError: when the run was not evaluated, has not finished, or its weights are too large.
    """
    path = files.join(config.run_dir, "metrics.json")
    if not files.exists(path):
        raise InputError(f"`run_dir` {config.run_dir!r} has no metrics.json; run trainer.task --stage=evaluate first.")
    metrics = files.read_json(path)
    if not metrics["finished"] and not config.interim:
        raise InputError(f"`run_dir` {config.run_dir!r} has not finished training; wait, or give --interim.")
    model, spec = fa_net.load(files.join(config.run_dir, "fa_net"))
    flags = files.read_json(files.join(config.run_dir, runtime.CONFIG_FILE))
    # The card needs the file's size, and must be whole before what was published is replaced.
    with tempfile.TemporaryDirectory() as local:
        size = fa_net.save(local, model, spec, storage=config.storage, max_bytes=MAX_BYTES)
        text = card(metrics, flags, size, config.storage, config.note)
        lineage.write(local, lineage.read(files.join(config.run_dir, "fa_net")))
        for name in (lineage.FILE, fa_net.WEIGHTS_FILE, fa_net.SPEC_FILE):
            files.put(files.join(local, name), files.join(config.output, name))
    files.write_text(files.join(config.output, CARD_FILE), text)
    logging.info("%s: %.1f MB, test accuracy %.4f", config.output, size / 1e6, metrics["test"]["accuracy"])


def card(metrics: dict[str, Any], run: dict[str, Any], size: int, storage: str, note: str = "") -> str:
    """Returns the model card as Markdown.

    Args:
      metrics: the run's metrics.json.
      run: the run's config.json.
      size: of the weights, bytes.
      storage: number format of the kernels in the file.
      note: a sentence more on the training.
    """
    task, spec, test = metrics["task"], metrics["spec"], metrics["test"]
    calibration = test["calibration"]
    side, colour = spec["image_size"], "RGB" if spec.get("channels", 1) == 3 else "grey"
    temperature_of = _temperature(metrics, run["flags"])
    state = "" if metrics["finished"] else "\n**Interim weights: the training had not finished.**\n"
    notes = "; ".join(metrics["notes"])
    libraries = f"TensorFlow {run['versions']['tensorflow']}, Keras {run['versions']['keras']}"
    return f"""# Fa-Net on {task}
{state}
{spec["variant"]} with Max-Feature-Map and batch normalization, {side} x {side} {colour}, labels
{", ".join(spec["expressions"])}. Weights: `{fa_net.WEIGHTS_FILE}`, {size / 1e6:.1f} MB, kernels as {storage}
(the scores are of the weights before that rounding).

Load: `fer_tf.models.fa_net.load("models/pretrained")`, or begin a training with `--init_from=pretrained`.

## Scores

| part | faces | accuracy (95 % interval) | mean class accuracy | macro F1 |
|---|---|---|---|---|
{_score_rows(metrics)}

{notes}. One network, one view: test-time augmentation {metrics["tta"]}. Intervals are bootstrapped over
{test["interval_over"]}. "Without copies" leaves out test faces that are also in training: with equal pixels, or the
same picture by its perceptual hash. Always answering the most frequent class scores {100 * test["majority"]:.1f} %.

| true class | faces | right (95 % interval) |
|---|---|---|
{_class_rows(test)}

Confusion, test part (rows: true, columns: predicted, faces):

{_confusion(test)}

Calibration, test part: expected calibration error {100 * calibration["uncalibrated"]["ece"]:.1f} % as trained,
{100 * calibration["calibrated"]["ece"]:.1f} % with the stored temperature {spec["temperature"]:.3f}, {temperature_of}.

## Training

`python -m {_command(run)}`: {_training(metrics, run["machine"]["cores"], libraries)}. {note}

## Data and licence

{DATA.get(task, f"The data of the task {task}, fingerprint {metrics['data_fingerprint']}.")}

{LICENCE.get(task, "Code: Apache-2.0. Weights: as the data allows.")}

## Intended use and limits

For research on facial expressions, as a start for fine-tuning and for trying the system out. It sees posed or caught
expressions, not what a person feels. Do not use it to decide about people. {LIMITS.get(task, "")}Rare and confusable
classes are weaker, as the tables show.
"""


def _command(run: dict[str, Any]) -> str:
    """The command with the flags that were given, without those that did not decide the training."""
    flags = run["flags"]
    if sources := run.get("averaged"):
        share = f" --held_out={flags['held_out']}" if flags["task"] == "fer2013" else ""
        return f"trainer.average {' '.join(_shown('init_from', source) for source in sources)}{share}"
    defaults = {field.name: field.default for field in dataclasses.fields(TaskConfig)}
    apart = (*ALWAYS, *TEACHER, *OMITTED)
    given = [name for name in defaults if name not in apart and flags.get(name, defaults[name]) != defaults[name]]
    names = [*(name for name in ALWAYS if name in flags), *given, *(TEACHER if flags.get("teacher") else ())]
    return " ".join(["trainer.task", *(f"--{name}={_shown(name, flags[name])}" for name in names)])


def _shown(name: str, value: Any) -> Any:
    """A flag's value; of a folder, a place on one machine, only that it was one (the note says what it held)."""
    if isinstance(value, bool):
        return str(value).lower()
    return "RUN_DIR" if name in FOLDERS and value not in ("", "pretrained", "none") else value


def _temperature(metrics: dict[str, Any], flags: dict[str, Any]) -> str:
    """What the stored temperature was fitted on; it is 1 until the training has finished."""
    if not metrics["finished"]:
        return "not fitted yet"
    if metrics["val"]["faces"]:
        return "fitted on val"
    if metrics["training"].get("averaged"):
        return "the mean of the networks'"
    # A network that answered another question gives its weights alone, and the temperature stays 1.
    inherited = flags.get("init_from") and metrics["spec"]["temperature"] != 1
    return "that of the network it began with" if inherited else "which was fitted on nothing"


def _training(metrics: dict[str, Any], cores: int, libraries: str) -> str:
    """How long the training took and which epoch's weights these are; unknown before it has finished."""
    training, machine = metrics["training"], f"{cores} shared CPU cores ({libraries})"
    if count := training.get("averaged"):
        return f"the mean of the weights of {count} trainings, with statistics measured anew ({libraries})"
    chosen = "the last" if metrics.get("kept") == "last" else "the best on val"
    if not training:
        return f"on {machine}; the training had not finished, and the weights are {chosen} until then"
    epochs = f"{training['epoch']} epochs in {training['seconds'] / 3600:.1f} hours on {machine}"
    return f"{epochs}; the weights are those of epoch {training['best_epoch']}, {chosen}"


def _score_rows(metrics: dict[str, Any]) -> str:
    names = {
        "val": "val",
        "test": "test",
        "test_without_equal_copies": "test without equal copies",
        "test_without_near_copies": "test without near copies",
    }
    rows = []
    for key, name in names.items():
        part = metrics.get(key, {})
        if part.get("faces"):
            rows.append(
                f"| {name} | {part['faces']:,} | {_percent(part['accuracy'], part['accuracy_interval'])} "
                f"| {_percent(part['mean_class_accuracy'])} | {_percent(part['macro_f1'])} |"
            )
    return "\n".join(rows)


def _class_rows(test: dict[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {row['faces']:,} | {_percent(row['accuracy'], row['interval'])} |"
        for name, row in test["by_class"].items()
        if row["faces"]
    )


def _confusion(test: dict[str, Any]) -> str:
    names = test["expressions"]
    head = f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}\n"
    rows = zip(names, test["confusion"], strict=True)
    return head + "\n".join(f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows)


def _percent(value: float, interval: Sequence[float] | None = None) -> str:
    text = f"{100 * value:.1f} %"
    return text if interval is None else f"{text} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


if __name__ == "__main__":
    sys.exit(run_command(main))
