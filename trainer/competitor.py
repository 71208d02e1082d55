"""Trains one of the paper's competitors in Fa-Net's stage: the same data, splits, run folder and resume."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fer_tf import competitors, files
from fer_tf.competitors import method as methods
from fer_tf.competitors.classifiers import LARGE
from fer_tf.competitors.faces import Faces, View, joined, view_of
from fer_tf.competitors.method import Method, Work
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.errors import InputError
from fer_tf.run_folder import SPEC_FILE
from trainer import persons_out, runtime
from trainer.config import TaskConfig
from trainer.fa_net import fitted_temperature, read_faces, report_classes


def run(config: TaskConfig) -> None:
    """Trains to the end; does nothing when finished. A network goes on where an earlier call stopped.

    Raises:
      InputError: when the run has several workers, which no competitor can use.
    """
    if runtime.workers() > 1:
        raise InputError(f"`method` {config.method!r} trains on one worker; TF_CONFIG names {runtime.workers()}.")
    folder = config.folder.competitor
    if folder.is_finished:
        logging.info("%s is finished in %s", config.method, folder.path)
        return
    faces = read_faces(config)
    report_classes(faces)
    fresh = competitors.build(config.method, work_of(config, faces))
    view = view_of(faces, config.fa_net.image_size or fresh.side, fresh.landmarks)
    parts = {split: aligned_once(config, faces, view, split) for split in faces.parts}
    started = time.monotonic()
    with few_threads(len(parts["train"])):
        chosen = fresh.fit(parts["train"])
        seconds = time.monotonic() - started
        logging.info("%s fitted in %.1f s: %s", config.method, seconds, chosen)
        size = methods.save(fresh, folder.path)
        val = parts["val"]
        temperature = fitted_temperature(fresh.logits(val), faces) if len(val) else 1.0
        spec = {
            "variant": config.method,
            "expressions": list(faces.expressions),
            "image_size": view.side,
            "aligned": view.align,
            "temperature": temperature,
            "task": config.task,
            "data_fingerprint": faces.fingerprint,
            "landmark_model": faces.landmark_model,
            "size_bytes": size,
        }
        files.write_json(files.join(folder.path, SPEC_FILE), spec)
        if persons_out.are_shared(faces):
            leave_persons_out(config, faces, parts)
    folder.write_history({"seconds": seconds, "chosen": chosen, "faces": len(parts["train"])})
    folder.finish(f"{seconds:.0f} s")


def work_of(config: TaskConfig, faces: FaceSet) -> Work:
    """Returns what a method needs beside faces; features are kept beside the run folder, for other methods too."""
    return Work(
        len(faces.expressions), cache_of(config), config.run.seed, config.fa_net.epochs, config.folder.competitor.path
    )


def cache_of(config: TaskConfig) -> str:
    """Returns the folder of features and aligned faces, beside the run folder; empty for a remote one."""
    run_dir = files.absolute(config.run.run_dir)
    return os.path.join(os.path.dirname(run_dir), "features") if files.is_local(run_dir) else ""


def aligned_once(config: TaskConfig, faces: FaceSet, view: View, split: str) -> Faces:
    """Returns a part's faces; finding and levelling them takes longer than most methods do, so it is kept."""
    part, cache = faces.parts[split], cache_of(config)
    if not cache or not (view.align or view.landmarks):
        return view.read(part)
    which = f"{faces.fingerprint[:12]}{faces.synthetic_fingerprint[:12]}-{split}-{view.side}-{int(view.align)}"
    path = files.join(cache, f"faces-{which}-{int(view.landmarks)}.npz")
    if files.exists(path):
        kept = files.read_arrays(path)
        return Faces(kept["images"], part.labels, part.persons.astype(str), kept.get("landmarks"))
    found = view.read(part)
    files.write_arrays(path, images=found.images, **({"landmarks": found.landmarks} if view.landmarks else {}))
    return found


@contextlib.contextmanager
def few_threads(faces: int) -> Any:
    """Keeps the linear algebra to one thread where there is little of it: several would only wait for each other."""
    with threadpool_limits(1) if faces <= LARGE else contextlib.nullcontext():
        yield


def leave_persons_out(config: TaskConfig, faces: FaceSet, parts: dict[str, Faces]) -> None:
    """Answers every face of the set with a method that was trained on all other persons, and keeps the answers."""
    whole, network = joined(list(parts.values())), config.folder.competitor

    def answers(person: str, own: Part) -> np.ndarray:
        out = whole.persons == person
        work = dataclasses.replace(work_of(config, faces), folder=persons_out.folder_of(network, person))
        method = competitors.build(config.method, work)
        # Faces of nobody knows whom may be the person's.
        method.fit(whole.rows(~out & (whole.persons != "")))
        return method.logits(whole.rows(out))

    persons_out.answer_all(config.folder, network, faces, answers)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained competitor as the evaluation asks it."""

    method: Method
    view: View
    spec: dict[str, Any]

    def logits(self, part: Part) -> np.ndarray:
        """Returns a score of each class, float (N, num_classes), from the encoded images on."""
        if not len(part):
            return np.zeros((0, len(self.spec["expressions"])), np.float32)
        with few_threads(0):
            return self.method.logits(self.view.read(part))


def load(config: TaskConfig) -> Fitted:
    """Returns the run's competitor; raises InputError when it was not trained."""
    folder = config.folder.competitor
    method = methods.load(folder.path)
    spec = files.read_json(files.join(folder.path, SPEC_FILE))
    return Fitted(method, View(spec["image_size"], spec["aligned"], method.landmarks), spec)
