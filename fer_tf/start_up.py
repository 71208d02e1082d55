"""A command's own lines stay alone on the terminal: what TensorFlow says while it starts goes to the log.

Its libraries write to the process's standard error, some of it before any setting of theirs is read, so the stream
itself is led aside while TensorFlow is imported and looks for GPUs. What is none of their notes goes on to the terminal
at once, by a process of its own: a library that ends this process with its last words is still heard.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# Information, warnings and errors in the libraries' own form; the end of a process (F) is not held back.
NOTE = r"[IWE]\d{4} |WARNING: All log messages before absl|To enable the following instructions:"
SECONDS = 5.0
# What was led aside, for a log that is opened later.
notes: list[str] = []
_SORT = """
import re, sys
note = re.compile(sys.argv[1].encode())
with open(sys.argv[2], "wb", 0) as aside:
    for line in sys.stdin.buffer:
        if note.match(line):
            aside.write(line)
        else:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
"""


def quiet() -> None:
    """Leads TensorFlow's start-up notes aside when it is imported; does nothing when it is already."""
    # Of what it says later, only errors are shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def ask_for_onednn() -> None:
    """Has TensorFlow compute by oneDNN on every x86 CPU, unless TF_ENABLE_ONEDNN_OPTS says otherwise.

    Call it before TensorFlow is imported. Left alone, TensorFlow uses oneDNN only on CPUs with AVX-512 VNNI, and on all
    others its own kernels. Those are slower (docs/experiments.md), and their results change in the last bits with the
    number of threads, so that a detector may find other boxes.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and once."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                with _aside():
                    run(module)
                    # The GPU's libraries are looked for now, not in the middle of the command's lines.
                    module.config.list_physical_devices()

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    terminal = os.dup(2)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "notes")
        command = [sys.executable, "-I", "-S", "-c", _SORT, NOTE, path]
        sorter = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=terminal)
        sys.stderr.flush()
        os.dup2(sorter.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            sorter.stdin.close()
            # A program that was started meanwhile may still hold the stream.
            with contextlib.suppress(subprocess.TimeoutExpired):
                sorter.wait(SECONDS)
            with contextlib.suppress(OSError), open(path, errors="replace") as file:
                notes.extend(file.read().splitlines())
