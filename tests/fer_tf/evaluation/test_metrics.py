"""Scores agree with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.evaluation import metrics

# Three classes, the last without a face: class 0 has 3 of 4 right, class 1 has 1 of 2.
LABELS = np.array([0, 0, 0, 0, 1, 1])
PREDICTIONS = np.array([0, 0, 0, 1, 1, 0])


def test_confusion_has_true_classes_in_rows():
    confusion = metrics.confusion_matrix(LABELS, PREDICTIONS, 3)
    assert confusion.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    # Two of three zeros are taken for ones, no one for a zero: rows and columns differ.
    assert metrics.confusion_matrix([0, 0, 0, 1], [1, 1, 0, 1], 2).tolist() == [[1, 2], [0, 1]]


def test_scores_by_hand():
    confusion = metrics.confusion_matrix(LABELS, PREDICTIONS, 3)
    assert metrics.accuracy(LABELS, PREDICTIONS) == pytest.approx(4 / 6)
    assert metrics.class_accuracy(confusion)[:2].tolist() == [0.75, 0.5]
    # The class without a face counts in neither mean.
    assert np.isnan(metrics.class_accuracy(confusion)[2])
    assert metrics.mean_class_accuracy(confusion) == pytest.approx(0.625)
    # F1 of class 0: 2*3/(4+4), of class 1: 2*1/(2+2).
    assert metrics.macro_f1(confusion) == pytest.approx((0.75 + 0.5) / 2)


def test_macro_f1_counts_a_class_that_is_only_predicted():
    confusion = metrics.confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2)
    assert metrics.macro_f1(confusion) == pytest.approx((2 * 1 / 3 + 0) / 2)


def test_interval_of_a_mean_matches_the_normal_approximation():
    right = np.repeat([1.0, 0.0], [700, 300])
    low, high = metrics.bootstrap_interval(right)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert low == pytest.approx(0.7 - half, abs=0.004) and high == pytest.approx(0.7 + half, abs=0.004)


def test_drawing_persons_widens_the_interval_when_persons_differ():
    persons = np.repeat([f"P{number}" for number in range(10)], 100)
    right = np.repeat([1.0, 0.0], 500)
    by_face, by_person = metrics.bootstrap_interval(right), metrics.bootstrap_interval(right, persons)
    # Each person is all right or all wrong: the person is the unit, so n is 10, not 1000.
    assert by_face[1] - by_face[0] < 0.07 < 0.5 < by_person[1] - by_person[0]


def test_an_interval_from_one_person_is_unknown():
    assert np.isnan(metrics.bootstrap_interval(np.ones(5), ["P1"] * 5)).all()


def test_a_mean_over_classes_counts_a_rare_class_as_much_as_a_frequent_one():
    right = (LABELS == PREDICTIONS).astype(float)
    assert metrics.mean_over_classes(right, LABELS) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert np.isnan(metrics.mean_over_classes(np.zeros(0), np.zeros(0, int)))
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    expected = metrics.mean_class_accuracy(metrics.confusion_matrix(labels, predictions, 5))
    assert metrics.mean_over_classes(labels == predictions, labels) == pytest.approx(expected)


def test_an_interval_of_the_mean_over_classes_is_that_of_resampled_persons():
    # By another way: persons drawn one after another, and of each sample the recalls of the classes that it has.
    rng = np.random.default_rng(3)
    labels, persons = rng.choice(3, 400, p=[0.9, 0.07, 0.03]), rng.integers(0, 12, 400)
    right = (rng.random(400) < np.array([0.8, 0.4, 0.2])[labels]).astype(float)
    means = []
    for _ in range(3000):
        faces = np.concatenate([np.flatnonzero(persons == person) for person in rng.integers(0, 12, 12)])
        of_class = [right[faces][labels[faces] == label] for label in range(3)]
        means.append(np.mean([hits.mean() for hits in of_class if len(hits)]))
    names = [f"P{person}" for person in persons]
    found = metrics.bootstrap_interval(right, names, classes=labels)
    np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), atol=0.02)
    plain = metrics.bootstrap_interval(right, names)
    # Of a handful of faces less is known than of hundreds, and they weigh two thirds.
    assert found[1] - found[0] > 1.2 * (plain[1] - plain[0])
    # As many faces of each class with each person: then both means are one.
    even = np.tile([0, 1], 200)
    whose = np.repeat(names[:200], 2)
    one = metrics.bootstrap_interval(right, whose, classes=even)
    np.testing.assert_allclose(one, metrics.bootstrap_interval(right, whose))


def test_a_gain_of_a_rare_class_counts_as_much_as_that_of_a_frequent_one():
    labels = np.array([0] * 90 + [1] * 10)
    first, second = np.zeros(100), np.zeros(100)
    first[:90], second[:90] = 1.0, 1.0
    # Of the ten rare faces five become right, of the ninety nine wrong.
    second[90:95], second[:9] = 1.0, 0.0
    plain = metrics.paired_bootstrap(first, second)
    by_class = metrics.paired_bootstrap(first, second, classes=labels)
    assert plain["difference"] == pytest.approx((5 - 9) / 100)
    assert by_class["difference"] == pytest.approx((0.5 - 0.1) / 2)
    assert by_class["low"] > 0 > plain["low"] and by_class["p"] < 0.05 < plain["p"]


def test_a_large_sample_is_drawn_in_blocks_with_the_same_result_each_time(monkeypatch):
    right = (np.arange(1000) % 3 == 0).astype(float)
    monkeypatch.setattr(metrics, "MAX_DRAWS", 7000)
    assert metrics.bootstrap_interval(right, samples=100) == metrics.bootstrap_interval(right, samples=100)


def test_paired_bootstrap_sees_a_small_steady_gain_and_no_gain():
    rng = np.random.default_rng(0)
    first = (rng.random(2000) < 0.6).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:60]] = 1.0
    gain = metrics.paired_bootstrap(first, second)
    assert gain["difference"] == pytest.approx(0.03) and gain["low"] > 0 and gain["p"] < 0.01
    none = metrics.paired_bootstrap(first, first)
    assert none["difference"] == 0 and none["p"] == 1.0


@pytest.mark.parametrize("samples", [99, 2000])
def test_a_gain_in_every_draw_is_as_sure_as_so_many_draws_can_tell_and_no_surer(samples):
    worse, better = np.zeros(50), np.ones(50)
    for first, second in ((worse, better), (better, worse)):
        found = metrics.paired_bootstrap(first, second, samples=samples)
        assert found["p"] == pytest.approx(2 / (samples + 1))


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="`predictions`"):
        metrics.confusion_matrix(LABELS, PREDICTIONS[:-1], 3)
    with pytest.raises(InputError, match="`second`"):
        metrics.paired_bootstrap(np.ones(3), np.ones(4))


def test_seeds_that_differ_widen_the_interval_of_two_methods():
    rng = np.random.default_rng(0)
    groups = [f"P{face // 20}" for face in range(400)]
    # Seeds of either method reach 40, 60 and 80 %, but one of the second is wholly right: a gain of 20 by one seed.
    levels = np.array([0.4, 0.6, 0.8])[:, None]
    first, second = ((rng.random((3, 400)) < levels).astype(float) for _ in range(2))
    second[0] = 1.0
    wide = metrics.paired_bootstrap(first, second, groups)
    narrow = metrics.paired_bootstrap(first.mean(0), second.mean(0), groups)
    assert wide["difference"] == pytest.approx(narrow["difference"])
    assert narrow["low"] > 0 > wide["low"]
    assert wide["high"] > narrow["high"]
    # Seeds that agree add nothing.
    steady = metrics.paired_bootstrap(first[[1, 1]], second[[1, 1]], groups)
    alone = metrics.paired_bootstrap(first[1], second[1], groups)
    assert steady["low"] == pytest.approx(alone["low"], abs=0.01)
    assert steady["high"] == pytest.approx(alone["high"], abs=0.01)
    with pytest.raises(InputError, match="400 faces"):
        metrics.paired_bootstrap(first, second[:, :10], groups)


def test_an_interval_over_draws_takes_draws_persons_and_seeds_anew() -> None:
    persons = ["a", "a", "b", "c"]
    # Within a draw all are alike, so that the draws alone differ: both, or one of them twice.
    means = metrics.bootstrap_over_draws([[np.zeros((2, 4))], [np.ones((2, 4))]], [persons, persons], samples=4000)
    values, counts = np.unique(means[0], return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    # Draws alike and persons not: person b is all that is right, in each draw the same.
    right = np.array([[0.0, 0.0, 1.0, 0.0]])
    means = metrics.bootstrap_over_draws([[right], [right]], [persons, persons], samples=4000)
    shares = np.array([[a, b, c] for a, b, c in np.random.default_rng(1).multinomial(3, [1 / 3] * 3, 4000)])
    expected = shares[:, 1] / (2 * shares[:, 0] + shares[:, 1] + shares[:, 2])
    np.testing.assert_allclose(np.quantile(means[0], [0.05, 0.5, 0.9]), np.quantile(expected, [0.05, 0.5, 0.9]))
    # Two methods are compared on the same draws and persons.
    means = metrics.bootstrap_over_draws([[right, right]] * 2, [persons] * 2, samples=50)
    assert means[0].tolist() == means[1].tolist()


def test_means_over_classes_over_draws() -> None:
    persons, labels = ["a", "b"], [0, 1]
    # Person b alone has the other class, and is right; a is wrong: a sample of both has a half, of one of them 0 or 1.
    right = np.array([[0.0, 1.0]])
    means = metrics.bootstrap_over_draws([[right], [right]], [persons] * 2, classes=[labels] * 2, samples=4000)
    values, counts = np.unique(means[0], return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    # b's second face of a class weighs nothing more in the mean over classes, and does in the mean.
    persons, labels, right = ["a", "b", "b"], [0, 1, 1], np.array([[0.0, 1.0, 1.0]])
    both = [[right], [right]], [persons] * 2
    by_class = metrics.bootstrap_over_draws(*both, classes=[labels] * 2, samples=500)
    plain = metrics.bootstrap_over_draws(*both, samples=500)
    assert set(by_class[0].tolist()) == {0.0, 0.5, 1.0} and 2 / 3 in plain[0]


def test_one_draw_or_one_person_gives_no_interval_over_draws() -> None:
    right = np.ones((1, 2))
    assert metrics.bootstrap_over_draws([[right]], [["a", "b"]]) is None
    assert metrics.bootstrap_over_draws([[right], [right]], [["a", "a"], ["a", "a"]]) is None
