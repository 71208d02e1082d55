"""The record files of a task's synthetic faces: what decides them, written one by one, whole or not at all.

A shard's faces are those of the plan that fall to it. For each face that is rejected a spare one of its cell is made,
until the cell is full or its spares are used up: then fewer than half of its faces pass, and more would not help.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fer_tf import files, tfrecords
from fer_tf.data import schema
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.labels import mirror_pairs_of
from fer_tf.run_folder import NetworkFolder, RunFolder
from fer_tf.synthesis.judge import QualityLimits
from fer_tf.synthesis.make import Made, Request, Synthesizer
from fer_tf.synthesis.plan import Cell, FaceFacts, Item, plan

PLAN_FILE, REJECTED_FILE, PARTS, OPTIONS_FILE = "plan.json", "rejected.jsonl", "parts", "options.json"
SHARD_FACES = 2000
# Faces that pass through the generator together.
BATCH = 64
# Spare faces for each face of a cell.
SPARES = 1.0
# Between two lines that say how far a shard is.
PROGRESS_SECONDS = 30.0
# Below this many faces, starting worker processes takes longer than they save.
MIN_FACES_TO_SHARE = 256


@dataclass(frozen=True)
class Job:
    """What decides a task's synthetic faces, and where they go; plain values, so that it is sent to workers.

    Attributes:
      gan: folder of the trained FaPE-GAN.
      folder: where the synthetic faces go.
      task, ratio, seed: what the plan needs.
      mirror_targets: whether masks of the mirrored pose are followed too.
      mirror_pairs: poses that mirror each other though their names do not tell.
      limits: what a face must keep to be used.
      data_fingerprint: of the data that the plan is made for.
      gan_hash: of the generator's weights.
      landmark_model: path of the predictor that judges the faces; empty for the packaged one.
    """

    gan: str
    folder: str
    task: str
    ratio: float
    seed: int
    mirror_targets: bool
    limits: QualityLimits
    data_fingerprint: str
    gan_hash: str
    landmark_model: str = ""
    mirror_pairs: tuple[tuple[str, str], ...] = ()

    def options(self) -> dict[str, Any]:
        """What decides the faces, as plan.json keeps it."""
        chosen = {name: getattr(self, name) for name in ("task", "ratio", "seed", "mirror_targets")}
        if self.mirror_pairs:
            # Written only where it decides something: faces that an earlier version made are still these.
            chosen["mirror_pairs"] = [list(pair) for pair in self.mirror_pairs]
        made_of = {"gan": self.gan_hash, "data_fingerprint": self.data_fingerprint}
        return {**chosen, **dataclasses.asdict(self.limits), **made_of}

    def plan(self, faces: Sequence[FaceFacts]) -> list[Request]:
        """Returns what is to be made of a task's training faces, in order, the spare ones last."""
        return requests_of(faces, plan(faces, self.ratio, self.seed, self.mirror_targets, SPARES, self.mirror_pairs))

    def nothing_to_make(self, faces: int) -> InputError:
        """Returns the error for an empty plan of that many training faces."""
        return InputError(
            f"no face can be synthesized for task {self.task!r}: no expression of its {faces} training faces is seen "
            "in two poses."
        )

    def maker(self, processes: int = 1) -> Synthesizer:
        """Returns what makes and judges the faces; loads the generator and dlib's models."""
        return Synthesizer(self.gan, self.task, self.limits, self.landmark_model, processes)


def job_of(run: RunFolder, folder: str, flags: Mapping[str, Any], ratio: float, data: DataFolder) -> Job:
    """Returns the job that a run's flags ask for.

    Args:
      run: the run, whose FaPE-GAN makes the faces.
      folder: where the synthetic faces go.
      flags: the run's flags, by name.
      ratio: synthetic faces for one real training face.
      data: the data that the run was trained on.

    Raises:
      InputError: when the FaPE-GAN is not trained to its end, or the data folder is none.
    """
    if not run.gan.is_finished:
        raise InputError(
            f"FaPE-GAN in {run.gan.path!r} is not trained to its end; run trainer.task --stage=fape_gan first."
        )
    from fer_tf.models import fape_gan

    return Job(
        gan=run.gan.path,
        folder=folder,
        task=flags["task"],
        ratio=ratio,
        seed=flags["seed"],
        mirror_targets=flags["mirror_targets"],
        limits=QualityLimits(flags["max_identity_distance"], flags["max_landmark_error"]),
        data_fingerprint=data.dataset["fingerprint"],
        gan_hash=fape_gan.hash_of(run.gan.path),
        landmark_model=flags.get("landmark_model", ""),
        mirror_pairs=mirror_pairs_of(flags.get("mirror_pairs", ""), data.dataset["poses"]),
    )


def processes_for(faces: int) -> int:
    """Returns how many processes shall judge that many faces: one a core, or one where there are few faces."""
    return len(os.sched_getaffinity(0)) if faces >= MIN_FACES_TO_SHARE else 1


def shards_of(requests: Sequence[Request]) -> list[list[Request]]:
    """Returns what is to be made for each record file; each has its share of every cell, and of its spare faces."""
    wanted = [request for request in requests if not request.item.spare]
    spare = [request for request in requests if request.item.spare]
    shards = max(1, -(-len(wanted) // SHARD_FACES))
    return [wanted[shard::shards] + spare[shard::shards] for shard in range(shards)]


def requests_of(faces: Sequence[FaceFacts], items: Sequence[Item]) -> list[Request]:
    """Returns the items with the places of their records."""
    by_id = {face.image_id: face for face in faces}
    pose_ids = {face.pose: face.pose_id for face in faces}
    return [Request(item, by_id[item.source_id], by_id[item.target_id], pose_ids[item.pose]) for item in items]


def write_shard(folder: str, shard: int, shards: int, requests: Sequence[Request], maker: Synthesizer) -> None:
    """Makes one record file, and beside it what was measured of every face; does nothing when it is there.

    Args:
      folder: the synthetic folder.
      shard, shards: the file's number, from 0, and how many there are.
      requests: its faces, in order, the spare ones last.
      maker: makes and judges them, a batch at a time.
    """
    path = DataFolder(folder).face_file(shard, shards)
    if files.exists(path):
        return
    notes = _notes_path(folder, shard, shards)
    progress = _Progress(f"shard {shard + 1} of {shards}", sum(not request.item.spare for request in requests))
    # The notes first: a shard that has its name is complete, notes and all.
    with files.whole_file(path) as records, files.whole_file(notes) as lines:
        for made in _made(requests, maker):
            facts = {**dataclasses.asdict(made.item), **dataclasses.asdict(made.measure), "reason": made.reason}
            if made.record is not None:
                tfrecords.append(records, schema.encode(made.record))
            lines.write(f"{json.dumps(facts)}\n".encode())
            progress.count(made)


def _made(requests: Sequence[Request], maker: Synthesizer) -> Iterator[Made]:
    """Yields what became of each face, and of a spare one of its cell for each that is rejected."""
    spares: dict[Cell, deque[Request]] = defaultdict(deque)
    for request in requests:
        if request.item.spare:
            spares[request.item.cell].append(request)
    wave = [request for request in requests if not request.item.spare]
    while wave:
        rejected: Counter[Cell] = Counter()
        for start in range(0, len(wave), BATCH):
            for made in maker.make(wave[start : start + BATCH]):
                rejected[made.item.cell] += made.record is None
                yield made
        wave = [
            spares[cell].popleft() for cell, missing in rejected.items() for _ in range(min(missing, len(spares[cell])))
        ]


class _Progress:
    """Says now and then how many of a shard's faces are kept, how fast, and how long the rest takes at most."""

    def __init__(self, name: str, wanted: int) -> None:
        self._name, self._wanted = name, wanted
        self._made = self._kept = 0
        self._begun = self._said = time.monotonic()

    def count(self, made: Made) -> None:
        self._made += 1
        self._kept += made.record is not None
        now = time.monotonic()
        # A batch is counted at once, when all of it is judged.
        if now - self._said < PROGRESS_SECONDS or self._made % BATCH:
            return
        self._said = now
        rate = self._made / (now - self._begun)
        left = (
            f"{(self._wanted - self._kept) * self._made / (rate * self._kept):.0f} s left"
            if self._kept
            else "none kept"
        )
        logging.info(
            "%s: %d of %d faces kept, %d rejected; %.0f a second, %s",
            self._name,
            self._kept,
            self._wanted,
            self._made - self._kept,
            rate,
            left,
        )


def _notes_path(folder: str, shard: int, shards: int) -> str:
    return files.join(folder, PARTS, f"{shard:05d}-of-{shards:05d}.jsonl")


def finish(job: Job, shards: int, real: dict[str, int]) -> dict[str, Any]:
    """Joins the shards' notes into `rejected.jsonl` and `plan.json`, whose presence says that all is done.

    Args:
      job: what decided the faces.
      shards: how many record files there are.
      real: real training faces of each cell, named `expression/pose`.

    Returns:
      the counts of plan.json: real, planned, made (with those in the place of rejected ones), kept, and rejected by
      reason.
    """
    planned: Counter[str] = Counter()
    made: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with files.whole_file(files.join(job.folder, REJECTED_FILE)) as rejected:
        for shard in range(shards):
            with files.open_to_read(_notes_path(job.folder, shard, shards)) as lines:
                for line in lines:
                    facts = json.loads(line)
                    cell = f"{facts['expression']}/{facts['pose']}"
                    planned[cell] += not facts["spare"]
                    made[cell] += 1
                    if facts["reason"]:
                        reasons[facts["reason"]] += 1
                        rejected.write(line)
                    else:
                        kept[cell] += 1
    found = {"planned": planned, "made": made, "kept": kept}
    counts = {"real": sum(real.values()), **{name: cells.total() for name, cells in found.items()}}
    counts["rejected"] = dict(reasons)
    cells = {"real": real, **{name: dict(sorted((+cells).items())) for name, cells in found.items()}}
    about = {"options": job.options(), "counts": counts, "cells": cells}
    files.write_json(files.join(job.folder, PLAN_FILE), about)
    _warn_of_short_cells(planned, kept)
    return counts


def _warn_of_short_cells(planned: Counter[str], kept: Counter[str]) -> None:
    short = {cell: f"{kept[cell]} of {wanted}" for cell, wanted in sorted(planned.items()) if kept[cell] < wanted}
    if short and kept:
        logging.warning("cells whose faces mostly fail the quality check, and stay short of faces: %s", short)


def is_finished(job: Job) -> bool:
    """Whether the faces are there; notes what decides them before the first one is made.

    Raises:
      InputError: they were made, in whole or in part, with other options, other weights or for other data.
    """
    path = files.join(job.folder, PARTS, OPTIONS_FILE)
    finished = files.exists(files.join(job.folder, PLAN_FILE))
    if not files.exists(path):
        files.write_json(path, job.options())
        return finished
    made = files.read_json(path)
    if finished and "gan" not in made:
        _check_earlier_version(NetworkFolder(job.gan), job.folder)
    for name, value in job.options().items():
        # Faces that an earlier version finished name neither their weights nor their data.
        if made.get(name) != value and not (finished and "gan" not in made and name in ("gan", "data_fingerprint")):
            raise InputError(
                f"{job.folder} was made with {name} {made.get(name)!r}. Received: {value!r}. Remove that folder and"
                " the Fa-Net trained on it, or write elsewhere."
            )
    return finished


def faces_of(run: RunFolder) -> tuple[str, ...]:
    """Returns the record files of a run's synthetic faces; empty when it has none.

    Raises:
      InputError: when they are not finished, or the run's FaPE-GAN has other weights than those that made them.
    """
    from fer_tf.models import fape_gan

    folder, gan = run.synthetic, run.gan.path
    made = DataFolder(folder)
    if not files.exists(files.join(folder, PLAN_FILE)):
        if made.has_faces or files.exists(files.join(folder, PARTS, OPTIONS_FILE)):
            raise InputError(
                f"the synthetic faces in {folder} are not finished; run trainer.task --stage=synthesize to its end, or "
                "give --synthetic=false."
            )
        return ()
    made_by = files.read_json(files.join(folder, PLAN_FILE))["options"].get("gan")
    if made_by is None:
        _check_earlier_version(run.gan, folder)
    elif files.exists(files.join(gan, fape_gan.GENERATOR_FILE)) and fape_gan.hash_of(gan) != made_by:
        raise InputError(
            f"the synthetic faces in {folder} were made with other weights than FaPE-GAN has now; remove that folder "
            "and run trainer.task --stage=synthesize again."
        )
    return made.face_files


def _check_earlier_version(gan: NetworkFolder, folder: str) -> None:
    """Refuses faces that an earlier version made while their FaPE-GAN was still training."""
    if gan.is_finished and files.stat(gan.mark)[1] > files.stat(files.join(folder, PLAN_FILE))[1]:
        raise InputError(
            f"the synthetic faces in {folder} are older than the end of their FaPE-GAN's training; remove that folder "
            "and run trainer.task --stage=synthesize again."
        )
