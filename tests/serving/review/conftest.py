"""A small study on real sample clips, served as the command serves it."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.review_setup import Served
from serving.review.store import Store
from serving.review.study import StudyOptions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REVIEWERS = ("anna", "ben", "chris")


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_annotations(path: Path, rows: list[dict[str, str]], newline: str = "\n", bom: bool = False) -> Path:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + out.getvalue().encode())
    return path


def sample_rows(samples: Path, count: int) -> list[dict[str, str]]:
    """Rows of the sample clips, spread over people and expressions, without the samples' own votes."""
    every = rows_of(samples / "annotations.csv")
    # An odd stride meets every expression and pose.
    chosen = every[:: len(every) // count - 1 | 1][:count]
    return [{name: value for name, value in row.items() if not name.startswith("reviewer_")} for row in chosen]


class Command:
    """The command in a process of its own.

    Args:
      flags: its flags.
    """

    def __init__(self, *flags: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.review", "--port=0", *flags], stdout=subprocess.PIPE, text=True
        )
        self.links: dict[str, str] = {}
        for line in self.process.stdout:
            if "/r/" in line or "/lead/" in line:
                name, _, link = line.strip().partition(": ")
                self.links[name] = link
            if line.startswith("Ctrl-C"):
                break

    def kill(self) -> None:
        """Ends it as a power cut does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def rows(samples: Path) -> list[dict[str, str]]:
    return sample_rows(samples, 8)


@pytest.fixture
def options(tmp_path: Path, samples: Path, rows: list[dict[str, str]]) -> StudyOptions:
    path = write_annotations(tmp_path / "annotations.csv", rows)
    return StudyOptions(annotations=str(path), videos_root=str(samples), reviewers=REVIEWERS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "votes.sqlite3"))


@pytest.fixture
def served(options: StudyOptions, tmp_path: Path) -> Iterator[Served]:
    with contextlib.closing(Served(options, tmp_path)) as study:
        yield study


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
