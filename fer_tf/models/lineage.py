"""Which network may begin, teach, compare or judge which data: one rule for all, since each of these can leak.

A network that has seen a face which is tested gives its student the answer. So beside its weights stands
`lineage.json`: for every training that went into them, its own and those of the networks it grew or learned from, the
task, the data's fingerprint and a sample of the images' hashes. A rebuild with another seed has another fingerprint
and the same images; the hashes tell.

    notes = lineage.check("teacher", "runs/er_ss", faces, "er_zid")   # raises InputError when it has seen the test part
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.data import public
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.data.mixed import NAME as MIXED
from fer_tf.data.schema import SYNTHETIC
from fer_tf.data.stored import hash_of
from fer_tf.errors import InputError
from fer_tf.labels import SPLITS, TASKS
from fer_tf.models import fa_net
from fer_tf.run_folder import LINEAGE_FILE, NetworkFolder, RunFolder, network_folders

# Smallest hashes kept of each training: a part that shares 0.2 % of its faces is missed in 1.6 % of cases, and a set
# of fewer faces is known whole.
SAMPLE = 2048
# From this share of equal names on, faces are taken for the same ones, aligned or encoded anew.
SAME_NAMES = 0.5


@dataclass(frozen=True)
class Training:
    """One training that went into a network's weights.

    Attributes:
      task, fingerprint: its task and its data's fingerprint; empty when unknown.
      via: how it came into the network: empty for its own training, else the flag, such as `teacher`.
      faces: how many faces it saw.
      images, names: sorted int64 (up to SAMPLE,), the smallest hashes of the encoded images and of their ids; None
        when a version that recorded none trained it.
    """

    task: str
    fingerprint: str
    via: str = ""
    faces: int = 0
    images: np.ndarray | None = None
    names: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        hashes = {name: _packed(getattr(self, name)) for name in ("images", "names")}
        return {**{name: getattr(self, name) for name in ("task", "fingerprint", "via", "faces")}, **hashes}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Training:
        """Returns what `to_dict` gave; raises InputError, KeyError or ValueError for anything else."""
        return cls(**{**values, **{name: _unpacked(values[name]) for name in ("images", "names")}})


Lineage = tuple[Training, ...]


def of_training(faces: FaceSet, task: str, borrowed: Mapping[str, str]) -> Lineage:
    """Returns the lineage of a network that is trained on some faces.

    Args:
      faces: what it is trained on; the encoded images of the training part are read once.
      task: the task.
      borrowed: run or model folders of the networks that take part, by flag.
    """
    train = faces.parts["train"]
    images, names = hashes_of(train)
    # A generated face is in no other data, and its name would make the others seem strange there.
    real = np.array([not name.startswith(SYNTHETIC) or ">" not in name for name in train.image_ids], bool)
    images, names = images[real], names[real]
    own = Training(task, faces.fingerprint, "", len(train), _sample(images), _sample(names))
    return merged(own, *(_borrowed(read(source), flag) for flag, source in borrowed.items()))


def merged(*parts: Training | Lineage) -> Lineage:
    """Returns several lineages as one, each training once."""
    found: dict[tuple, Training] = {}
    for part in parts:
        for training in (part,) if isinstance(part, Training) else part:
            known = () if training.images is None else (training.images.tobytes(), training.names.tobytes())
            found.setdefault((training.task, training.fingerprint, training.faces, *known), training)
    return tuple(found.values())


def write(folder: str, lineage: Lineage) -> None:
    """Writes `lineage.json` in one step."""
    files.write_json(files.join(folder, LINEAGE_FILE), {"trainings": [training.to_dict() for training in lineage]})


def is_settled(network: NetworkFolder) -> bool:
    """Whether a network's lineage is there, and not what an attempt of other flags and data left before any weights."""
    return network.has_begun and is_recorded(network.path)


def is_recorded(folder: str) -> bool:
    """Whether a folder has a lineage.json, which versions before this one did not write."""
    return files.exists(files.join(folder, LINEAGE_FILE))


def read(source: str) -> Lineage:
    """Returns the lineage of a network; of an earlier version's network only what its spec says.

    Args:
      source: a run or model folder, the folder of a FaPE-GAN, a published network's name (`pretrained`), or several
        with a `+` between.

    Raises:
      InputError: no network there, or a damaged lineage.json.
    """
    return merged(*(_read_one(folder) for folder in network_folders(source)))


def _read_one(folder: str) -> Lineage:
    if not is_recorded(folder):
        return (_of_earlier_version(folder),)
    path = files.join(folder, LINEAGE_FILE)
    try:
        return tuple(Training.from_dict(values) for values in files.read_json(path)["trainings"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}; train the network again.") from None


def check(role: str, source: str, faces: FaceSet, task: str) -> tuple[str, ...]:
    """Returns what a reader of a training's scores must know of a network that takes part in it.

    Args:
      role: the flag that names the network, such as `init_from`.
      source: its value.
      faces: the data that is trained on and tested.
      task: its task.

    Raises:
      InputError: when that network, or one that it grew or learned from, has seen faces of the test part, or when that
        cannot be told.
    """
    notes = []
    part_hashes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for training in read(source):
        who = f"`{role}` {source!r}" + (f" (by its {training.via})" if training.via else "")
        if note := _check_one(who, training, faces, task, part_hashes):
            notes.append(note)
    return tuple(notes)


def check_judged(spec: fa_net.FaNetSpec, faces: FaceSet, folder: str, task: str = "") -> None:
    """Raises InputError when a network is to be scored on data that is not its own: its splits may be others.

    Args:
      spec: the network's.
      faces: what it is to be scored on.
      folder: where it is.
      task: the task of the faces; empty for the network's own.
    """
    if spec.data_fingerprint and spec.data_fingerprint != faces.fingerprint:
        raise InputError(
            f"{folder} was trained on data with fingerprint {spec.data_fingerprint[:12]}. Received: "
            f"{faces.fingerprint[:12]}; faces that it was trained on may be test faces here. Give the data of the "
            "training, or take another --run_dir to train anew."
        )
    if task and spec.task and spec.task != task:
        raise InputError(f"{folder} was trained for the task {spec.task!r}. Received: {task!r}, which tests others.")


def hashes_of(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Returns a hash of each encoded image and of each image id of a part, int64 (N,) each."""
    if not len(part):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    batches = part.encoded().batch(256).map(lambda images, _: hash_of(images))
    names = hash_of(part.image_ids.astype(str)).numpy()
    return np.concatenate(list(batches.as_numpy_iterator())), names


def has_seen(training: Training, images: np.ndarray) -> bool:
    """Whether a training saw some images, by their hashes, as far as its sample tells; one that recorded none has not.

    Args:
      training: the training.
      images: int64 (N,), as `hashes_of` gives them.
    """
    return training.images is not None and bool(np.isin(training.images, images).any())


def _check_one(who: str, training: Training, faces: FaceSet, task: str, part_hashes: dict[str, Any]) -> str:
    """Returns a note on one training of a network, or an empty text; raises InputError when it leaks."""
    if training.fingerprint == faces.fingerprint:
        if training.task == task:
            return ""
        raise InputError(
            f"{who} was trained on this data for the task {training.task!r}, whose training part has faces that "
            f"{task!r} tests. Take a network from other data."
        )
    # The pipeline's aligned faces and the public sets share no image; a mixture may have both.
    if training.task and MIXED not in (training.task, task) and (training.task in TASKS) != (task in TASKS):
        return ""
    if training.images is None:
        return _of_unknown_images(who, training, faces, task)
    for split in SPLITS:
        if split not in part_hashes:
            part_hashes[split] = hashes_of(faces.parts[split])
    if share := _share_seen(training, "test", part_hashes):
        raise InputError(
            f"{who} was trained on faces that {task!r} tests here (of the faces it saw, about {share:.1%}): on another "
            f"split of the same images, fingerprint {training.fingerprint[:12]}, task {training.task!r}. Take a "
            "network from other data, or train it on this data again."
        )
    if _share_seen(training, "val", part_hashes):
        return _of_val(who, "holds faces of val")
    # The same set as CSV and as pictures has other bytes and other names.
    told = any(_shares(training, *hashes) for hashes in part_hashes.values())
    return "" if told else _of_other_layout(who, training, faces, task)


def _of_val(who: str, what: str) -> str:
    return (
        f"{who} was trained on another part of this set, which {what}: val's scores, the epoch chosen on it and the "
        "temperature may be too good (for FER2013, --held_out=0 has no val)"
    )


def _shares(training: Training, images: np.ndarray, names: np.ndarray) -> bool:
    return bool(np.isin(training.images, images).any() or np.isin(training.names, names).any())


def _of_other_layout(who: str, training: Training, faces: FaceSet, task: str) -> str:
    """A note on a training of the same pictures as some set here, whose images cannot tell what it saw of them."""
    sets = {public.pictures_of(name) for name in faces.set_classes or (task,)}
    may_hold = public.pictures_of(training.task) in sets and faces.val_of_training and len(faces.parts["val"])
    return _of_val(who, "may hold val") if may_hold else ""


def _of_unknown_images(who: str, training: Training, faces: FaceSet, task: str) -> str:
    """What can be told of a network that an earlier version trained on other data than this."""
    if task in TASKS and training.task in TASKS:
        raise InputError(
            f"{who} was trained by a version that did not record its images, on data with another fingerprint "
            f"({training.fingerprint[:12]}): this data may be the same clips, split otherwise. Run `python -m "
            "trainer.task --stage=evaluate` once with that run's flags and data, which records them; or train it again."
        )
    if not training.task:
        return f"{who} does not say what it was trained on: it may have seen the faces that are tested here"
    return _of_other_layout(who, training, faces, task)


def _share_seen(training: Training, split: str, part_hashes: dict[str, Any]) -> float:
    """Returns the share of a training's faces that are in a part and not in the training part as well.

    Public sets hold some images twice, in training and in test: those are their own matter.
    """
    images, names = part_hashes[split]
    own_images, own_names = part_hashes["train"]
    seen = np.isin(training.images, np.setdiff1d(images, own_images)).mean() if len(training.images) else 0.0
    by_name = np.isin(training.names, np.setdiff1d(names, own_names)).mean() if len(training.names) else 0.0
    here = np.isin(training.names, np.concatenate([own[1] for own in part_hashes.values()])).mean()
    return float(max(seen, by_name if here >= SAME_NAMES else 0.0))


def _of_earlier_version(folder: str) -> Training:
    """What an earlier version's network says of its training: its spec, or for a FaPE-GAN its run's config.json."""
    run = RunFolder.of_network(folder)
    if run.gan.path == files.absolute(folder).rstrip("/"):
        known = run.read_config()
        return Training(known.get("flags", {}).get("task", ""), known.get("data_fingerprint", ""))
    spec = fa_net.load_spec(folder)
    return Training(spec.task, spec.data_fingerprint)


def _borrowed(lineage: Lineage, flag: str) -> Lineage:
    """Another network's lineage as part of one's own."""
    return tuple(
        dataclasses.replace(training, via=f"{flag}'s {training.via}" if training.via else flag) for training in lineage
    )


def _sample(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes)[:SAMPLE]


def _packed(hashes: np.ndarray | None) -> str | None:
    return None if hashes is None else base64.b64encode(hashes.astype("<i8").tobytes()).decode()


def _unpacked(text: str | None) -> np.ndarray | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64)
