"""Every face of a small set answered by a classifier that never saw its person, where the set's parts share persons."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
import time
from collections.abc import Callable

import numpy as np

from fer_tf import files
from fer_tf.data import mixed
from fer_tf.data.inputs import FaceSet
from fer_tf.data.parts import Part, survey
from fer_tf.data.tta import TtaName
from fer_tf.errors import InputError
from fer_tf.reports.wording import duration
from fer_tf.run_folder import PERSONS, NetworkFolder, RunFolder
from trainer import runtime

# Above this many faces leaving each person out in turn would take days.
MAX_FACES = 2000


def are_shared(faces: FaceSet) -> bool:
    """Whether a set's own split tests the persons that it trains on, as JAFFE's does."""
    train, test = (set(faces.parts[split].persons.tolist()) - {""} for split in ("train", "test"))
    small = sum(len(part) for part in faces.parts.values()) <= MAX_FACES
    return small and len(train | test) > 2 and bool(train & test) and faces.may_repeat


def check(faces: FaceSet, task: str) -> None:
    """Raises InputError where leaving persons out tells nothing new or would take days, and with several workers."""
    if task == mixed.NAME:
        raise InputError("`persons_left_out` answers the faces of one set. Received: `task` 'mixed'; give a set's own.")
    if not are_shared(faces):
        raise InputError(
            f"`persons_left_out` is for a set of at most {MAX_FACES} faces whose own parts share persons, such as "
            f"jaffe. Received: `task` {task!r}."
        )
    if runtime.workers() > 1:
        raise InputError(f"`persons_left_out` trains on one worker; TF_CONFIG names {runtime.workers()}.")


def all_tested(faces: FaceSet, task: str) -> FaceSet:
    """Returns a set with every face of a known person in its test part: what a network that takes part must not know.

    In turn each person is the one whose faces are tested, so nobody's faces may have taught a network that the
    trainings without persons begin with or learn from.
    """
    return _as(faces, task, dict.fromkeys(with_persons(faces).image_ids.tolist(), "test"), "each person left out")


def answer_all(
    run: RunFolder,
    network: NetworkFolder,
    faces: FaceSet,
    answers: Callable[[str, Part], np.ndarray],
    tta: TtaName = "none",
) -> None:
    """Answers every face of the set without its person, going on where an earlier call stopped, and keeps the answers.

    Args:
      run: gets predictions_persons.npz.
      network: the folder of what the run trained; each person's answers are kept below it.
      faces: the set.
      answers: trains without a person and returns the logits, float (N, num_classes), of the person's faces.
      tta: over which views it answers; answers over others are kept apart.
    """
    whole, began, trained = with_persons(faces), time.monotonic(), 0
    logits = np.zeros((len(whole), len(faces.expressions)), np.float32)
    persons = sorted(set(whole.persons.tolist()))
    for number, person in enumerate(persons, 1):
        out = whole.persons == person
        path = folder_of(network, person) + ("" if tta == "none" else f".{tta}") + ".npz"
        # Of the same faces after the same training, and not of as many others after the set has changed.
        about = {"image_id": whole.image_ids[out].astype(str), "data": np.array(faces.fingerprint)}
        known = files.read_arrays(path) if files.exists(path) else {}
        if all(name in known and np.array_equal(known[name], value) for name, value in about.items()):
            logits[out] = known["logits"]
            continue
        logits[out] = answers(person, whole.rows(out))
        files.write_arrays(path, logits=logits[out], **about)
        trained += 1
        left = (time.monotonic() - began) / trained * (len(persons) - number)
        rest = f", about {duration(left)} left" if left else ""
        logging.info("without person %s (%d of %d)%s", person, number, len(persons), rest)
    run.write_predictions(PERSONS, {**whole.with_answers(logits), "tta": np.array(tta)})


def folder_of(network: NetworkFolder, person: str) -> str:
    """Returns the folder of what was trained without a person; one whose name is no file's is known by its hash."""
    plain = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", person)
    name = person if plain else f"{hashlib.blake2b(person.encode(), digest_size=8).hexdigest()}~"
    return files.join(network.path, "persons", name)


def without(faces: FaceSet, task: str, person: str) -> FaceSet:
    """Returns a set whose test part is one person's faces and whose training part is all other persons'."""
    whole = with_persons(faces)
    owners = zip(whole.image_ids.tolist(), whole.persons.tolist(), strict=True)
    # Faces of nobody knows whom may be the person's, so they are in no part.
    tags = {image_id: "test" if owner == person else "train" for image_id, owner in owners}
    return _as(faces, task, tags, f"without {person}")


def _as(faces: FaceSet, task: str, tags: dict[str, str], how: str) -> FaceSet:
    """The set with other parts, by image id; it has a fingerprint of its own, for it trains and tests other faces."""
    nowhere = dict.fromkeys((name for part in faces.parts.values() for name in part.image_ids.tolist()), "")
    records = list(dict.fromkeys(path for part in faces.parts.values() for at in part.stored for path in at.files))
    parts = survey(records, task, len(faces.expressions), tags=nowhere | tags)
    fingerprint = hashlib.sha256(f"{faces.fingerprint} {how}".encode()).hexdigest()
    return dataclasses.replace(faces, parts=parts, fingerprint=fingerprint)


def with_persons(faces: FaceSet) -> Part:
    """Returns the table of all faces of a set whose person is known, its parts one after another."""
    names = ("image_ids", "labels", "persons", "poses", "genders", "ages")
    whole = Part(**{name: np.concatenate([getattr(part, name) for part in faces.parts.values()]) for name in names})
    return whole.rows(whole.persons != "")
