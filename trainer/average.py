"""`python -m trainer.average`: one Fa-Net with the mean weights of several trainings that grew from each other."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fer_tf.config import EXIT_OK, of, parse, run_command, to_dict
from fer_tf.data import public
from fer_tf.data.inputs import FaceSet
from fer_tf.data.parts import Labels
from fer_tf.errors import InputError
from fer_tf.labels import TASKS
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.run_folder import RunFolder, network_folder
from trainer.config import TaskConfig

BATCH_SIZE = 128
# Flags of the networks' trainings without which their data reads as other faces.
TAKEN = ("mapping", "set_weights", "labels")
# What networks must share for their weights to have a mean.
SHARED = (
    "expressions",
    "task",
    "variant",
    "image_size",
    "channels",
    "crop",
    "batch_norm",
    "blur",
    "standardize",
)


@dataclass(frozen=True)
class AverageConfig:
    """Averages the weights of trained Fa-Nets into one network, and scores it (Wortsman et al. 2022, model soups).

    With `balance_strength` it may be one network, whose answers are balanced after its training.

    Attributes:
      sources: run or model folders of the networks, or pretrained; each began with another's weights (--init_from), or
        their mean is no network.
      data: data folder or public set that they were trained on.
      run_dir: the run folder to write.
      held_out: share of FER2013's Training that none of them was trained on; with 0 there is no validation part, and
        the temperature is the mean of theirs.
      mapping: of networks of several sets (task mixed), as for trainer.task; what they were trained with when empty.
      set_weights: likewise.
      labels: what votes mean for balance_strength, as for trainer.task; what they were trained with when empty.
      balance_strength: share of the logarithm of the training faces' class shares that is taken off the logits, as
        --balance=softmax with this strength would have had it from the start (Menon et al. 2021, arXiv 2007.07314):
        rare classes are answered more often, and the mean over the classes rises while accuracy may fall.
      flip: whether the faces that batch-norm statistics are measured on are mirrored by halves, as under recipe best.
    """

    sources: list[str] = field(default_factory=list)
    data: str = "data/faces"
    run_dir: str = "runs/average"
    held_out: float = public.HELD_OUT
    mapping: str = ""
    set_weights: str = ""
    labels: Literal["", Labels] = ""
    balance_strength: float = 0.0
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.balance_strength <= 1:
            raise InputError(f"`balance_strength` must be between 0 and 1. Received: {self.balance_strength}.")
        if len(self.sources) < (1 if self.balance_strength else 2):
            raise InputError(
                f"name at least two run folders, or one with --balance_strength. Received: {self.sources}."
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    config, _ = parse(
        AverageConfig,
        argv,
        prog="python -m trainer.average",
        description="Averages the weights of Fa-Nets that grew from each other, and scores the mean.",
        positional="sources",
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    average(config)
    return EXIT_OK


def average(config: AverageConfig) -> None:
    """Writes `fa_net/` as a training does, with config.json, metrics.json and evaluation.html.

    Raises:
      InputError: when the run folder is taken, the networks differ, have other labels than the data, or one knows the
        validation part; nothing is written then.
    """
    # TensorFlow comes with them: --help does without.
    from trainer import evaluate, runtime
    from trainer.batch_statistics import BatchStatistics
    from trainer.callbacks import State
    from trainer.fa_net import aligned_crop, read_faces, temperature_of
    from trainer.shown import sampling_of, statistics_batches

    run = RunFolder(config.run_dir)
    if run.fa_net.has_spec:
        raise InputError(f"`run_dir` {config.run_dir!r} has a network already; name another.")
    loaded = [fa_net.load(network_folder(source)) for source in config.sources]
    specs = [spec for _, spec in loaded]
    check_alike(config.sources, specs)
    task = of(
        TaskConfig,
        task=specs[0].task,
        data=config.data,
        run_dir=config.run_dir,
        held_out=config.held_out,
        **flags_of(config),
    )
    faces = read_faces(task)
    # Now, and not by the evaluation: nothing is written yet.
    for source, spec in zip(config.sources, specs, strict=True):
        evaluate.check_labels(spec, faces, source)
    check_unseen(config.sources, specs, faces)
    model, spec = (
        loaded[0][0],
        dataclasses.replace(
            specs[0], data_fingerprint=faces.fingerprint, aligned_crop=aligned_crop(specs[0].crop, faces)
        ),
    )
    model.set_weights(
        [np.mean(weights, axis=0) for weights in zip(*(net.get_weights() for net, _ in loaded), strict=True)]
    )
    train = faces.parts["train"]
    if len(specs) > 1:
        BatchStatistics(model, statistics_batches(train, spec, min(BATCH_SIZE, len(train)), 0, config.flip)).refresh()
    if config.balance_strength:
        balance(model, train.masses(len(faces.expressions), sampling_of(task.fa_net)), config.balance_strength)
    temperature = temperature_of(model, spec, faces, float(np.mean([spec.temperature for spec in specs])))
    lineage.write(run.fa_net.path, lineage.merged(*(lineage.read(source) for source in config.sources)))
    fa_net.save(run.fa_net.path, model, dataclasses.replace(spec, temperature=temperature))
    notes = [f"{config.balance_strength:g} of the logarithm of the class shares was taken off the logits afterwards"]
    state = State(
        fingerprint=faces.fingerprint,
        expressions=list(faces.expressions),
        averaged=len(specs),
        notes=notes if config.balance_strength else [],
    )
    run.fa_net.write_history(dataclasses.asdict(state))
    about = {"command": sys.argv, "versions": runtime.versions(), "machine": runtime.machine()}
    recipes = sorted({name for source in config.sources for name in recipes_of(source)})
    balanced = {"balance_strength": config.balance_strength} if config.balance_strength else {}
    run.write_config({"flags": to_dict(task), "averaged": config.sources, "recipes": recipes, **about, **balanced})
    run.fa_net.finish(told(len(specs)))
    evaluate.run(task)


def told(networks: int) -> str:
    """Returns whose weights these are."""
    return "the weights of one network" if networks == 1 else f"the mean of {networks} networks' weights"


def flags_of(config: AverageConfig) -> dict[str, str]:
    """Returns the flags of the networks' trainings that say what their faces are called and how often they are seen.

    Raises:
      InputError: when the trainings differ in one that the command does not give.
    """
    found: dict[str, str] = {}
    known = {source: flags for source in config.sources if (flags := config_of(source).get("flags"))}
    for name in TAKEN:
        values = {source: flags[name] for source, flags in known.items() if name in flags}
        if given := getattr(config, name, ""):
            found[name] = given
        elif len(set(values.values())) > 1:
            raise InputError(f"the trainings differ in `{name}`: {values}; say which by --{name}.")
        elif values:
            found[name] = next(iter(values.values()))
    return found


def balance(model: Any, counts: np.ndarray, strength: float) -> None:
    """Takes a share of the logarithm of the classes' shares off a network's logits, in the bias of its head.

    Args:
      model: the network.
      counts: float (num_classes,), training faces of each class, those that people voted on by their votes' shares;
        one of less than a face is taken for one face.
      strength: 0 changes nothing, 1 has the network answer as if all classes were equally frequent.

    Raises:
      InputError: when the head has no bias.
    """
    from fer_tf.models.light_cnn import LOGITS_LAYER

    counts = np.maximum(counts, 1.0)
    bias = model.get_layer(LOGITS_LAYER).bias
    if bias is None:
        raise InputError("`balance_strength` is kept in the bias of the network's head. A light_cnn_29_v2 has none.")
    bias.assign(bias - strength * np.log(counts / counts.sum()).astype(np.float32))


def recipes_of(source: str) -> tuple[str, ...]:
    """Returns the recipes that a network was trained by, as far as its run folder tells."""
    config = config_of(source)
    return tuple(config.get("recipes", [config.get("flags", {}).get("recipe", "unknown")]))


def config_of(source: str) -> dict[str, Any]:
    """Returns the config.json of the run that a network is of; empty without one, as of a published network."""
    runs = (RunFolder(source), RunFolder.of_network(network_folder(source)))
    return next((config for run in runs if (config := run.read_config())), {})


def check_alike(sources: Sequence[str], specs: Sequence[FaNetSpec]) -> None:
    """Raises InputError when two networks differ in what their weights mean."""
    for source, spec in zip(sources, specs, strict=True):
        for name in SHARED:
            first, value = getattr(specs[0], name), getattr(spec, name)
            if first != value:
                raise InputError(f"{source!r} has the {name} {value!r}. {sources[0]!r} has {first!r}.")


def check_unseen(sources: Sequence[str], specs: Sequence[FaNetSpec], faces: FaceSet) -> None:
    """Raises InputError when a network was trained on other data, or on faces that this has in val or test."""
    for source, spec in zip(sources, specs, strict=True):
        if spec.task in TASKS and spec.data_fingerprint != faces.fingerprint:
            raise InputError(f"{source!r} was trained on other data than this (fingerprint {faces.fingerprint[:12]}).")
        if notes := lineage.check("sources", source, faces, spec.task):
            raise InputError(f"{notes[0]}; give the --held_out of its training, or 0 for no validation part.")


if __name__ == "__main__":
    sys.exit(run_command(main))
