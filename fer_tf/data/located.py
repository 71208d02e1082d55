"""Where a clip lies whose name on disk is another spelling of the one in a table: another case or Unicode form."""

from __future__ import annotations

import functools
import os
import time
import unicodedata
from collections.abc import Mapping

from fer_tf.labels import key_of

# A folder that changed later may change again without another time of change: file systems count by up to 2 s.
_SETTLED_NS = 3_000_000_000


def as_it_is_called(root: str, name: str) -> str:
    """Returns the local path of a name below a folder, as its folders and the file itself are called there.

    Args:
      root: the folder.
      name: a path below it, with slashes; it is taken as it stands where it exists, or where several names on disk
        are spellings of it. What links or `..` lead to is the caller's to judge.
    """
    path = os.path.join(root, name)
    if os.path.exists(path):
        return path
    path = root
    for part in name.split("/"):
        alike = [] if os.path.exists(os.path.join(path, part)) else _names(path).get(key_of(part), [])
        same = [called for called in alike if unicodedata.normalize("NFC", called) == part] or alike
        path = os.path.join(path, same[0] if len(same) == 1 else part)
    return path


def _names(folder: str) -> Mapping[str, list[str]]:
    """The names in a folder by `key_of`; none where it cannot be read, of which opening the file tells the reason."""
    try:
        changed = os.stat(folder).st_mtime_ns
        read = _read_once if changed < time.time_ns() - _SETTLED_NS else _read
        return read(folder, changed)
    except (OSError, ValueError):
        return {}


def _read(folder: str, changed: int) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        found.setdefault(key_of(name), []).append(name)
    return found


# Every missing clip asks: a folder of 20,000 names takes 15 ms.
_read_once = functools.lru_cache(maxsize=32)(_read)
