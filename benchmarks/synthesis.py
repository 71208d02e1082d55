"""How long it takes to plan synthetic faces, and to make and judge them, beside dlib alone.

python -m benchmarks.synthesis --part=plan                           # time and memory by the number of persons
python -m benchmarks.synthesis --part=judge --run_dir=runs/er_ss     # a trained run's generator and its data
"""

from __future__ import annotations

import itertools
import os
import platform
import resource
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fer_tf.config import parse, run_command
from fer_tf.labels import F2ED_POSES


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures synthesis without its writing of files.

    Attributes:
      part: plan, judge, or both.
      persons: numbers of persons to plan one expression for, a face in each of four poses.
      run_dir: a run whose FaPE-GAN has ended its training.
      data: its data folder; empty for the one that it was trained on.
      faces: how many to make and judge.
      compared: how many of them dlib alone judges too.
    """

    part: Literal["all", "plan", "judge"] = "all"
    persons: list[int] = field(default_factory=lambda: [500, 1000, 2000, 4000])
    run_dir: str = "runs/er_ss"
    data: str = ""
    faces: int = 600
    compared: int = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its tables."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.synthesis", description=__doc__)
    print(f"{platform.platform()}, {os.cpu_count()} cores")
    if config.part != "judge":
        plan_table(config.persons)
    if config.part != "plan":
        judge_table(config)
    return 0


def plan_table(persons: Sequence[int]) -> None:
    """Prints what planning as many faces as there are costs."""
    from fer_tf.synthesis.plan import FaceFacts, plan

    print("\n| persons | faces planned | CPU s | memory, MB |\n| --- | --- | --- | --- |")
    for count in persons:
        faces = [
            FaceFacts(f"{person}/{pose}", "happy", pose, f"P{person}", moment=f"M{person}")
            for person, pose in itertools.product(range(count), F2ED_POSES)
        ]
        begun = time.process_time()
        items = len(plan(faces, 1.0, mirror=True))
        seconds = time.process_time() - begun
        tracemalloc.start()
        plan(faces, 1.0, mirror=True)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        print(f"| {count:,} | {items:,} | {seconds:.2f} | {peak:.1f} |", flush=True)


def judge_table(config: BenchmarkConfig) -> None:
    """Prints how many faces a second are made and judged, and whether dlib alone says the same of them."""
    from fer_tf.data.folder import DataFolder
    from fer_tf.run_folder import RunFolder
    from fer_tf.synthesis import shards
    from fer_tf.synthesis.plan import training_faces

    run = RunFolder(config.run_dir)
    flags = run.read_flags(needs="trainer.task")
    data = DataFolder(config.data or flags["data"])
    faces = training_faces(data.face_files, flags["task"], data.tags(flags["task"]))
    job = shards.job_of(run, "", flags, config.faces / len(faces), data)
    requests = [request for request in job.plan(faces) if not request.item.spare]
    print(f"\n{len(requests)} faces by the generator of {config.run_dir}, of {len(faces)} training faces of {job.task}")
    print("\n| judge | processes | faces/s by the clock | CPU ms a face |\n| --- | --- | --- | --- |")
    for processes in (1, os.cpu_count() or 1):
        maker = job.maker(processes)
        maker.make(requests[: shards.BATCH])
        maker.forget()
        clock, own = time.monotonic(), time.process_time()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        batches = [requests[start : start + shards.BATCH] for start in range(0, len(requests), shards.BATCH)]
        made = [one for batch in batches for one in maker.make(batch)]
        clock, own = time.monotonic() - clock, time.process_time() - own
        maker.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The workers' share includes their start and the batch that warmed them.
        own += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"| this | {processes} | {len(made) / clock:.1f} | {1000 * own / len(made):.1f} |", flush=True)
    compared = made[: config.compared]
    clock, own = time.monotonic(), time.process_time()
    alone = dlib_alone(job, requests[: config.compared])
    clock, own = time.monotonic() - clock, time.process_time() - own
    print(f"| dlib alone | 1 | {len(alone) / clock:.1f} | {1000 * own / len(alone):.1f} |")
    same = sum(one.reason == reason for one, (reason, _) in zip(compared, alone, strict=True))
    apart = max(
        abs(one.measure.identity_distance - distance) for one, (_, distance) in zip(compared, alone, strict=True)
    )
    print(f"\nthe same verdict on {same} of {len(alone)} faces, identity distances at most {apart:.1e} apart")
    print(f"verdicts: {dict(Counter(one.reason or 'kept' for one in made))}")


def dlib_alone(job: Any, requests: Sequence[Any]) -> list[tuple[str, float]]:
    """Returns each face's reason of rejection and identity distance as dlib's own network and one look give them."""
    import dlib

    from fer_tf.faces import media
    from fer_tf.models.dlib_weights import model_path
    from fer_tf.synthesis.judge import DETECTION_MARGIN, Eyes, FaceMeasure, chip_of, enlarge, landmark_error
    from fer_tf.synthesis.plan import read_at

    detector, network = dlib.get_frontal_face_detector(), dlib.face_recognition_model_v1(model_path())
    eyes, maker = Eyes(job.landmark_model), job.maker()
    sources, targets = [read_at(one.source) for one in requests], [one.read_target() for one in requests]
    known: dict[str, np.ndarray] = {}
    found = []
    for source, target, generated in zip(sources, targets, maker.generate(sources, targets), strict=True):
        if source.image_id not in known:
            chip = chip_of(media.decode(source.image), source.landmarks)
            known[source.image_id] = np.array(network.compute_face_descriptor(chip))
        face = enlarge(generated)
        margin = round(DETECTION_MARGIN * face.shape[0])
        padded = np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        descriptor = np.array(network.compute_face_descriptor(chip_of(face, target.landmarks)))
        distance = float(np.linalg.norm(known[source.image_id] - descriptor))
        error = landmark_error(eyes.landmarks(face, target.landmarks), target.landmarks)
        found.append((job.limits.rejection(FaceMeasure(bool(detector(padded, 0)), error, distance)), distance))
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
