"""Agreement: numbers of published examples, intervals, and the rules of the build."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from fer_tf.data.annotations import AnnotationOptions, read_rows
from fer_tf.data.ballots import CANNOT_TELL, Ballots
from fer_tf.data.settle import settle
from fer_tf.evaluation import agreement

# Fleiss 1971, Table 1: how many of six psychiatrists named depression, personality disorder, schizophrenia, neurosis
# and other for each of 30 patients.
FLEISS_1971 = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031 00501
30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
# Dawid and Skene 1979, Table 1: five anaesthetists on 45 patients; the first has seen each three times.
DAWID_SKENE_1979 = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""


def ballots(*rows: str, reviewers: str = "abc") -> Ballots:
    """Ballots of words: the intended label's letter, then each reviewer's; a dot for no vote, ? for cannot tell."""
    found = Ballots(tuple(reviewers))
    for row in rows:
        label, *votes = ["" if letter == "." else CANNOT_TELL if letter == "?" else letter for letter in row]
        found.add(label, votes)
    return found


def once(named: np.ndarray) -> np.ndarray:
    return np.ones(len(named))


def test_fleiss_kappa_and_its_categories_are_those_of_the_1971_paper() -> None:
    named = np.array([[int(digit) for digit in patient] for patient in FLEISS_1971.split()])
    assert named.shape == (30, 5) and (named.sum(1) == 6).all()
    assert round(float(agreement.fleiss_kappa(named, once(named))), 3) == 0.430
    categories = agreement.category_kappas(named, once(named))
    assert categories.round(3).tolist() == [0.245, 0.245, 0.520, 0.471, 0.566]


def test_krippendorffs_alpha_is_that_of_his_2011_example() -> None:
    # Four coders on twelve units, 0 for no value.
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    named = (np.array(table).T[..., None] == np.arange(1, 6)).sum(1)
    assert round(float(agreement.krippendorff_alpha(named, once(named))), 3) == 0.743
    # A unit that one coder alone has seen says nothing of agreement.
    assert agreement.krippendorff_alpha(named[:-1], once(named[:-1])) == agreement.krippendorff_alpha(
        named, once(named)
    )


def test_cohens_kappa_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    pair = rng.integers(0, 4, (200, 2))
    pair[:120, 1] = pair[:120, 0]
    assert agreement.cohen_kappa(pair, 4, once(pair)) == pytest.approx(cohen_kappa_score(*pair.T))
    weights = rng.integers(0, 5, 200)
    repeated = np.repeat(pair, weights, 0)
    assert agreement.cohen_kappa(pair, 4, weights) == pytest.approx(cohen_kappa_score(*repeated.T))


def test_with_every_vote_cast_alpha_is_kappa_corrected_for_small_samples() -> None:
    rng = np.random.default_rng(4)
    named = np.stack([np.bincount(rng.choice(4, 3, p=(0.4, 0.3, 0.2, 0.1)), minlength=4) for _ in range(60)])
    kappa = agreement.fleiss_kappa(named, once(named))
    alpha = agreement.krippendorff_alpha(named, once(named))
    assert alpha == pytest.approx(kappa + (1 - kappa) / (3 * 60))


@pytest.mark.parametrize("measure", [agreement.fleiss_kappa, agreement.krippendorff_alpha, agreement.category_kappas])
def test_a_weight_counts_like_that_many_clips(measure: object) -> None:
    rng = np.random.default_rng(5)
    named = rng.multinomial(3, (0.5, 0.3, 0.2), 40)
    weights = rng.integers(0, 6, (7, 40))
    expected = [measure(np.repeat(named, row, 0), np.ones(row.sum())) for row in weights]
    np.testing.assert_allclose(measure(named, weights), np.array(expected))


def test_dawid_and_skenes_model_gives_the_numbers_of_their_paper() -> None:
    given = np.array([[int(digit) - 1 for digit in patient] for patient in DAWID_SKENE_1979.split()])
    assert given.shape == (45, 7)
    truth, shares, confusions = agreement.dawid_skene(given, np.ones(45), 4, 4, (0, 0, 0, 1, 2, 3, 4), tolerance=1e-9)
    assert shares.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]
    assert confusions[0, :2].round(2).tolist() == [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0]]
    np.testing.assert_allclose(truth.sum(1), 1)
    np.testing.assert_allclose(confusions.sum(2), 1)
    # A pattern that stands for two clips is two clips.
    patterns, counts = np.unique(given, axis=0, return_counts=True)
    _, merged, _ = agreement.dawid_skene(patterns, counts, 4, 4, (0, 0, 0, 1, 2, 3, 4), tolerance=1e-9)
    np.testing.assert_allclose(merged, shares, atol=1e-4)


def test_dawid_and_skene_trust_the_better_reviewer_where_the_majority_is_wrong() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 600)
    right = np.array([0.98, 0.45, 0.45])
    # The two weak reviewers err in the same direction.
    given = np.where(rng.random((600, 3)) < right, truth[:, None], (truth[:, None] + 1) % 3)
    found, _, confusions = agreement.dawid_skene(given, np.ones(600), 3, 3)
    majority = np.array([np.bincount(row, minlength=3).argmax() for row in given])
    assert (found.argmax(1) == truth).mean() > 0.95 > (majority == truth).mean()
    assert confusions[0].diagonal().min() > 0.9 > confusions[1].diagonal().max()


def test_the_interval_is_that_of_a_bootstrap_by_hand_and_stays_with_its_seed() -> None:
    rng = np.random.default_rng(7)
    named = rng.multinomial(3, (0.6, 0.3, 0.1), 80)
    weights = np.ones(80, np.int64)

    def measure(drawn: np.ndarray) -> np.ndarray:
        return agreement.fleiss_kappa(named, drawn)[:, None]

    value, low, high = agreement.estimates(measure, weights)
    again = [
        float(agreement.fleiss_kappa(drawn, np.ones(80)))
        for drawn in (named[rng.integers(0, 80, 80)] for _ in range(2000))
    ]
    by_hand = np.percentile(again, (2.5, 97.5))
    assert low[0] < value[0] < high[0]
    assert low[0] == pytest.approx(by_hand[0], abs=0.02) and high[0] == pytest.approx(by_hand[1], abs=0.02)
    assert agreement.estimates(measure, weights)[1] == low


def test_a_study_by_hand() -> None:
    votes = ballots("hhhh", "hhhh", "hhhs", "ssss", "shhh", "sss?", "shs.")
    found = agreement.describe(votes)
    # Six clips have three votes; of the pairs of votes on a clip all three, one or none are equal.
    h, s, unknown = Fraction(3 + 3 + 2 + 0 + 3 + 0, 18), Fraction(0 + 0 + 1 + 3 + 0 + 2, 18), Fraction(1, 18)
    observed = Fraction(3 + 3 + 1 + 3 + 3 + 1, 3 * 6)
    expected = h**2 + s**2 + unknown**2
    kappa = (observed - expected) / (1 - expected)
    assert found["fleiss_kappa"]["value"] == pytest.approx(float(kappa), abs=1e-6)
    assert (found["clips"], found["reviewed"], found["by_all"]) == (7, 7, 6)
    assert found["krippendorff_alpha"]["clips"] == 7
    assert found["kept"]["unanimous"] == 3 and found["kept"]["majority"] == 5
    assert found["pairs"][0]["reviewers"] == ["a", "b"]
    assert (found["pairs"][0]["clips"], found["pairs"][0]["same"]) == (7, 6)
    assert found["confusions"] == [
        {"names": ["h", "s"], "count": 3},
        {"names": ["s", CANNOT_TELL], "count": 2},
    ]
    assert found["per_expression"]["h"]["kept"] == {"unanimous": 2, "majority": 3, "dawid_skene": 3}
    assert list(found["per_expression"]) == ["h", "s", CANNOT_TELL]


def test_what_is_kept_is_what_the_build_keeps() -> None:
    words = ["".join(row) for row in itertools.product("hs", "hs.?", "hs.?", "hs.?")]
    for rule in ("unanimous", "majority"):
        lines = ["video,person,expression,pose,reviewer_a,reviewer_b,reviewer_c"]
        for number, row in enumerate(words):
            cells = ["" if letter == "." else CANNOT_TELL if letter == "?" else letter for letter in row]
            lines.append(f"{number}.mp4,p,{cells[0]},front,{','.join(cells[1:])}")
        rows = read_rows("\n".join(lines).encode().splitlines(keepends=True), "a.csv", AnnotationOptions())
        built = {clip.clip_id for clip in settle(rows, rule)[0]}
        for number, row in enumerate(words):
            votes = agreement.Votes(ballots(row))
            assert bool(agreement.kept(votes)[rule][0]) is (f"{number}.mp4" in built), (rule, row)


def test_nothing_to_disagree_about_has_no_measure_and_no_votes_have_none() -> None:
    found = agreement.describe(ballots("hhhh", "hhhh"))
    assert found["fleiss_kappa"] == {"value": None, "low": None, "high": None, "clips": 2}
    assert found["krippendorff_alpha"]["value"] is None and found["kept"]["unanimous"] == 2
    for nothing in (Ballots(("a", "b")), ballots("h...", "s..."), Ballots()):
        empty = agreement.describe(nothing)
        assert empty["fleiss_kappa"]["value"] is None and empty["reviewed"] == 0
        assert empty["kept"] == {"unanimous": 0, "majority": 0, "dawid_skene": 0}
    alone = agreement.describe(ballots("hh", "hs", reviewers="a"))
    assert alone["fleiss_kappa"]["value"] is None and alone["pairs"] == []


def test_a_measure_is_never_a_number_that_json_lacks() -> None:
    text = json.dumps(agreement.describe(ballots("hhhs", "sss.", "h?..")), allow_nan=False)
    assert not math.isnan(json.loads(text)["krippendorff_alpha"]["value"])
