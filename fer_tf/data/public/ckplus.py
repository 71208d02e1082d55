"""CK+ (Lucey et al. 2010): the original tree, or the 48 x 48 images in class folders."""

from __future__ import annotations

import os
import re

from fer_tf import files
from fer_tf.data.public_set import PublicSet, Row, Source, by_person, images_below, one_each, own_splits
from fer_tf.errors import InputError, not_one_of

# CK+ numbers its emotions from 0, which is neutral and never the last frame of a labelled sequence.
EMOTIONS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
EXPRESSIONS = EMOTIONS[1:]
FOLDERS = {
    "anger": "angry",
    "contempt": "contempt",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "sadness": "sad",
    "surprise": "surprise",
}
SEQUENCES, FRAMES = 327, 3
NAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.png", re.IGNORECASE)

# image_id, person, expression, path
Found = tuple[str, str, str, str]


def read(data: str, held_out: float) -> Source:
    """Returns CK+ from its original tree (last frame of the 327 labelled sequences) or the class folders.

    Persons are split 70 / 10 / 20 by a stable hash.
    """
    images = os.path.join(data, "cohn-kanade-images")
    found = _tree(data, images) if os.path.isdir(images) else _class_folders(data)
    split_of = by_person(person for _, person, _, _ in found)
    rows = (
        Row(image_id, expression, split_of[person], files.read_bytes(path), person, "front")
        for image_id, person, expression, path in sorted(found)
    )
    return Source(rows, own_splits("persons are split 70 / 10 / 20; none is in two parts"))


def _tree(data: str, images: str) -> list[Found]:
    emotions = next((name for name in ("Emotion", "Emotion_labels") if os.path.isdir(os.path.join(data, name))), None)
    if emotions is None:
        raise InputError(
            f"{data} must hold the folder Emotion beside cohn-kanade-images. Found: {sorted(os.listdir(data))}."
        )
    found = []
    for path in images_below(os.path.join(data, emotions), ("_emotion.txt",)):
        person, sequence = os.path.normpath(path).split(os.sep)[-3:-1]
        text = files.read_bytes(path).decode(errors="replace").strip()
        number = int(float(text)) if re.fullmatch(r"\d(\.\d*)?(e[+-]?\d+)?", text) else -1
        if not 0 < number < len(EMOTIONS):
            raise not_one_of("emotion", text, range(1, len(EMOTIONS)), path)
        frames = images_below(os.path.join(images, person, sequence), (".png",))
        if not frames:
            raise InputError(f"{path} labels a sequence without frames in {os.path.join(images, person, sequence)}.")
        found.append((os.path.relpath(frames[-1], data), person, EMOTIONS[number], frames[-1]))
    if len(found) != SEQUENCES:
        raise InputError(f"{data} must hold {SEQUENCES} labelled sequences. Found {len(found)}.")
    return found


def _class_folders(data: str) -> list[Found]:
    folders = one_each(data)
    if set(folders) != set(FOLDERS):
        raise InputError(
            f"{data} must hold cohn-kanade-images and Emotion, or the folders {tuple(FOLDERS)}. "
            f"Found: {tuple(sorted(folders.values()))}."
        )
    found = []
    for folder, expression in FOLDERS.items():
        for path in images_below(os.path.join(data, folders[folder]), (".png",)):
            match = NAME.fullmatch(os.path.basename(path))
            if not match:
                raise InputError(f"`{os.path.basename(path)}` is no CK+ name such as S010_004_00000017.png ({path}).")
            found.append((os.path.relpath(path, data), match[1].upper(), expression, path))
    expected = SEQUENCES * FRAMES
    if len(found) != expected:
        raise InputError(f"{data} must hold {expected} images, {FRAMES} of each sequence. Found {len(found)}.")
    return found


SET = PublicSet("CK+", EXPRESSIONS, read)
