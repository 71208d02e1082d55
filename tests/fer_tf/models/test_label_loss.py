"""Fa-Net's loss is cross-entropy; what a target does not know takes no part, and the prior makes classes equal."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.models.label_loss import LabelCrossentropy

LOGITS = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 0.3, -1.0, 2.0]], np.float32)


def test_with_full_targets_it_is_keras_own():
    targets = np.array([[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], np.float32)
    for smoothing in (0.0, 0.1):
        own = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        assert float(LabelCrossentropy(smoothing)(targets, LOGITS)) == pytest.approx(float(own(targets, LOGITS)), 1e-5)


def test_an_unknown_class_neither_counts_nor_learns():
    targets = np.array([[0.0, 1.0, 0.0, -1.0]], np.float32)
    logits = tf.Variable(LOGITS[:1])
    with tf.GradientTape() as tape:
        loss = LabelCrossentropy(0.1)(targets, logits)
    three = LabelCrossentropy(0.1)(targets[:, :3], LOGITS[:1, :3])
    assert float(loss) == pytest.approx(float(three), 1e-6)
    gradient = tape.gradient(loss, logits).numpy()
    assert gradient[0, 3] == 0.0 and np.abs(gradient[0, :3]).min() > 0.01


def test_the_prior_is_added_to_the_logits():
    prior = np.array([0.7, 0.2, 0.1, 0.0])
    targets = np.eye(4, dtype=np.float32)[[1, 2]]
    expected = LabelCrossentropy()(targets, LOGITS + np.log(np.maximum(prior, 1e-6)))
    assert float(LabelCrossentropy(prior=prior)(targets, LOGITS)) == pytest.approx(float(expected), 1e-5)
    half = LabelCrossentropy()(targets, LOGITS + 0.5 * np.log(np.maximum(prior, 1e-6)))
    assert float(LabelCrossentropy(prior=prior, strength=0.5)(targets, LOGITS)) == pytest.approx(float(half), 1e-5)
