"""Expressions of a folder or bucket of videos and pictures, as JSON lines: `python -m beam_pipelines.predict`."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam import pvalue
from apache_beam.utils.shared import Shared

from beam_pipelines import predictions, runner
from beam_pipelines.extract import found_faces
from beam_pipelines.predictions import COUNTS, REJECTED, SUMMARY
from fer_tf import config, files
from fer_tf.data.public_set import PICTURES
from fer_tf.data.tasks import stable_hash
from fer_tf.data.tta import TTA, TtaName
from fer_tf.errors import InputError, check_least
from fer_tf.faces.extractor import ClipError, ClipFaces, ExtractorOptions, FaceExtractor
from fer_tf.faces.frame import NOTES
from fer_tf.filesystems import is_local
from fer_tf.recognition import alignment, networks, tracking
from fer_tf.recognition.answers import Answer, OneView, encode_face, rounded
from fer_tf.recognition.appearance import Describer
from fer_tf.recognition.augmented import mean_of_views
from fer_tf.resources import PUBLISHED, samples_folder
from fer_tf.run_folder import PLUS, parts_of

_LOGGER = logging.getLogger("beam_pipelines.predict")

# Every file of a folder is tried. One that cannot be read is a failure when its name promises a video or a picture;
# others are listed alone.
MEDIA = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".wmv", ".flv", ".3gp", ".ogv"),
    *PICTURES,
)
TAGS = ("files", "bad", "other", "left_out", "noted")


@dataclass(frozen=True)
class PredictConfig:
    """Predicts the expressions in videos and pictures.

    Attributes:
      runner: the Beam runner, such as DirectRunner, FlinkRunner or DataflowRunner; Beam's own flags pass through.
      model: pretrained or ferplus, an exported model's folder (its newest version is taken) or one version's, a run
        folder, a server's host:port, or several of them with a + between, such as pretrained+runs/mine, whose mean
        answer counts; folders lie on any filesystem that Beam knows.
      inputs: file, folder, searched to its depths, or glob of videos and pictures, on any filesystem that Beam knows.
      output: folder to write predictions.jsonl, rejected.jsonl and summary.json into.
      batch_size: most faces that the network takes at once.
      tta: flip asks about each face and its mirror image, views about three cuts of both, and the mean answer counts.
      faces: how files become faces.
      subject: whose faces are predicted: all, or one person of each file: main (longest, largest, most central), center
        or largest.
      landmark_model: path of the dlib predictor that aligned the faces which the network learned from, where that is
        not the packaged one; `packaged` goes on with the packaged one all the same.
      num_shards: files of predictions; 1 writes predictions.jsonl, more write numbered ones.
    """

    runner: str = runner.DIRECT_RUNNER
    model: str = "models/fa_net"
    inputs: str = "samples"
    output: str = "predictions"
    batch_size: int = 32
    tta: TtaName = "none"
    faces: ExtractorOptions = config.group(ExtractorOptions, subject="all", threads=1)
    num_shards: int = 1

    def __post_init__(self) -> None:
        check_least(self, batch_size=1, num_shards=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; returns 0, or 3 when some files could not be read."""
    settings, beam_flags = config.parse(
        PredictConfig, argv, prog="python -m beam_pipelines.predict", description=__doc__, pass_unknown=True
    )
    runner.log_plainly()
    runner.check(settings.runner, beam_flags)
    # Workers may start in another folder.
    settings = config.replace(
        settings,
        output=files.absolute(settings.output),
        landmark_model=_absolute_predictor(settings.faces.landmark_model),
    )
    # Every worker opens the version that is the newest now.
    model = _absolute(networks.pinned(settings.model))
    inputs = samples_folder(settings.inputs)
    if not _files_of(inputs, settings.output):
        raise InputError(f"`inputs` {settings.inputs!r} holds no file; name a folder or a glob such as 'clips/*.mp4'")
    files.check_writable(settings.output)
    predictions.check(settings.output, settings.num_shards)
    alignment.check(networks.landmark_model_of(model), settings.faces)
    with runner.running(settings.runner, beam_flags, settings.output) as pipeline:
        Predict(settings, model, inputs).apply_to(pipeline)
    predictions.delete_earlier(settings.output, settings.num_shards)
    summary = files.read_json(files.join(settings.output, SUMMARY))
    _LOGGER.info(
        "%d files read, %d faces, %d faces and frames left out; %d files not read; see %s",
        summary["read"],
        summary["faces"],
        summary["left_out"],
        summary["not_read"],
        files.join(settings.output, REJECTED),
    )
    return config.EXIT_INCOMPLETE if summary["not_read"] else config.EXIT_OK


def _absolute_predictor(landmark_model: str) -> str:
    return landmark_model if landmark_model == alignment.PACKAGED else runner.for_workers(landmark_model)


def _absolute(model: str) -> str:
    """A model's value with its folders on this machine as workers find them; names and addresses stay as they are."""
    parts = parts_of(model)
    found = [runner.for_workers(part) if part not in PUBLISHED and os.path.exists(part) else part for part in parts]
    # Among several, the name of a folder above them must not be read as two.
    return model if len(parts) > 1 and any(PLUS in part for part in found) else PLUS.join(found)


def _files_of(inputs: str, output: str) -> list[str]:
    """The files to read: all that inputs name, but those that an earlier run wrote into the output."""
    folder = files.absolute(output).rstrip("/")
    return [
        path
        for path in files.listed(inputs)
        if files.absolute(os.path.dirname(path)) != folder or not predictions.is_earlier(path)
    ]


class Predict:
    """The pipeline: files to faces, faces in batches through the network, one line a file.

    Args:
      settings: the command's config.
      model: the network, as `networks.open_network` takes it.
      inputs: file, folder or glob; of a relative one the files are told as they lie from the current folder.
    """

    def __init__(self, settings: PredictConfig, model: str, inputs: str):
        self.settings, self.model, self.inputs = settings, model, runner.for_workers(inputs)
        self.told_from = os.getcwd() if is_local(inputs) and not os.path.isabs(inputs) else ""

    def apply_to(self, pipeline: beam.Pipeline) -> None:
        settings, output = self.settings, self.settings.output
        # Of the files of a folder nobody said that each is a video or a picture.
        find = FindFaces(
            settings.faces, named=not files.is_folder(self.inputs), tta=settings.tta, told_from=self.told_from
        )
        found = (
            pipeline
            # Names travel as bytes: not every name is text.
            | "Inputs" >> beam.Create([os.fsencode(self.inputs)])
            | "List" >> beam.FlatMap(lambda inputs: map(os.fsencode, _files_of(os.fsdecode(inputs), output)))
            | "Spread" >> beam.Reshuffle()
            | "Faces" >> beam.ParDo(find).with_outputs(*TAGS, main="faces")
        )
        answers = (
            found.faces
            | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=settings.batch_size)
            | "Ask" >> beam.ParDo(AskNetwork(self.model))
        )
        lines = {"file": found.files, "faces": answers} | beam.CoGroupByKey() | "Line" >> beam.MapTuple(_line)
        self._write(lines, "Predictions", *predictions.paths_of(output, settings.num_shards))
        rejected = (found.bad, found.other, found.left_out, found.noted) | "AllRejected" >> beam.Flatten()
        self._write(rejected, "Rejected", files.join(output, REJECTED))
        counted = dict(zip(COUNTS, (found.files, found.bad, found.other, found.faces, found.left_out), strict=True))
        nothing = dict.fromkeys(counted, 0)
        counts = (
            [items | f"Count_{name}" >> beam.Map(lambda _, name=name: name) for name, items in counted.items()]
            | beam.Flatten()
            | beam.combiners.Count.PerElement()
            | beam.combiners.ToDict()
            | beam.Map(lambda counts: json.dumps(nothing | counts))
        )
        self._write(counts, "Summary", files.join(output, SUMMARY))

    def _write(self, lines: beam.PCollection, label: str, *paths: str) -> None:
        # A file without lines is written too.
        each = lines.pipeline | f"{label}Files" >> beam.Create([(path, None) for path in map(os.fsencode, paths)])
        spread = lines | f"{label}Spread" >> beam.Map(
            lambda line: (os.fsencode(paths[stable_hash(line) % len(paths)]), line)
        )
        (
            (each, spread)
            | f"{label}All" >> beam.Flatten()
            | f"{label}Group" >> beam.GroupByKey()
            | label >> beam.MapTuple(_write_lines)
        )


def _write_lines(path: bytes, lines: Iterable[str | None]) -> None:
    """Writes one file, streaming; Beam's own text files take marks in a folder's name for a pattern."""
    files.write_lines(os.fsdecode(path), (line for line in lines if line is not None))


class FindFaces(beam.DoFn):
    """From a file's path to its faces, a header for the file, or the reason why there are none.

    Args:
      options: the extractor's options.
      named: whether the user named the files, by a pattern too: then each should be a video or a picture.
      tta: the views in which each face is given on.
      told_from: the folder from which the files' paths are told; empty tells them as they are.
    """

    def __init__(self, options: ExtractorOptions, named: bool, tta: TtaName, told_from: str = ""):
        self.options, self.named, self.tta, self.told_from = options, named, tta, told_from
        self._shared, self._describer = Shared(), Shared()
        # Beam keeps but one shared object alive that nobody holds, and these and the network come in turn.
        self._held: tuple = ()

    def process(self, name: bytes) -> Iterator[Any]:
        path = os.fsdecode(name)
        told = os.path.relpath(path, self.told_from) if self.told_from else path
        name = os.fsencode(told)
        extractor = self._shared.acquire(lambda: FaceExtractor(alignment.resolved(self.options)))
        describer = self._describer.acquire(Describer)
        self._held = (extractor, describer)
        try:
            with files.local_copy(path) as local:
                found = found_faces(extractor, local)
        except (ClipError, OSError) as error:
            reason = error.reason if isinstance(error, ClipError) else "unreadable"
            detail = error.detail if isinstance(error, ClipError) else str(error)
            other = reason in ("not_a_video", "empty_file") and not self.named and not path.lower().endswith(MEDIA)
            line = files.json_line({"input": told, "reason": reason, "detail": detail})
            yield pvalue.TaggedOutput("other" if other else "bad", line)
            return
        header = {"duration": round(found.duration, 3), "frames_decoded": found.frames_decoded}
        yield pvalue.TaggedOutput("files", (name, header))
        for item in found.rejected:
            kind = "noted" if item.reason in NOTES else "left_out"
            yield pvalue.TaggedOutput(kind, files.json_line({"input": told, **dataclasses.asdict(item)}))
        for face, person in zip(found.faces, self._persons(found, describer), strict=True):
            about = {
                "face": person,
                "frame": face.frame,
                "time": round(face.time, 3),
                "box": [round(float(value), 1) for value in face.box],
                "detector_score": round(face.score, 4),
                "landmarks_trusted": face.landmarks_trusted,
            }
            yield name, [encode_face(view) for view in TTA[self.tta].of(face.image)], about

    def _persons(self, found: ClipFaces, describer: Describer) -> list[int]:
        """Returns the number of the person that each face is of."""
        if self.options.subject != "all":
            return [1] * len(found.faces)
        times, boxes = [face.time for face in found.faces], [face.box for face in found.faces]
        return tracking.persons_of(times, boxes, found.faces, describer)


class AskNetwork(beam.DoFn):
    """Asks the network about the views of batches of faces.

    Args:
      model: the network, as `networks.open_network` takes it.
    """

    def __init__(self, model: str):
        self.model = model
        self._shared = Shared()
        self._held: OneView | None = None

    def process(self, batch: list[tuple[bytes, list[bytes], dict]]) -> Iterator[tuple[bytes, dict]]:
        network = self._held = self._shared.acquire(lambda: networks.open_network(self.model))
        # One view of all faces after the other.
        views = zip(*(views for _, views, _ in batch), strict=True)
        answers = mean_of_views(map(network.classify_encoded, views))
        for (name, _, about), answer in zip(batch, answers, strict=True):
            yield name, about | rounded(answer)


def _line(name: bytes, groups: dict[str, Iterable[dict]]) -> str:
    """One file's line: what was read, each face in order of time, each person's mean, and the main person's again."""
    faces = sorted(groups["faces"], key=lambda face: (face["frame"], face["face"], face["box"]))
    persons = [_mean([face for face in faces if face["face"] == number]) for number in {face["face"] for face in faces}]
    persons.sort(key=lambda person: person["face"])
    line = {"input": os.fsdecode(name), **next(iter(groups["file"]), {}), "faces": faces, "persons": persons}
    if faces:
        # Who fills the most of the clip: long or large.
        sides: collections.Counter = collections.Counter()
        for face in faces:
            sides[face["face"]] += (face["box"][2] * face["box"][3]) ** 0.5
        (main, _), *_ = sides.most_common(1)
        person = next(person for person in persons if person["face"] == main)
        line |= {name: person[name] for name in ("expression", "probabilities")}
    return files.json_line(line)


def _mean(faces: Sequence[dict]) -> dict[str, Any]:
    names = tuple(faces[0]["probabilities"])
    mean = np.mean([list(face["probabilities"].values()) for face in faces], axis=0)
    return {"face": faces[0]["face"], "faces": len(faces), **rounded(Answer(names, mean))}


if __name__ == "__main__":
    sys.exit(config.run_command(main))
