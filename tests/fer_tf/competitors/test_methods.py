"""Each method learns drawn faces, answers persons that it never saw, and is the same after being kept."""

from __future__ import annotations

import itertools

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf import competitors
from fer_tf.competitors import classifiers, local_learning, method, networks
from fer_tf.competitors.faces import Faces
from fer_tf.competitors.method import Work
from fer_tf.competitors.methods import (
    attention_cnn,
    dnnrl,
    fisherface,
    googlenet,
    mollahosseini,
    salient_patches,
    vgg_svm,
)
from fer_tf.errors import InputError
from tests.toy_data import EXPRESSIONS

# Passes of a network over 48 faces: four steps each.
EPOCHS = dict.fromkeys(("googlenet", "mollahosseini", "dnnrl"), 50) | {
    "cnn_svm": 10,
    "vgg_svm": 10,
    "attention_cnn": 40,
}
# Of the whole ones.
SLOW_EPOCHS = 60
# Building and tracing these takes longer than all others together: `make test` trains them with fewer, narrower layers.
NARROW = {"3a": (32, (16, 32), (8, 16), 16), "4a": (32, (16, 32), (8, 16), 16)}
SHORTER: dict[str, tuple] = {
    name: ((networks, "MODULES", NARROW), (module, "NAMES", modules))
    for name, module, modules in (
        ("googlenet", googlenet, ("3a", "4a")),
        ("mollahosseini", mollahosseini, ("3a",)),
        ("dnnrl", dnnrl, ("3a",)),
    )
} | {"vgg_svm": ((vgg_svm, "PAIRS", (16, 32, 64)),)}
SHORTER["mollahosseini"] += ((mollahosseini, "DENSE", (128, 64)),)


def small(faces: Faces) -> Faces:
    return Faces(np.stack([cv2.resize(image, (32, 32)) for image in faces.images]), faces.labels, faces.persons)


@pytest.mark.parametrize(
    ("name", "whole"),
    [(name, name not in SHORTER) for name in competitors.NAMES]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in SHORTER],
)
def test_a_method_learns_to_tell_expressions_of_persons_it_never_saw(
    name: str, whole: bool, drawn: Faces, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, attribute, value in () if whole else SHORTER[name]:
        monkeypatch.setattr(module, attribute, value)
    drawn = small(drawn) if name in EPOCHS else drawn
    unseen = np.isin(drawn.persons, ["T006", "T007"])
    epochs = SLOW_EPOCHS if whole and name in SHORTER else EPOCHS.get(name, 0)
    fitted = competitors.build(name, Work(len(EXPRESSIONS), epochs=epochs))
    chosen = fitted.fit(drawn.rows(~unseen))
    logits = fitted.logits(drawn.rows(unseen))
    assert logits.shape == (unseen.sum(), len(EXPRESSIONS)) and np.isfinite(logits).all()
    # Chance is a quarter.
    assert (logits.argmax(1) == drawn.labels[unseen]).mean() >= (0.6 if name in EPOCHS else 0.75), chosen
    size = method.save(fitted, str(tmp_path))
    assert size == (tmp_path / method.FILE).stat().st_size
    again = method.load(str(tmp_path)).logits(drawn.rows(unseen))
    np.testing.assert_allclose(again, logits, atol=1e-3)


def test_an_unknown_class_is_never_the_answer(drawn: Faces) -> None:
    three = drawn.rows(drawn.labels < 3)
    fitted = competitors.build("hog_knn", Work(len(EXPRESSIONS)))
    fitted.fit(three)
    logits = fitted.logits(drawn)
    assert logits.shape[1] == 4 and set(logits.argmax(1).tolist()) <= {0, 1, 2} and np.isfinite(logits).all()


def test_discriminants_find_planted_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    # The classes differ along two directions that carry little of the variance.
    centres = np.zeros((3, 40))
    centres[:, 30], centres[:, 31] = [-3, 0, 3], [0, 3, 0]
    spread = np.concatenate([np.full(30, 8.0), np.full(10, 0.5)])
    points = centres[labels] + spread * rng.normal(size=(90, 40))
    model = fisherface.pipeline(0).set_params(reduce__n_components=35, network__alpha=1.0).fit(points[:60], labels[:60])
    assert model[:2].transform(points).shape == (90, 2)
    assert (model.predict(points[60:]) == labels[60:]).mean() > 0.9


def test_parameters_are_chosen_on_persons_left_out() -> None:
    labels, persons = np.arange(40) % 2, np.repeat([f"P{n}" for n in range(5)], 8)
    folds, groups = classifiers.folds_of(labels, persons)
    for kept, left in folds.split(labels, labels, groups):
        assert not set(persons[kept]) & set(persons[left])
    _, groups = classifiers.folds_of(labels, np.full(40, ""))
    assert groups is None


@pytest.mark.parametrize(("exact", "last"), [(200, "SVC"), (199, "Pipeline")])
def test_many_faces_have_an_exact_svm_and_very_many_an_approximated_one(
    exact: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "LARGE", 100)
    monkeypatch.setattr(classifiers, "MAX_KERNEL_FACES", exact)
    monkeypatch.setattr(classifiers, "NYSTROEM_COMPONENTS", 50)
    # A class around another one, and a class without faces: no line parts the two.
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 2], 200)
    points = rng.normal(size=(400, 2))
    points *= (np.where(labels, 3.0, 1.0) / np.linalg.norm(points, axis=1) + rng.normal(0, 0.1, 400))[:, None]
    fitted = classifiers.fit("svm", points[::2], labels[::2], np.full(200, ""), 3)
    assert type(fitted.model[-1]).__name__ == last
    assert (fitted.logits(points[1::2]).argmax(1) == labels[1::2]).mean() > 0.95


def test_a_face_is_judged_by_its_neighbours() -> None:
    # Two clusters whose classes lie the other way round: no line parts them, neighbours do.
    rng = np.random.default_rng(1)
    angle = np.concatenate([rng.normal(centre, 0.05, 30) for centre in (0.2, 0.5, 1.0, 1.3)])
    points, labels = np.stack([np.cos(angle), np.sin(angle)], 1), np.repeat([0, 1, 0, 1], 30)
    found = local_learning.logits(points[::2], labels[::2], points[1::2], 10, 100.0, 2)
    assert (found.argmax(1) == labels[1::2]).mean() > 0.9
    lonely = local_learning.logits(points[:30], labels[:30], points[:2], 5, 1.0, 2)
    assert lonely.argmax(1).tolist() == [0, 0]


def test_what_was_not_trained_or_is_no_method_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match=r"has no method\.joblib; train first"):
        method.load(str(tmp_path))
    (tmp_path / method.FILE).write_bytes(b"no pickle")
    with pytest.raises(InputError, match="cannot be loaded"):
        method.load(str(tmp_path))


def test_products_of_faces_give_the_discriminants_own_accuracy() -> None:
    rng = np.random.default_rng(2)
    signs = np.where(np.arange(60) % 2, 1.0, -1.0)
    points = rng.normal(size=(60, 30)) + 0.25 * signs[:, None]
    folds = [(np.arange(20, 60), np.arange(20)), (np.arange(40), np.arange(40, 60))]
    by_hand = []
    for kept, left in folds:
        line = salient_patches.discriminant(points[kept], signs[kept])
        by_hand.append(((line.project(points[left])[:, 0] + signs[kept].mean() > 0) == (signs[left] > 0)).mean())
    found = salient_patches.cross_validated(points, signs, folds)
    assert found == pytest.approx(np.mean(by_hand)) and 0.6 < found < 1


def test_the_sampler_looks_where_its_map_points() -> None:
    image = np.random.default_rng(3).random((1, 9, 9, 1)).astype(np.float32)
    look = attention_cnn.AffineSampler()
    identity, mirror, turn = ([1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0], [0, -1, 0, 1, 0, 0])
    for where, expected in ((identity, image), (mirror, image[:, :, ::-1]), (turn, np.rot90(image, 1, (1, 2)))):
        np.testing.assert_allclose(look([image, np.array([where], np.float32)]), expected, atol=1e-5)


def test_a_triplets_loss_is_the_exponential_of_what_its_distances_differ_by() -> None:
    rng = np.random.default_rng(4)
    points, labels = rng.normal(size=(7, 5)), np.array([0, 1, 0, 2, 1, 0, 3])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    def squared(first: int, second: int) -> float:
        return float(((points[first] - points[second]) ** 2).sum())

    by_hand = [
        np.exp(squared(anchor, same) - squared(anchor, other))
        for anchor, same, other in itertools.permutations(range(7), 3)
        if labels[anchor] == labels[same] != labels[other]
    ]
    assert len(by_hand) == 3 * 2 * 4 + 2 * 1 * 5
    assert float(dnnrl.exponential_triplets(points, labels)) == pytest.approx(np.mean(by_hand), rel=1e-4)
    # No triplet, no loss.
    assert float(dnnrl.exponential_triplets(points[:2], labels[:2])) == 0


def test_a_harder_triplet_moves_its_points_more() -> None:
    def moved(same: float, other: float) -> float:
        """How much the loss falls by the anchor's distance from a face of its class; the angles are of the circle."""
        angles = tf.constant([0.0, same, other])
        with tf.GradientTape() as tape:
            tape.watch(angles)
            points = tf.stack([tf.cos(angles), tf.sin(angles)], 1)
            # The two alike are an anchor each; the other one's only place is as the third.
            loss = dnnrl.exponential_triplets(points, np.array([0, 0, 1]))
        return float(tape.gradient(loss, angles)[1])

    easy, hard = moved(0.5, 3.0), moved(0.5, 0.7)
    assert hard > 3 * easy > 0


def test_the_networks_have_their_sources_widths() -> None:
    image = keras.Input((48, 48, 1))
    counts = {
        module: keras.Model(image, module.architecture(image, 7)).count_params()
        for module in (mollahosseini, googlenet)
    }
    assert counts[mollahosseini] == pytest.approx(7.3e6, rel=0.01)
    # GoogLeNet without its classifier of 1,000 classes and with one input channel (table 1 of Szegedy et al. 2015).
    assert counts[googlenet] == pytest.approx(5.98e6, rel=0.01)


def test_an_interrupted_network_goes_on(drawn: Faces, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, drawn = Work(len(EXPRESSIONS), epochs=4, folder=str(tmp_path)), small(drawn)
    epochs = []

    def count(self: object, epoch: int, logs: object = None) -> None:
        epochs.append(epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(networks._Progress, "on_epoch_begin", count, raising=False)
    with pytest.raises(KeyboardInterrupt):
        competitors.build("cnn_svm", work).fit(drawn)
    competitors.build("cnn_svm", work).fit(drawn)
    assert epochs == [0, 1, 1, 2, 3]
