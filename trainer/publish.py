"""`python -m trainer.publish`: a finished run's weights in fewer bits with a model card from its metrics.json."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, run_command, to_dict
from fer_tf.data import public
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage
from fer_tf.reports import model_card
from fer_tf.resources import PUBLISHED
from fer_tf.run_folder import CARD_FILE, LINEAGE_FILE, PLUS, RunFolder
from trainer import average
from trainer.config import TaskConfig

MAX_BYTES = 12_000_000

# The flags that a card always repeats, the teacher's, and those that did not decide the training. It repeats all others
# that were given.
ALWAYS = ("task", "recipe")
TEACHER = ("teacher", "teacher_weight")
OMITTED = ("stage", "run_dir", "data", "profile", "tta", "persons_left_out")
# Of these it says only that a folder was given.
FOLDERS = ("init_from", "teacher", "synthetic_from", "gan_face_net")


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
    output: str = "models/mine"
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
    run = RunFolder(config.run_dir)
    metrics = run.read_metrics()
    if not metrics:
        raise InputError(f"`run_dir` {config.run_dir!r} has no metrics.json; run trainer.task --stage=evaluate first.")
    if not metrics["finished"] and not config.interim:
        raise InputError(f"`run_dir` {config.run_dir!r} has not finished training; wait, or give --interim.")
    model, spec = fa_net.load(run.fa_net.path)
    # The card needs the file's size, and must be whole before what was published is replaced.
    with tempfile.TemporaryDirectory() as local:
        size = fa_net.save(local, model, spec, storage=config.storage, max_bytes=MAX_BYTES)
        flags = run.read_config()
        weights = f"`{fa_net.WEIGHTS_FILE}`, {size / 1e6:.1f} MB"
        metrics = {**metrics, "across": run.read_evaluations()}
        text = model_card.published(metrics, flags, _command(flags), weights, config.storage, config.note)
        lineage.write(local, lineage.read(run.fa_net.path))
        for name in (LINEAGE_FILE, fa_net.WEIGHTS_FILE, fa_net.SPEC_FILE):
            files.put(files.join(local, name), files.join(config.output, name))
    files.write_text(files.join(config.output, CARD_FILE), text)
    logging.info("%s: %.1f MB, test accuracy %.4f", config.output, size / 1e6, metrics["test"]["accuracy"])


def _command(run: dict[str, Any]) -> str:
    """The command with the flags that were given, without those that did not decide the training."""
    flags, defaults = run["flags"], to_dict(TaskConfig())
    if sources := run.get("averaged"):
        share = f" --held_out={flags['held_out']}" if public.holds_out(flags["task"]) else ""
        # Where they were not given they are the trainings', whose folders a reader of the card does not have.
        for name in average.TAKEN:
            if flags.get(name, defaults[name]) != defaults[name]:
                share += f" --{name}={flags[name]}"
        if strength := run.get("balance_strength"):
            share += f" --balance_strength={strength:g}"
        return f"trainer.average {' '.join(_shown('init_from', source) for source in sources)}{share}"
    apart = (*ALWAYS, *TEACHER, *OMITTED)
    given = [name for name in defaults if name not in apart and flags.get(name, defaults[name]) != defaults[name]]
    names = [*(name for name in ALWAYS if name in flags), *given, *(TEACHER if flags.get("teacher") else ())]
    return " ".join(["trainer.task", *(f"--{name}={_shown(name, flags[name])}" for name in names)])


def _shown(name: str, value: Any) -> Any:
    """A flag's value; of a folder, a place on one machine, only that it was one (the note says what it held)."""
    if isinstance(value, bool):
        return str(value).lower()
    if name not in FOLDERS:
        return value
    known = ("", *PUBLISHED, "none", "dlib")
    return PLUS.join(source if source in known else "RUN_DIR" for source in value.split(PLUS))


if __name__ == "__main__":
    sys.exit(run_command(main))
