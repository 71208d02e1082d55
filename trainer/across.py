"""The stage evaluate for a set that the network was not trained for: as given, and end to end."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.config import to_dict
from fer_tf.data import mixed, public
from fer_tf.data.folder import DataFolder
from fer_tf.data.inputs import FaceSet, Part, decode_image
from fer_tf.data.parts import joined
from fer_tf.data.preprocess import preprocess
from fer_tf.data.tta import TTA, Tta, cut
from fer_tf.errors import InputError
from fer_tf.evaluation.across import TIGHTNESS, score_found, score_relative, score_tightness
from fer_tf.faces import align
from fer_tf.faces.extractor import FACES_VERSION, ExtractorOptions
from fer_tf.labels import SPLITS, TASKS
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.recognition.alignment import extractor_for
from fer_tf.recognition.answers import encode_face
from fer_tf.reports import wording
from fer_tf.reports.evaluation_page import page
from trainer import runtime
from trainer.config import TaskConfig

BATCH = 64
# What decides beside the network which faces are scored and how, recorded so that another one's can be scored alike.
FLAGS = ("tta", "mapping", "held_out")
# Side of the crop around an aligned face, so that it can also be seen less tightly.
WIDE = 320


def run(config: TaskConfig) -> None:
    """Scores the run's network, or that of `init_from`, on another set and writes `evaluations/<set>.json`.

    The run's own metrics.json stays as it is; its page shows both.

    Raises:
      InputError: when there is no network, or two that could be meant, it has seen the faces that are tested, or it
        shares no two classes with the set.
    """
    if not runtime.is_chief():
        return
    flag, source = judged_network(config)
    faces = mixed.read_set(config.task, config.data, config.held_out, needs=("test",))
    notes = lineage.check(flag, source, faces, config.task)
    part, which = judged(source, faces, config.task)
    model, spec = fa_net.load_joined(source)
    result = {
        "task": config.task,
        "set": name_of(config, faces.fingerprint),
        "place": _place(config),
        "judged": which,
        **{name: value for name, value in to_dict(config).items() if name in FLAGS},
        "landmark_model": os.path.basename(config.synthesis.landmark_model),
        "spec": dataclasses.asdict(spec),
        "data_fingerprint": faces.fingerprint,
        "notes": [*faces.notes, *notes],
        **scores(model, spec, faces, part, config),
    }
    config.folder.write_evaluation(result["set"], result)
    files.write_text(config.folder.page, page(config.folder.read_metrics(), config.folder.read_evaluations()))
    logging.info("%s shows it", config.folder.page)


def judged_network(config: TaskConfig) -> tuple[str, str]:
    """Returns the flag that names the network that is scored, and its folder or folders.

    Raises:
      InputError: when the run has a network and `init_from` names another, which would be ignored.
    """
    if not config.folder.fa_net.has_spec:
        return "init_from", config.fa_net.init_from
    if config.fa_net.init_from:
        raise InputError(
            f"`init_from` is scored where the run folder has no network. Received: {config.fa_net.init_from!r}, and "
            f"{config.folder.path} has one; leave it out to score that, or give another --run_dir."
        )
    return "run_dir", config.folder.fa_net.path


def scores(
    model: Any,
    spec: FaNetSpec,
    faces: FaceSet,
    part: Part,
    config: TaskConfig,
    tightness: Sequence[float] = TIGHTNESS,
) -> dict[str, Any]:
    """Returns what a network gets right of a part of a set, in each view (see `fer_tf.evaluation.across`).

    Args:
      model: anything whose `predict_on_batch` takes preprocessed faces (see `preprocess`) to logits.
      spec: its labels, input and crop.
      faces: the set.
      part: the faces of it that are judged.
      config: the flags.
      tightness: shares of the face's side at which it is asked too.
    """
    classes, names = shared_classes(spec, faces, config)
    network_classes = [spec.expressions.index(name) for name in names]
    views = {"as_given": _given(model, spec, part, config, tightness)}
    if config.task not in TASKS:
        views["end_to_end"] = _found(model, spec, part, config, tightness)
    own = _relabelled(part, classes)
    chosen = part.has_majority & (own >= 0)
    result: dict[str, Any] = {
        "expressions": names,
        "left_out": {
            name: int((part.labels == label).sum())
            for label, name in enumerate(faces.expressions)
            if label not in classes and (part.labels == label).any()
        },
    }
    for view, (by_share, found) in views.items():
        at = {share: logits[chosen][:, network_classes] for share, logits in by_share.items()}
        table = dataclasses.replace(part.rows(chosen), labels=own[chosen])
        logits = at.pop(0.0)
        result[view] = score_found(table, logits, found[chosen], names, spec.temperature)
        result[view]["relative"] = score_relative(table, logits, found[chosen], len(names), spec.temperature)
        result[view]["tightness"] = score_tightness(table.labels, at, found[chosen], len(names))
        _log(name_of(config, faces.fingerprint), view, result[view])
    return result


def name_of(config: TaskConfig, fingerprint: str = "") -> str:
    """Returns what an evaluation's file is called: the set, and of a kind with many sets the folder's name too.

    Where that is another folder's, which was scored before, a hash of this one's place tells them apart; a set that was
    moved is known by its fingerprint.
    """
    if config.task in TASKS or public.public_set(config.task).expressions:
        return config.task
    stem = os.path.basename(os.path.dirname(config.data) if os.path.isfile(config.data) else config.data.rstrip("/"))
    name, place = f"{config.task}-{stem}", _place(config)
    known = config.folder.read_evaluations().get(name, {})
    # An evaluation of before places were recorded is taken for this one's.
    same = known.get("place", place) == place or known["data_fingerprint"] == fingerprint
    return name if same else f"{name}~{place}"


def _place(config: TaskConfig) -> str:
    """A hash of where the data lies: a path is one machine's, and what is recorded may be published."""
    return hashlib.blake2b(files.absolute(config.data).encode(), digest_size=4).hexdigest()


def shared_classes(spec: FaNetSpec, faces: FaceSet, config: TaskConfig) -> tuple[dict[int, int], list[str]]:
    """Returns the classes that a network and a set share, in the network's order.

    Returns:
      (classes, names): for each label of the set that the network knows, its position among the names; the names.

    Raises:
      InputError: when they share fewer than two, or `mapping` names a label that the set does not have.
    """
    mapping = mixed.entries("mapping", config.mapping)
    own = mixed.names_of({config.task: faces}, mapping)[config.task]
    names = [name for name in spec.expressions if name in own]
    if len(names) < 2:
        raise InputError(
            f"the network's labels {spec.expressions} and the set's {tuple(own)} share fewer than two; --mapping gives "
            f"a label of the set another name, such as --mapping={config.task}.{own[0]}={spec.expressions[0]}."
        )
    return {label: names.index(name) for label, name in enumerate(own) if name in names}, names


def _relabelled(part: Part, classes: dict[int, int]) -> np.ndarray:
    """Labels by their position among the shared classes, -1 for others."""
    return np.array([classes.get(int(label), -1) for label in part.labels], np.int64)


def judged(source: str, faces: FaceSet, task: str) -> tuple[Part, str]:
    """All faces of a set of which the network has seen none, else its test part."""
    whole = joined([faces.parts[split] for split in SPLITS if len(faces.parts[split])])
    same = TASKS if task in TASKS else (public.pictures_of(task),)
    trainings = lineage.read(source)
    # A mixture that does not tell its images does not tell its sets either.
    unknown = any(training.task == mixed.NAME and training.images is None for training in trainings)
    if unknown or any(public.pictures_of(training.task) in same for training in trainings):
        return faces.parts["test"], "test part"
    # Another set, under another name, may have the same pictures.
    images, _ = lineage.hashes_of(whole)
    seen = any(lineage.has_seen(training, images) for training in trainings)
    return (faces.parts["test"], "test part") if seen else (whole, "all faces")


Logits = tuple[dict[float, np.ndarray], np.ndarray]


def _given(model: Any, spec: FaNetSpec, part: Part, config: TaskConfig, tightness: Sequence[float]) -> Logits:
    """Answers to the pictures as they are."""
    pictures = (decode_image(encoded).numpy() for encoded, _ in part.encoded().as_numpy_iterator())
    views = TTA[config.fa_net.tta]
    # The four tasks' faces are aligned, and of an aligned face as much is seen as in use.
    share = spec.window(aligned=config.task in TASKS)
    return _answers(model, spec, pictures, views, (1.0, share), tightness), np.ones(len(part), bool)


def _found(model: Any, spec: FaNetSpec, part: Part, config: TaskConfig, tightness: Sequence[float]) -> Logits:
    """Answers to the biggest face of each picture, found and aligned as a user's picture is."""
    transforms = _alignments(part, spec, config)

    def crops() -> Iterator[np.ndarray]:
        margin = (WIDE - align.FACE_SIZE) / 2
        for (encoded, _), transform in zip(part.encoded().as_numpy_iterator(), transforms, strict=True):
            if np.isfinite(transform).all():
                wide = transform + np.array([[0, 0, margin], [0, 0, margin]])
                yield align.warp(decode_image(encoded).numpy(), wide, WIDE)
            else:
                yield np.zeros((WIDE, WIDE, 3), np.uint8)

    found = np.isfinite(transforms).all(axis=(1, 2))
    views, shares = TTA[config.fa_net.tta], (align.FACE_SIZE / WIDE, spec.served_crop)
    return _answers(model, spec, crops(), views, shares, tightness, served=True), found


def _alignments(part: Part, spec: FaNetSpec, config: TaskConfig) -> np.ndarray:
    """The biggest face's 2 x 3 transform of each picture, nan where none is found; kept beside the set's records."""
    options = ExtractorOptions(subject="all", landmark_model=config.synthesis.landmark_model)
    extractor = extractor_for(spec.landmark_model, options)
    folder = DataFolder(public.folder_of(config.task, config.data, config.held_out))
    about = f"{FACES_VERSION} {extractor.detector} {extractor.landmark_model} {options.min_score}"
    known: dict[str, np.ndarray] = {}
    if files.exists(folder.alignments):
        kept = files.read_arrays(folder.alignments)
        if str(kept["about"]) == about:
            known = dict(zip(kept["image_ids"].tolist(), kept["transforms"], strict=True))
    try:
        for number, (name, (encoded, _)) in enumerate(
            zip(part.image_ids, part.encoded().as_numpy_iterator(), strict=True)
        ):
            if str(name) in known:
                continue
            seen = extractor.faces_in_image(decode_image(encoded).numpy())
            known[str(name)] = seen[0].transform if seen else np.full((2, 3), np.nan)
            if number % 500 == 499:
                logging.info("looked for faces in %d of %d pictures", number + 1, len(part))
    finally:
        extractor.close()
    ids = sorted(known)
    transforms = np.array([known[name] for name in ids])
    files.write_arrays(folder.alignments, about=about, image_ids=np.array(ids), transforms=transforms)
    return np.array([known[str(name)] for name in part.image_ids]).reshape(-1, 2, 3)


def _answers(
    model: Any,
    spec: FaNetSpec,
    pictures: Iterator[np.ndarray],
    views: Tta,
    shares: tuple[float, float],
    tightness: Sequence[float],
    served: bool = False,
) -> dict[float, np.ndarray]:
    """Logits at each tightness, and under 0.0 at the network's own.

    Args:
      model: the network.
      spec: its spec.
      pictures: uint8 (H, W, 3) each, streamed.
      views: the views of a face whose mean logits count.
      shares: the face's side as a share of the picture's, and the share of a side that is seen at the network's own
        tightness.
      tightness: shares of the face's side.
      served: whether the own tightness is that of the aligned face in the middle of the picture, as a network gets it.
    """
    rows: dict[float, list[np.ndarray]] = {key: [] for key in (0.0, *tightness)}
    for batch in _batches(pictures):
        for key in rows:
            share, as_served = key * shares[0] or shares[1], served and not key
            faces = [cut(pictures, shares[0]) for pictures in batch] if as_served else batch
            logits = []
            for view in zip(*map(views.of, faces), strict=True):
                seen = [_encoded(pictures) if as_served else pictures for pictures in view]
                prepared = [preprocess(pictures, spec.image_size, spec.channels, share).numpy() for pictures in seen]
                logits.append(model.predict_on_batch(np.concatenate(prepared)))
            rows[key].append(np.mean(logits, axis=0))
    return {key: np.concatenate(found) for key, found in rows.items()}


def _encoded(faces: np.ndarray) -> np.ndarray:
    """Faces as a network gets them from a user: encoded on the way."""
    return np.stack([decode_image(encode_face(face)).numpy() for face in faces])


def _batches(pictures: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """So many pictures at a time, in order, those of one size that follow each other in one array."""
    while batch := list(itertools.islice(pictures, BATCH)):
        yield [np.stack(list(equal)) for _, equal in itertools.groupby(batch, key=lambda picture: picture.shape)]


def _log(name: str, view: str, scores: dict[str, Any]) -> None:
    logging.info(
        "%s, %s: accuracy %s, mean class %s, of %d faces, %d lost",
        name,
        view.replace("_", " "),
        wording.accuracy_of(scores),
        wording.mean_class_of(scores),
        scores["faces"],
        scores["lost"],
    )
