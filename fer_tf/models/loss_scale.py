"""The loss scale of float16 training, the same on every replica."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="fer_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' own, which skips a step when the gradients of any replica overflow, not those of the first alone.

    Keras takes the gradients for summed when it looks at them. They are not yet: an overflow on another replica than
    the first would go into every weight as nan. What is saved of it is what Keras' own saves.
    """

    def check_finite(self, grads: Any) -> Any:
        """Returns whether all gradients of all replicas are finite, bool scalar."""
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        overflown = tf.cast(tf.logical_not(finite), tf.float32)
        return tf.equal(context.all_reduce(tf.distribute.ReduceOp.SUM, overflown), 0.0)


def scaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer for `compile` in the current dtype policy: under mixed_float16 with a loss scale.

    Before `compile`, which would else put Keras' own around it.
    """
    if keras.config.dtype_policy().name != "mixed_float16":
        return optimizer
    return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
