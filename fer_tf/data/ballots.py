"""Reviewers' votes on clips, counted by pattern: a study of any size has few different rows of votes."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# What a reviewer says who has looked and does not know: a vote for no expression.
CANNOT_TELL = "cannot_tell"


@dataclass
class Ballots:
    """Votes on clips, counted by pattern.

    Attributes:
      reviewers: who votes; grows where a clip has more votes than that.
      counts: how many clips have a pattern: the intended label, then what each reviewer named, empty for no vote.
    """

    reviewers: tuple[str, ...] = ()
    counts: collections.Counter = field(default_factory=collections.Counter)

    def add(self, intended: str, votes: Iterable[str]) -> None:
        """Counts a clip."""
        pattern = intended, *votes
        # Of a column with a row for each vote, the votes in the order of the rows.
        for number in range(len(self.reviewers), len(pattern) - 1):
            self.reviewers += (f"{self.reviewers[0]} ({number + 1})",)
        self.counts[pattern] += 1

    def rename(self, name_fn: Callable[[str], str]) -> None:
        """Gives every label the name that stands for it, and every pattern a place for each reviewer."""
        counts, self.counts = self.counts, collections.Counter()
        for labels, count in counts.items():
            names = tuple(name_fn(label) for label in labels)
            self.counts[names + ("",) * (1 + len(self.reviewers) - len(names))] += count
