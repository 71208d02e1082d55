"""What happens around Fa-Net's epochs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from fer_tf.models.loss_scale import LossScaleOptimizer, scaled
from fer_tf.models.precision import dtype_policy
from tests import programs
from trainer.callbacks import EpochEnd, State
from trainer.runtime import TrainingFailed


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_averaged_weights_are_judged_and_kept_in_every_precision(policy: str) -> None:
    with dtype_policy(policy):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        sgd = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        model.compile(scaled(sgd), "mse")
    assert isinstance(model.optimizer, LossScaleOptimizer) == (policy == "mixed_float16")
    trained, judged, kept = [], [], []

    def evaluate(epoch: int) -> dict[str, float]:
        judged.append(model.get_weights())
        return {"val_accuracy": 0.5}

    checkpoints = SimpleNamespace(state=State(), save=lambda: trained.append(model.get_weights()))
    epoch_end = EpochEnd(checkpoints, evaluate, lambda: kept.append(model.get_weights()), images=32, epochs=1)
    faces = np.random.default_rng(0).uniform(0, 0.1, (32, 3)).astype(np.float32)
    model.fit(faces, np.ones((32, 1), np.float32), batch_size=4, epochs=1, verbose=0, callbacks=[epoch_end])
    # `fit` ends with the averages in the network.
    for average, was_judged, was_kept, weight in zip(model.get_weights(), *judged, *kept, *trained, strict=True):
        np.testing.assert_array_equal(was_judged, was_kept)
        np.testing.assert_allclose(was_kept, average, atol=1e-6)
        assert np.abs(weight - average).max() > 1e-3


def test_weights_that_are_no_numbers_are_neither_kept_nor_checkpointed() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    written: list[str] = []
    checkpoints = SimpleNamespace(state=State(), save=lambda: written.append("checkpoint"))
    epoch_end = EpochEnd(checkpoints, lambda epoch: {}, lambda: written.append("weights"), 32, 2, keep_last=True)
    epoch_end.set_model(model)
    epoch_end.on_epoch_begin(0)
    epoch_end.on_epoch_end(0, {})
    assert written == ["weights", "checkpoint"]
    # What the last step of an epoch leaves; its loss was that of the weights before.
    model.layers[-1].kernel.assign(np.full((3, 2), np.nan, np.float32))
    epoch_end.on_epoch_begin(1)
    with pytest.raises(TrainingFailed, match=r"the weights at the end of epoch 2 became nan .* --precision=float32"):
        epoch_end.on_epoch_end(1, {})
    assert written == ["weights", "checkpoint"] and checkpoints.state.epoch == 1


OVERFLOW = """
import json
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from fer_tf.models.fape_gan import FapeGan, spec_of
from fer_tf.models.loss_scale import scaled
from fer_tf.models.precision import dtype_policy
from tests.fer_tf.models.test_fape_gan import batch_of
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = []
for bad in (0, 1):
    with dtype_policy("mixed_float16"), strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        model.compile(scaled(keras.optimizers.SGD(1e-3)), "mse", jit_compile=False)
    faces = np.ones((2, 1), np.float32)
    faces[bad] = 3000.0  # The gradient of this one is 1.8e7; float16 ends at 65504.
    model.fit(faces, np.ones((2, 1), np.float32), batch_size=2, shuffle=False, verbose=0)
    found.append([float(model.get_weights()[0][0, 0]), float(model.optimizer.dynamic_scale.numpy())])
with strategy.scope():
    gan = FapeGan(spec_of("paper", 16, 4), seed=1)
    gan.compile(loss_scale=True)
batch = {name: value.numpy() for name, value in batch_of(4).items()}
batch["source"][2:] = np.inf
gan.fit(tf.data.Dataset.from_tensor_slices(batch).batch(4), shuffle=False, verbose=0)
finite = all(np.isfinite(weight).all() for weight in gan.generator.get_weights() + gan.discriminator.get_weights())
scales = [float(one.dynamic_scale.numpy()) for one in (gan.generator_optimizer, gan.discriminator_optimizer)]
print("RESULT" + json.dumps([found, bool(finite), scales]))
"""


def test_a_step_that_overflows_on_any_replica_is_skipped_on_all() -> None:
    # In a process of its own: devices cannot be split once TensorFlow has started.
    done = programs.run(OVERFLOW, environment={"CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found, finite, scales = json.loads(done.stdout.split("RESULT")[1])
    assert found == [[1.0, 2.0**14]] * 2
    assert finite and scales == [2.0**14] * 2
