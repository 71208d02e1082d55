"""FaPE-GAN's faces for corpora beyond one machine: `python -m beam_pipelines.synthesize --run_dir=runs/er_up`.

What travels between workers is where records lie and what is to be made of them, never an image.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.utils.shared import Shared

from beam_pipelines import runner
from fer_tf import config, files
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.run_folder import RunFolder
from fer_tf.synthesis import shards
from fer_tf.synthesis.make import Request
from fer_tf.synthesis.plan import FaceFacts, counts_of, in_order, training_faces
from fer_tf.synthesis.shards import Job

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


class FindFaces(beam.DoFn):
    """From a record file to the facts of its real training faces."""

    def __init__(self, task: str, tags: Mapping[str, str] | None):
        self.task, self.tags = task, tags

    def process(self, path: str) -> Iterator[FaceFacts]:
        yield from training_faces([path], self.task, self.tags)


class Plan(beam.DoFn):
    """From all faces to the requests of each shard; also notes the real faces of each cell, and the shards."""

    def __init__(self, job: Job):
        self.job = job

    def process(self, faces: list[FaceFacts]) -> Iterator[tuple[tuple[int, int], Request]]:
        requests = self.job.plan(faces)
        parts = shards.shards_of(requests)
        census = {"shards": len(parts), "items": len(requests), "faces": len(faces), "real": counts_of(faces)}
        files.write_json(_census_path(self.job), census)
        for number, part in enumerate(parts):
            for request in part:
                yield (number, len(parts)), request


class MakeShard(beam.DoFn):
    """Makes one shard, a batch at a time; the generator and dlib's models are loaded once a process."""

    def __init__(self, job: Job):
        self.job = job
        self._shared = Shared()

    def setup(self) -> None:
        self._maker = self._shared.acquire(self.job.maker, tag=f"{self.job.gan} {self.job.gan_hash}")

    def process(self, element: tuple[tuple[int, int], Iterable[Request]]) -> Iterator[int]:
        (shard, count), requests = element
        # Grouping loses the order; the plan's own brings every runner to the same file.
        by_item = {request.item: request for request in requests}
        ordered = [by_item[item] for item in in_order(by_item, self.job.seed)]
        shards.write_shard(self.job.folder, shard, count, ordered, self._maker)
        beam.metrics.Metrics.counter("synthesize", "faces").inc(sum(not item.spare for item in by_item))
        yield shard


@dataclass
class Synthesize(beam.PTransform):
    """From record files to the numbers of the shards that were written.

    Attributes:
      job: what to make, and where.
      tags: each image's part of the task, where a draw says it.
    """

    job: Job
    tags: Mapping[str, str] | None = None

    def expand(self, paths: beam.PCollection) -> beam.PCollection:
        return (
            paths
            | "SpreadFiles" >> beam.Reshuffle()
            | "FindFaces" >> beam.ParDo(FindFaces(self.job.task, self.tags))
            | "AllFaces" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Plan" >> beam.ParDo(Plan(self.job))
            | "ByShard" >> beam.GroupByKey()
            | "Make" >> beam.ParDo(MakeShard(self.job))
        )


@config.resuming
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    settings, beam_flags = config.parse(
        SynthesizeConfig, argv, prog="python -m beam_pipelines.synthesize", description=__doc__, pass_unknown=True
    )
    runner.log_plainly()
    runner.check(settings.runner, beam_flags)
    # Workers may start in another folder.
    run = RunFolder(runner.for_workers(settings.run_dir))
    flags = dict(run.read_flags(needs="trainer.task --stage=fape_gan"))
    flags["landmark_model"] = runner.for_workers(flags.get("landmark_model", ""))
    data = DataFolder(runner.for_workers(settings.data or flags["data"]))
    output = runner.for_workers(settings.output) or run.synthetic
    job = shards.job_of(run, output, flags, settings.ratio, data)
    if shards.is_finished(job):
        _LOGGER.info("synthetic faces are finished: %s", job.folder)
        return config.EXIT_OK
    paths = [runner.for_workers(path) for path in data.face_files]
    with runner.running(settings.runner, beam_flags, job.folder) as pipeline:
        pipeline | "Files" >> beam.Create(paths) | "Synthesize" >> Synthesize(job, data.tags(job.task))
    return _finish(job)


def _finish(job: Job) -> int:
    census = files.read_json(_census_path(job))
    if not census["items"]:
        raise job.nothing_to_make(census["faces"])
    counts = shards.finish(job, census["shards"], census["real"])
    _LOGGER.info("synthetic faces of %s: %s", job.task, counts)
    return config.EXIT_OK if counts["kept"] else config.EXIT_INCOMPLETE


def _census_path(job: Job) -> str:
    return files.join(job.folder, shards.PARTS, "census.json")


if __name__ == "__main__":
    sys.exit(config.run_command(main))
