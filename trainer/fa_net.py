"""The stage that trains Fa-Net (section 4.2) on a task's faces, real and synthetic."""

from __future__ import annotations

import dataclasses
import logging
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_tf import files
from fer_tf.config import replace
from fer_tf.data import inputs, mixed, public
from fer_tf.data.inputs import FaceSet
from fer_tf.data.tta import TTA, TtaName
from fer_tf.errors import InputError
from fer_tf.evaluation import calibration, metrics
from fer_tf.labels import RARE_TASKS
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.label_loss import LabelCrossentropy
from fer_tf.models.loss_scale import scaled
from fer_tf.models.precision import dtype_policy
from fer_tf.run_folder import RunFolder
from fer_tf.synthesis import shards
from trainer import borrowed, persons_out, runtime, tensorboard
from trainer.batch_statistics import BatchStatistics
from trainer.callbacks import Checkpoints, EpochEnd, State, StopOnNan, set_loss_scale
from trainer.config import TaskConfig
from trainer.recipes import Phase, Recipe, recipe_of
from trainer.shown import pass_faces, sampling_of, statistics_batches, training_batches
from trainer.teaching import student


def run(config: TaskConfig) -> None:
    """Trains to the end, going on where an earlier call stopped; does nothing when finished."""
    if config.folder.fa_net.is_finished and not config.fa_net.persons_left_out:
        borrowed.check_finished(config)
        logging.info("fa_net is finished in %s", config.folder.fa_net.path)
        return
    faces = read_faces(config)
    if not config.fa_net.persons_left_out:
        train(config, faces)
        return
    # What cannot be is said before hours of training.
    persons_out.check(faces, config.task)
    if "averaged" in config.folder.read_config():
        raise InputError(
            f"`persons_left_out`: {config.run.run_dir!r} holds a mean of trainings' weights, which is not trained "
            "without a person; give the run_dir of a training."
        )
    borrowed.check(config, persons_out.all_tested(faces, config.task))
    train(config, faces)
    leave_persons_out(config, faces)


def train(config: TaskConfig, faces: FaceSet) -> None:
    """Trains on some faces to the end, going on where an earlier call stopped; does nothing when finished.

    Raises:
      InputError: when what is there was trained on other faces.
    """
    if config.folder.fa_net.is_finished:
        folder = config.folder.fa_net.path
        lineage.check_judged(fa_net.load_spec(folder), faces, folder, config.task)
        return
    recipe = recipe_of(config.task, config.fa_net)
    report_classes(faces)
    strategy = runtime.strategy(config.run)
    keep_last = keeps_last(config, faces)
    notes = borrowed.check(config, faces)
    borrowed.record_lineage(config, faces)
    state = State(
        fingerprint=faces.fingerprint,
        synthetic_fingerprint=faces.synthetic_fingerprint,
        expressions=list(faces.expressions),
        faces=len(faces.parts["train"]),
        temperature=borrowed.first_temperature(config, faces),
        notes=list(notes),
    )
    with dtype_policy(runtime.precision(config.run)):
        for phase in recipe.phases():
            if state.epoch < phase.end:
                _train_phase(config, recipe, faces, strategy, state, phase, keep_last)
    finish(config, faces, state)
    runtime.wait_for_all(strategy)


def leave_persons_out(config: TaskConfig, faces: FaceSet) -> None:
    """Answers every face of the set with a Fa-Net that was trained on all other persons, and keeps the answers."""
    network = config.folder.fa_net

    def answers(person: str, own: inputs.Part) -> np.ndarray:
        others = persons_out.without(faces, config.task, person)
        # No validation part is left that could choose an epoch.
        config_of_one = replace(config, run_dir=persons_out.folder_of(network, person), keep="last")
        train(config_of_one, others)
        model, spec = fa_net.load(config_of_one.folder.fa_net.path)
        logits = predict(model, others.parts["test"], spec, config.fa_net.tta)
        found = dict(zip(others.parts["test"].image_ids, logits, strict=True))
        files.delete_folder(config_of_one.folder.fa_net.checkpoints)
        keras.backend.clear_session()
        return np.stack([found[image_id] for image_id in own.image_ids])

    persons_out.answer_all(config.folder, network, faces, answers, config.fa_net.tta)


def read_faces(config: TaskConfig) -> FaceSet:
    """Returns the task's faces, with the run's synthetic ones in the training part when there are any."""
    if config.task == mixed.NAME:
        return mixed.read(config.data, config.mapping, config.set_weights, config.held_out)
    if config.is_public:
        return public.read(config.task, config.data, config.held_out)
    run = RunFolder(config.fa_net.synthetic_from or config.run.run_dir)
    synthetic = shards.faces_of(run) if config.fa_net.synthetic else ()
    faces = inputs.read_records(config.data, config.task, synthetic)
    source = config.fa_net.synthetic_from
    if config.fa_net.synthetic and source and not faces.synthetic_fingerprint:
        raise InputError(
            f"`synthetic_from` {source!r} has no synthetic faces of {config.task} in {run.synthetic}; name a run "
            "folder of this task whose stage synthesize is done, and has kept some."
        )
    if synthetic and not faces.synthetic_fingerprint:
        logging.warning("%s holds no synthetic face of %s: the real ones are used alone", run.synthetic, config.task)
    return faces


def report_classes(faces: FaceSet) -> None:
    """Logs the parts' sizes and warns of classes without a training face, which can never be predicted well."""
    for split, part in faces.parts.items():
        logging.info("%s: %d faces of %d classes", split, len(part), len(np.unique(part.labels)))
    train, test = (np.unique(faces.parts[split].labels) for split in ("train", "test"))
    if missing := [faces.expressions[label] for label in sorted(set(test.tolist()) - set(train.tolist()))]:
        logging.warning("no training face of %s, which the test part has; their recall will be 0", ", ".join(missing))


def keeps_last(config: TaskConfig, faces: FaceSet) -> bool:
    """Whether the last epoch is kept, which it also is when no validation part can choose one.

    Raises:
      InputError: when the best epoch is asked for and the validation part is empty.
    """
    if len(faces.parts["val"]):
        if config.fa_net.keep == "auto" and (blind := not_validated(faces)):
            logging.info("the validation part does not ask what %s ask: the last epoch is kept", ", ".join(blind))
            return True
        return config.keeps_last
    if config.fa_net.keep == "best":
        raise InputError(
            f"`keep` 'best' needs a validation part to choose the epoch on. {config.data} has none; give --keep=last."
        )
    logging.info("no validation part: the last epoch is kept, and the log has no scores of it")
    return True


def not_validated(faces: FaceSet) -> list[str]:
    """Returns the sets of a mixture that train, and of which the validation part has nothing, or nothing rare."""
    trained, validated = (set(faces.parts[split].sets.tolist()) for split in ("train", "val"))
    return sorted(name for name in trained & set(faces.set_classes) if name in RARE_TASKS or name not in validated)


def spec_of(config: TaskConfig, recipe: Recipe, faces: FaceSet) -> FaNetSpec:
    """Returns the spec of the network that a run trains."""
    return FaNetSpec(
        expressions=faces.expressions,
        variant=config.fa_net.variant,
        image_size=recipe.image_size,
        channels=config.fa_net.channels,
        crop=recipe.crop,
        aligned_crop=aligned_crop(recipe.crop, faces),
        blur=recipe.blur,
        standardize=recipe.standardize,
        dropout=recipe.dropout,
        task=config.task,
        data_fingerprint=faces.fingerprint,
        landmark_model=faces.landmark_model,
    )


def aligned_crop(crop: float, faces: FaceSet) -> float:
    """Returns a spec's `aligned_crop` for a network that sees `crop` of the pictures of a set."""
    return 0.0 if faces.picture_share == 1 else crop * faces.picture_share


def _train_phase(
    config: TaskConfig,
    recipe: Recipe,
    faces: FaceSet,
    strategy: tf.distribute.Strategy,
    state: State,
    phase: Phase,
    keep_last: bool,
) -> None:
    """Trains from the newest checkpoint to the end of a phase; phases differ in the faces alone."""
    end, image_size = phase.end, phase.image_size
    train = faces.parts["train"]
    batch_size = runtime.even(min(recipe.batch_size, len(train)), strategy)
    sampling = sampling_of(config.fa_net)
    whole = pass_faces(train, len(faces.expressions), sampling)
    steps = max(1, (config.fa_net.epoch_faces or recipe.passes * whole) // batch_size)
    spec = dataclasses.replace(spec_of(config, recipe, faces), image_size=image_size)
    model, checkpoints = _restored(config, recipe, faces, strategy, state, spec, steps, phase.augmentation.flip)
    if state.epoch >= end:
        return
    measured_on = statistics_batches(train, spec, batch_size, config.run.seed, phase.augmentation.flip)
    shown = train.seen(config.fa_net.epoch_faces / whole) if config.fa_net.epoch_faces else train
    batches = training_batches(
        shown, spec, batch_size, config.run.seed, phase.augmentation, state.epoch, sampling, steps
    )
    logging.info("epochs %d to %d at %d pixels, %d steps of %d", state.epoch + 1, end, image_size, steps, batch_size)
    pictures = tensorboard.TrainingPictures(config.folder, spec.expressions, recipe.epochs)
    pictures.inputs(batches, state.epoch)
    judge = _Judge(config, faces, spec, model, measured_on if recipe.ema else None, pictures)
    model.fit(
        runtime.distribute(batches, batch_size, strategy),
        initial_epoch=state.epoch,
        epochs=end,
        steps_per_epoch=steps,
        shuffle=False,  # The pipeline does; Keras would warn that it does not.
        verbose=1 if sys.stdout.isatty() else 0,
        callbacks=[
            StopOnNan(state.epoch * steps),
            EpochEnd(checkpoints, judge.evaluate, judge.keep, steps * batch_size, recipe.epochs, keep_last),
            *tensorboard.callbacks(config.run),
        ],
    )


def _prior(config: TaskConfig, faces: FaceSet) -> np.ndarray | None:
    """Returns each class's share of the targets of an epoch, where the loss is to undo it."""
    if not config.fa_net.balance.startswith("softmax"):
        return None
    if config.fa_net.balance == "softmax_real" and faces.synthetic_fingerprint:
        faces = read_faces(replace(config, synthetic=False))
    masses = faces.parts["train"].masses(len(faces.expressions), sampling_of(config.fa_net))
    return masses / masses.sum()


def _restored(
    config: TaskConfig,
    recipe: Recipe,
    faces: FaceSet,
    strategy: tf.distribute.Strategy,
    state: State,
    spec: FaNetSpec,
    steps: int,
    mirror: bool,
) -> tuple[keras.Model, Checkpoints]:
    """Returns the compiled network as the newest checkpoint has it, or fresh; `state` is filled too."""
    folder = config.folder.fa_net
    with strategy.scope():
        model = fa_net.build(spec, kernel_variance=recipe.kernel_variance, seed=config.run.seed)
        optimizer = recipe.build_optimizer(steps)
        # Slots that do not exist yet would be restored late or never.
        optimizer.build(model.trainable_variables)
    # Outside the scope: the state is a text, which several workers cannot mirror.
    checkpoints = Checkpoints(folder.checkpoints, model, optimizer, state)
    resumed = checkpoints.restore()
    state.check(faces, folder.path)
    with strategy.scope():
        if not resumed and config.fa_net.init_from:
            borrowed.init_from(model, spec, config.fa_net.init_from)
            if recipe.has_small_kernels:
                borrowed.shrink_kernels(model, recipe.kernel_variance[0])
        elif not resumed:
            fa_net.begin(model, spec)
        if config.fa_net.teacher:
            teacher = borrowed.load_teacher(config.fa_net.teacher, spec)
            model = student(model, teacher, config.fa_net.teacher_weight, mirror)
        model.compile(
            scaled(optimizer),
            LabelCrossentropy(recipe.label_smoothing, _prior(config, faces), config.fa_net.balance_strength),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=False,
        )
        set_loss_scale(model, state.loss_scale)
    return model, checkpoints


class _Judge:
    """Scores an epoch's (averaged) weights on the validation part, if any, in a network of its own, and keeps them."""

    def __init__(
        self,
        config: TaskConfig,
        faces: FaceSet,
        spec: FaNetSpec,
        model: keras.Model,
        measured_on: tf.data.Dataset | None,
        pictures: tensorboard.TrainingPictures,
    ) -> None:
        self._folder = config.folder.fa_net.path
        self._spec = spec
        self._faces, self._part = faces, faces.parts["val"]
        # Once: tracing it anew for each epoch would cost more than a small part itself.
        self._batches = judged_batches(self._part, spec)
        self._model, self._pictures = model, pictures
        self._judged = fa_net.build(spec)
        self._statistics = None if measured_on is None else BatchStatistics(self._judged, measured_on)

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Returns accuracy and loss of the weights that the trained network holds now, after `epoch` epochs.

        Without a validation part there are none to return.
        """
        self._judged.set_weights(self._model.get_weights())
        if self._statistics:
            self._statistics.refresh()
        if not len(self._part):
            return {}
        logits = mixed.answerable(self._faces, "val", logits_of(self._judged, self._batches, self._spec.num_classes))
        self._pictures.validation(self._part.labels, logits, epoch)
        return {
            "val_accuracy": metrics.accuracy(self._part.labels, logits.argmax(1)),
            "val_mean_class_accuracy": metrics.mean_class_accuracy(
                metrics.confusion_matrix(self._part.labels, logits.argmax(1), self._spec.num_classes)
            ),
            "val_loss": calibration.cross_entropy(logits, self._part.labels),
        }

    def keep(self) -> None:
        """Saves the weights that were judged last, for use at the size they were judged at."""
        if runtime.is_chief():
            fa_net.save(self._folder, self._judged, self._spec)


def predict(model: keras.Model, part: inputs.Part, spec: FaNetSpec, tta: TtaName = "none") -> np.ndarray:
    """Returns logits, float32 (N, num_classes), in the part's order: their mean over the views of `tta`."""
    views = TTA[tta]
    seen = [judged_batches(part, spec, share) for share in views.shares]
    return np.mean([logits_of(model, batches, spec.num_classes, views.mirror) for batches in seen], axis=0)


def judged_batches(part: inputs.Part, spec: FaNetSpec, share: float = 1.0) -> tf.data.Dataset:
    """Returns a part's faces as a network is judged on them, in order; `share` is of the side that it sees."""
    return inputs.evaluation_batches(part, image_size=spec.image_size, channels=spec.channels, crop=share * spec.crop)


def logits_of(model: keras.Model, batches: tf.data.Dataset, num_classes: int, mirror: bool = False) -> np.ndarray:
    """Returns logits, float32 (N, num_classes), in the batches' order; `mirror` averages with the mirror image's."""

    def forward(images: Any) -> np.ndarray:
        logits = model.predict_on_batch(images)
        return (logits + model.predict_on_batch(images[:, :, ::-1])) / 2.0 if mirror else logits

    rows = [forward(images) for images, _ in batches]
    return np.concatenate(rows) if rows else np.zeros((0, num_classes), np.float32)


def temperature_of(model: keras.Model, spec: FaNetSpec, faces: FaceSet, otherwise: float) -> float:
    """Returns the temperature that fits a network's answers to the validation part, or `otherwise` without one."""
    if not len(val := faces.parts["val"]):
        return otherwise
    return fitted_temperature(predict(model, val, spec), faces)


def fitted_temperature(logits: np.ndarray, faces: FaceSet) -> float:
    """Returns the temperature that fits answers to the validation part, each among the classes that its set has."""
    return calibration.fit_temperature(mixed.answerable(faces, "val", logits), faces.parts["val"].labels)


def finish(config: TaskConfig, faces: FaceSet, state: State) -> None:
    """Fits the temperature of the kept weights on the validation part, stores it and marks the run as finished.

    Without a validation part it stays that of the Fa-Net that the run began with, if any: it was fitted on faces that
    that network had not seen, and this one's answers are about as sure.
    """
    if not runtime.is_chief():
        return
    folder = config.folder.fa_net
    model, spec = fa_net.load(folder.path)
    temperature = temperature_of(model, spec, faces, state.temperature)
    fa_net.save_spec(folder.path, dataclasses.replace(spec, temperature=temperature))
    folder.write_history(dataclasses.asdict(state))
    folder.finish(f"{state.epoch} epochs, {state.seconds:.0f} s")
    score = f", val accuracy {state.best_score:.4f}" if len(faces.parts["val"]) else ""
    logging.info("fa_net finished: kept epoch %d%s", state.best_epoch, score)
