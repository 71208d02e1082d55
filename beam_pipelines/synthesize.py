"""FaPE-GAN's faces for corpora beyond one machine: `python -m beam_pipelines.synthesize --run_dir=runs/er_up`.

What travels between workers is where records lie and what is to be made of them, never an image.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from beam_pipelines import runner
from fer_tf import config, files
from fer_tf.data.folder import DataFolder
from fer_tf.data.synthesis import FaceFacts, counts_of, in_order, plan, training_faces
from fer_tf.errors import InputError
from fer_tf.evaluation import synthesis
from fer_tf.evaluation.face_quality import QualityLimits
from fer_tf.evaluation.synthesis import Request, Synthesizer
from fer_tf.run_folder import RunFolder

_LOGGER = logging.getLogger("beam_pipelines.synthesize")


@dataclass(frozen=True)
class SynthesizeConfig:
    """Makes a task's synthetic faces with the FaPE-GAN of a run.

    Attributes:
      runner: the Beam runner, such as DirectRunner, FlinkRunner or DataflowRunner; Beam's own flags pass through.
      run_dir: the run folder, whose config.json gives the task, the seed and the limits of the quality check.
      data: the data folder; empty for the one that the run was trained on.
      output: the folder to write; empty for `synthetic` in the run folder, where the trainer looks.
      ratio: synthetic faces for one real training face.
    """

    runner: str = runner.DIRECT_RUNNER
    run_dir: str = "runs/er_ss"
    data: str = ""
    output: str = ""
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.ratio < float("inf"):
            raise InputError(f"`ratio` must be a number above 0. Received: {self.ratio}.")


@dataclass(frozen=True)
class Job:
    """All that a worker needs.

    Attributes:
      gan: folder of the trained FaPE-GAN.
      folder: where the synthetic faces go.
      task, ratio, seed: what the plan needs.
      mirror_targets: whether masks of the mirrored pose are followed too.
      limits: what a face must keep to be used.
      landmark_model: path of the predictor that judges it; empty for the packaged one.
    """

    gan: str
    folder: str
    task: str
    ratio: float
    seed: int
    mirror_targets: bool
    limits: QualityLimits
    landmark_model: str = ""

    def options(self) -> dict[str, Any]:
        """What decides the faces, as plan.json keeps it."""
        return synthesis.options_of(self.task, self.ratio, self.seed, self.mirror_targets, self.limits)


class FindFaces(beam.DoFn):
    """From a record file to the facts of its real training faces."""

    def __init__(self, task: str):
        self.task = task

    def process(self, path: str) -> Iterator[FaceFacts]:
        yield from training_faces([path], self.task)


class Plan(beam.DoFn):
    """From all faces to the requests of each shard; also notes the real faces of each cell, and the shards."""

    def __init__(self, job: Job):
        self.job = job

    def process(self, faces: list[FaceFacts]) -> Iterator[tuple[tuple[int, int], Request]]:
        job = self.job
        requests = synthesis.requests_of(faces, plan(faces, job.ratio, job.seed, job.mirror_targets))
        shards = synthesis.shards_of(len(requests))
        files.write_json(_census_path(job), {"shards": shards, "items": len(requests), "real": counts_of(faces)})
        for place, request in enumerate(requests):
            yield (place % shards, shards), request


class MakeShard(beam.DoFn):
    """Makes one shard, a batch at a time; the generator and dlib's models are loaded once a process."""

    def __init__(self, job: Job):
        self.job = job
        self._shared = Shared()

    def setup(self) -> None:
        self._maker = self._shared.acquire(
            lambda: Synthesizer(self.job.gan, self.job.task, self.job.limits, self.job.landmark_model), tag=self.job.gan
        )

    def process(self, element: tuple[tuple[int, int], Iterable[Request]]) -> Iterator[int]:
        (shard, shards), requests = element
        # Grouping loses the order; the plan's own brings every runner to the same file.
        by_item = {request.item: request for request in requests}
        ordered = [by_item[item] for item in in_order(by_item, self.job.seed)]
        synthesis.write_shard(self.job.folder, shard, shards, ordered, self._maker)
        beam.metrics.Metrics.counter("synthesize", "faces").inc(len(ordered))
        yield shard


@dataclass
class Synthesize(beam.PTransform):
    """From record files to the numbers of the shards that were written.

    Attributes:
      job: what to make, and where.
    """

    job: Job

    def expand(self, paths: beam.PCollection) -> beam.PCollection:
        return (
            paths
            | "SpreadFiles" >> beam.Reshuffle()
            | "FindFaces" >> beam.ParDo(FindFaces(self.job.task))
            | "AllFaces" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Plan" >> beam.ParDo(Plan(self.job))
            | "ByShard" >> beam.GroupByKey()
            | "Make" >> beam.ParDo(MakeShard(self.job))
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    settings, beam_flags = config.parse(
        SynthesizeConfig, argv, prog="python -m beam_pipelines.synthesize", description=__doc__, pass_unknown=True
    )
    runner.log_plainly()
    run = RunFolder(settings.run_dir)
    flags = run.read_flags(needs="trainer.task --stage=fape_gan")
    job = _job(settings, run, flags)
    if synthesis.is_finished(job.folder, job.options()):
        _LOGGER.info("synthetic faces are finished: %s", job.folder)
        return config.EXIT_OK
    paths = DataFolder(settings.data or flags["data"]).face_files
    with runner.running(settings.runner, beam_flags, job.folder) as pipeline:
        pipeline | "Files" >> beam.Create(paths) | "Synthesize" >> Synthesize(job)
    return _finish(job)


def _job(settings: SynthesizeConfig, run: RunFolder, flags: dict[str, Any]) -> Job:
    if not run.gan.is_finished:
        raise InputError(
            f"FaPE-GAN in {run.gan.path!r} is not trained to its end; run trainer.task --stage=fape_gan first."
        )
    return Job(
        gan=run.gan.path,
        folder=settings.output or run.synthetic,
        task=flags["task"],
        ratio=settings.ratio,
        seed=flags["seed"],
        mirror_targets=flags["mirror_targets"],
        limits=QualityLimits(flags["max_identity_distance"], flags["max_landmark_error"]),
        landmark_model=flags.get("landmark_model", ""),
    )


def _finish(job: Job) -> int:
    census = files.read_json(_census_path(job))
    if not census["items"]:
        raise InputError(
            f"no face can be synthesized for task {job.task!r}: no expression of its training faces is seen in two"
            " poses."
        )
    counts = synthesis.finish(job.folder, census["shards"], job.options(), census["real"])
    _LOGGER.info("synthetic faces of %s: %s", job.task, counts)
    return config.EXIT_OK if counts["kept"] else config.EXIT_INCOMPLETE


def _census_path(job: Job) -> str:
    return files.join(job.folder, synthesis.PARTS, "census.json")


if __name__ == "__main__":
    sys.exit(config.run_command(main))
