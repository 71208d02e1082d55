"""Augmentation is seeded, leaves an unchanged face alone, and moves pixels where it says."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data.augment import Augmentation, augment, mixed_labels
from fer_tf.data.preprocess import preprocess

LABELS = tf.one_hot([0, 1, 2, 0, 1, 2, 0, 1], 3)
ALL = Augmentation(flip=True, rotation=10, scale=0.1, shift=0.1, contrast=0.3, brightness=0.1, erase=0.5, mixup=0.3)


@pytest.fixture(scope="module")
def faces():
    coarse = tf.random.stateless_uniform([8, 6, 6, 1], [1, 2])
    return tf.image.resize(coarse, [48, 48], method="bicubic")


def run(faces, options, seed=(0, 0), size=48, crop=1.0):
    images, labels = augment(faces, LABELS, size, crop, list(seed), options)
    return images.numpy(), labels.numpy()


@pytest.mark.parametrize("enlarge", [1, 3])
@pytest.mark.parametrize(("size", "crop"), [(48, 1.0), (44, 44 / 48)])
def test_no_change_is_what_preprocess_makes(faces, size, crop, enlarge):
    faces = tf.clip_by_value(faces, 0.0, 1.0)
    images, labels = run(faces, Augmentation(enlarge=enlarge), size=size, crop=crop)
    expected = preprocess(faces * 255.0, size, crop=crop)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_same_seed_gives_the_same_batch_and_another_step_another(faces):
    first, again, other = (run(faces, ALL, seed)[0] for seed in ((3, 5), (3, 5), (3, 6)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_eager_and_inside_map_agree(faces):
    dataset = tf.data.Dataset.from_tensors((faces, LABELS)).map(lambda x, y: augment(x, y, 40, 0.9, [1, 2], ALL))
    inside = next(iter(dataset))[0].numpy()
    np.testing.assert_allclose(inside, run(faces, ALL, (1, 2), 40, 0.9)[0], atol=1e-5)
    assert inside.shape == (8, 40, 40, 1)


def test_flip_mirrors_about_half_of_the_faces_exactly(faces):
    original, mirrored, seen = faces.numpy(), faces.numpy()[:, :, ::-1], []
    for step in range(8):
        images, _ = run(faces, Augmentation(flip=True), (0, step))
        for number in range(8):
            flipped = np.allclose(images[number], mirrored[number], atol=1e-5)
            assert flipped or np.allclose(images[number], original[number], atol=1e-5)
            seen.append(flipped)
    assert 16 < sum(seen) < 48


def test_rotation_turns_about_the_centre(faces):
    dot = np.zeros((8, 48, 48, 1), np.float32)
    dot[:, 23:25, 23:25] = 1.0
    images, _ = run(tf.constant(dot), Augmentation(rotation=45))
    np.testing.assert_allclose(images[:, 22:26, 22:26].sum((1, 2, 3)), 4.0, atol=0.5)


def test_shift_stays_within_its_reach():
    dot = np.zeros((8, 48, 48, 1), np.float32)
    dot[:, 24, 24] = 1.0
    moved = []
    for step in range(10):
        images, _ = run(tf.constant(dot), Augmentation(shift=0.1), (0, step))
        rows = (images.sum((2, 3)) * np.arange(48)).sum(1) / images.sum((1, 2, 3))
        moved += (rows - 24).tolist()
    assert 3.0 < np.abs(moved).max() <= 4.8 + 1e-3


def test_enlarged_faces_keep_their_detail_between_two_pixels():
    stripes = 0.5 + 0.4 * np.sin(np.arange(48) * np.pi / 2 + 0.3)  # a period of four pixels
    faces = tf.constant(np.broadcast_to(stripes[None, None, :, None], (8, 48, 48, 1)), tf.float32)

    def least_contrast(enlarge):
        steps = (run(faces, Augmentation(shift=0.1, enlarge=enlarge), (0, step))[0] for step in range(5))
        inner = np.concatenate([images[:, 10:38, 10:38] for images in steps])
        return inner.std((1, 2, 3)).min() / stripes.std()

    assert least_contrast(1) < 0.75
    assert 0.85 < least_contrast(3) < 1.05


def test_erase_blanks_a_rectangle_in_its_share_of_faces(faces):
    changed = []
    for step in range(20):
        images, _ = run(faces, Augmentation(erase=0.5), (0, step))
        different = np.abs(images - faces.numpy()).max(-1) > 1e-6
        changed += different.mean((1, 2)).tolist()
    changed = np.array(changed)
    assert 0.35 < (changed > 0).mean() < 0.65
    assert changed[changed > 0].min() > 0.01 and changed.max() < 0.45**2 + 0.05


def test_mixup_mixes_labels_as_it_mixes_faces(faces):
    images, labels = run(faces, Augmentation(mixup=0.4))
    np.testing.assert_allclose(labels.sum(1), 1.0, atol=1e-5)
    assert (labels.max(1) >= 0.5).all() and (labels.max(1) < 0.999).any()
    partner = faces.numpy()[::-1]
    for number in range(8):
        weight = np.sum((images - partner)[number] * (faces.numpy() - partner)[number]) / np.sum(
            (faces.numpy() - partner)[number] ** 2
        )
        own, other = LABELS[number].numpy(), LABELS[7 - number].numpy()
        np.testing.assert_allclose(labels[number], weight * own + (1 - weight) * other, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_the_weights_of_mixed_faces_are_of_the_beta_distribution(alpha):
    """At 1 they are uniform, and the larger one is 3/4 in the mean."""
    count = 20_000
    labels = tf.one_hot(np.arange(count) < count // 2, 2)
    _, mixed = augment(tf.zeros((count, 2, 2, 1)), labels, 2, 1.0, [0, 5], Augmentation(mixup=alpha))
    larger = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    assert mixed.numpy().max(1).mean() == pytest.approx(np.maximum(larger, 1 - larger).mean(), abs=0.005)


def test_a_mixture_knows_what_both_of_its_faces_know():
    first = tf.constant([[1.0, 0.0, -1.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    second = tf.constant([[0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.0, -1.0]])
    mixed = mixed_labels(first, second, tf.constant([[0.75], [0.5]])).numpy()
    np.testing.assert_allclose(mixed, [[0.75, 0.0, -1.0, 0.25], [0.25, 0.5, 0.25, -1.0]], atol=1e-6)
    # All of one face's label is of a class that the other does not know: the other's is what is left.
    left = mixed_labels(tf.constant([[0.0, 1.0, 0.0]]), tf.constant([[1.0, -1.0, 0.0]]), tf.constant([[0.75]])).numpy()
    np.testing.assert_allclose(left, [[1.0, -1.0, 0.0]], atol=1e-6)


def test_framing_shows_each_face_at_a_share_of_its_own(faces):
    wide, _ = run(faces, Augmentation(), crop=0.9)
    same, _ = run(faces, Augmentation(framing=(0.9, 0.9)), crop=0.5)
    np.testing.assert_allclose(same, wide, atol=1e-5)
    # A ramp's slope tells the share that is seen of it.
    ramp = tf.tile(tf.linspace(0.0, 1.0, 48)[None, None, :, None], [64, 48, 1, 1])
    seen = augment(ramp, tf.one_hot([0] * 64, 3), 48, 1.0, [0, 1], Augmentation(framing=(0.6, 1.0)))[0].numpy()
    shares = (seen[:, 24, 40, 0] - seen[:, 24, 8, 0]) * 47 / 32
    assert shares.min() > 0.58 and shares.max() < 1.02 and shares.max() - shares.min() > 0.3


def test_values_stay_between_black_and_white(faces):
    images, _ = run(tf.clip_by_value(faces, 0.0, 1.0), ALL)
    assert images.min() >= 0.0 and images.max() <= 1.0
