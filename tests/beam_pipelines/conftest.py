"""A few real clips, built once; other tests reuse what was found in them where finding is not their claim."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest

from beam_pipelines import build, runner
from fer_tf.data import schema
from tests.conftest import made_once

PERSONS, EXPRESSIONS = ("P001", "P003", "P009", "P010"), ("happy", "surprise")
# Two frames a clip keep the suite fast.
FLAGS = ["--max_keyframes=2", "--num_shards=3"]


@dataclass(frozen=True)
class Built:
    """A build and what it was made from."""

    folder: Path
    annotations: Path
    root: Path
    extracted: Path
    code: int


def sample_rows(samples: Path) -> list[dict[str, str]]:
    with open(samples / "annotations.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["person"] in PERSONS and row["expression"] in EXPRESSIONS]


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    rows = list(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(annotations: Path, root: Path, output: Path, *flags: str) -> int:
    """Runs the command in this process."""
    return build.main([f"--annotations={annotations}", f"--videos_root={root}", f"--output={output}", *FLAGS, *flags])


def shard_hashes(folder: Path) -> dict[str, str]:
    """Every shard's name and the SHA-256 of its content: pytest would compare megabytes line by line, for minutes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("records", "pairs")
        for path in sorted((folder / kind).iterdir())
    }


def read(folder: Path, pattern: str, kind: type) -> list:
    """The records of a data folder through TensorFlow's own reader, in order of files and records."""
    import tensorflow as tf

    paths = sorted(str(path) for path in folder.glob(pattern))
    return [schema.decode(raw, kind) for path in paths for raw in tf.data.TFRecordDataset(path).as_numpy_iterator()]


@pytest.fixture(scope="session")
def built(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A few real clips of the samples, built by one worker in this process; read only."""

    def make(folder: Path) -> None:
        annotations = write_rows(folder / "annotations.csv", sample_rows(samples))
        code = run(annotations, samples, folder / "out", f"--extracted={folder / 'extracted'}")
        (folder / "code").write_text(str(code))

    folder = made_once(tmp_path_factory, "built", make)
    code = int((folder / "code").read_text())
    return Built(folder / "out", folder / "annotations.csv", samples, folder / "extracted", code)


@pytest.fixture
def workers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which commands begin; their pipelines run in another, as a cluster's workers do."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()

    @contextlib.contextmanager
    def running(name: str, flags: Sequence[str], output: str) -> Iterator[beam.Pipeline]:
        with runner.pipeline(name, flags) as steps:
            yield steps
            monkeypatch.chdir(there)
        monkeypatch.chdir(here)

    monkeypatch.chdir(here)
    monkeypatch.setattr(runner, "running", running)
    return here
