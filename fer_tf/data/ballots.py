"""Reviewers' votes on clips, counted by pattern: a study of any size has few different rows of votes."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass, field

# What a reviewer says who has looked and does not know: a vote for no expression.
CANNOT_TELL = "cannot_tell"


@dataclass
class Ballots:
    """Votes on clips, counted by pattern.

    Attributes:
      reviewers: who votes.
      counts: how many clips have a pattern: the intended label, then what each reviewer named, empty for no vote.
    """

    reviewers: tuple[str, ...] = ()
    counts: collections.Counter = field(default_factory=collections.Counter)

    def add(self, intended: str, votes: Iterable[str]) -> None:
        """Counts a clip."""
        self.counts[(intended, *votes)] += 1
