"""`make cluster-test`: a real Flink of two task managers builds what DirectRunner builds, also when a worker dies."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.flink import FlinkCluster, FlinkConfig, MissingTool
from tests.beam_pipelines.conftest import shard_hashes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
FLAGS = ("--max_keyframes=2", "--num_shards=2", "--progress_s=2")
PEOPLE, EXPRESSIONS = ("P001", "P003"), ("happy", "sad")


@pytest.fixture(scope="module")
def corpus(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that name sixteen of the sample clips."""
    path = tmp_path_factory.mktemp("few") / "annotations.csv"
    with open(samples / "annotations.csv", newline="") as source, open(path, "w", newline="") as target:
        reader = csv.DictReader(source)
        writer = csv.DictWriter(target, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in reader if row["person"] in PEOPLE and row["expression"] in EXPRESSIONS)
    return [f"--videos_root={samples}", f"--annotations={path}", "--review=none", *FLAGS]


@pytest.fixture(scope="module")
def direct(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What DirectRunner builds."""
    output = tmp_path_factory.mktemp("direct")
    assert build(corpus, output).wait(600) == 0
    return output


@pytest.fixture(scope="module")
def flink() -> Iterator[FlinkCluster]:
    try:
        cluster = FlinkCluster(FlinkConfig(task_managers=2, folder=str(ROOT / ".cluster")))
        with cluster:
            yield cluster
    except MissingTool as error:
        pytest.skip(f"no Flink here: {error}")


def build(corpus: list[str], output: Path, runner: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, "-m", "beam_pipelines.build", f"--output={output}", *corpus, *runner]
    with open(output / "build.log", "w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def kill_worker(flink: FlinkCluster) -> None:
    os.kill(flink.workers()[0], signal.SIGKILL)


def kill_task_manager(flink: FlinkCluster) -> None:
    flink.kill_task_manager(0)
    # As whatever looks after a real cluster's machines would.
    flink.start_task_manager(0)


@pytest.mark.parametrize("kill", [kill_worker, kill_task_manager])
def test_flink_builds_the_same_bytes_with_a_worker_killed_in_the_middle(
    flink: FlinkCluster, direct: Path, corpus: list[str], tmp_path: Path, kill: Callable[[FlinkCluster], None]
) -> None:
    before = {job["jid"] for job in flink.jobs_seen()}
    process = build(corpus, tmp_path, tuple(flink.flags()))
    finished = 0
    # Free cores finish all sixteen clips within a second or two.
    while process.poll() is None and finished < 2:
        time.sleep(0.05)
        finished = len(list((tmp_path / ".extracted").rglob("*.tfrecord*")))
    assert process.poll() is None, (tmp_path / "build.log").read_text()[-3000:]
    kill(flink)
    assert process.wait(900) == 0, (tmp_path / "build.log").read_text()[-3000:]

    jobs = [job for job in flink.jobs_seen() if job["jid"] not in before]
    assert [job["state"] for job in jobs] == ["FINISHED", "FINISHED"]
    assert flink.failures(jobs[0]), "the kill cost no retry: it came too late to prove anything"
    assert shard_hashes(tmp_path) == shard_hashes(direct)
    assert len(shard_hashes(tmp_path)) == 4
