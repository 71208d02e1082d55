"""Several sets are one under declared names; what a set lacks it says nothing about; weights and balance are kept."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import inputs, mixed, parts
from fer_tf.data.augment import Augmentation
from fer_tf.data.parts import UNKNOWN, Sampling
from fer_tf.data.preprocess import preprocess
from fer_tf.data.public.fer2013 import EXPRESSIONS
from fer_tf.errors import InputError
from tests.fer_tf.data.test_public import png, write
from tests.toy_data import part_of


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory) -> str:
    """Three training and one test faces of each expression but disgust, which has one and one."""
    folder, number = tmp_path_factory.mktemp("mixed") / "fer2013", 0
    for part, count in (("train", 3), ("test", 1)):
        for expression in EXPRESSIONS:
            for _ in range(1 if expression == "disgust" else count):
                number += 1
                write(f"{folder}/{part}/{expression}/{number}.png", png(number))
    return str(folder)


@pytest.fixture(scope="module")
def data(fer2013, toy_data) -> str:
    return f"fer2013={fer2013}, er_ss={toy_data}"


def targets(faces, split="train", sampling=None, seed=3) -> list[tuple[float, ...]]:
    found = faces.parts[split].targets(len(faces.expressions), tf.constant(seed, tf.int64), sampling or Sampling())
    return [tuple(target.tolist()) for _, target, _ in found.as_numpy_iterator()]


def test_the_classes_are_the_first_sets_then_what_others_add(data):
    faces = mixed.read(data, "er_ss.surprise=delight,fer2013.fear=-", held_out=0.0)
    assert faces.expressions == ("angry", "disgust", "happy", "sad", "surprise", "neutral", "delight")
    train = faces.parts["train"]
    assert Counter(train.sets) == {"fer2013": 16, "er_ss": 96}
    toy = train.rows(train.sets == "er_ss")
    for name, label in zip(toy.image_ids, toy.labels, strict=True):
        assert faces.expressions[label] == name.split("/")[1].replace("surprise", "delight")
    assert "fer2013: left out: fear" in faces.notes and "er_ss: surprise is delight" in faces.notes
    assert faces.landmark_model == "drawn"


def test_a_target_says_nothing_of_what_its_set_lacks(data):
    faces = mixed.read(data, "er_ss.surprise=delight", held_out=0.0)
    rows = targets(faces)
    assert len(rows) == 19 + 96
    place = faces.expressions.index("delight")
    own = [row for row in rows if row[place] == UNKNOWN]
    other = [row for row in rows if row[place] != UNKNOWN]
    assert (len(own), len(other)) == (19, 96)
    assert all(sorted(row[:place]) == [0.0] * 6 + [1.0] for row in own)
    lacks = [faces.expressions.index(name) for name in ("disgust", "fear", "surprise", "neutral")]
    assert all(all(row[label] == UNKNOWN for label in lacks) and sum(row) == 1 + 4 * UNKNOWN for row in other)


def test_a_set_counts_as_often_as_its_weight_says_and_balance_makes_classes_equal(data):
    faces = mixed.read(data, weights="fer2013=2.5", held_out=0.0)
    rows = targets(faces)
    lacking = sum(row[EXPRESSIONS.index("fear")] != UNKNOWN for row in rows)
    assert 19 * 2 <= lacking <= 19 * 3 and len(rows) - lacking == 96
    counts = faces.parts["train"].counts(7, Sampling())
    np.testing.assert_allclose(counts.sum(1), [19 * 2.5, 96])
    # How often a face is seen is drawn anew in each epoch.
    epochs = [targets(faces, sampling=Sampling(balanced=True), seed=seed) for seed in range(4)]
    balanced = Counter(row.index(1.0) for rows in epochs for row in rows)
    wanted = 4 * counts.sum() / 7
    assert all(abs(balanced[label] - wanted) < 0.25 * wanted for label in range(7)), balanced


def test_balanced_sets_are_mixed_alike_to_the_end_of_an_epoch(monkeypatch):
    """Six hundred faces of one class and sixty of another, which are seen ten times as often."""
    for name in ("SHUFFLE_BUFFER", "SHUFFLE_BYTES"):
        monkeypatch.setattr(parts, name, 8)
    sets = [
        part_of([str(face) for face in range(count)], [label] * count, [b""] * count)
        for label, count in enumerate((600, 60))
    ]
    found = parts.joined(sets).targets(8, tf.constant(3, tf.int64), Sampling(balanced=True))
    second = np.array([target[1] for _, target, _ in found.as_numpy_iterator()])
    assert abs(len(second) - 660) < 60
    windows = second[: len(second) // 110 * 110].reshape(-1, 110).mean(axis=1)
    # Three standard deviations of 110 draws.
    assert np.abs(windows[:-1] - 0.5).max() < 0.15 and abs(windows[-1] - 0.5) < 0.3, windows


def test_what_votes_say_adds_up_to_each_classs_mass():
    faces = dataclasses.replace(part_of(["a", "b", "c"], [0, 1, 1], [b""] * 3))
    votes = np.array([[0.5, 0.3, 0.0], [0.1, 0.4, 0.5], [0.0, 0.0, 0.0]], np.float32)
    faces = dataclasses.replace(faces, votes=votes).seen(2.0)
    for labels in ("distribution", "draw"):
        masses = faces.masses(3, Sampling(labels))
        np.testing.assert_allclose(masses, 2 * np.array([0.625 + 0.1, 0.375 + 0.4 + 1, 0.5]), atol=1e-6)
    # Half of the votes are no majority.
    np.testing.assert_array_equal(faces.masses(3, Sampling("majority")), [0, 2, 0])


def test_nothing_is_answered_that_a_set_lacks(data):
    faces = mixed.read(data, held_out=0.0)
    part = faces.parts["test"]
    answers = mixed.answerable(faces, "test", np.tile(np.arange(7, dtype=np.float32), (len(part), 1))).argmax(1)
    best = {"fer2013": "neutral", "er_ss": "surprise"}
    assert [faces.expressions[label] for label in answers] == [best[name] for name in part.sets]


def test_images_and_labels_stand_in_the_tables_order(data):
    part = mixed.read(data, "er_ss.happy=-", held_out=0.0).parts["test"]
    assert [label for _, label in part.encoded().as_numpy_iterator()] == part.labels.tolist()
    assert len(part) == 7 + 24


def test_sets_are_cut_alike_and_seen_so_in_training_and_when_they_are_judged(data):
    """FER2013's pictures show 1 / 1.115 of what an aligned face does."""
    faces = mixed.read(data, held_out=0.0)
    assert faces.picture_share == pytest.approx(1 / 1.115)
    part, side, seen = faces.parts["test"], 32, {"fer2013": 1.0, "er_ss": 1 / 1.115}
    expected = []
    for name, (image, _) in zip(part.sets, part.encoded().as_numpy_iterator(), strict=True):
        pixels = inputs.decode_image(image).numpy()
        margin = int(len(pixels) * (1 - seen[name]) / 2 + 0.5)
        expected.append(preprocess(pixels[margin : len(pixels) - margin, margin : len(pixels) - margin][None], side)[0])
    options = {"image_size": side, "channels": 1, "crop": 1.0}
    judged = np.concatenate([batch for batch, _ in inputs.evaluation_batches(part, **options)])
    np.testing.assert_allclose(judged, expected, atol=1e-6)
    options |= {"batch_size": len(part), "steps_per_epoch": 1, "augmentation": Augmentation(), "seed": 0}
    trained = next(iter(inputs.training_batches(part, len(faces.expressions), **options)))[0].numpy()
    rows = trained.reshape(len(part), -1)
    distances = np.abs(rows[:, None] - np.reshape(expected, (1, len(part), -1))).max(axis=2)
    assert sorted(distances.argmin(axis=1)) == list(range(len(part))) and distances.min(axis=1).max() < 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "fer2013=x"}, "must name two sets or more"),
        ({"data": "fer2013=x,face=y"}, "`data` must be one of .*'face'"),
        ({"data": "fer2013"}, "`data` must be key=value"),
        ({"mapping": "er_ss.smile=happy"}, r"`mapping` must be one of .*'er_ss\.smile'"),
        ({"data": "er_ss={toy},fer2013={fer},er_zid={toy}"}, "`data` gives the same faces to er_ss and er_zid"),
        ({"weights": "jaffe=2"}, "`set_weights` must be one of .*'jaffe'"),
        ({"weights": "fer2013=0"}, "`set_weights` of fer2013 must be a number above 0. Received: '0'"),
    ],
)
def test_wrong_flags_are_named(data, fer2013, toy_data, given, message):
    given = {name: value.format(toy=toy_data, fer=fer2013) for name, value in given.items()}
    with pytest.raises(InputError, match=message):
        mixed.read(**{"data": data, **given})


@pytest.mark.parametrize(
    ("votes", "label", "clear"),
    [((0.4, 0.35, 0.25), 1, True), ((0.5, 0.3, 0.2), 0, False), ((0.2, 0.5, 0.3), 1, True), ((0, 0, 0), 0, True)],
)
def test_votes_on_classes_that_became_one_count_together(votes, label, clear):
    """A face's label is the class that most votes are for when the second and third class are one."""
    face = dataclasses.replace(part_of(["a"], [0], [b""]), votes=np.array([votes], np.float32))
    face = dataclasses.replace(face, labels=np.array([int(np.argmax(votes))]))
    renamed = parts.renamed(face, [0, 1, 1], 2, "set")
    assert (renamed.labels.tolist(), renamed.has_majority.tolist()) == ([label], [clear])
    to_part = tf.constant([[1, 0], [0, 1], [0, 1]], tf.float32)
    for labels in ("majority", "distribution"):
        sampling = parts.Sampling(labels)
        target, learned = parts._shares(face.votes, face.labels, to_part, sampling, tf.zeros(1))
        assert target.numpy()[0].argmax() == label and bool(learned[0]) == (clear or labels == "distribution")


def test_the_fingerprint_changes_with_data_names_and_weights(data, fer2013):
    first = mixed.read(data).fingerprint
    assert first == mixed.read(data).fingerprint
    assert (
        len({first, mixed.read(data, "er_ss.sad=angry").fingerprint, mixed.read(data, "", "er_ss=2").fingerprint}) == 3
    )
    write(f"{fer2013}/train/sad/new.png", png(999))
    try:
        assert mixed.read(data).fingerprint != first
    finally:
        os.remove(f"{fer2013}/train/sad/new.png")
