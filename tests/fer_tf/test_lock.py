"""A folder has one writer: a second is told who it is, and a killed one leaves nothing in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_tf import files, lock
from fer_tf.errors import InputError
from fer_tf.lock import only_writer

HOLD = """
import sys, time
from fer_tf.lock import only_writer
with only_writer(sys.argv[1], "output"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that writes into `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_by_process_machine_and_time(holder: subprocess.Popen, tmp_path: Path) -> None:
    who = rf"process {holder.pid} on {socket.gethostname()} since {time.strftime('%Y-%m-%d')}"
    with (
        pytest.raises(InputError, match=rf"`output` .* is being written by {who}"),
        only_writer(str(tmp_path), "output"),
    ):
        raise AssertionError("two writers")


def test_a_writer_that_waits_writes_when_the_first_has_ended(holder: subprocess.Popen, tmp_path: Path) -> None:
    threading.Timer(0.3, holder.kill).start()
    with only_writer(str(tmp_path), "output", wait=True):
        assert holder.wait(5) == -signal.SIGKILL
        with pytest.raises(InputError, match="is being written by process"), only_writer(str(tmp_path), "output"):
            raise AssertionError("two writers")


def test_the_lock_of_a_killed_writer_is_taken_over(holder: subprocess.Popen, tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_writer(str(tmp_path), "output"):
        assert str(holder.pid) not in (tmp_path / ".lock").read_text()
    assert not list(tmp_path.iterdir())


def test_a_build_into_a_folder_that_is_being_built_is_refused(
    holder: subprocess.Popen, tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture
) -> None:
    from beam_pipelines import build
    from fer_tf import config

    argv = [f"--videos_root={samples}", f"--output={tmp_path}"]
    assert config.run_command(build.main, argv) == config.EXIT_USAGE
    assert f"is being written by process {holder.pid} on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "seen", "free"),
    [("elsewhere", 10, False), ("elsewhere", 1000, True), (socket.gethostname(), 10, True)],
    ids=["alive elsewhere", "silent elsewhere", "gone here"],
)
def test_in_an_object_store_a_silent_or_dead_writer_is_followed(host: str, seen: float, free: bool) -> None:
    folder = f"ram://lock/{host}-{seen}"
    about = {"pid": 4_000_000, "host": host, "since": "2026-01-01 12:00:00", "started": "1"}
    files.write_json(files.join(folder, ".lock"), {**about, "seen": time.time() - seen})
    if free:
        with only_writer(folder, "output"):
            assert files.read_json(files.join(folder, ".lock"))["pid"] != about["pid"]
            with pytest.raises(InputError, match="is being written by process"), only_writer(folder, "output"):
                raise AssertionError("two writers")
        assert not files.exists(files.join(folder, ".lock"))
    else:
        with pytest.raises(InputError, match="process 4000000 on elsewhere since 2026-01-01 12:00:00"):
            lock.only_writer(folder, "output").__enter__()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_where_a_mounted_file_system_knows_no_locks_the_file_itself_is_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    for _ in range(2):
        with only_writer(str(tmp_path), "output"):
            who = f"process {os.getpid()} on {socket.gethostname()}"
            with pytest.raises(InputError, match=who), only_writer(str(tmp_path), "output"):
                raise AssertionError("two writers")
        assert not list(tmp_path.iterdir())
