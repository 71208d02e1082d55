"""Runs a program in a process of its own that is forked from one in which TensorFlow is imported already.

Importing TensorFlow and Keras takes five seconds of CPU. Tests of a program's start begin it as a user does instead.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

IMPORTED = (
    "trainer.task",
    "trainer.fa_net",
    "trainer.evaluate",
    "trainer.fape_gan",
    "serving.server",
    "tests.trainer.conftest",
)
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(list(IMPORTED))


def run(
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    largest_file: int = 0,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Runs Python code as `python -c` would, and waits for it.

    Args:
      code: the program.
      *arguments: its arguments, sys.argv from 1 on.
      environment: variables to set.
      largest_file: bytes after which writing a file fails, as on a full disk; 0 for no limit.
      timeout: seconds after which it is killed.
    """
    process, readers = _started(code, arguments, environment, largest_file)
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    with ThreadPoolExecutor(2) as pool:
        out, err = pool.map(_all_of, readers)
    process.join()
    timer.cancel()
    return subprocess.CompletedProcess([code, *arguments], process.exitcode or 0, out, err)


class Module:
    """`python -m MODULE` with arguments, as far as tests use a `subprocess.Popen` of it.

    Attributes:
      pid: of the process.
      stdout, stderr: its streams, text.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        self._process, readers = _started(code, arguments)
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno()), errors="replace") for reader in readers)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0.0)
        return self._process.exitcode


def _started(
    code: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None, largest_file: int = 0
) -> tuple[multiprocessing.process.BaseProcess, list[Connection]]:
    """The process, and what it writes to standard output and to standard error."""
    pipes = [FORKED.Pipe(duplex=False) for _ in range(2)]
    ends = [writer for _, writer in pipes]
    process = FORKED.Process(target=_begin, args=(code, arguments, ends, dict(environment or {}), largest_file))
    process.start()
    for end in ends:
        end.close()
    return process, [reader for reader, _ in pipes]


def _all_of(reader: Connection) -> str:
    read = b"".join(iter(lambda: os.read(reader.fileno(), 65536), b""))
    reader.close()
    return read.decode(errors="replace")


def _begin(
    code: str, arguments: Sequence[str], ends: Sequence[Connection], environment: Mapping[str, str], largest_file: int
) -> None:
    for number, end in enumerate(ends, 1):
        os.dup2(end.fileno(), number)
        end.close()
    # Those that were inherited may have been files.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    os.environ.update(environment)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
