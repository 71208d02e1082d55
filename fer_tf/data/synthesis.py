"""Which faces to synthesize for a task: a plan that levels its (expression, pose) cells (section 4.2)."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf import files
from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError, not_one_of
from fer_tf.faces import landmarks
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
    """

    source_id: str
    target_id: str
    expression: str
    pose: str
    mirrored: bool = False

    @property
    def image_id(self) -> str:
        """The synthetic face's own id."""
        return f"synthetic/{self.source_id}>{'mirrored ' if self.mirrored else ''}{self.target_id}"


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


def plan(faces: Sequence[FaceFacts], ratio: float, seed: int = 0, mirror: bool = False) -> list[Item]:
    """Returns the faces to make, in an order that depends on the seed and the ids alone.

    A cell's sources are the training faces of its expression in other poses, taken in turn so that none dominates;
    a source's target is a training face of the cell: the same person's when there is one, since the mask holds the
    shape of a face too, but one filmed together with the source last of all.

    Args:
      faces: the task's real training faces.
      ratio: faces to make for one real face, at least 0.
      seed: changes which are paired.
      mirror: whether faces of the mirrored pose are targets too, seen in a mirror. A rare pose has few masks of its
        own: its made faces would all copy those.

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
            targets += [Target(face, True) for face in cells.get((cell[0], mirrored_pose(cell[1])), [])]
        items += _fill(cell, wanted, sources, targets, seed)
    return in_order(items, seed)


def in_order(items: Iterable[Item], seed: int) -> list[Item]:
    """Returns items in the plan's order, which mixes the cells and depends on the seed and the ids alone."""
    return sorted(items, key=lambda item: stable_hash(f"{seed}/{item.image_id}"))


def _fill(cell: Cell, wanted: int, sources: list[FaceFacts], targets: list[Target], seed: int) -> list[Item]:
    """Returns a cell's items: each source in turn with its next target, every pair at most once."""
    in_turn = sorted(sources, key=lambda face: stable_hash(f"{seed}/{cell[1]}/{face.image_id}"))
    mixed = sorted(targets, key=lambda target: stable_hash(f"{seed}/{target.face.image_id}"))
    by_worth = _by_worth(sources, mixed)
    items: list[Item] = []
    for turn in range(len(targets)):
        for source in in_turn:
            if len(items) == wanted:
                return items
            target = _target_of(source, turn, by_worth[source.person, source.moment], seed)
            # Its own mirror image is no new face.
            if target.face != source:
                items.append(Item(source.image_id, target.face.image_id, *cell, target.mirrored))
    return items


def _by_worth(sources: list[FaceFacts], targets: list[Target]) -> dict[tuple[str, str], tuple[list[Target], ...]]:
    """Returns the targets by what they are worth to a source of a person and moment.

    Its own person's come first, then other persons', then copies: a source filmed together with its target would only
    be turned into that very face, which is there already. A mirror image of it is not.
    """
    moments: dict[str, set[str]] = defaultdict(set)
    for face in sources:
        moments[face.person].add(face.moment)
    found = {}
    for person, of_person in moments.items():
        own = [target for target in targets if target.face.person == person]
        others = [target for target in targets if target.face.person != person]
        for moment in of_person:
            fresh: list[Target] = []
            copies: list[Target] = []
            for target in own:
                together = moment and target.face.moment == moment and not target.mirrored
                (copies if together else fresh).append(target)
            found[person, moment] = fresh, others, copies
    return found


def _target_of(source: FaceFacts, turn: int, groups: tuple[list[Target], ...], seed: int) -> Target:
    """Returns a source's target of a turn: group after group, each from a place of its own."""
    place = stable_hash(f"{seed}/{source.image_id}")
    for group in groups:
        if turn < len(group):
            return group[(place + turn) % len(group)]
        turn -= len(group)
    raise AssertionError("there are as many turns as targets")


def training_faces(paths: Iterable[str], task: str) -> list[FaceFacts]:
    """Returns the facts of a task's real training faces and where their records are, reading the files once.

    Args:
      paths: face record files of a data folder, local or remote.
      task: one of er_ss, er_ue, er_up, er_zid.

    Raises:
      InputError: for an unknown task, or a damaged file.
    """
    if task not in TASKS:
        raise not_one_of("task", task, TASKS)
    found = []
    for path in paths:
        for offset, raw in files.read_placed_records(path):
            record = schema.decode(raw)
            if getattr(record, task) == "train" and not record.synthetic:
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
    return schema.decode(files.read_record(face.path, face.offset))


def counts_of(faces: Iterable[FaceFacts | Item]) -> dict[str, int]:
    """Returns the number of faces of each cell, named `expression/pose`."""
    return dict(sorted(Counter(f"{face.expression}/{face.pose}" for face in faces).items()))


def mirrored(record: FaceRecord, pose_id: int) -> FaceRecord:
    """Returns a face record as the mirror shows it, without its image: mask, points and pose.

    Args:
      record: the face.
      pose_id: position of the mirrored pose in dataset.json's `poses`.
    """
    import cv2

    mask = cv2.imdecode(np.frombuffer(record.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    return dataclasses.replace(
        record,
        image=b"",
        mask=cv2.imencode(".png", mask[:, ::-1])[1].tobytes(),
        landmarks=landmarks.mirrored(record.landmarks, record.width),
        pose=mirrored_pose(record.pose),
        pose_id=pose_id,
    )


def as_synthetic(item: Item, source: FaceRecord, target: FaceRecord, task: str, **changes: object) -> FaceRecord:
    """Returns the record of a made face: in the task's training part alone, and it names its two images.

    Args:
      item: the face of the plan.
      source: whose person it shows.
      target: whose pose, mask and landmarks it follows.
      task: the task that it is for; the other tasks' tags are empty.
      **changes: the image's fields, and what else differs.
    """
    tags = {name: "train" if name == task else schema.NO_SPLIT for name in TASKS}
    return dataclasses.replace(
        source,
        image_id=item.image_id,
        mask=target.mask,
        landmarks=target.landmarks,
        box=target.box,
        expression=item.expression,
        pose=target.pose,
        pose_id=target.pose_id,
        synthetic=1,
        synthetic_source=item.source_id,
        synthetic_target=item.target_id,
        **{**tags, **changes},
    )
