"""Which image of a TIFF or DNG is the picture: not a thumbnail that says that it is one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

_KIND, _SUB_IFDS, _ORIENTATION = 254, 330, 0x0112
_IS_SMALLER = 1
# Pages of a file that begins with a thumbnail which are looked at; a stack's are counted further.
_MOST_PAGES = 64


def turn_to_best(image: Any) -> tuple[tuple[str, str] | None, int]:
    """Turns an opened TIFF of Pillow to its largest page that is no thumbnail, if its first one is one.

    Returns:
      What is to be said of the other pages, a word and a sentence, or None; and the EXIF orientation that the first
      page notes for a picture that lies elsewhere, else 1.
    """
    try:
        count, is_smaller = getattr(image, "n_frames", 1), _is_smaller(image)
        if not is_smaller:
            full = count if count > _MOST_PAGES else 1 + sum(_more_full_pages(image, count))
            image.seek(0)
            return (("other_pages", f"the first of {full} pages was looked at") if full > 1 else None), 1
        return _turn_from_thumbnail(image, count)
    except Exception:  # The plugins raise whatever they stumble over; decoding tells what is damaged.
        image.seek(0)
        return None, 1


def _turn_from_thumbnail(image: Any, count: int) -> tuple[tuple[str, str] | None, int]:
    turns = int(image.tag_v2.get(_ORIENTATION) or 1)
    first = image._frame_pos[0]
    found: list[tuple[bool, int, int]] = []
    for place in itertools.chain([first], _places(image, count)):
        try:
            _turn(image, place)
            found.append((not _is_smaller(image), image.size[0] * image.size[1], place))
        except Exception:  # A camera's raw data, or a codec that Pillow lacks.
            continue
    is_full, _, best = max(found, key=lambda page: page[:2])
    _turn(image, best)
    own = image.tag_v2.get(_ORIENTATION)
    note = None if is_full else ("preview", "only a preview of {} x {} pixels can be read".format(*image.size))
    full = sum(page[0] for page in found)
    if full > 1:
        note = "other_pages", f"the largest of {full} pages was looked at"
    return note, 1 if own or best == first else turns


def _more_full_pages(image: Any, count: int) -> Iterator[bool]:
    for number in range(1, count):
        image.seek(number)
        yield not _is_smaller(image)


def _places(image: Any, count: int) -> list[int]:
    """Where the images behind the first page and below the pages stand in the file."""
    below: list[int] = list(_below(image))
    for number in range(1, min(count, _MOST_PAGES)):
        image.seek(number)
        below += _below(image)
    return [*image._frame_pos[1:_MOST_PAGES], *below[:_MOST_PAGES]]


def _below(image: Any) -> tuple[int, ...]:
    places = image.tag_v2.get(_SUB_IFDS, ())
    return tuple(places) if isinstance(places, (tuple, list)) else (places,)


def _turn(image: Any, place: int) -> None:
    # As Pillow's own `get_child_images` does: it has no other way to an image below a page.
    image._frame_pos = [place]
    image._seek(0)


def _is_smaller(image: Any) -> bool:
    return bool(int(image.tag_v2.get(_KIND) or 0) & _IS_SMALLER)
