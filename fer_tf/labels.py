"""Label vocabularies: expressions come from the corpus, poses from the camera set-up, tasks from the paper."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Sequence

from fer_tf.errors import InputError, not_one_of

# Section 3.1: four cameras. KDEF adds the two profiles (section 2.2). A corpus may have others: these are the usual
# ones, whose ids come first.
F2ED_POSES = ("front", "half_left", "half_right", "bird_view")
POSES = (*F2ED_POSES, "full_left", "full_right")
# How a network is trained: as the paper says, or as works best. What a run trains by default: no competitor.
RECIPES = ("paper", "best")
FA_NET = "fa_net"


@functools.lru_cache(maxsize=1 << 16)
def key_of(name: str) -> str:
    """Returns what the spellings of one name share: case, Unicode form, blanks and invisible marks aside."""
    if not name.isascii():
        visible = "".join(mark for mark in name if unicodedata.category(mark) != "Cf")
        # In lower case the Turkish İ keeps its dot as a mark of its own.
        folded = unicodedata.normalize("NFKC", visible).casefold().replace("i\u0307", "i")
        name = unicodedata.normalize("NFKC", folded)
    return " ".join(name.lower().split())


@functools.lru_cache(maxsize=1 << 16)
def says_nothing(name: str) -> bool:
    """Returns whether a value is no name: empty, or nothing but blanks, invisible marks and dashes."""
    return all(mark in "_\u2212" or unicodedata.category(mark) in ("Pd", "Zs", "Cc") for mark in key_of(name))


@functools.lru_cache(maxsize=1 << 16)
def word_key(name: str) -> str:
    """Returns `key_of` a column or pose, of which `Half left` and `half-left` are spellings of `half_left` too."""
    return "_".join(key_of(name).replace("-", " ").replace("_", " ").split())


def mirrored_pose(pose: str, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Returns the pose that the mirror shows: left and right change places, the others stay.

    Args:
      pose: any pose; the words `left` and `right` in it tell its side.
      pairs: poses that mirror each other and whose names do not tell, such as `("cam1", "cam5")`.
    """
    for one, other in pairs:
        if pose in (one, other):
            return other if pose == one else one
    sides = {"left": "right", "right": "left"}
    return "_".join(sides.get(word, word) for word in pose.split("_"))


def mirror_pairs_of(text: str, poses: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Returns the pairs of `mirrored_pose` that a flag names.

    Args:
      text: such as `cam1=cam5,cam2=cam4`.
      poses: those that the data have; none checks no name.

    Raises:
      InputError: for anything else, a pose that is named twice, or one that the data do not have.
    """
    pairs: list[tuple[str, str]] = []
    named: set[str] = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        one, _, other = (word_key(name) for name in entry.partition("="))
        if not one or not other or one == other or {one, other} & named:
            raise InputError(
                f"`mirror_pairs` must be pose=pose, with commas, each once. Received: {entry!r} in {text!r}."
            )
        for pose in (one, other):
            if poses and pose not in poses:
                raise not_one_of("mirror_pairs", pose, poses)
        named |= {one, other}
        pairs.append((one, other))
    return tuple(pairs)


def in_order(poses: Iterable[str]) -> tuple[str, ...]:
    """Returns poses in the order of their ids: the usual ones first, the others by name."""
    distinct = set(poses)
    return (*(pose for pose in POSES if pose in distinct), *sorted(distinct - set(POSES)))


# Section 4.1: what each task asks.
SETTINGS = {"er_ss": "standard setting", "er_ue": "rare expressions", "er_up": "rare pose", "er_zid": "unseen persons"}
TASKS = tuple(SETTINGS)
TASK_NAMES = {task: task.upper().replace("_", "-") for task in TASKS}
# Their validation parts have none of what is rare, and so cannot choose an epoch.
RARE_TASKS = ("er_ue", "er_up")
SPLITS = ("train", "val", "test")
