"""The public sets of the paper, read from their published layouts: FER2013, JAFFE, CK+, KDEF."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError
from fer_tf.labels import FER2013_EXPRESSIONS

# Share of FER2013's Training that is held out to choose weights and fit the temperature.
HELD_OUT = 0.05


def read(task: str, data: str) -> FaceSet:
    """Returns a public set's faces.

    Args:
      task: `fer2013`, `jaffe`, `ckplus` or `kdef`.
      data: the set's folder, or FER2013's CSV file.

    Raises:
      InputError: when the set is incomplete or renamed, with what was expected and what was found.
    """
    return {"fer2013": read_fer2013}[task](data)


def read_fer2013(data: str) -> FaceSet:
    """Returns FER2013: val is held out of Training by a hash of the pixels, test is PublicTest."""
    train_ids, train_labels, train_images = _class_folders(os.path.join(data, "train"), FER2013_EXPRESSIONS)
    test_ids, test_labels, test_images = _class_folders(os.path.join(data, "validation"), FER2013_EXPRESSIONS)
    # By content, so that copies of one picture fall on the same side.
    held = np.array([held_out(image) for image in train_images])
    parts = {
        "train": part(train_ids[~held], train_labels[~held], _pick(train_images, ~held)),
        "val": part(train_ids[held], train_labels[held], _pick(train_images, held)),
        "test": part(test_ids, test_labels, tuple(test_images)),
    }
    notes = (f"val is {int(held.sum())} images held out of Training", "test is PublicTest")
    return FaceSet(FER2013_EXPRESSIONS, parts, fingerprint(parts), notes=notes)


def held_out(image: bytes, share: float = HELD_OUT) -> bool:
    """Whether an image belongs to the held-out part, by a hash of its bytes."""
    return int.from_bytes(hashlib.sha256(image).digest()[:8], "big") / 2**64 < share


def _class_folders(folder: str, expressions: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    if set(found) != set(expressions):
        raise InputError(f"{folder} must hold the folders {tuple(sorted(expressions))}. Found: {tuple(found)}.")
    ids, labels, images = [], [], []
    for label, name in enumerate(expressions):
        for entry in sorted(os.scandir(os.path.join(folder, name)), key=lambda item: item.name):
            with open(entry.path, "rb") as file:
                images.append(file.read())
            ids.append(f"{os.path.basename(folder)}/{name}/{entry.name}")
            labels.append(label)
    return np.array(ids, dtype=object), np.array(labels, np.int64), images


def _pick(images: Sequence[bytes], chosen: np.ndarray) -> tuple[bytes, ...]:
    return tuple(image for image, use in zip(images, chosen, strict=True) if use)


def part(
    image_ids: Sequence[str],
    labels: Sequence[int],
    images: Sequence[bytes],
    persons: Sequence[str] | None = None,
    poses: Sequence[str] | None = None,
    genders: Sequence[str] | None = None,
) -> Part:
    """Returns a part whose images are held in memory; what is not given is unknown."""

    def texts(values: Sequence[str] | None) -> np.ndarray:
        return np.array(list(values) if values is not None else [""] * len(labels), dtype=object)

    return Part(
        image_ids=texts(image_ids),
        labels=np.asarray(labels, np.int64),
        persons=texts(persons),
        poses=texts(poses),
        genders=texts(genders),
        ages=np.full(len(labels), -1, np.int64),
        images=tuple(images),
    )


def fingerprint(parts: dict[str, Part]) -> str:
    """Returns a hash of every face, label and split of a set in memory."""
    digest = hashlib.sha256()
    for split, rows in sorted(parts.items()):
        for image_id, label, image in zip(rows.image_ids, rows.labels, rows.images or (), strict=True):
            digest.update(f"{split} {image_id} {label} ".encode() + hashlib.sha256(image).digest())
    return digest.hexdigest()
