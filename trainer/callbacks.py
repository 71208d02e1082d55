"""What happens around Fa-Net's epochs: evaluation of the averaged weights, the best weights, checkpoints, the log."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from fer_tf.data.inputs import FaceSet
from fer_tf.errors import InputError
from trainer import runtime
from trainer.runtime import TrainingFailed

# More steps than an epoch has; keeps the random numbers of epochs apart.
MAX_STEPS = 1_000_000


@dataclass
class State:
    """What a run remembers beside its weights; saved in the same checkpoint, so they always belong together.

    Attributes:
      epoch: finished epochs.
      best_score: accuracy on the validation part of the weights that are kept: the best so far, or the last; -1 before
        the first epoch and without such a part.
      best_epoch: the epoch, from 1, that they are from.
      steps: of the optimizer, over all sittings.
      seconds: time spent in training and validation, over all sittings.
      history: a row of numbers per epoch.
      fingerprint: of the real data.
      synthetic_fingerprint: of the synthetic faces in the training part; empty without any.
      expressions: label names.
      faces: of the training part, synthetic ones too.
      temperature: the one that stays without a validation part to fit it on.
      notes: what a reader of the scores must know of how the run began.
      averaged: of how many trainings the weights are the mean; 0 for a training of its own.
      loss_scale: under mixed_float16 the factor of the loss and the steps since it last changed; else empty.
    """

    epoch: int = 0
    best_score: float = -1.0
    best_epoch: int = 0
    steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    fingerprint: str = ""
    synthetic_fingerprint: str = ""
    expressions: list[str] = field(default_factory=list)
    faces: int = 0
    temperature: float = 1.0
    notes: list[str] = field(default_factory=list)
    averaged: int = 0
    loss_scale: list[float] = field(default_factory=list)

    def check(self, faces: FaceSet, folder: str) -> None:
        """Refuses to go on with data that is not what the checkpoint was trained on."""
        if list(self.expressions) != list(faces.expressions):
            raise InputError(
                f"{folder} was trained for the labels {tuple(self.expressions)}. Received data with the labels "
                f"{tuple(faces.expressions)}; take another --run_dir (and --init_from={folder} to start from its "
                "weights)."
            )
        if self.fingerprint != faces.fingerprint:
            raise InputError(
                f"{folder} was trained on data with fingerprint {self.fingerprint[:12]}. Received: "
                f"{faces.fingerprint[:12]}; the data changed since: take another --run_dir to train anew."
            )
        if self.faces != len(faces.parts["train"]):
            raise InputError(
                f"{folder} was trained on {self.faces} faces. Received: {len(faces.parts['train'])}; synthetic faces "
                "came or went since: take another --run_dir to train anew."
            )
        if self.synthetic_fingerprint != faces.synthetic_fingerprint:
            raise InputError(
                f"{folder} was trained on synthetic faces with fingerprint {self.synthetic_fingerprint[:12]}. "
                f"Received: {faces.synthetic_fingerprint[:12]}; they were made again since: take another --run_dir to "
                "train anew."
            )


class Checkpoints:
    """Saves and restores model, optimizer and State together; a save is complete or not there."""

    def __init__(self, folder: str, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: State) -> None:
        self.state = state
        self._folder = folder
        with tf.device("CPU:0"):
            self._json = tf.Variable("{}", dtype=tf.string, trainable=False)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, state=self._json)
        self._manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)

    def restore(self) -> bool:
        """Loads the newest checkpoint, if any, into model, optimizer and state."""
        if not self._manager.latest_checkpoint:
            return False
        # `expect_partial`: metrics and the save counter are not restored on purpose.
        status = self._manager.checkpoint.restore(self._manager.latest_checkpoint)
        status.assert_existing_objects_matched().expect_partial()
        for name, value in json.loads(self._json.numpy()).items():
            setattr(self.state, name, value)
        return True

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
          TrainingFailed: when the disk is full; the checkpoint before is intact.
        """
        self._json.assign(json.dumps(dataclasses.asdict(self.state)))
        try:
            self._manager.save(checkpoint_number=self.state.epoch)
        except (tf.errors.OpError, OSError) as error:
            raise TrainingFailed(
                f"cannot write the checkpoint of epoch {self.state.epoch} to {self._folder}: {error}; "
                "the one before is intact: free some space, then the same command goes on"
            ) from error


def loss_scale_of(model: keras.Model) -> list[float]:
    """Returns what `State.loss_scale` keeps of a compiled network."""
    optimizer = model.optimizer
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return []
    return [float(keras.ops.convert_to_numpy(value)) for value in (optimizer.dynamic_scale, optimizer.step_counter)]


def set_loss_scale(model: keras.Model, known: list[float]) -> None:
    """Gives a compiled network the loss scale that a run had reached; call in the strategy's scope.

    Keras wraps the optimizer when it compiles, after the checkpoint was read, and begins with its own scale.
    """
    if known and isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(known[0])
        model.optimizer.step_counter.assign(int(known[1]))


class StopOnNan(keras.callbacks.Callback):
    """Stops the run as soon as the loss is no number, naming the step and the learning rate."""

    def __init__(self, first_step: int) -> None:
        super().__init__()
        self._step = first_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise TrainingFailed(
                f"the loss became {loss} at step {self._step} (from 0) with learning rate {rate:.3g}; "
                "take another --run_dir with a lower --learning_rate, or with --precision=float32"
            )
        self._step += 1


class EpochEnd(keras.callbacks.Callback):
    """Evaluates an epoch's averaged weights, keeps the best or the last, writes the checkpoint and one line to the log.

    Args:
      checkpoints: where everything is saved.
      evaluate_fn: called with the finished epochs; returns numbers of the validation part, `val_accuracy` among them
        unless `keep_last`.
      keep_fn: called when the epoch's weights are to be kept, with the averaged weights in the model.
      images: images in an epoch.
      epochs: epochs of the whole run, for the log.
      keep_last: whether each epoch's weights replace those before, however accurate.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        evaluate_fn: Callable[[int], dict[str, float]],
        keep_fn: Callable[[], None],
        images: int,
        epochs: int,
        keep_last: bool = False,
    ) -> None:
        super().__init__()
        self._checkpoints, self._evaluate, self._keep = checkpoints, evaluate_fn, keep_fn
        self._keep_last = keep_last
        self._images, self._epochs = images, epochs
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.monotonic()
        # Dropout's masks follow from the epoch, because a checkpoint does not hold its generator.
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign([layer.seed, epoch * MAX_STEPS])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        state, logs = self._checkpoints.state, {} if logs is None else logs
        logs["images_per_second"] = self._images / (time.monotonic() - self._started)
        # A step of which only the weights tell, the last of an epoch: its loss was that of the weights before.
        runtime.refuse_not_finite(self.model.weights, f"the weights at the end of epoch {epoch + 1}")
        swap = self._averages()
        swap.on_test_begin()
        runtime.refuse_not_finite(self.model.weights, f"the averaged weights at the end of epoch {epoch + 1}")
        logs.update(self._evaluate(epoch + 1))
        # Equal scores: the later epoch, whose learning rate was lower.
        if self._keep_last or logs["val_accuracy"] >= state.best_score:
            state.best_score, state.best_epoch = logs.get("val_accuracy", -1.0), epoch + 1
            self._keep()
        swap.on_test_end()
        state.epoch = epoch + 1
        state.steps = int(keras.ops.convert_to_numpy(self._optimizer.iterations))
        state.seconds += time.monotonic() - self._started
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {name: float(value) for name, value in logs.items()} | {"learning_rate": rate}
        state.history = [*state.history[:epoch], row]
        state.loss_scale = loss_scale_of(self.model)
        if runtime.is_chief():
            self._checkpoints.save()
        kept = f"kept_val_accuracy {state.best_score:.4f}" if "val_accuracy" in row else "kept the last"
        logging.info(
            "epoch %d/%d %s %s (epoch %d)",
            epoch + 1,
            self._epochs,
            " ".join(f"{name} {value:.4g}" for name, value in row.items()),
            kept,
            state.best_epoch,
        )

    def _averages(self) -> keras.callbacks.Callback:
        """Keras' own swap of the averaged weights, or a callback that does nothing when none are kept."""
        if not self._optimizer.use_ema:
            return keras.callbacks.Callback()
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(self.model)
        return swap

    @property
    def _optimizer(self) -> keras.optimizers.Optimizer:
        # Under mixed_float16 Keras wraps it in a LossScaleOptimizer, whose own `use_ema` is always False.
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)
