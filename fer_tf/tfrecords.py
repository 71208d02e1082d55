"""TFRecord files, written and read without TensorFlow: streaming, or one record at a known place.

A record's frame is its length and that number's checksum; another checksum follows the data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from fer_tf import files
from fer_tf.errors import InputError

# Bytes of the length with its checksum, and of a checksum.
_HEADER, _CHECKSUM, _LENGTH = 12, 4, "<Q"
_MASK_DELTA = 0xA282EAD8


def append(file: files.Output, record: bytes) -> None:
    """Appends one record in TFRecord's framing to a `whole_file`: length, its checksum, the bytes, their checksum."""
    length = struct.pack(_LENGTH, len(record))
    file.write(length + _checksum(length) + record + _checksum(record))


def write(path: str, records: Iterable[bytes]) -> None:
    """Writes a TFRecord file, streaming; it has its name only when it is whole."""
    with files.whole_file(path) as file:
        for record in records:
            append(file, record)


def read(path: str) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, streaming.

    Raises:
      InputError: the file is cut off or damaged.
    """
    return (record for _, record in read_placed(path))


def read_placed(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields each record of a TFRecord file with the place where `read_one` finds it; raises as `read`."""
    with files.open_to_read(path) as file:
        place = 0
        while (record := _next_record(file, path, place)) is not None:
            yield place, record
            place += _HEADER + len(record) + _CHECKSUM


def read_one(path: str, place: int) -> bytes:
    """Returns one record without reading the rest of its file; raises as `read`."""
    with files.open_to_read(path) as file:
        file.seek(place)
        record = _next_record(file, path, place)
    if record is None:
        raise InputError(f"{path} has no record at byte {place}.")
    return record


def _next_record(file: BinaryIO, path: str, place: int) -> bytes | None:
    header = file.read(_HEADER)
    if not header:
        return None
    length = struct.unpack(_LENGTH, header[:8])[0] if len(header) == _HEADER else 0
    if header[8:] != _checksum(header[:8]):
        raise InputError(f"{path} is damaged: the length of the record at byte {place} does not fit its checksum.")
    record = file.read(length)
    if file.read(_CHECKSUM) != _checksum(record) or len(record) != length:
        raise InputError(f"{path} is damaged or cut off in the record at byte {place}.")
    return record


def _checksum(content: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)
