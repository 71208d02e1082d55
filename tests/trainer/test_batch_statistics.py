"""Statistics of averaged weights are those of the faces they are measured on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fer_tf.models.light_cnn import light_cnn
from trainer.batch_statistics import BatchStatistics


def test_statistics_are_the_mean_over_the_batches_and_momentum_is_left_alone():
    model = light_cnn("light_cnn_9", 3, 16)
    faces = tf.random.stateless_uniform([6, 8, 16, 16, 1], [1, 2])
    batches = tf.data.Dataset.from_tensor_slices((faces, tf.zeros([6, 8])))
    norm, stem = model.get_layer("stem_norm"), model.get_layer("stem_conv")
    before = [norm.gamma.numpy(), stem.kernel.numpy()]
    BatchStatistics(model, batches).refresh()
    maps = np.stack([stem(batch).numpy() for batch in faces])
    np.testing.assert_allclose(norm.moving_mean, maps.mean((1, 2, 3)).mean(0), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, maps.var((1, 2, 3)).mean(0), rtol=1e-3, atol=1e-5)
    assert norm.momentum == 0.9
    for value, after in zip(before, [norm.gamma.numpy(), stem.kernel.numpy()], strict=True):
        np.testing.assert_array_equal(value, after)


def test_refreshing_twice_gives_the_same():
    model = light_cnn("light_cnn_9", 3, 16)
    faces = tf.random.stateless_uniform([2, 8, 16, 16, 1], [1, 2])
    statistics = BatchStatistics(model, tf.data.Dataset.from_tensor_slices((faces, tf.zeros([2, 8]))))
    statistics.refresh()
    first = model.get_layer("stage4_conv_norm").moving_variance.numpy()
    statistics.refresh()
    np.testing.assert_array_equal(model.get_layer("stage4_conv_norm").moving_variance, first)
