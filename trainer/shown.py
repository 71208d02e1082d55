"""What Fa-Net's training is shown: how many faces, as which targets, in batches."""

from __future__ import annotations

import tensorflow as tf

from fer_tf.data import inputs
from fer_tf.data.augment import Augmentation
from fer_tf.data.parts import AS_THEY_ARE, Sampling
from fer_tf.models.fa_net import FaNetSpec
from trainer import runtime
from trainer.config import FaNetOptions

# Batches that the statistics of averaged weights are measured on.
STATISTICS_BATCHES = 30


def sampling_of(options: FaNetOptions) -> Sampling:
    """Returns what a run's targets are."""
    return Sampling(options.labels, balanced=options.balance == "sampling")


def pass_faces(train: inputs.Part, num_classes: int, sampling: Sampling) -> int:
    """Returns how many faces a pass shows."""
    return round(float(train.counts(num_classes, sampling).sum()))


def training_batches(
    train: inputs.Part,
    spec: FaNetSpec,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    first_epoch: int = 0,
    sampling: Sampling = AS_THEY_ARE,
    steps_per_epoch: int = 0,
    shared: bool = True,
) -> tf.data.Dataset:
    """Returns this worker's training faces as a network of the spec takes them; an epoch is one pass unless told.

    Where the faces are not shared, every worker gets all of them, in the same batches.
    """
    return inputs.training_batches(
        train,
        spec.num_classes,
        image_size=spec.image_size,
        channels=spec.channels,
        crop=spec.crop,
        batch_size=batch_size,
        # A set that is seen seldom may have less than a batch in a pass.
        steps_per_epoch=steps_per_epoch or max(1, pass_faces(train, spec.num_classes, sampling) // batch_size),
        augmentation=augmentation,
        seed=seed,
        sampling=sampling,
        first_epoch=first_epoch,
        worker=runtime.worker() if shared else 0,
        workers=runtime.workers() if shared else 1,
    )


def statistics_batches(train: inputs.Part, spec: FaNetSpec, batch_size: int, seed: int, flip: bool) -> tf.data.Dataset:
    """Returns the faces that batch-norm statistics are measured on.

    Always the same faces, so that a resumed run measures what an unbroken one does, and as whole as the judged ones; of
    a small set each face once. Every worker measures on all of them: its own share would give each other statistics,
    and none those of the network that is kept.
    """
    count = min(STATISTICS_BATCHES, max(1, len(train) // batch_size))
    return training_batches(train, spec, batch_size, seed, Augmentation(flip=flip), shared=False).take(count)
