"""Label vocabularies: expressions come from the corpus, poses from the camera set-up, tasks from the paper."""

from __future__ import annotations

from dataclasses import dataclass

from fer_tf.errors import InputError, not_one_of

# Section 3.1: four cameras. KDEF adds the two profiles (section 2.2).
F2ED_POSES = ("front", "half_left", "half_right", "bird_view")
POSES = (*F2ED_POSES, "full_left", "full_right")


def mirrored_pose(pose: str) -> str:
    """Returns the pose that the mirror shows: left and right change places, the others stay."""
    sides = {"left": "right", "right": "left"}
    return "_".join(sides.get(word, word) for word in pose.split("_"))


# Section 4.1.
TASKS = ("er_ss", "er_ue", "er_up", "er_zid")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of label names; a name's id is its position.

    Attributes:
      names: the labels, each once, none empty.
      field: what the labels are called in errors, such as `expression`.
    """

    names: tuple[str, ...]
    field: str = "expression"

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError(f"`{self.field}` needs at least one label. Received: none.")
        if any(not name.strip() for name in self.names):
            raise InputError(f"`{self.field}` has an empty label. Received: {self.names!r}.")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise InputError(f"`{self.field}` names a label twice. Received: {repeated!r}.")

    def id_of(self, name: str, where: str = "") -> int:
        """Returns the id of a label; raises InputError when it is unknown."""
        try:
            return self.names.index(name)
        except ValueError:
            raise not_one_of(self.field, name, self.names, where) from None

    def __len__(self) -> int:
        return len(self.names)
