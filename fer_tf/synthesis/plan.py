"""Which faces to synthesize for a task: a plan that levels its (expression, pose) cells (section 4.2)."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fer_tf import tfrecords
from fer_tf.data import schema
from fer_tf.data.schema import SYNTHETIC, FaceRecord
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError, not_one_of
from fer_tf.labels import TASKS, mirrored_pose

Cell = tuple[str, str]


@dataclass(frozen=True)
class FaceFacts:
    """What the plan looks at.

    Attributes:
      image_id, expression, pose, person, pose_id: as in the face record.
      moment: the record's clip_group, equal for faces filmed together; empty when unknown.
      path, offset: where the record is, for `read_at`; empty and 0 when it is not read again.
    """

    image_id: str
    expression: str
    pose: str
    person: str
    path: str = ""
    offset: int = 0
    pose_id: int = 0
    moment: str = ""


@dataclass(frozen=True)
class Target:
    """A face whose mask may be followed, as it is or seen in a mirror."""

    face: FaceFacts
    mirrored: bool = False


@dataclass(frozen=True)
class Item:
    """One face to make: the source's person and expression in the target's pose.

    Attributes:
      source_id, target_id: image_ids of two real training faces of one expression.
      expression, pose: the cell that it fills.
      mirrored: whether the target is seen in a mirror, which makes a half right face a half left one.
      spare: whether it is only made in the place of a rejected one.
    """

    source_id: str
    target_id: str
    expression: str
    pose: str
    mirrored: bool = False
    spare: bool = False

    @property
    def cell(self) -> Cell:
        return self.expression, self.pose

    @property
    def image_id(self) -> str:
        """The synthetic face's own id."""
        return f"{SYNTHETIC}{self.source_id}>{'mirrored ' if self.mirrored else ''}{self.target_id}"


def level(counts: dict[Cell, int], budget: int) -> dict[Cell, int]:
    """Returns how many faces to add to each cell so that the emptiest are filled first.

    The cells are raised to one common level, as water would fill them: rare classes in ER-UE, the rare pose in
    ER-UP, and whatever is under-filled elsewhere; what is left of the budget goes to all cells evenly.

    Args:
      counts: real training faces of each cell.
      budget: faces to add in all.
    """
    if not counts or budget <= 0:
        return dict.fromkeys(counts, 0)
    ordered = sorted(counts, key=lambda cell: (counts[cell], cell))
    below, height = 0, 0
    for position, cell in enumerate(ordered, 1):
        below += counts[cell]
        height = (below + budget) // position
        if position == len(ordered) or height <= counts[ordered[position]]:
            break
    added = {cell: max(height - counts[cell], 0) for cell in ordered[:position]}
    # Whole faces: the rest goes one by one to the first cells.
    for cell in ordered[: budget - sum(added.values())]:
        added[cell] = added.get(cell, 0) + 1
    return {cell: added.get(cell, 0) for cell in counts}


def plan(
    faces: Sequence[FaceFacts],
    ratio: float,
    seed: int = 0,
    mirror: bool = False,
    spares: float = 0.0,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Item]:
    """Returns the faces to make, in an order that depends on the seed and the ids alone; the spare ones last.

    A cell's sources are the training faces of its expression in other poses, taken in turn so that none dominates;
    a source's target is a training face of the cell: the same person's when there is one, since the mask holds the
    shape of a face too, but one filmed together with the source last of all.

    Args:
      faces: the task's real training faces.
      ratio: faces to make for one real face, at least 0.
      seed: changes which are paired.
      mirror: whether faces of the mirrored pose are targets too, seen in a mirror. A rare pose has few masks of its
        own: its made faces would all copy those.
      spares: more faces for each of a cell's, to take the place of rejected ones, as a share of the cell's.
      pairs: poses that mirror each other though their names do not tell (`fer_tf.labels.mirrored_pose`).

    Raises:
      InputError: for a negative ratio.
    """
    if ratio < 0:
        raise InputError(f"`synthetic_ratio` must be at least 0. Received: {ratio}.")
    cells: dict[Cell, list[FaceFacts]] = defaultdict(list)
    for face in faces:
        cells[face.expression, face.pose].append(face)
    poses = sorted({face.pose for face in faces})
    # A cell without a single face has no mask to follow, and one without other poses no source.
    fillable = {
        cell: len(members)
        for cell, members in cells.items()
        if any((cell[0], pose) in cells for pose in poses if pose != cell[1])
    }
    items: list[Item] = []
    for cell, wanted in sorted(level(fillable, round(ratio * len(faces))).items()):
        sources = [face for pose in poses if pose != cell[1] for face in cells.get((cell[0], pose), [])]
        targets = [Target(face) for face in cells[cell]]
        if mirror:
            targets += [Target(face, True) for face in cells.get((cell[0], mirrored_pose(cell[1], pairs)), [])]
        found = _candidates(cell, sources, targets, seed)
        items += itertools.islice(found, wanted)
        items += (dataclasses.replace(item, spare=True) for item in itertools.islice(found, round(spares * wanted)))
    return in_order(items, seed)


def in_order(items: Iterable[Item], seed: int) -> list[Item]:
    """Returns items in the plan's order, which mixes the cells and depends on the seed and the ids alone."""
    return sorted(items, key=lambda item: (item.spare, stable_hash(f"{seed}/{item.image_id}")))


def _candidates(cell: Cell, sources: list[FaceFacts], targets: list[Target], seed: int) -> Iterator[Item]:
    """Yields a cell's items: each source in turn with its next target, every pair at most once."""
    ranked = _Ranked(sorted(targets, key=lambda target: stable_hash(f"{seed}/{target.face.image_id}")))
    in_turn = sorted(sources, key=lambda face: stable_hash(f"{seed}/{cell[1]}/{face.image_id}"))
    places = [stable_hash(f"{seed}/{face.image_id}") for face in in_turn]
    for turn in range(len(targets)):
        for source, place in zip(in_turn, places, strict=True):
            target = ranked.target(source, turn, place)
            # Its own mirror image is no new face.
            if target.face != source:
                yield Item(source.image_id, target.face.image_id, *cell, target.mirrored)


class _Ranked:
    """A cell's targets by what they are worth to a source, in memory that grows with their number alone.

    The source's own person's come first, then other persons', then copies: a source filmed together with its target
    would only be turned into that very face, which is there already. A mirror image of it is not.

    Args:
      targets: all of the cell, mixed.
    """

    def __init__(self, targets: list[Target]) -> None:
        self._targets = targets
        self._own: dict[str, list[int]] = defaultdict(list)
        self._together: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, target in enumerate(targets):
            own = self._own[target.face.person]
            if target.face.moment and not target.mirrored:
                self._together[target.face.person, target.face.moment].append(len(own))
            own.append(place)

    def target(self, source: FaceFacts, turn: int, place: int) -> Target:
        """Returns a source's target of a turn: group after group, each from a place of its own.

        Args:
          source: whose target.
          turn: 0 to the number of targets, less 1.
          place: where in each group the source begins.
        """
        own = self._own.get(source.person, [])
        copies = self._together.get((source.person, source.moment), []) if source.moment else []
        fresh, others = len(own) - len(copies), len(self._targets) - len(own)
        if turn < fresh:
            return self._targets[own[_nth_besides(copies, (place + turn) % fresh)]]
        turn -= fresh
        if turn < others:
            return self._targets[_nth_besides(own, (place + turn) % others)]
        turn -= others
        return self._targets[own[copies[(place + turn) % len(copies)]]]


def _nth_besides(left_out: Sequence[int], number: int) -> int:
    """Returns the whole number that stands at a place, from 0, among those that are not in a sorted list."""
    before = bisect.bisect_right(range(len(left_out)), number, key=lambda place: left_out[place] - place)
    return number + before


def training_faces(paths: Iterable[str], task: str, tags: Mapping[str, str] | None = None) -> list[FaceFacts]:
    """Returns the facts of a task's real training faces and where their records are, reading the files once.

    Args:
      paths: face record files of a data folder, local or remote.
      task: one of er_ss, er_ue, er_up, er_zid.
      tags: each image's part by its id, in the place of the records' own tags (`DataFolder.tags`).

    Raises:
      InputError: for an unknown task, or a damaged file.
    """
    if task not in TASKS:
        raise not_one_of("task", task, TASKS)
    found = []
    for path in paths:
        for offset, raw in tfrecords.read_placed(path):
            record = schema.decode(raw)
            split = getattr(record, task) if tags is None else tags[record.image_id]
            if split == "train" and not record.synthetic:
                found.append(
                    FaceFacts(
                        record.image_id,
                        record.expression,
                        record.pose,
                        record.person,
                        path,
                        offset,
                        record.pose_id,
                        record.clip_group,
                    )
                )
    return found


def read_at(face: FaceFacts) -> FaceRecord:
    """Returns the face record that `training_faces` found, without reading the rest of its file."""
    return schema.decode(tfrecords.read_one(face.path, face.offset))


def counts_of(faces: Iterable[FaceFacts | Item]) -> dict[str, int]:
    """Returns the number of faces of each cell, named `expression/pose`."""
    return dict(sorted(Counter(f"{face.expression}/{face.pose}" for face in faces).items()))
