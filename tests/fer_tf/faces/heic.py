"""HEIC files made in code: HEVC tiles by x265 in the boxes of ISO/IEC 23008-12."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np


def box(kind: bytes, *parts: bytes, version: int | None = None, flags: int = 0) -> bytes:
    head = b"" if version is None else struct.pack(">I", version << 24 | flags)
    content = head + b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def coded(rgb: np.ndarray) -> tuple[bytes, bytes]:
    """A picture as HEVC: the decoder's configuration (a hvcC box) and the samples."""
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = rgb.shape[1], rgb.shape[0], "yuv420p"
    encoder.time_base, encoder.options = Fraction(1, 25), {"x265-params": "crf=12:log-level=none:info=0"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    stream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()])
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1") if unit.strip(b"\0")]
    kinds = [unit[0] >> 1 & 63 for unit in units]
    arrays = [(kind, units[kinds.index(kind)]) for kind in (32, 33, 34)]
    profile = arrays[1][1].replace(b"\0\0\3", b"\0\0")[3:15]
    configuration = b"\1" + profile + b"\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\3"
    configuration += b"".join(struct.pack(">BHH", kind, 1, len(unit)) + unit for kind, unit in arrays)
    samples = [struct.pack(">I", len(unit)) + unit for kind, unit in zip(kinds, units, strict=True) if kind < 32]
    return box(b"hvcC", configuration), b"".join(samples)


def heic(
    tiles: Sequence[np.ndarray], columns: int, width: int, height: int, *, irot: int | None = None, exif: bytes = b""
) -> bytes:
    """A HEIC whose picture, `width` x `height`, is a grid of equal tiles; one tile gives a picture without a grid.

    Args:
      tiles: uint8 (h, w, 3) each, row by row.
      columns: tiles in a row.
      width, height: of the picture, which cuts the last tiles.
      irot: quarter turns counterclockwise that the file asks for; None leaves the box out.
      exif: a TIFF structure; empty for none.
    """
    made = [coded(tile) for tile in tiles]
    grid = len(tiles) > 1
    main = len(tiles) + 1 if grid else 1
    side = lambda w, h: box(b"ispe", struct.pack(">II", w, h), version=0)  # noqa: E731
    properties = [made[0][0], side(tiles[0].shape[1], tiles[0].shape[0]), side(width, height)]
    main_has = [3] if grid else [0x81, 2]
    if irot is not None:
        properties.append(box(b"irot", bytes([irot])))
        main_has.append(0x84)
    has = {number + 1: [0x81, 2] for number in range(len(tiles))} | {main: main_has}
    items = {number + 1: (b"hvc1", data) for number, (_, data) in enumerate(made)}
    references = []
    if grid:
        rows = len(tiles) // columns
        items[main] = (b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height))
        parts = b"".join(struct.pack(">H", number + 1) for number in range(len(tiles)))
        references.append(box(b"dimg", struct.pack(">HH", main, len(tiles)), parts))
    if exif:
        items[main + 1] = (b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + exif)
        references.append(box(b"cdsc", struct.pack(">HHH", main + 1, 1, main)))
    infos = [
        box(b"infe", struct.pack(">HH", number, 0), kind, b"\0", version=2, flags=int(grid and number < main))
        for number, (kind, _) in items.items()
    ]
    pairs = b"".join(struct.pack(">HB", number, len(of)) + bytes(of) for number, of in has.items())

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, (_, data) in items.items():
            places += struct.pack(">HHHHII", number, 0, 0, 1, at, len(data))
            at += len(data)
        return box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", main), version=0),
            box(b"iloc", b"\x44\x00", struct.pack(">H", len(items)), places, version=1),
            box(b"iinf", struct.pack(">H", len(items)), *infos, version=0),
            box(b"iref", *references, version=0) if references else b"",
            box(b"iprp", box(b"ipco", *properties), box(b"ipma", struct.pack(">I", len(has)), pairs, version=0)),
            version=0,
        )

    kind = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(kind) + len(meta(0)) + 8
    return kind + meta(start) + box(b"mdat", *(data for _, data in items.values()))
