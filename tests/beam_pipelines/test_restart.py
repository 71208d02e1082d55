"""Stopped in the middle: no half-written shard, and the same command goes on to the result of an unbroken run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines import extract
from fer_tf import config, faces
from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor
from tests.beam_pipelines.conftest import FLAGS, Built, run, shard_hashes

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def started(built: Built, output: Path, *flags: str) -> Iterator[subprocess.Popen]:
    """The command in a process of its own, gone with its workers when the block ends."""
    command = [sys.executable, "-m", "beam_pipelines.build", f"--annotations={built.annotations}"]
    command += [f"--videos_root={built.root}", f"--output={output}", *FLAGS, *flags]
    # A group of its own, so that a signal reaches what it would reach from a terminal.
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def begin(built: Built, output: Path, left: int) -> None:
    """Makes an output folder where the faces of all clips but a few are known already: finding them takes seconds."""
    shutil.copytree(built.extracted, output / ".extracted")
    for path in sorted(finished(output))[:left]:
        path.unlink()


def finished(output: Path) -> dict[Path, int]:
    """The finished clips' files and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (output / ".extracted").rglob("*.tfrecord")}


def wait_for_clips(process: subprocess.Popen, output: Path, clips: int) -> None:
    while len(finished(output)) < clips:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def test_stopped_and_killed_builds_go_on_to_the_unbroken_result_without_detecting_again(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(built, tmp_path, left=7)
    known = finished(tmp_path)
    with started(built, tmp_path) as process:
        wait_for_clips(process, tmp_path, len(known) + 1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "goes on where this one stopped" in errors
    assert not (tmp_path / "records").exists() and not (tmp_path / "dataset.json").exists()
    after_ctrl_c = finished(tmp_path)
    assert len(after_ctrl_c) > len(known)

    with started(built, tmp_path) as process:
        wait_for_clips(process, tmp_path, len(after_ctrl_c) + 1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "records").exists() and not (tmp_path / "dataset.json").exists()
    after_kill = finished(tmp_path)
    assert after_ctrl_c.items() <= after_kill.items()

    detected = []
    found = FaceExtractor.extract
    monkeypatch.setattr(FaceExtractor, "extract", lambda self, path: detected.append(path) or found(self, path))
    assert run(built.annotations, built.root, tmp_path) == config.EXIT_OK
    assert after_kill.items() <= finished(tmp_path).items()
    assert len(detected) == len(finished(tmp_path)) - len(after_kill) > 0
    assert shard_hashes(tmp_path) == shard_hashes(built.folder)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".extracted"]


def test_the_faces_version_and_not_the_sources_text_decides_what_is_detected_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> str:
        return extract.extraction_key(ExtractorOptions())

    before = key()
    assert extract.extraction_key(ExtractorOptions(max_keyframes=3)) != before
    monkeypatch.setattr(faces, "__file__", str(tmp_path / "__init__.py"))
    assert key() == before
    monkeypatch.setattr(extract, "FACES_VERSION", extract.FACES_VERSION + 1)
    assert key() != before


def test_another_landmark_model_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    model = tmp_path / "predictor.dat"
    keys = []
    for content in (b"one", b"two", b"one"):
        model.write_bytes(content)
        os.utime(model, ns=(1, 1))
        keys.append(extract.ExtractClip(extract.Videos(""), "", ExtractorOptions(landmark_model=str(model)), "")._key)
    assert keys[0] == keys[2] != keys[1]


# Each worker imports Beam and TensorFlow, half a minute of CPU in all: `make cluster-test` runs it.
@pytest.mark.slow
def test_two_worker_processes_give_the_bytes_that_one_worker_gives(built: Built, tmp_path: Path) -> None:
    begin(built, tmp_path, left=4)
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    with started(built, tmp_path, *flags) as process:
        _, errors = process.communicate(timeout=900)
    assert process.returncode == config.EXIT_OK, errors
    assert shard_hashes(tmp_path) == shard_hashes(built.folder)
