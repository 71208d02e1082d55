"""One writer for a folder: a second waits or is refused by name of the first; a dead one's lock is taken over.

On this machine (and on NFS) the system itself holds the lock, for as long as the writer or a worker of it lives, and a
killed one's is free at once. An object store knows no locks, nor do some mounted file systems: there the holder writes
anew every minute that it lives, and its lock is free when it has been silent for five, or when it was a process of this
machine that is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from fer_tf import files
from fer_tf.errors import InputError

_NAME = ".lock"
_ALIVE_SECONDS, _DEAD_SECONDS = 60.0, 300.0


@contextlib.contextmanager
def only_writer(folder: str, field: str, wait: bool = False) -> Iterator[None]:
    """Holds a folder's lock while the block runs.

    Args:
      folder: the folder; it is made when it is missing.
      field: the flag that names it, for the error.
      wait: whether to wait for another writer of a folder on this machine.

    Raises:
      InputError: another process writes into it.
      CannotWrite: nothing can be written into it.
    """
    files.make_folder(folder)
    path = files.join(folder, _NAME)
    with _held_here(path, folder, field, wait) if files.is_local(folder) else _held_far(path, folder, field):
        yield


@contextlib.contextmanager
def _held_here(path: str, folder: str, field: str, wait: bool) -> Iterator[None]:
    import fcntl

    while True:
        # Programs that are started meanwhile do not inherit it.
        try:
            file = open(path, "a+")  # noqa: SIM115
        except OSError as error:
            raise files.cannot_write(path, error) from error
        with file:
            knows_locks = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.seek(0)
                raise _taken(field, folder, file.read()) from None
            except OSError:
                knows_locks = False
            if not knows_locks:
                with _held_far(path, folder, field):
                    yield
                return
            # Not that of a writer who has just ended and removed it: whoever comes next would have another.
            if not os.path.exists(path) or not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                continue
            file.truncate(0)
            file.write(json.dumps(_about_me()))
            file.flush()
            try:
                yield
            finally:
                os.remove(path)
            return


@contextlib.contextmanager
def _held_far(path: str, folder: str, field: str) -> Iterator[None]:
    me = _about_me()
    if files.exists(path):
        text = files.read_text(path)
        holder = _parsed(text)
        same_machine = holder.get("host") == me["host"]
        alive = _is_running(holder) if same_machine else time.time() - holder.get("seen", 0) < _DEAD_SECONDS
        if alive:
            raise _taken(field, folder, text)
    ended = threading.Event()

    def say_alive() -> None:
        while not ended.wait(_ALIVE_SECONDS):
            # A lock that cannot be written must not stop the work.
            with contextlib.suppress(OSError):
                files.write_json(path, {**me, "seen": time.time()})

    files.write_json(path, {**me, "seen": time.time()})
    thread = threading.Thread(target=say_alive, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        files.delete(path)


def _about_me() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process of this machine began, which tells it from a later one of the same number; empty for none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def _is_running(holder: dict[str, Any]) -> bool:
    return bool(holder.get("started")) and _started(holder["pid"]) == holder["started"]


def _parsed(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return {}


def _taken(field: str, folder: str, text: str) -> InputError:
    holder = _parsed(text)
    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}" if holder else "another process"
    return InputError(f"`{field}` {folder!r} is being written by {who}; wait for it, end it, or name another folder.")
