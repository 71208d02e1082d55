"""What test_multi_worker runs: a few steps of Fa-Net on the workers that TF_CONFIG names, or on the same batches alone.

Usage: python -m tests.trainer.multi_worker_program DATA OUTPUT WORKERS STEPS BATCH_NORM
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from fer_tf.config import of
from fer_tf.data import inputs
from fer_tf.data.augment import Augmentation
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from trainer import runtime
from trainer.config import TaskConfig

BATCH, SIZE = 16, 32


def batches_of(data: str, worker: int, workers: int, steps: int) -> tf.data.Dataset:
    faces = inputs.read_records(data, "er_ss")
    return inputs.training_batches(
        faces.parts["train"],
        len(faces.expressions),
        image_size=SIZE,
        channels=1,
        crop=1.0,
        batch_size=BATCH,
        steps_per_epoch=steps,
        augmentation=Augmentation(),
        seed=3,
        worker=worker,
        workers=workers,
    )


def main(data: str, output: str, workers: int, steps: int, batch_norm: bool) -> None:
    config = of(TaskConfig, task="er_ss", stage="fa_net", data=data, run_dir=output + ".run")
    runtime.set_up(config)
    strategy = runtime.strategy(config.run)
    with strategy.scope():
        # Dropout draws in every replica for itself; without it two workers must equal one.
        spec = FaNetSpec(tuple("abcd"), image_size=SIZE, dropout=0.0, batch_norm=batch_norm)
        model = fa_net.build(spec, seed=3)
        # Without batch norm the published network diverges at the usual rate.
        optimizer = keras.optimizers.SGD(0.01 if batch_norm else 1e-4, momentum=0.9)
        model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    if runtime.workers() > 1:
        batches = runtime.distribute(batches_of(data, runtime.worker(), workers, steps), BATCH, strategy)
    else:
        shares = tf.data.Dataset.zip(tuple(batches_of(data, worker, workers, steps) for worker in range(workers)))
        batches = shares.map(lambda *parts: tuple(tf.concat(column, 0) for column in zip(*parts, strict=True)))
    history = model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0).history
    weights = {str(place): np.asarray(weight) for place, weight in enumerate(model.get_weights())}
    np.savez(f"{output}.{runtime.worker()}.npz", loss=history["loss"], **weights)
    runtime.wait_for_all(strategy)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "True")
