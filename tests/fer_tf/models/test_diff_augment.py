"""Changes of what a discriminator sees: face and mask alike, with a gradient."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fer_tf.models.diff_augment import changed

SIZE, COUNT = 32, 40


def drawn(seed: tuple[int, int]) -> np.ndarray:
    return tf.random.stateless_uniform((7, COUNT), seed).numpy()


def moved(image: np.ndarray, x: int, y: int) -> np.ndarray:
    """An image moved right and down by whole pixels; nothing moves in."""
    wide = np.pad(image, ((SIZE, SIZE), (SIZE, SIZE), (0, 0)))
    return wide[SIZE - y : 2 * SIZE - y, SIZE - x : 2 * SIZE - x]


def test_faces_are_relit_moved_and_blanked_and_their_masks_move_with_them() -> None:
    rng = np.random.default_rng(0)
    faces = rng.uniform(-1, 1, (COUNT, SIZE, SIZE, 3)).astype(np.float32)
    masks = rng.uniform(0.1, 1, (COUNT, SIZE, SIZE, 1)).astype(np.float32)
    seed = (3, 7)
    found, found_masks = (part.numpy() for part in changed(faces, masks, seed))
    places, blanked = np.arange(SIZE) + 0.5, []
    for number, row in enumerate(drawn(seed).T):
        x = faces[number] + row[0] - 0.5
        x = x.mean(2, keepdims=True) + (x - x.mean(2, keepdims=True)) * 2 * row[1]
        x = x.mean() + (x - x.mean()) * (0.5 + row[2])
        by = np.round((2 * row[3:5] - 1) * SIZE / 8).astype(int)
        inside = [np.abs(places - middle) <= SIZE / 4 for middle in row[5:7] * SIZE]
        kept = ~(inside[1][:, None] & inside[0][None])[..., None]
        np.testing.assert_allclose(found[number], moved(x, *by) * kept, atol=1e-5)
        np.testing.assert_allclose(found_masks[number], moved(masks[number], *by) * kept, atol=1e-6)
        blanked.append(1 - kept.mean())
    # A square of half the side, less where it leaves the image.
    assert 0.12 < np.mean(blanked) < 0.25 and np.max(blanked) <= 0.25


def test_a_seed_gives_the_same_changes_and_types_stay() -> None:
    faces, masks = tf.ones((COUNT, SIZE, SIZE, 3), tf.bfloat16), tf.ones((COUNT, SIZE, SIZE, 1))
    first, again, other = (changed(faces, masks, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert (first[0].dtype, first[1].dtype) == (tf.bfloat16, tf.float32)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_what_is_still_seen_of_a_face_has_a_gradient() -> None:
    faces, masks = tf.zeros((COUNT, SIZE, SIZE, 3)), tf.ones((COUNT, SIZE, SIZE, 1))
    with tf.GradientTape() as tape:
        tape.watch(faces)
        seen, left = changed(faces, masks, (1, 1))
        loss = tf.reduce_sum(seen)
    gradient = tape.gradient(loss, faces).numpy()
    # As many pixels as are still seen pull; contrast and saturation spread the pull over all channels.
    assert np.isfinite(gradient).all() and (gradient != 0).any(axis=(1, 2, 3)).all()
    np.testing.assert_allclose(gradient.sum(axis=(1, 2, 3)), 3 * left.numpy().sum(axis=(1, 2, 3)), rtol=1e-3)
