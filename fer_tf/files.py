"""Files, on this machine or remote: joined, listed, moved, deleted, and written whole or not at all.

Which library reaches a remote path: `fer_tf.filesystems`. Whatever fails raises an OSError; what fails while a file is
written a `CannotWrite`, whose text can be shown as it is.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from fer_tf.errors import InputError
from fer_tf.filesystems import ANY_DEPTH as ANY_DEPTH
from fer_tf.filesystems import is_local, system_of

if TYPE_CHECKING:
    import numpy as np

# How the name of a file or folder that is being written begins. The final one, which may be long, is not in it.
UNFINISHED = ".tmp-"
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# EINVAL: signs that the file system takes in no name, such as a colon on exFAT.
_OF_THE_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTEMPTY)


class CannotWrite(OSError):
    """A file that could not be written, such as on a full disk; what stood under its name before is intact."""


@contextlib.contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """Tells TensorFlow's errors as Python does."""
    try:
        yield
    except Exception as error:
        errors = sys.modules["tensorflow"].errors if "tensorflow" in sys.modules else None
        if errors is None or not isinstance(error, errors.OpError):
            raise
        if isinstance(error, errors.NotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise OSError(f"{path}: {error.message}") from error


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Tells what fails as CannotWrite, with advice that fits the cause."""
    try:
        with _as_os_errors(path):
            yield
    except CannotWrite:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(what: str, error: Exception) -> CannotWrite:
    """Returns the error for something that could not be written, with advice that fits the cause.

    Args:
      what: a path, or what else was written and where.
      error: why; libraries that write by themselves spread theirs over several lines.
    """
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    number = getattr(error, "errno", None)
    advice = ""
    # TensorFlow's errors have no number.
    if number in _FULL or any(os.strerror(full) in reason for full in _FULL):
        advice = "; free some space, then the same command goes on"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "; change the permissions there, or name another folder"
    elif number in _OF_THE_NAME:
        advice = "; name another folder"
    return CannotWrite(f"cannot write {what}: {reason}{advice}")


def join(folder: str, *names: str) -> str:
    """Returns a path below a folder; names may hold slashes."""
    if is_local(folder):
        return os.path.join(folder, *names)
    return "/".join([folder.rstrip("/"), *(name.strip("/") for name in names)])


def absolute(path: str) -> str:
    """Returns a path that means the same in another current folder."""
    return os.path.abspath(path) if is_local(path) else path


def exists(path: str) -> bool:
    """Returns whether a file is there (or a folder, where there are such)."""
    with _as_os_errors(path):
        return system_of(path).exists(path)


def stat(path: str) -> tuple[int, float]:
    """Returns a file's size, bytes, and the time of its last change, seconds; raises OSError when there is none."""
    with _as_os_errors(path):
        return system_of(path).stat(path)


def matching(folder: str, pattern: str) -> list[str]:
    """Returns the sorted paths of the files in a folder that match a pattern; none is no error.

    Args:
      folder: taken by its letters, whatever marks of patterns it holds (but for a remote one).
      pattern: such as `records/*.tfrecord`; `ANY_DEPTH` alone for all files below the folder and linked ones, and for
        folders there that cannot be read.
    """
    with _as_os_errors(folder):
        return sorted(system_of(folder).matching(folder, pattern))


@contextlib.contextmanager
def open_to_read(path: str) -> Iterator[BinaryIO]:
    """Gives a file opened to read its bytes as they are, whatever its extension."""
    with _as_os_errors(path), system_of(path).open(path) as file:
        yield file


def read_bytes(path: str) -> bytes:
    """Returns a file's content; raises OSError when there is no such file."""
    with open_to_read(path) as file:
        return file.read()


def read_text(path: str) -> str:
    return read_bytes(path).decode()


def read_json(path: str) -> Any:
    """Returns a JSON file's value; raises OSError when there is no such file, ValueError when it is no JSON."""
    return json.loads(read_bytes(path))


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Returns what `write_arrays` wrote, by name; raises OSError when there is no such file, ValueError for another."""
    import numpy as np

    with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
        return dict(arrays)


def read_array(path: str) -> np.ndarray:
    """Returns what `write_array` wrote; raises as `read_arrays`."""
    import numpy as np

    return np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Gives a path that any library can open: the file's own, or that of a copy with its name."""
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        with open_to_read(path) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
        yield copy


class Output:
    """What `whole_file` gives: writes bytes, and tells what goes wrong as CannotWrite."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path

    def write(self, content: bytes) -> None:
        with _writing(self._path):
            self._file.write(content)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[Output]:
    """Writes a file under a temporary name beside its final one, and renames it when the block ends without error.

    Raises:
      CannotWrite: when the disk is full or the folder cannot be written; what stood there before is intact.
    """
    system = system_of(path)
    partial = join(os.path.dirname(path), f"{UNFINISHED}{uuid.uuid4().hex[:12]}")
    with _writing(path):
        system.make_folder(os.path.dirname(path))
        file = system.create(partial)
    try:
        try:
            yield Output(file, path)
        except BaseException:
            with contextlib.suppress(Exception):
                file.close()
            raise
        with _writing(path):
            file.close()
            system.rename(partial, path)
    except BaseException:
        with contextlib.suppress(Exception):
            system.delete([partial])
        raise


def write_bytes(path: str, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def printable(text: str) -> str:
    """Returns a text that UTF-8 can hold: of a file's name, bytes that are no UTF-8 become escapes: `\\udce9`."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_line(value: Any) -> str:
    """Returns a value as one line of JSON; a name that is no UTF-8 is read back as it was."""
    return printable(json.dumps(value, ensure_ascii=False))


def write_text(path: str, text: str) -> None:
    write_bytes(path, printable(text).encode())


def write_json(path: str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_arrays(path: str, **arrays: np.ndarray | str) -> None:
    """Writes arrays of numbers or texts, of any shape, as a compressed .npz, in one step."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def write_array(path: str, array: np.ndarray) -> None:
    """Writes one array of numbers or texts, of any shape, as .npy, in one step."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def write_lines(path: str, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        for line in lines:
            file.write(printable(line).encode() + b"\n")


def put(local_path: str, path: str) -> None:
    """Copies a finished local file, such as one that a library needed to seek in, under its name in one step."""
    with open(local_path, "rb") as source, whole_file(path) as target:
        shutil.copyfileobj(source, target, _BLOCK)


@contextlib.contextmanager
def whole_local(path: str) -> Iterator[str]:
    """Gives a local path of the same name to a library that seeks in what it writes; the block's end puts it there.

    Raises:
      CannotWrite: when the disk is full or the folder cannot be written; what stood there before is intact.
    """
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(path))
        with _writing(path):
            yield local
        put(local, path)


@contextlib.contextmanager
def whole_path(path: str) -> Iterator[str]:
    """Gives a path to a library that writes a local file or folder by itself; the block's end gives it its final name.

    It lies beside the final path and ends as that does, because libraries go by the extension. An error in the block
    leaves nothing of it.

    Raises:
      CannotWrite: when what was written cannot get its name.
    """
    suffix = os.path.splitext(path)[1]
    partial = os.path.join(os.path.dirname(path), f"{UNFINISHED}{uuid.uuid4().hex[:12]}{suffix}")
    try:
        yield partial
        with _writing(path):
            os.replace(partial, path)
    finally:
        if os.path.isdir(partial):
            shutil.rmtree(partial, ignore_errors=True)
        elif os.path.exists(partial):
            os.remove(partial)


def make_folder(folder: str) -> None:
    """Makes a folder and those above it; one that exists is no error."""
    with _writing(folder):
        system_of(folder).make_folder(folder)


def move(source: str, target: str) -> None:
    """Gives a file another name on the same file system, in the place of what has it."""
    system = system_of(target)
    with _writing(target):
        system.make_folder(os.path.dirname(target))
        system.rename(source, target)


def delete(*paths: str) -> None:
    """Deletes files; one that is missing is no error."""
    if paths:
        with _as_os_errors(paths[0]):
            system_of(paths[0]).delete(paths)


def delete_folder(folder: str) -> None:
    """Deletes a folder and all it holds; one that is missing is no error."""
    with _as_os_errors(folder):
        system_of(folder).delete_folder(folder)


def folder_and_pattern(path: str) -> tuple[str, str]:
    """Parts a path with marks of patterns, such as `clips/*/*.mp4`, for `matching`; what exists has no such marks.

    Returns:
      The folder, or the path itself when nothing in it is a pattern, and the pattern below it or nothing.
    """
    parts = path.rstrip("/").split("/")
    for count in range(1, len(parts) + 1):
        begun = "/".join(parts[:count])
        if any(mark in parts[count - 1] for mark in "*?[") and not (is_local(path) and os.path.exists(begun)):
            folder = "/".join(parts[: count - 1]) or ("/" if path.startswith("/") else "")
            return folder, "/".join(parts[count - 1 :])
    return path.rstrip("/") or "/", ""


def is_folder(path: str) -> bool:
    """Returns whether a path names a folder: no file and no pattern."""
    if is_local(path):
        return os.path.isdir(path)
    return not folder_and_pattern(path)[1] and bool(matching(path, ANY_DEPTH))


def listed(inputs: str) -> list[str]:
    """Returns the file, all files below the folder but hidden ones, or those that the glob names; what exists is none.

    Args:
      inputs: what a user wrote; a file that does not exist gives nothing.
    """
    if not inputs:
        return []
    folder, pattern = folder_and_pattern(inputs)
    if pattern not in ("", ANY_DEPTH):
        return matching(folder, pattern)
    if pattern or is_folder(folder):
        found = matching(folder, ANY_DEPTH)
        return [path for path in found if not re.search(r"/\.", path[len(folder.rstrip("/")) :])]
    return [inputs] if exists(inputs) else []


def refuse_patterns(field: str, path: str) -> None:
    """Raises InputError when a library would read a remote path as a pattern; a local one is taken by its letters."""
    if not is_local(path) and any(mark in path for mark in "*?["):
        raise InputError(f"`{field}` must not hold *, ? or [, which are marks of patterns. Received: {path!r}.")


def refuse_remote(field: str, path: str, instead: str = "") -> None:
    """Raises InputError for a remote path where files of this machine's own are written."""
    if not is_local(path):
        raise InputError(f"`{field}` must be a path on this machine{instead}. Received: {path!r}.")


def check_writable(folder: str) -> None:
    """Raises InputError when nothing can be written into a folder, or a remote one's name is a pattern."""
    refuse_patterns("output", folder)
    probe = join(folder, f".probe-{uuid.uuid4().hex[:12]}")
    try:
        make_folder(folder)
        write_bytes(probe, b"probe")
        delete(probe)
    except OSError as error:
        reason = error.__cause__ or error
        raise InputError(
            f"`output` {folder!r} cannot be written to ({reason}). Free space, change its permissions, or name another."
        ) from None
