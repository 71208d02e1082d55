"""Videos in, TFRecords out: `python -m beam_pipelines.build --runner=DirectRunner`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from beam_pipelines import assign, chunks, extract, face_sheet, runner, same_files, write
from beam_pipelines.assign import Corpus
from beam_pipelines.chunks import Census, Labels
from beam_pipelines.progress import ProgressLog
from beam_pipelines.write import WritePlan
from fer_tf import config, files
from fer_tf.data import statistics, tasks
from fer_tf.data.annotations import AnnotationOptions, Review, read_labels
from fer_tf.data.folder import DataFolder, fingerprint
from fer_tf.data.leaks import Leaks
from fer_tf.data.schema import SCHEMA_VERSION
from fer_tf.data.settle import REVIEW_REASONS
from fer_tf.data.tasks import TaskOptions
from fer_tf.errors import InputError, check_least, check_positive, not_one_of
from fer_tf.evaluation import agreement
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.faces.frame import NOTES
from fer_tf.faces.landmarks import LandmarkPredictor
from fer_tf.faces.subject import SUBJECTS
from fer_tf.labels import POSES, SPLITS, TASKS
from fer_tf.lock import only_writer
from fer_tf.reports import build_page
from fer_tf.resources import samples_folder

_LOGGER = logging.getLogger("beam_pipelines.build")

SHARD_BYTES = 150_000_000
# Fewer files would leave readers that share a corpus by file without work.
MIN_SHARDS, FACES_FOR_MIN_SHARDS = 4, 250
VERSIONS = ("tensorflow", "apache-beam", "mtcnn", "dlib-bin", "av", "opencv-python-headless", "numpy")
# Rejects that are rules at work or honest findings, and no fault of the input.
EXPECTED_REASONS = (
    *REVIEW_REASONS,
    "duplicate_row",
    "no_face",
    "landmarks_off",
    "other_face",
    "no_face_in_clip",
)


@dataclass(frozen=True)
class BuildConfig:
    """Builds a data folder from videos and their annotations.

    Attributes:
      runner: the Beam runner, such as DirectRunner, FlinkRunner or DataflowRunner; Beam's own flags pass through.
      annotations: the annotations CSV; empty for annotations.csv in the videos' root.
      videos_root: folder, or glob, of the clips, on any filesystem that Beam knows; empty for the sample corpus.
      output: the data folder to write.
      labels_file: the allowed expressions, one a line in the order of their ids; empty takes those of the annotations.
      review: keep a clip when its reviewers name its label: all of them, more than half, or whatever they say.
      reviewer_columns: pattern of the reviewers' columns.
      group_columns: columns that tell which clips were filmed together, those that the file has.
      tasks: how the tasks are split.
      faces: how clips become faces.
      subject: who a clip with several faces is about: main (longest, largest, most central), center or largest.
      pairs_per_image: the most targets that a face gets in the GAN's pairs.
      num_shards: how many files of records, and of pairs; 0 chooses by size.
      landmark_files: also write each clip's points as text, `landmarks/<clip>.txt`.
      extracted: folder of the finished clips' faces, kept for the next build; empty for `.extracted` in the output.
      progress_s: seconds between two lines of progress.
    """

    runner: str = runner.DIRECT_RUNNER
    annotations: str = ""
    videos_root: str = ""
    output: str = "data/faces"
    labels_file: str = ""
    review: Review = "unanimous"
    reviewer_columns: str = "reviewer_*"
    group_columns: list[str] = field(default_factory=lambda: ["clip_group", "session", "take"])
    tasks: TaskOptions = config.group(TaskOptions)
    faces: ExtractorOptions = config.group(ExtractorOptions, threads=1)
    pairs_per_image: int = 2
    num_shards: int = 0
    landmark_files: bool = False
    extracted: str = ""
    progress_s: float = 10.0

    def __post_init__(self) -> None:
        check_least(self, num_shards=0, pairs_per_image=0)
        check_positive(self, "progress_s")
        if self.faces.subject == "all":
            raise not_one_of("subject", "all", SUBJECTS[:-1], "a label is one person's")


@config.resuming
def main(argv: Sequence[str] | None = None) -> int:
    """Builds the data folder; returns 0, or 3 when it is complete but for clips that could not be used."""
    settings, beam_flags = config.parse(
        BuildConfig, argv, prog="python -m beam_pipelines.build", description=__doc__, pass_unknown=True
    )
    runner.log_plainly()
    runner.check(settings.runner, beam_flags)
    return Build(settings, beam_flags).run()


class Build:
    """One build: annotations, extraction, planning, writing, and the move to the final names.

    Args:
      settings: the command's config.
      beam_flags: flags for the runner.
    """

    def __init__(self, settings: BuildConfig, beam_flags: Sequence[str]):
        self.settings, self.beam_flags = settings, list(beam_flags)
        # Workers may start in another folder.
        self.output = files.absolute(settings.output)
        self.data = DataFolder(self.output)
        self.building = self.data.building
        self.extracted = files.absolute(settings.extracted or self.data.extracted)
        root = settings.videos_root or samples_folder()
        self.videos = extract.Videos.parse(files.absolute(root))
        self.annotations = files.absolute(settings.annotations) if settings.annotations else ""
        self.annotations = self.annotations or files.join(self.videos.root, "annotations.csv")

    def run(self) -> int:
        """Builds, as the only one that writes into the output, and returns the command's exit code."""
        start = time.monotonic()
        for name in ("output", "extracted", "annotations"):
            files.refuse_patterns(name, getattr(self, name))
        if files.is_local(self.videos.root) and not os.path.isdir(self.videos.root):
            raise InputError(f"`videos_root` must be the clips' folder, or a glob in it. {self.videos.root!r} is none.")
        if not files.exists(self.annotations):
            raise InputError(
                f"`annotations` {self.annotations!r} does not exist; name the CSV with --annotations "
                "and the clips' folder with --videos_root."
            )
        # Here too: in a worker it would be told late, and clip by clip.
        if self.settings.faces.landmark_model:
            LandmarkPredictor(self.settings.faces.landmark_model)
        files.check_writable(self.output)
        with only_writer(self.output, "output"):
            return self._build(start)

    def _build(self, start: float) -> int:
        files.delete_folder(self.building)
        try:
            census = chunks.partition(self.annotations, self.building, self._annotation_options())
        except InputError as error:
            raise InputError(f"{error}{self._listed()}") from None
        self._check_rare_pose(census.labels)
        _LOGGER.info("annotations: %d rows, %d clips kept, %s", census.rows, census.clips, _words(census.rejected))
        for entry in census.merged:
            # Two Unicode forms of one name look alike.
            spellings = ", ".join(f"{name!a} {count} times" for name, count in entry["spellings"].items())
            _LOGGER.warning("annotations: %s %r is read for %s", entry["column"], entry["name"], spellings)
        with ProgressLog(files.join(self.building, "progress"), census.clips, self.settings.progress_s) as progress:
            self._extract(census)
            _LOGGER.info("%s", progress.line())
        summary = self._summary(census, same_files.settle_same_files(self.building, census))
        corpus = assign.load(self.building, census)
        if not len(corpus.keys):
            none = f"no face was found in any of {census.clips} clips"
            if summary["rejected"].get("missing") == census.clips:
                none = f"none of the {census.clips} clips lies below `videos_root` {self.videos.root!r}"
            raise InputError(f"{none}: {_words(summary['rejected'])}.{self._listed()}")
        limits, splits = assign.all_splits(corpus, census.labels, self.settings.tasks)
        leaks = assign.check_leaks(corpus, splits)
        plan = self._write_plan(corpus, census.labels, limits)
        _LOGGER.info("write: %d faces into %d shards", len(corpus.keys), plan.face_shards)
        with self._pipeline() as pipeline:
            pipeline | "Chunks" >> beam.Create(census.chunks) | "WriteShards" >> write.WriteShards(plan)
        dataset = self._dataset(census, summary, corpus, plan, splits, leaks)
        made = write.made(self.building)
        files.write_lines(made.leaks, assign.leak_lines(self.building, census, corpus, leaks))
        page = build_page.page(dataset, face_sheet.sample_faces(self.building, census, plan.limits))
        files.write_text(made.page, page)
        self.data.take(made, dataset, chunks.rejected_paths(self.building), write.RECEIPT)
        files.delete_folder(self.building)
        self._say(dataset, time.monotonic() - start)
        has_faults = "at fault" in map(_kind_of, dataset["rejected"])
        return config.EXIT_INCOMPLETE if has_faults else config.EXIT_OK

    def _listed(self) -> str:
        """Where a build that fails lists what it left out, beside an earlier one's list, which belongs to its faces."""
        if not (paths := chunks.rejected_paths(self.building)):
            return ""
        self.data.write_rejected(paths, self.data.rejected_by_failed)
        return f" See {self.data.rejected_by_failed}."

    def _check_rare_pose(self, labels: Labels) -> None:
        """A usual pose may be missing in a corpus; one that nobody knows is a typing error."""
        rare = self.settings.tasks.rare_pose
        if rare not in (*POSES, *labels.poses):
            raise not_one_of("rare_pose", rare, labels.poses)

    def _annotation_options(self) -> AnnotationOptions:
        labels: tuple[str, ...] = ()
        if self.settings.labels_file:
            if not files.exists(self.settings.labels_file):
                raise InputError(f"`labels_file` {self.settings.labels_file!r} does not exist.")
            with files.open_to_read(self.settings.labels_file) as file:
                labels = read_labels(file, self.settings.labels_file)
        return AnnotationOptions(
            self.settings.review,
            self.settings.reviewer_columns,
            tuple(self.settings.group_columns),
            labels,
            self.videos.root,
        )

    def _pipeline(self) -> contextlib.AbstractContextManager[beam.Pipeline]:
        return runner.running(self.settings.runner, self.beam_flags, self.output)

    def _extract(self, census: Census) -> None:
        faces = self.settings.faces
        faces = dataclasses.replace(faces, landmark_model=runner.for_workers(faces.landmark_model))
        transform = extract.ExtractFaces(self.building, self.videos, self.extracted, faces)
        with self._pipeline() as pipeline:
            pipeline | "Chunks" >> beam.Create(census.chunks) | "ExtractFaces" >> transform

    def _summary(self, census: Census, same: collections.Counter) -> dict[str, Any]:
        """The sum of the chunks' counts; `same` has the clips left out as one file, by reason."""
        total: collections.Counter = collections.Counter()
        rejected = census.rejected + same
        models: set[tuple[str, str]] = set()
        for chunk in census.chunks:
            counts = extract.read_summary(self.building, chunk)
            rejected.update(counts["rejected"])
            models |= {tuple(names) for names in counts["models"]}
            total.update({key: value for key, value in counts.items() if isinstance(value, int)})
        return {"counts": dict(total), "rejected": dict(rejected.most_common()), "models": sorted(models)}

    def _write_plan(self, corpus: Corpus, labels: Labels, limits: Any) -> WritePlan:
        faces, size = len(corpus.keys), int(corpus.index["bytes"].sum())
        few = min(MIN_SHARDS, 1 + faces // FACES_FOR_MIN_SHARDS)
        pair_size = 2 * size * self.settings.pairs_per_image
        return WritePlan(
            building=self.building,
            labels=labels,
            limits=limits,
            face_shards=self.settings.num_shards or max(few, 1 + size // SHARD_BYTES),
            pair_shards=self.settings.num_shards or max(few, 1 + pair_size // SHARD_BYTES),
            pairs_per_image=self.settings.pairs_per_image,
            landmark_files=self.settings.landmark_files,
        )

    def _dataset(
        self,
        census: Census,
        summary: dict[str, Any],
        corpus: Corpus,
        plan: WritePlan,
        splits: dict[str, Any],
        leaks: dict[str, Leaks],
    ) -> dict[str, Any]:
        """All that dataset.json says."""
        made, seed, labels = write.made(self.building), self.settings.tasks.seed, census.labels
        face_files = [made.face_file(shard, plan.face_shards) for shard in range(plan.face_shards)]
        pair_files = [made.pair_file(shard, plan.pair_shards) for shard in range(plan.pair_shards)]
        face_counts, face_digests = write.read_receipts(face_files)
        pair_counts, _ = write.read_receipts(pair_files)
        seen = set(corpus.keys.person.tolist())
        persons = {name: who for name, who in census.persons.items() if assign.stable_hash(name) in seen}
        pair_tasks = {task: {part: pair_counts[f"{task}/{part}"] for part in SPLITS} for task in TASKS}
        return {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": fingerprint(face_digests, face_counts["examples"]),
            "seed": seed,
            "image_size": FACE_SIZE,
            "expressions": list(labels.expressions),
            "poses": list(labels.poses),
            "persons": list(persons),
            "tasks": tasks.describe(splits, plan.limits, labels.expressions),
            "counts": {
                "rows": census.rows,
                "clips_kept": census.clips,
                **summary["counts"],
                "faces": len(corpus.keys),
                "persons": len(persons),
            },
            "rejected": summary["rejected"],
            "merged_names": census.merged,
            # Without reviewers there is nothing to agree on.
            "agreement": agreement.describe(census.ballots, self.settings.tasks.seed)
            if census.ballots.reviewers
            else None,
            "records": {"files": plan.face_shards, "examples": face_counts["examples"], "bytes": face_counts["bytes"]},
            "pairs": {
                "files": plan.pair_shards,
                "examples": pair_counts["examples"],
                "bytes": pair_counts["bytes"],
                "same_moment": pair_counts["same_moment"],
                "tasks": pair_tasks,
            },
            "landmark_model": ", ".join(sorted({model for model, _ in summary["models"]})),
            "detector": ", ".join(sorted({detector for _, detector in summary["models"]})),
            "leaks": {name: leak.counts for name, leak in leaks.items()},
            "statistics": statistics.describe(corpus.keys, labels.expressions, labels.poses, persons),
            "versions": _versions(),
            "config": config.to_dict(self.settings),
        }

    def _say(self, dataset: dict[str, Any], seconds: float) -> None:
        """Prints what was done, what was left out, and where things lie."""
        counts, rejected = dataset["counts"], dataset["rejected"]
        print(f"{counts['faces']} faces of {counts['persons']} persons from {counts.get('clips_read', 0)} clips")
        print(f"  records  {dataset['records']['examples']} in {dataset['records']['files']} files")
        print(f"  pairs    {dataset['pairs']['examples']} in {dataset['pairs']['files']} files")
        for task in TASKS:
            parts = dataset["tasks"][task]
            print(f"  {task:7}  {parts['train']} train, {parts['val']} val, {parts['test']} test")
        for kind in ("left out", "noted", "at fault"):
            reasons = {reason: number for reason, number in rejected.items() if _kind_of(reason) == kind}
            if reasons:
                print(f"  {kind} {_words(reasons)} (listed in {DataFolder(self.settings.output).rejected})")
        print(f"{DataFolder(self.settings.output).page} shows them; {seconds:.0f} s")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in VERSIONS}}


def _kind_of(reason: str) -> str:
    """Whether a reason is the input's fault, one of the rules' or a note."""
    if reason in NOTES:
        return "noted"
    return "left out" if reason in EXPECTED_REASONS else "at fault"


def _words(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in reasons.items()) or "none left out"


if __name__ == "__main__":
    sys.exit(config.run_command(main))
