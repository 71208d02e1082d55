"""FER+ (Barsoum et al. 2016, arXiv 1608.01041): ten votes for every picture of FER2013, eight expressions.

Two published layouts: `fer2013new.csv` beside `fer2013.csv`, row for row; or the folders FER2013Train, FER2013Valid and
FER2013Test with the pictures as PNG and `label.csv`. A label's shares are made as the set's own program makes them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf import files
from fer_tf.data.public import MAX_HELD_OUT, fer2013
from fer_tf.data.public.fer2013 import PICTURE_SHARE, PRIVATE, PUBLIC, TRAINING, USAGES
from fer_tf.data.public_set import DAMAGED, MISSING, LeftOut, PublicSet, Row, Source, one_each, table_rows
from fer_tf.errors import InputError

EXPRESSIONS = (*fer2013.EXPRESSIONS, "contempt")
# The order of the votes, and what FER2013 calls the same expressions; the last two are none.
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
NAMES = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
FOLDERS = {"fer2013train": TRAINING, "fer2013valid": PUBLIC, "fer2013test": PRIVATE}
NAME = "Image name"
LABELS, PIXELS, VOTES_FILE = "label.csv", "fer2013.csv", "fer2013new.csv"
NO_FACE = "most votes say that it shows no face"
UNKNOWN = "its votes say unknown, or agree on nothing"
# A face's expressions are those of the most votes, until they are this share of all.
ENOUGH, AT_LEAST, AT_MOST = 0.75, 0.5, 3


def read(data: str, held_out: float) -> Source:
    """Returns FER+ from one of its layouts; parts as FER2013's (see `fer2013.read`).

    Args:
      data: the folder.
      held_out: share of Training that becomes val when PrivateTest is not there.

    Raises:
      InputError: when the set is incomplete or renamed, or the share is not 0 to 0.5.
    """
    if not 0 <= held_out <= MAX_HELD_OUT:
        raise InputError(f"`held_out` must be between 0 and {MAX_HELD_OUT}. Received: {held_out}.")
    folders = {name: os.path.join(data, found) for name, found in one_each(data).items() if name in FOLDERS}
    names = {name.casefold(): os.path.join(data, name) for name in os.listdir(data)}
    if folders:
        rows = _folders(folders, names.get(VOTES_FILE, ""), held_out)
    elif {PIXELS, VOTES_FILE} <= set(names):
        rows = _csv(names[PIXELS], names[VOTES_FILE], held_out)
    else:
        raise InputError(
            f"{data} must hold {VOTES_FILE} beside {PIXELS}, or the folders FER2013Train, FER2013Valid and FER2013Test "
            f"with {LABELS}. Found: {sorted(names.values())[:10]}."
        )
    return Source(rows, lambda usages: fer2013.parts(usages, data))


def shares_of(votes: Sequence[int]) -> tuple[float, ...] | str:
    """Returns each expression's share of the votes, in the order of EXPRESSIONS, or why the face is left out.

    As the set's own program does for training with cross-entropy: single votes count as mistakes; then the
    expressions with the most votes are taken until they have three quarters of them, three expressions at most, and
    stopping at unknown or no face. Less than half of the votes, or more expressions by a tie, are no label.

    Args:
      votes: ten counts in the order of VOTES.
    """
    left = np.where(np.asarray(votes) > 1, votes, 0)
    total = int(left.sum())
    taken = np.zeros(len(VOTES), np.int64)
    count, stopped = 0, total == 0
    while not stopped and taken.sum() < ENOUGH * total and count < AT_MOST:
        for place in np.flatnonzero(left == left.max()):
            if place >= len(NAMES) and taken.any():
                stopped = True
                break
            taken[place], left[place] = left[place], 0
            count += 1
            if place >= len(NAMES):
                stopped = True
                break
    first = VOTES[int(taken.argmax())]
    if first == "NF" and taken.any():
        return NO_FACE
    if first == "unknown" or taken.sum() <= AT_LEAST * total or count > AT_MOST:
        return UNKNOWN
    return tuple(float(taken[NAMES.index(name)] / total) for name in EXPRESSIONS)


def _row(image_id: str, votes: Sequence[str], usage: str, image: bytes, held_out: float, where: str) -> Row | LeftOut:
    try:
        counts = [int(vote) for vote in votes]
    except ValueError:
        counts = []
    if len(counts) != len(VOTES) or min(counts) < 0:
        raise InputError(f"votes must be {len(VOTES)} whole numbers. Received: {list(votes)} ({where}).")
    shares = shares_of(counts)
    if isinstance(shares, str):
        return LeftOut(image_id, shares, " ".join(votes))
    # Of equal shares the one that the set names first.
    expression = max(NAMES, key=lambda name: shares[EXPRESSIONS.index(name)])
    return Row(image_id, expression, fer2013.part_of(usage, image, held_out), image, distribution=shares)


def _csv(pixels: str, votes: str, held_out: float) -> Iterator[Row | LeftOut]:
    pairs = zip(
        table_rows(pixels, ("emotion", "pixels", "Usage")), table_rows(votes, ("Usage", *VOTES), (NAME,)), strict=True
    )
    try:
        for line, ((where, face), (voted_where, voted)) in enumerate(pairs, 2):
            usage = USAGES.get(face["Usage"].casefold())
            if usage is None or usage != USAGES.get(voted["Usage"].casefold()):
                raise InputError(
                    f"{where} has the usage {face['Usage']!r}, {voted_where} has {voted['Usage']!r}; the two files "
                    "must be FER2013's and FER+'s, row for row."
                )
            image_id = voted.get(NAME) or f"{usage}_{line:05d}"
            image = fer2013.png_of(face["pixels"])
            if isinstance(image, str):
                yield LeftOut(image_id, DAMAGED, f"{image} ({where})")
            else:
                yield _row(image_id, [voted[name] for name in VOTES], usage, image, held_out, voted_where)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{pixels} and {votes} must have the same number of rows: {error}.") from None


def _folders(folders: dict[str, str], votes: str, held_out: float) -> Iterator[Row | LeftOut]:
    """The pictures of the folders; votes come from their own label.csv, or from fer2013new.csv by their names."""
    # Pictures that FER+ has taken out of FER2013 have no name there.
    by_name = {
        row[NAME]: _Said(where, [row[vote] for vote in VOTES], USAGES.get(row.get("Usage", "").casefold(), ""))
        for where, row in (_named(votes) if votes else ())
        if row[NAME]
    }
    for name, usage in FOLDERS.items():
        if name not in folders:
            continue
        folder, labels = folders[name], os.path.join(folders[name], LABELS)
        pictures = sorted(file for file in os.listdir(folder) if file.lower().endswith(".png") and file[0] != ".")
        found = _labelled(labels, usage) if os.path.exists(labels) else by_name
        if missing := [picture for picture in pictures if picture not in found]:
            raise InputError(f"{labels if os.path.exists(labels) else votes or labels} has no votes for {missing[:3]}.")
        for picture in pictures:
            image = files.read_bytes(os.path.join(folder, picture))
            yield _row(picture, found[picture].votes, usage, image, held_out, f"{labels}, {picture}")
        for picture in sorted({name for name, said in found.items() if said.usage == usage} - set(pictures)):
            where = found[picture].where
            yield LeftOut(picture, MISSING, f"{os.path.join(folder, picture)} is not there ({where})")


@dataclass(frozen=True)
class _Said:
    """What a table says of a picture, and where; `usage` is empty where it does not tell."""

    where: str
    votes: list[str]
    usage: str


def _labelled(path: str, usage: str) -> dict[str, _Said]:
    """What a folder's label.csv, which has no header, says of each picture."""
    found: dict[str, _Said] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if any(row) and len(row) < 3:
                raise InputError(f"{where}: a row must be a name, a box and {len(VOTES)} votes. Received: {row}.")
            if any(row):
                found[row[0]] = _Said(where, row[2:], usage)
    return found


def _named(votes: str) -> Iterator[tuple[str, dict[str, str]]]:
    return table_rows(votes, (NAME, *VOTES), ("Usage",))


SET = PublicSet("FER+", EXPRESSIONS, read, holds_out=True, pictures_of="fer2013", picture_share=PICTURE_SHARE)
