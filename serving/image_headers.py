"""Width and height of a JPEG or PNG from its header alone, so that a huge claim is refused before it is unpacked."""

from __future__ import annotations

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
# Start-of-frame markers; 0xC4, 0xC8 and 0xCC in that range are tables and extensions.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: fill, TEM and restarts.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def image_size(encoded: bytes) -> tuple[int, int]:
    """Returns (width, height) as the header claims them.

    Args:
      encoded: the file's bytes.

    Raises:
      ValueError: when it is neither JPEG nor PNG, or its header is cut or damaged.
    """
    if encoded.startswith(PNG_MAGIC):
        return _png_size(encoded)
    if encoded.startswith(JPEG_MAGIC):
        return _jpeg_size(encoded)
    raise ValueError(f"neither JPEG nor PNG: starts with {encoded[:8].hex() or 'nothing'}")


def check_image(encoded: bytes, max_pixels: int) -> None:
    """Raises ValueError unless the bytes start like a JPEG or PNG of at most `max_pixels`."""
    width, height = image_size(encoded)
    if not width or not height:
        raise ValueError(f"its header claims {width} x {height} pixels")
    if width * height > max_pixels:
        raise ValueError(f"its header claims {width} x {height} pixels; the limit is {max_pixels}")


def _png_size(encoded: bytes) -> tuple[int, int]:
    if len(encoded) < 33 or encoded[12:16] != b"IHDR":
        raise ValueError("PNG without its header")
    return int.from_bytes(encoded[16:20], "big"), int.from_bytes(encoded[20:24], "big")


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    position = 2
    while position + 4 <= len(encoded):
        if encoded[position] != 0xFF:
            raise ValueError("JPEG with a damaged header")
        marker = encoded[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _ALONE:
            position += 2
            continue
        if marker in (0xD9, 0xDA):
            break
        if marker in _SOF:
            if position + 9 > len(encoded):
                break
            height = int.from_bytes(encoded[position + 5 : position + 7], "big")
            return int.from_bytes(encoded[position + 7 : position + 9], "big"), height
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        if length < 2:
            raise ValueError("JPEG with a damaged header")
        position += 2 + length
    raise ValueError("JPEG without a frame header")
