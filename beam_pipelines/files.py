"""Files on any filesystem that Beam knows: whole, or as TFRecords, under their final name only when complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from fer_tf.errors import InputError

_MASK_DELTA = 0xA282EAD8
# In the name of a file that is being written.
UNFINISHED = ".tmp-"


def join(folder: str, *names: str) -> str:
    """Returns a path below a folder; names may hold slashes."""
    return FileSystems.join(folder, *names)


def is_local(path: str) -> bool:
    """Returns whether a path lies on this machine's own filesystem."""
    return "://" not in path


def exists(path: str) -> bool:
    return FileSystems.exists(path)


def open_to_read(path: str) -> BinaryIO:
    """Returns a file opened to read bytes as they are, whatever its extension."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Writes a file under a temporary name beside its final one, and renames it when the block ends without error."""
    make_folder(path.rsplit("/", 1)[0])
    temporary = f"{path}{UNFINISHED}{uuid.uuid4().hex[:12]}"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise


def make_folder(folder: str) -> None:
    """Makes a folder and those above it; one that exists is no error."""
    if is_local(folder):
        os.makedirs(folder or ".", exist_ok=True)
    elif not FileSystems.exists(folder):
        with contextlib.suppress(OSError):
            FileSystems.mkdirs(folder)


def write_bytes(path: str, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def write_json(path: str, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_bytes(path: str) -> bytes:
    with open_to_read(path) as file:
        return file.read()


def matching(pattern: str) -> list[str]:
    """Returns the sorted paths that match a pattern; none is no error."""
    try:
        return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)
    except BeamIOError:
        return []


def delete_folder(folder: str) -> None:
    """Deletes a folder and all it holds; one that is missing is no error."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif found := matching(join(folder, "**")):
        # File by file: an object store has no folders, and one named like an object of its own is silently not found.
        FileSystems.delete(found)


def move(source: str, target: str) -> None:
    make_folder(target.rsplit("/", 1)[0])
    FileSystems.rename([source], [target])


def refuse_patterns(field: str, path: str) -> None:
    """Raises InputError when Beam would read a path as a pattern of other paths."""
    if any(mark in path for mark in "*?["):
        raise InputError(f"`{field}` must not hold *, ? or [, which are marks of patterns. Received: {path!r}.")


def check_writable(folder: str) -> None:
    """Raises InputError when nothing can be written into a folder, or its name is a pattern."""
    refuse_patterns("output", folder)
    probe = join(folder, f".probe-{uuid.uuid4().hex[:12]}")
    try:
        make_folder(folder)
        write_bytes(probe, b"probe")
        FileSystems.delete([probe])
    except OSError as error:
        raise InputError(
            f"`output` {folder!r} cannot be written to ({error}). Free space, change its permissions, or name another."
        ) from None


def write_record(file: BinaryIO, record: bytes) -> None:
    """Appends one record in TFRecord's framing: length, its checksum, the bytes, their checksum."""
    length = struct.pack("<Q", len(record))
    file.write(length + _checksum(length) + record + _checksum(record))


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, streaming.

    Raises:
      InputError: the file is cut off or damaged.
    """
    with open_to_read(path) as file:
        while header := file.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
            if header[8:] != _checksum(header[:8]):
                raise InputError(f"{path} is damaged: a record's length does not fit its checksum.")
            record = file.read(length)
            if file.read(4) != _checksum(record) or len(record) != length:
                raise InputError(f"{path} is damaged or cut off in the middle of a record.")
            yield record


def _checksum(content: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)


def write_lines(path: str, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        for line in lines:
            file.write(line.encode() + b"\n")
