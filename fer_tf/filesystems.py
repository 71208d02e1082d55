"""Which library reaches a path: Python itself, Beam or TensorFlow.

A path without `://` is this machine's own, and Python reads and writes it. Any other belongs to the library that this
process works with already: Beam's file systems in a pipeline's driver and workers, which also know what is registered
with them, and TensorFlow's elsewhere, which writes the checkpoints and reads the records too, so that one client with
one set of credentials is at work. What the one does not know is left to the other. Neither is imported before a remote
path is touched.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import sys
import urllib.parse
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

from fer_tf.errors import InputError

# The pattern of all files below a folder.
ANY_DEPTH = "**"


def is_local(path: str) -> bool:
    """Returns whether a path lies on this machine's own file system."""
    return "://" not in path


def as_local(path: str) -> str:
    """Returns a path that names this machine in full, `file:///a.jpg` or `~/a.jpg`, as Python takes it."""
    if path.startswith(("file:///", "file://localhost/")):
        path = path[path.index("/", len("file://")) :]
        # A browser writes marks and blanks as numbers.
        return path if os.path.exists(path) else urllib.parse.unquote(path)
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path


class FileSystem(Protocol):
    """What is asked of a file system; paths are whole, and every failure is an OSError."""

    def open(self, path: str) -> BinaryIO: ...

    def create(self, path: str) -> BinaryIO: ...

    def exists(self, path: str) -> bool: ...

    def stat(self, path: str) -> tuple[int, float]: ...

    def matching(self, folder: str, pattern: str) -> list[str]: ...

    def make_folder(self, folder: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def delete(self, paths: Sequence[str]) -> None: ...

    def delete_folder(self, folder: str) -> None: ...


class _Local:
    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    def create(self, path: str) -> BinaryIO:
        return open(path, "wb")

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def stat(self, path: str) -> tuple[int, float]:
        found = os.stat(path)
        return found.st_size, found.st_mtime

    def matching(self, folder: str, pattern: str) -> list[str]:
        if pattern == ANY_DEPTH:
            return _files_below(folder or ".")
        # The folder's own name may hold marks of patterns.
        paths = (os.path.join(folder, name) for name in glob.glob(pattern, root_dir=folder or None, recursive=True))
        found = [path for path in paths if os.path.isfile(path)]
        return _each_once(found) if ANY_DEPTH in pattern else found

    def make_folder(self, folder: str) -> None:
        os.makedirs(folder or ".", exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)

    def delete_folder(self, folder: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)


def _files_below(folder: str) -> list[str]:
    """All files below a folder, links followed, each real folder once; one that cannot be read is listed as it is."""
    found: list[str] = []

    def unreadable(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            found.append(error.filename)

    # Of a folder that is met twice, its own place counts before a link to it, and either before a hidden one.
    waiting, hidden = [folder], list[str]()
    seen: set[str] = set()
    while waiting or hidden:
        for where, folders, names in os.walk((waiting or hidden).pop(0), onerror=unreadable):
            real = os.path.realpath(where)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            found += [os.path.join(where, name) for name in names]
            aside = [name for name in folders if name.startswith(".") or os.path.islink(os.path.join(where, name))]
            for name in sorted(aside):
                (hidden if name.startswith(".") else waiting).append(os.path.join(where, name))
            folders[:] = sorted(set(folders) - set(aside))
    return found


def _each_once(paths: list[str]) -> list[str]:
    """Of files of one real folder that links lead to in several ways, each once: where it lies, or the short way."""
    once: dict[tuple[str, str], str] = {}
    for path in sorted(paths, key=lambda path: (path.count(os.sep), path)):
        folder, name = os.path.split(path)
        real = os.path.realpath(folder)
        if (real, name) not in once or real == os.path.abspath(folder):
            once[real, name] = path
    return list(once.values())


class _Beam:
    def __init__(self) -> None:
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        # As they are, whatever the extension says.
        self._systems, self._as_it_is = FileSystems, {"compression_type": CompressionTypes.UNCOMPRESSED}

    def knows(self, path: str) -> bool:
        try:
            self._systems.get_filesystem(path)
        except ValueError:
            return False
        return True

    def open(self, path: str) -> BinaryIO:
        return self._systems.open(path, **self._as_it_is)

    def create(self, path: str) -> BinaryIO:
        return self._systems.create(path, **self._as_it_is)

    def exists(self, path: str) -> bool:
        return self._systems.exists(path)

    def stat(self, path: str) -> tuple[int, float]:
        found = self._match(path)
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found[0].size_in_bytes, found[0].last_updated_in_seconds

    def matching(self, folder: str, pattern: str) -> list[str]:
        from apache_beam.io.filesystem import BeamIOError

        try:
            return [found.path for found in self._match(f"{folder.rstrip('/')}/{pattern}")]
        except BeamIOError:
            return []

    def _match(self, pattern: str) -> list[Any]:
        return self._systems.match([pattern])[0].metadata_list

    def make_folder(self, folder: str) -> None:
        if not self._systems.exists(folder):
            with contextlib.suppress(OSError):
                self._systems.mkdirs(folder)

    def rename(self, source: str, target: str) -> None:
        self._systems.rename([source], [target])

    def delete(self, paths: Sequence[str]) -> None:
        if paths:
            self._systems.delete(list(paths))

    def delete_folder(self, folder: str) -> None:
        # File by file: an object store has no folders, and one named like an object of its own is silently not found.
        self.delete(self.matching(folder, ANY_DEPTH))


class _TensorFlow:
    def __init__(self) -> None:
        import tensorflow as tf

        self._tf, self._gfile = tf, tf.io.gfile

    def knows(self, path: str) -> bool:
        return path.split("://", 1)[0] in self._gfile.get_registered_schemes()

    def open(self, path: str) -> BinaryIO:
        return self._gfile.GFile(path, "rb")

    def create(self, path: str) -> BinaryIO:
        return self._gfile.GFile(path, "wb")

    def exists(self, path: str) -> bool:
        return self._gfile.exists(path)

    def stat(self, path: str) -> tuple[int, float]:
        found = self._gfile.stat(path)
        return found.length, found.mtime_nsec / 1e9

    def matching(self, folder: str, pattern: str) -> list[str]:
        if pattern == ANY_DEPTH:
            return [os.path.join(where, name) for where, _, names in self._gfile.walk(folder) for name in names]
        return [path for path in self._gfile.glob(f"{folder.rstrip('/')}/{pattern}") if not self._gfile.isdir(path)]

    def make_folder(self, folder: str) -> None:
        self._gfile.makedirs(folder)

    def rename(self, source: str, target: str) -> None:
        self._gfile.rename(source, target, overwrite=True)

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(self._tf.errors.NotFoundError):
                self._gfile.remove(path)

    def delete_folder(self, folder: str) -> None:
        with contextlib.suppress(self._tf.errors.NotFoundError):
            self._gfile.rmtree(folder)


_LOCAL = _Local()


def system_of(path: str) -> FileSystem:
    """The file system that a path belongs to."""
    if is_local(path):
        return _LOCAL
    libraries = (_Beam, _TensorFlow) if "apache_beam" in sys.modules else (_TensorFlow, _Beam)
    for library in libraries:
        system = library()
        if system.knows(path):
            return system
    if path.startswith(("http://", "https://")):
        raise InputError(f"a web address is no file: download {path!r} and name what comes.")
    raise InputError(
        f"no file system is known for {path!r}; gs:// is read as it is, s3:// and others by `pip install "
        "'apache-beam[aws]'` and the like."
    )
