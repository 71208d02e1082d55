"""Processes of this project's own that open files which nobody has checked: how they start and what they may take."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time

# A file that makes a codec ask for more than this is refused; 8K frames need about one eighth.
MEMORY_BYTES = 8 << 30


def start(module: str, **options: int) -> subprocess.Popen:
    """Starts a module of this project in a session of its own, with pipes for its input and output.

    Args:
      module: its name, such as `fer_tf.faces.decoder`.
      **options: more for `subprocess.Popen`.

    Returns:
      the process; its pipes are unbuffered bytes, and what it says on standard error is nobody's.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env=os.environ | {"PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
        **options,
    )


def confine(memory_bytes: int = MEMORY_BYTES) -> None:
    """Bounds this process' memory, bytes of address space, and leaves Ctrl-C to the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def leave_with_parent() -> None:
    """Ends this process when the one that started it is gone, even while a codec hangs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
