"""Another draw of the tasks' splits from a built corpus: other rare classes, another rare pose, other unseen persons.

    data = draws.draw(DataFolder("data/faces"), "runs/er_up/draw", seed=3)

Nothing is detected, and no record is written: the draw is a data folder of its own that holds the faces' tags, by image
id, and reads the records where they lie. It is what `beam_pipelines.build` makes with that seed and rare pose.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np

from fer_tf import files
from fer_tf.data import tasks
from fer_tf.data.folder import DataFolder
from fer_tf.data.schema import FaceRecord, parse
from fer_tf.data.stored import record_batches
from fer_tf.data.tasks import FaceKeys, SplitPlan, TaskOptions, stable_hash
from fer_tf.errors import InputError

_FIELDS = ("image_id", "clip_id", "clip_group", "person", "expression_id", "pose_id")


def options_of(data: DataFolder, seed: int) -> TaskOptions:
    """Returns how a draw splits: as the build did, but for the seed and ER-UP's rare pose, which is each in turn."""
    built = data.dataset.get("config", {})
    poses = data.dataset["poses"]
    kept = {name: built[name] for name in ("er_ss_unit", "val_share") if name in built}
    return TaskOptions(seed=seed, rare_pose=poses[seed % len(poses)], **kept)


def draw(data: DataFolder, folder: str, seed: int) -> DataFolder:
    """Returns a draw of a data folder's splits, which is made when it is not there yet.

    Args:
      data: the folder that `beam_pipelines.build` wrote.
      folder: where the draw's tags and its dataset.json go.
      seed: chooses rare classes, rare pose, unseen persons and all else that a split leaves to chance.

    Raises:
      InputError: when the data is none or a draw itself, or the folder holds a draw of other data or of another seed.
    """
    if data.drawn_from:
        raise InputError(f"`data` {data.path!r} is a draw of {data.drawn_from!r}; give that folder.")
    options, drawn = options_of(data, seed), DataFolder(folder)
    about = {"of": files.absolute(data.path), "fingerprint": data.dataset["fingerprint"], **dataclasses.asdict(options)}
    if drawn.exists:
        known = drawn.dataset.get("draw", {})
        if known == about:
            return drawn
        # Data may have moved: what it is its fingerprint tells, and the draw's own does not depend on the place.
        if {**known, "of": about["of"]} != about:
            raise InputError(
                f"{folder} holds a draw of other data, or another draw; remove it, or take another folder."
            )
        drawn.write_dataset({**drawn.dataset, "draw": about})
        return DataFolder(folder)
    image_ids, keys = _keys_of(data)
    limits = tasks.plan(keys, data.dataset["expressions"], data.dataset["poses"], options)
    splits = tasks.split(keys, limits)
    drawn.write_tags({"image_id": image_ids, **splits})
    drawn.write_dataset(_dataset(data, about, limits, splits))
    return drawn


def _dataset(data: DataFolder, about: dict, limits: SplitPlan, splits: dict[str, np.ndarray]) -> dict:
    """The draw's dataset.json: the data's own, with the parts and the fingerprint of the draw."""
    known = data.dataset
    described = tasks.describe(splits, limits, known["expressions"])
    text = json.dumps({name: value for name, value in about.items() if name != "of"}, sort_keys=True)
    changed = {"seed": limits.options.seed, "tasks": described, "draw": about, "leaks": {}}
    return {**known, **changed, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}


def _keys_of(data: DataFolder) -> tuple[np.ndarray, FaceKeys]:
    """Returns the ids of all faces, str (N,), and what splits look at, as the build does."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _FIELDS}
    for batch in _batches(data):
        for name in _FIELDS:
            columns[name].append(batch[name])
    table = {name: np.concatenate(values) for name, values in columns.items()}

    def hashes(name: str) -> np.ndarray:
        distinct, places = np.unique(table[name].astype(bytes), return_inverse=True)
        return np.array([stable_hash(value.decode()) for value in distinct], np.uint64)[places]

    keys = FaceKeys(
        image=hashes("image_id"),
        clip=hashes("clip_id"),
        moment=hashes("clip_group"),
        person=hashes("person"),
        expression=table["expression_id"].astype(np.int32),
        pose=table["pose_id"].astype(np.int32),
    )
    return np.array([value.decode() for value in table["image_id"]]), keys


def _batches(data: DataFolder) -> Iterator[dict[str, np.ndarray]]:
    return record_batches(data.face_files).map(lambda raw: parse(raw, FaceRecord, _FIELDS)).as_numpy_iterator()
