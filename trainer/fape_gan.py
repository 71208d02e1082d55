"""Stage `fape_gan`: trains FaPE-GAN on the pairs of a task's training part (section 4.2)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from fer_tf import files
from fer_tf.data.inputs import read_records
from fer_tf.data.pairs import PairStream, PairSurvey, survey
from fer_tf.errors import InputError
from fer_tf.models import lineage
from fer_tf.models.face_features import DLIB, FaceFeatures
from fer_tf.models.fape_gan import FapeGan, save_generator, spec_of
from fer_tf.models.precision import dtype_policy
from fer_tf.run_folder import NetworkFolder, network_folder
from trainer import runtime
from trainer.config import GanOptions, TaskConfig
from trainer.gan_monitor import HeldOut, Monitor


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how large FaPE-GAN trains; the flags' zeros stand for these.

    Attributes:
      epochs: passes over the pairs.
      batch_size: pairs in a global step.
      image_size: side of the images, pixels.
      channels: channels of the widest maps.
    """

    epochs: int
    batch_size: int
    image_size: int
    channels: int


# The paper gives the epochs alone (section 5); batch and width are those of image-to-image GANs of its time.
SCHEDULES = {"paper": Schedule(100, 16, 128, 64), "best": Schedule(40, 16, 64, 32)}


def is_wanted(config: TaskConfig) -> bool:
    """Whether a run makes its own synthetic faces; a stage that is asked for by name always runs."""
    return config.stage != "all" or (config.fa_net.synthetic and not config.fa_net.synthetic_from)


def schedule_of(options: GanOptions) -> Schedule:
    """Returns gan_recipe's schedule with the flags that were given."""
    given = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "image_size": options.image_size,
        "channels": options.channels,
    }
    return dataclasses.replace(SCHEDULES[options.recipe], **{name: value for name, value in given.items() if value})


def face_net_of(options: GanOptions) -> str:
    """Returns the Fa-Net whose inner maps FaPE-GAN matches, as gan_face_net names it, or empty when it matches none."""
    chosen = options.face_net or ("pretrained" if options.recipe == "best" else "none")
    return "" if chosen == "none" or not options.face_weight else chosen


def build(options: GanOptions, seed: int) -> FapeGan:
    """Returns an untrained FaPE-GAN, in the current dtype policy and strategy."""
    schedule, face_net = schedule_of(options), face_net_of(options)
    weight = options.face_weight if face_net else 0.0
    spec = spec_of(options.recipe, schedule.image_size, schedule.channels, face_weight=weight, augment=options.augment)
    return FapeGan(spec, seed, FaceFeatures.load(network_folder(face_net)) if face_net else None)


def run(config: TaskConfig) -> None:
    """Trains FaPE-GAN, or goes on where an interrupted run stopped; does nothing when it is finished.

    Raises:
      InputError: no pairs to train on, or flags that do not fit them.
      TrainingFailed: a loss became nan or infinite, or the generator collapsed.
    """
    folder = config.folder.gan
    if not is_wanted(config) or (config.stage == "all" and config.synthesis.synthetic_ratio == 0):
        logging.info("no FaPE-GAN: this run needs no synthetic faces of its own")
        return
    if folder.is_finished:
        logging.info("FaPE-GAN is finished: %s", folder.path)
        return
    if config.run.strategy == "multi_worker":
        raise InputError("`strategy` multi_worker trains Fa-Net alone; give --strategy=mirrored to train FaPE-GAN.")
    strategy, schedule = runtime.strategy(config.run), schedule_of(config.gan)
    schedule = dataclasses.replace(schedule, batch_size=runtime.even(schedule.batch_size, strategy))
    found = survey(config.data, config.task)
    _report(found, config, schedule)
    _check_lineage(config, folder)
    stream = PairStream(
        config.data,
        config.task,
        "train",
        schedule.image_size,
        schedule.batch_size,
        config.run.seed,
        config.gan.recipe == "best",
    )
    steps = found.splits["train"] // schedule.batch_size
    policy, predictor = runtime.precision(config.run), config.synthesis.landmark_model
    with dtype_policy(policy), strategy.scope():
        keras.utils.set_random_seed(config.run.seed)
        gan = build(config.gan, config.run.seed)
        gan.compile(loss_scale=policy == "mixed_float16")
        held_out = dataclasses.replace(stream, split="val", flip=False)
        monitor = Monitor(config.folder, _pairs(held_out, found, config.gan.quality_pairs, predictor))
        trainer = _Trainer(config, gan, stream, steps, monitor, folder)
        history = trainer.train(schedule.epochs)
    metrics = {
        "survey": _plain(found),
        "last_epoch": history[-1],
        "held_out": _judge(
            config, gan, _pairs(held_out, found, config.gan.final_pairs, config.synthesis.landmark_model)
        ),
    }
    folder.write_metrics(metrics)
    folder.finish(f"{schedule.epochs} epochs, {schedule.epochs * steps} steps")


def _check_lineage(config: TaskConfig, folder: NetworkFolder) -> None:
    """Refuses a gan_face_net that has seen the task's test part, and records which images go into the generator."""
    faces = read_records(config.data, config.task)
    chosen = face_net_of(config.gan)
    # dlib's descriptor has seen nobody of this data: its pictures and its names are others'.
    compared = {"gan_face_net": chosen} if chosen not in ("", DLIB) else {}
    for flag, source in compared.items():
        for note in lineage.check(flag, source, faces, config.task):
            logging.warning("%s", note)
    if not lineage.is_settled(folder):
        lineage.write(folder.path, lineage.of_training(faces, config.task, compared))


def _pairs(stream: PairStream, found: PairSurvey, limit: int, landmark_model: str) -> HeldOut | None:
    """Returns the held-out pairs to measure, or None when there are none or none are wanted."""
    return HeldOut(stream, limit, landmark_model) if found.splits.get("val") and limit else None


def _judge(config: TaskConfig, gan: FapeGan, held_out: HeldOut | None) -> dict[str, Any]:
    """Returns how good the trained generator's faces are, beside the real targets at its image size."""
    if held_out is None:
        return {"pairs": 0}
    faces = held_out.generate(gan)
    generated = held_out.measure(faces)
    # It needs a trained Fa-Net: the run's own, or the one to begin with.
    folders = [network_folder(source) for source in (config.run.run_dir, config.fa_net.init_from) if source]
    found = [folder for folder in folders if NetworkFolder(folder).has_weights]
    if found:
        generated["held_out_frechet"] = held_out.frechet(faces, found[0])
    else:
        logging.info("no Fréchet distance: it needs a trained Fa-Net, in the run or by --init_from")
    logging.info("FaPE-GAN on %d held-out pairs: %s", len(held_out), _line(generated))
    return {"pairs": len(held_out), "generated": generated, "real_targets": held_out.reference()}


def _report(found: PairSurvey, config: TaskConfig, schedule: Schedule) -> None:
    """Logs what the pairs hold, and warns of poses that cannot be learned well."""
    logging.info("pairs of %s: %s; same moment: %d", config.task, found.splits, found.moments)
    if found.splits["train"] < schedule.batch_size:
        raise InputError(
            f"`gan_batch_size` {schedule.batch_size} is more than the {found.splits['train']} training pairs; give a "
            "smaller one."
        )
    if not found.splits.get("val"):
        logging.warning("task %s has no held-out pairs: FaPE-GAN's faces are not measured", config.task)
    for pose, images in found.targets.items():
        if images == 1:
            logging.warning("pose %s has 1 training image: what is generated in it will copy that face's points", pose)


def _plain(found: PairSurvey) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "poses": {f"{a}>{b}": n for (a, b), n in sorted(found.poses.items())}}


class _Trainer:
    """The loop: epochs of the stream, a checkpoint of everything, and a look at the held-out faces after each epoch."""

    def __init__(
        self, config: TaskConfig, gan: FapeGan, stream: PairStream, steps: int, monitor: Monitor, folder: NetworkFolder
    ) -> None:
        self._config, self._gan, self._stream, self._steps = config, gan, stream, steps
        self._monitor, self._folder = monitor, folder
        # The data's position: batches are a function of seed, epoch and step, so these two numbers hold it.
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        # What the epoch's means are made of, total and count of each: an epoch that goes on logs all of its steps.
        self._sums = tf.Variable(tf.zeros((len(gan.trackers), 2)), trainable=False)
        parts = {
            "generator": gan.generator,
            "discriminator": gan.discriminator,
            "generator_optimizer": gan.generator_optimizer,
            "discriminator_optimizer": gan.discriminator_optimizer,
            "average": [variable.value for variable in gan.average],
            "epoch": self.epoch,
            "step": self.step,
        }
        checkpoint = tf.train.Checkpoint(**parts, sums=self._sums)
        self._manager = tf.train.CheckpointManager(checkpoint, folder.checkpoints, max_to_keep=1)
        if latest := self._manager.latest_checkpoint:
            # `tf.train.load_checkpoint` takes the name of one in another file system for a folder.
            names = tf.compat.v1.train.NewCheckpointReader(latest).get_variable_to_shape_map()
            # Version 0.1 did not keep the sums.
            known = checkpoint if any(name.startswith("sums/") for name in names) else tf.train.Checkpoint(**parts)
            known.restore(latest).assert_consumed()
            checkpoint.save_counter.assign(known.save_counter)
            logging.info("FaPE-GAN goes on at epoch %d, step %d", self.epoch.numpy(), self.step.numpy())

    def train(self, epochs: int) -> list[dict[str, Any]]:
        """Trains to the given number of epochs and returns their numbers.

        Raises:
          TrainingFailed: a loss became nan or infinite, or the generator collapsed, now or in an earlier call.
        """
        history = (self._folder.read_history() or [])[: int(self.epoch.numpy())]
        # The epoch that ended in a collapse is in the checkpoint: going on would end as finished.
        self._monitor.stop_if_collapsed(history)
        while (epoch := int(self.epoch.numpy())) < epochs:
            history.append({"epoch": epoch, **self._one_epoch(epoch), **self._monitor.after_epoch(self._gan, epoch)})
            logging.info("FaPE-GAN epoch %d/%d: %s", epoch + 1, epochs, _line(history[-1]))
            # History first: a run killed between the two repeats the epoch and writes the same line again.
            self._check_finite()
            with self._writing():
                self._folder.write_history(history)
                save_generator(self._folder.path, self._gan.averaged_generator(), self._gan.spec)
                self.epoch.assign(epoch + 1)
                self.step.assign(0)
                self._sums.assign(tf.zeros_like(self._sums))
                self._manager.save()
            self._monitor.log(history[-1], epoch + 1)
            self._monitor.stop_if_collapsed(history)
        return history

    def _one_epoch(self, epoch: int) -> dict[str, float]:
        done = int(self.step.numpy())
        if done >= self._steps:
            sums = dict(zip(self._gan.trackers, self._sums.numpy(), strict=True))
            return {name: float(total / count) for name, (total, count) in sums.items() if count}
        fitted = self._gan.fit(
            self._stream.epoch(epoch, skip=done),
            steps_per_epoch=self._steps - done,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=[_EachStep(self, epoch, done)],
        )
        return {name: float(values[-1]) for name, values in fitted.history.items()}

    def checkpoint(self, step: int) -> None:
        self._check_finite()
        self.step.assign(step)
        values = [(tracker.total, tracker.count) for tracker in self._gan.trackers.values()]
        self._sums.assign([[float(keras.ops.convert_to_numpy(value)) for value in row] for row in values])
        with self._writing():
            self._manager.save()

    def continue_means(self) -> None:
        """Gives the trackers what they held at the checkpoint; `fit` begins each epoch with empty ones."""
        for tracker, (total, count) in zip(self._gan.trackers.values(), self._sums.numpy(), strict=True):
            tracker.total.assign(total)
            tracker.count.assign(count)

    def _check_finite(self) -> None:
        variables = [*self._gan.generator.weights, *self._gan.discriminator.weights, *self._gan.average]
        runtime.refuse_not_finite(variables, f"FaPE-GAN's weights in epoch {int(self.epoch.numpy()) + 1}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Tells a full disk as what it is."""
        try:
            yield
        except files.CannotWrite:
            raise
        except (OSError, tf.errors.OpError) as error:
            raise files.cannot_write(f"to {self._folder.path}", error) from error


class _EachStep(keras.callbacks.Callback):
    """Stops at the first loss that is no number, and saves now and then inside an epoch."""

    def __init__(self, trainer: _Trainer, epoch: int, done: int) -> None:
        super().__init__()
        self._trainer, self._epoch, self._done = trainer, epoch, done

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._done:
            self._trainer.continue_means()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = self._done + batch + 1
        bad = sorted(name for name, value in (logs or {}).items() if not math.isfinite(float(value)))
        if bad:
            raise runtime.TrainingFailed(
                f"FaPE-GAN: {', '.join(bad)} became nan or infinite at step {step} of epoch {self._epoch + 1}. The last"
                " checkpoint is from before it; begin anew in another --run_dir with another --seed, or with"
                " --precision=float32."
            )
        if step % self._trainer._config.gan.checkpoint_steps == 0:
            self._trainer.checkpoint(step)


def _line(entry: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in entry.items() if isinstance(value, float))
