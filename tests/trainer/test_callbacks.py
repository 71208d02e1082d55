"""What happens around Fa-Net's epochs."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from fer_tf.models.precision import dtype_policy
from trainer.callbacks import EpochEnd, State


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_averaged_weights_are_judged_and_kept_in_every_precision(policy: str) -> None:
    with dtype_policy(policy):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        sgd = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        model.compile(sgd, "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
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
