"""The size of a JPEG or PNG is read from its header, whatever kind of file it is."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from serving.image_headers import check_image, image_size

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (37, 61, 3), np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()
PROGRESSIVE = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[
    1
].tobytes()
GREY = cv2.imencode(".jpg", PICTURE[..., 0])[1].tobytes()
# A comment that holds what looks like a frame header of another size, and fill bytes before the next marker.
COMMENT = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
# A Huffman table (0xC4) before the frame header: its marker lies among those of frame headers and is none.
TABLE = b"\xff\xc4" + struct.pack(">H", 2 + 17) + bytes(17)
TRICKY = JPEG[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(COMMENT)) + COMMENT + TABLE + b"\xff\xff" + JPEG[2:]


@pytest.mark.parametrize(
    "encoded", [JPEG, PNG, PROGRESSIVE, GREY, TRICKY], ids=["jpeg", "png", "progressive", "grey", "tricky"]
)
def test_the_size_is_read(encoded: bytes) -> None:
    assert image_size(encoded) == (61, 37)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"GIF89a" + bytes(50),
        PNG[:20],
        JPEG[:30],
        JPEG[:2] + b"\xff\xe0\x00\x00" * 9,
        bytes(99),
    ],
)
def test_what_has_no_size_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError):
        image_size(encoded)


def test_every_cut_and_every_flipped_byte_ends_in_a_size_or_a_value_error() -> None:
    for encoded in (JPEG, PNG, TRICKY):
        for position in range(min(len(encoded), 700)):
            for damaged in (
                encoded[:position],
                encoded[:position] + bytes([encoded[position] ^ 0xFF]) + encoded[position + 1 :],
            ):
                try:
                    width, height = image_size(damaged)
                except ValueError:
                    continue
                assert width >= 0 and height >= 0


def test_a_claim_above_the_limit_is_refused_with_its_numbers() -> None:
    check_image(PNG, 61 * 37)
    with pytest.raises(ValueError, match="61 x 37 pixels; the limit is 2256"):
        check_image(PNG, 61 * 37 - 1)
    with pytest.raises(ValueError, match="0 x 37"):
        check_image(PNG[:16] + bytes(4) + PNG[20:], 10**6)
