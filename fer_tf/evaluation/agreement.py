"""How well reviewers agree: Fleiss' kappa, Krippendorff's alpha, Cohen's kappa, and Dawid and Skene's model.

Votes are counted by pattern: a study of any size has few different rows of votes, so that a bootstrap over its clips
takes weights of patterns and not copies of clips. Chance-corrected measures are nan where nothing but one category was
named, because chance then explains everything.
"""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fer_tf.data.ballots import CANNOT_TELL, Ballots

RESAMPLES = 1000
# Of how sure Dawid and Skene's model must be of a clip's intended label to keep the clip.
SURE = 0.95
_CHUNK = 100
_TINY = 1e-300


class Votes:
    """Ballots as arrays.

    Args:
      ballots: the votes.

    Attributes:
      reviewers: who votes.
      categories: every name that was intended or given, in alphabetical order, CANNOT_TELL last.
      given: int (patterns, reviewers), the place of what was named in `categories`, -1 for no vote.
      intended: int (patterns,), the place of the intended label.
      weights: int (patterns,), how many clips have the pattern.
    """

    def __init__(self, ballots: Ballots):
        patterns = sorted(ballots.counts)
        names = {name for pattern in patterns for name in pattern if name}
        self.reviewers = ballots.reviewers
        self.categories = tuple(sorted(names, key=lambda name: (name == CANNOT_TELL, name)))
        place = {name: number for number, name in enumerate(self.categories)} | {"": -1}
        table = np.array([[place[name] for name in pattern] for pattern in patterns], np.int64)
        table = table.reshape(len(patterns), 1 + len(self.reviewers))
        self.intended, self.given = table[:, 0], table[:, 1:]
        self.weights = np.array([ballots.counts[pattern] for pattern in patterns], np.int64)

    @property
    def named(self) -> np.ndarray:
        """int (patterns, categories): how many reviewers named each category."""
        return (self.given[..., None] == np.arange(len(self.categories))).sum(1)


def fleiss_kappa(named: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns Fleiss' kappa, float (...,).

    Args:
      named: int (clips, categories), how many of the same number of reviewers named each category.
      weights: (..., clips), how often each clip counts.

    Source: Fleiss 1971, Measuring nominal scale agreement among many raters.
    """
    raters = named.sum(1).max(initial=0)
    total = weights.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = weights @ ((named**2).sum(1) - raters) / (raters * (raters - 1) * total)
        expected = (((weights @ named) / (raters * total)[..., None]) ** 2).sum(-1)
        return _corrected(observed, expected)


def category_kappas(named: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns Fleiss' kappa of each category against all others, float (..., categories).

    Args:
      named, weights: as in `fleiss_kappa`.
    """
    raters = named.sum(1).max(initial=0)
    total = weights.sum(-1)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (weights @ named) / (raters * total)
        # Of two reviewers of a clip: both name it, or neither does.
        differ = 2 * (weights @ (named * (raters - named))) / (raters * (raters - 1) * total)
        return _corrected(1 - differ, share**2 + (1 - share) ** 2)


def krippendorff_alpha(named: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns Krippendorff's alpha for names without an order, float (...,); a clip may lack votes.

    Args:
      named: int (clips, categories), how many reviewers named each category; those with fewer than two are skipped.
      weights: (..., clips), how often each clip counts.

    Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability.
    """
    votes = named.sum(1)
    weights = weights * (votes > 1)
    totals = weights @ named
    count = totals.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = weights @ ((named * (named - 1)).sum(1) / np.maximum(votes - 1, 1))
        observed = pairs / count
        expected = (totals * (totals - 1)).sum(-1) / (count * (count - 1))
        return _corrected(observed, expected)


def cohen_kappa(pair: np.ndarray, categories: int, weights: np.ndarray) -> np.ndarray:
    """Returns Cohen's kappa of two reviewers, float (...,).

    Args:
      pair: int (clips, 2), what each of the two named.
      categories: how many there are.
      weights: (..., clips), how often each clip counts.

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    total = weights.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = weights @ (pair[:, 0] == pair[:, 1]) / total
        first, second = ((_one_hot(pair[:, side], categories).T @ weights.T).T / total[..., None] for side in (0, 1))
        return _corrected(observed, (first * second).sum(-1))


def _one_hot(places: np.ndarray, categories: int) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), categories))


def _corrected(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # Where chance explains everything, rounding must not make a number out of nothing.
    return np.where(expected > 1 - 1e-12, np.nan, (observed - expected) / (1 - expected))


def estimates(
    measure: Callable[[np.ndarray], np.ndarray], weights: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns several measures and the ends of their 95 % percentile intervals over resampled clips, float (measures,).

    Args:
      measure: takes weights (resamples, patterns) and returns (resamples, measures), nan where there is none.
      weights: int (patterns,), how many clips have each pattern.
      seed: of the resampling.
    """
    value = measure(weights[None].astype(np.float64))[0]
    unknown = np.full_like(value, np.nan)
    clips = int(weights.sum())
    if clips < 2:
        return value, unknown, unknown
    rng = np.random.default_rng(seed)
    shares = weights / clips
    drawn = [measure(rng.multinomial(clips, shares, _CHUNK).astype(np.float64)) for _ in range(RESAMPLES // _CHUNK)]
    with warnings.catch_warnings():
        # Where no resample has a measure, there is no interval.
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(np.concatenate(drawn), (2.5, 97.5), axis=0)
    return value, np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high)


def dawid_skene(
    given: np.ndarray,
    weights: np.ndarray,
    classes: int,
    categories: int,
    observers: Sequence[int] | None = None,
    max_steps: int = 1000,
    tolerance: float = 1e-6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each pattern's probability of each true class, the classes' shares, and the observers' confusions.

    Args:
      given: int (patterns, votes), what was named, -1 for no vote; the first `classes` names are possible truths.
      weights: (patterns,), how many clips have each pattern.
      classes: how many true classes there are.
      categories: how many names can be given, of at least `classes`.
      observers: whose vote stands in each column, where somebody votes several times; empty for one column each.
      max_steps: of the expectation maximisation.
      tolerance: it ends when the mean log likelihood of a clip grows by less.

    Returns:
      float (patterns, classes), float (classes,), float (observers, classes, categories).

    Source: Dawid and Skene 1979, Maximum likelihood estimation of observer error-rates using the EM algorithm.
    """
    from scipy.sparse import csr_array

    observers = np.arange(given.shape[1]) if observers is None else np.asarray(observers)
    named = given[..., None] == np.arange(categories)  # (patterns, votes, categories)
    by_observer = np.stack([named[:, observers == who].sum(1) for who in range(observers.max(initial=-1) + 1)], 1)
    # (patterns, observers * categories), with as many ones in a row as there are votes.
    flat = csr_array(by_observer.reshape(len(given), -1).astype(np.float64))
    # At first the votes' shares; a clip on which nobody named a class may be any.
    truth = by_observer[..., :classes].sum(1)
    truth = np.where(truth.sum(1, keepdims=True) > 0, truth, 1.0)
    truth /= truth.sum(1, keepdims=True)
    before = -np.inf
    for _ in range(max_steps):
        shares = weights @ truth / weights.sum()
        confusions = (flat.T @ (weights[:, None] * truth)).reshape(-1, categories, classes).transpose(0, 2, 1)
        confusions = confusions / np.maximum(confusions.sum(-1, keepdims=True), _TINY)
        logs = np.log(np.maximum(confusions, _TINY)).transpose(0, 2, 1).reshape(-1, classes)
        joint = np.log(np.maximum(shares, _TINY)) + flat @ logs
        top = joint.max(1, keepdims=True)
        likelihood = np.exp(joint - top)
        mean = float(weights @ (np.log(likelihood.sum(1)) + top[:, 0]) / weights.sum())
        truth = likelihood / likelihood.sum(1, keepdims=True)
        if mean - before < tolerance:
            break
        before = mean
    return truth, shares, confusions


def kept(votes: Votes) -> dict[str, np.ndarray]:
    """Returns for each rule which patterns' clips it keeps, bool (patterns,).

    `unanimous` and `majority` are the build's (`AnnotationOptions.review`); `dawid_skene` keeps a clip when the model
    is at least 95 % sure that its intended label is the true one. CANNOT_TELL is a vote that names no label.
    """
    cast = (votes.given >= 0).sum(1)
    right = (votes.given == votes.intended[:, None]).sum(1)
    rules = {"unanimous": (cast > 0) & (right == cast), "majority": 2 * right > cast}
    classes = len(votes.categories) - (CANNOT_TELL in votes.categories)
    rules["dawid_skene"] = np.zeros(len(cast), bool)
    if cast.any():
        seen = cast > 0
        truth, _, _ = dawid_skene(votes.given[seen], votes.weights[seen], classes, len(votes.categories))
        rules["dawid_skene"][seen] = truth[np.arange(len(truth)), votes.intended[seen]] >= SURE
    return rules


def describe(ballots: Ballots, seed: int = 0) -> dict[str, Any]:
    """Returns all that a page says of the reviewers' agreement, as plain values; nan as None.

    Args:
      ballots: the votes; empty gives counts of 0.
      seed: of the resampling.
    """
    votes = Votes(ballots)
    named, cast = votes.named, (votes.given >= 0).sum(1)
    reviewers, categories = len(votes.reviewers), len(votes.categories)
    complete = (cast == reviewers) & (reviewers > 1)
    pairs = list(combinations(range(reviewers), 2))
    both = [(votes.given[:, first] >= 0) & (votes.given[:, second] >= 0) for first, second in pairs]

    def measures(drawn: np.ndarray) -> np.ndarray:
        columns = [fleiss_kappa(named[complete], drawn[:, complete])[:, None]]
        columns += [krippendorff_alpha(named, drawn)[:, None], category_kappas(named[complete], drawn[:, complete])]
        for pair, rows in zip(pairs, both, strict=True):
            columns.append(cohen_kappa(votes.given[rows][:, pair], categories, drawn[:, rows])[:, None])
        return np.concatenate(columns, 1)

    found = list(zip(*estimates(measures, votes.weights, seed), strict=True))
    rules = kept(votes)
    by_all = int(votes.weights[complete].sum())
    return {
        "reviewers": list(votes.reviewers),
        "clips": int(votes.weights.sum()),
        "reviewed": int(votes.weights[cast > 0].sum()),
        "by_all": by_all,
        "fleiss_kappa": _plain(found[0], by_all),
        "krippendorff_alpha": _plain(found[1], int(votes.weights[cast > 1].sum())),
        "per_expression": {
            name: {
                "votes": int(votes.weights @ named[:, place]),
                "kappa": _plain(found[2 + place], by_all),
                "clips": int(votes.weights[votes.intended == place].sum()),
                "kept": {
                    rule: int(votes.weights[(votes.intended == place) & keeps].sum()) for rule, keeps in rules.items()
                },
            }
            for place, name in enumerate(votes.categories)
        },
        "pairs": [
            _pair(votes, pair, rows, measured)
            for pair, rows, measured in zip(pairs, both, found[2 + categories :], strict=True)
        ],
        "confusions": _confusions(votes),
        "kept": {rule: int(votes.weights[keeps].sum()) for rule, keeps in rules.items()},
        "sure": SURE,
    }


def _pair(votes: Votes, pair: tuple[int, int], rows: np.ndarray, measured: Sequence[float]) -> dict[str, Any]:
    first, second = pair
    clips = int(votes.weights[rows].sum())
    same = int(votes.weights[rows & (votes.given[:, first] == votes.given[:, second])].sum())
    names = [votes.reviewers[first], votes.reviewers[second]]
    return {"reviewers": names, "clips": clips, "same": same, "kappa": _plain(measured, clips)}


def _confusions(votes: Votes) -> list[dict[str, Any]]:
    """How often two reviewers named two categories for one clip, over all pairs, the most frequent first."""
    counts: collections.Counter = collections.Counter()
    for first, second in combinations(range(len(votes.reviewers)), 2):
        for one, other, weight in zip(votes.given[:, first], votes.given[:, second], votes.weights, strict=True):
            if one >= 0 and other >= 0 and one != other:
                counts[(min(one, other), max(one, other))] += int(weight)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"names": [votes.categories[place] for place in pair], "count": count} for pair, count in ranked]


def _plain(measured: Sequence[float], clips: int) -> dict[str, float | int | None]:
    value, low, high = (None if np.isnan(number) else round(float(number), 6) for number in measured)
    return {"value": value, "low": low, "high": high, "clips": clips}
