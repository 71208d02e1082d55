"""Votes in SQLite: a vote is on disk before anybody is told that it is saved, and none is ever deleted."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fer_tf.errors import InputError

FIRST, SECOND = 1, 2

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reviewers (name TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS votes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  reviewer TEXT NOT NULL REFERENCES reviewers (name),
  clip TEXT NOT NULL,
  round INTEGER NOT NULL,
  choice TEXT NOT NULL,
  remark TEXT NOT NULL,
  request TEXT NOT NULL UNIQUE,
  at REAL NOT NULL,
  withdrawn REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS standing ON votes (clip, round, reviewer) WHERE withdrawn IS NULL;
CREATE INDEX IF NOT EXISTS of_reviewer ON votes (reviewer, round) WHERE withdrawn IS NULL;
"""
_COLUMNS = "id, reviewer, clip, round, choice, remark, request, at"


@dataclass(frozen=True)
class Vote:
    """One reviewer's standing answer to one clip.

    Attributes:
      id: grows with every vote.
      reviewer: who cast it.
      clip: the clip's id, its path below the videos' root.
      round: FIRST, or SECOND after the reviewers have seen each other's votes.
      choice: an expression, or CANNOT_TELL.
      remark: free text, may be empty.
      request: the page's own id of the vote, so that a repeated request does not vote twice.
      at: seconds since 1970.
    """

    id: int
    reviewer: str
    clip: str
    round: int
    choice: str
    remark: str
    request: str
    at: float


class Conflict(Exception):
    """The page acted on what is no longer so, as a second tab does.

    Attributes:
      standing: the vote that stands now, or None.
    """

    def __init__(self, message: str, standing: Vote | None = None):
        super().__init__(message)
        self.standing = standing


class Store:
    """A study's votes and links.

    Args:
      path: the database; made when it is missing, readable by its owner alone.

    Raises:
      InputError: the file is no database of this program, or cannot be read and written.
    """

    def __init__(self, path: str):
        self.path = path
        self._lock = threading.Lock()
        try:
            if not os.path.exists(path):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._database = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise _unusable(path, error) from None
        try:
            # FULL: the operating system has the vote on disk before the page hears that it is saved.
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            with self._transaction():
                version = int(self._remembered("schema_version", str(_SCHEMA_VERSION)))
                self.secret = self._remembered("secret", secrets.token_hex(16))
                self.lead_token = self._remembered("lead_token", secrets.token_urlsafe(16))
        except sqlite3.OperationalError as error:
            self._database.close()
            raise _unusable(path, error) from None
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InputError(f"`study` holds {path!r}, which is no database of votes: {error}.") from None
        if version != _SCHEMA_VERSION:
            raise InputError(f"{path!r} was written by another version of this program (layout {version}).")

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._database.close()

    def add_reviewers(self, names: Sequence[str]) -> None:
        """Gives every new name a link of its own; known names keep theirs."""
        with self._transaction():
            for name in names:
                self._database.execute(
                    "INSERT OR IGNORE INTO reviewers (name, token) VALUES (?, ?)", (name, secrets.token_urlsafe(16))
                )

    def join_reviewers(self, names: Sequence[str]) -> str:
        """Makes several names of one reviewer one, and returns it: that with the most votes, whose link stays.

        It gets the others' votes; where two of them stand on one clip, the later one does, as when a vote is changed.
        """
        with self._transaction():
            counted = "SELECT COUNT(*) FROM votes WHERE reviewer = ?"
            stays, *others = sorted(names, key=lambda name: -self._database.execute(counted, (name,)).fetchone()[0])
            for other in others:
                both = (stays, other)
                self._database.execute(
                    "UPDATE votes SET withdrawn = ? WHERE withdrawn IS NULL AND reviewer IN (?, ?) AND id NOT IN "
                    "(SELECT MAX(id) FROM votes WHERE withdrawn IS NULL AND reviewer IN (?, ?) GROUP BY clip, round)",
                    (time.time(), *both, *both),
                )
                self._database.execute("UPDATE votes SET reviewer = ? WHERE reviewer = ?", both)
                self._database.execute("DELETE FROM reviewers WHERE name = ?", (other,))
        return stays

    def reviewers(self) -> dict[str, str]:
        """Returns every reviewer's token, in the order in which they were added."""
        with self._lock:
            return dict(self._database.execute("SELECT name, token FROM reviewers ORDER BY rowid"))

    def cast(
        self,
        reviewer: str,
        clip: str,
        choice: str,
        *,
        request: str,
        remark: str = "",
        round: int = FIRST,
        seen: int = 0,
    ) -> Vote:
        """Writes a vote and returns it once it is on disk.

        Args:
          reviewer, clip, choice, remark, round: as in Vote.
          request: an id that the page makes up once for each vote; the same id again changes nothing.
          seen: the id of the vote that this one replaces, 0 for a first vote.

        Raises:
          Conflict: another vote stands than the page knew, or the votes have been shown to the others.
        """
        with self._transaction():
            known = self._one("request = ?", request)
            if known:
                return known
            standing = self._standing(reviewer, clip, round)
            if (standing.id if standing else 0) != seen:
                raise Conflict("this clip was answered in another tab or on another device", standing)
            if round == FIRST and self._second_round_open() and standing:
                raise Conflict("the second round is open: first votes stay as they are", standing)
            now = time.time()
            self._database.execute("UPDATE votes SET withdrawn = ? WHERE id = ? AND withdrawn IS NULL", (now, seen))
            row = (reviewer, clip, round, choice, remark, request, now)
            self._database.execute(
                "INSERT INTO votes (reviewer, clip, round, choice, remark, request, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            return self._one("request = ?", request)

    def withdraw(self, reviewer: str, vote_id: int, round: int = FIRST) -> Vote:
        """Takes a reviewer's last standing vote back and returns it; it stays in the file as withdrawn.

        Raises:
          Conflict: the vote is not the last one, as when another tab has voted since.
        """
        with self._transaction():
            last = self._last(reviewer, round)
            if last is None or last.id != vote_id:
                raise Conflict("another vote was cast or taken back since", last)
            if round == FIRST and self._second_round_open():
                raise Conflict("the second round is open: first votes stay as they are", last)
            self._database.execute("UPDATE votes SET withdrawn = ? WHERE id = ?", (time.time(), vote_id))
            return last

    def votes(self, round: int = FIRST, reviewer: str = "", clip: str = "") -> list[Vote]:
        """Returns a round's standing votes in the order of time, all of them, one reviewer's or one clip's."""
        where, values = "withdrawn IS NULL AND round = ?", [round]
        for column, value in (("reviewer", reviewer), ("clip", clip)):
            if value:
                where, values = f"{where} AND {column} = ?", [*values, value]
        with self._lock:
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM votes WHERE {where} ORDER BY id", values).fetchall()
        return [Vote(*row) for row in rows]

    def revision(self) -> tuple:
        """Returns a value that differs after any change to the votes."""
        with self._lock:
            return self._database.execute("SELECT COUNT(*), COUNT(withdrawn), MAX(id) FROM votes").fetchone()

    def open_second_round(self) -> None:
        """Lets the reviewers see the votes of clips without consensus and vote on them again."""
        with self._transaction():
            self._remembered("second_round", str(time.time()))

    @property
    def second_round(self) -> bool:
        """Whether the second round is open."""
        with self._lock:
            return self._second_round_open()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _remembered(self, name: str, value: str) -> str:
        self._database.execute("INSERT OR IGNORE INTO study (name, value) VALUES (?, ?)", (name, value))
        return self._database.execute("SELECT value FROM study WHERE name = ?", (name,)).fetchone()[0]

    def _second_round_open(self) -> bool:
        return self._database.execute("SELECT 1 FROM study WHERE name = 'second_round'").fetchone() is not None

    def _standing(self, reviewer: str, clip: str, round: int) -> Vote | None:
        return self._one("reviewer = ? AND clip = ? AND round = ? AND withdrawn IS NULL", reviewer, clip, round)

    def _last(self, reviewer: str, round: int) -> Vote | None:
        return self._one("reviewer = ? AND round = ? AND withdrawn IS NULL ORDER BY id DESC LIMIT 1", reviewer, round)

    def _one(self, where: str, *values: object) -> Vote | None:
        row = self._database.execute(f"SELECT {_COLUMNS} FROM votes WHERE {where}", values).fetchone()
        return Vote(*row) if row else None


def _unusable(path: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(
        f"`study` holds {path!r}, which cannot be used ({reason}). Change its permissions, or name another folder."
    )
