"""Stage 1: each clip's faces, found once and kept in a file of the clip's own.

A finished clip's file is named by the clip's path, size and time of change, the extractor's options and version, so a
killed build, another seed or other labels find it again, and a changed clip does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from beam_pipelines import chunks
from beam_pipelines.progress import WorkerProgress
from fer_tf import files, tfrecords
from fer_tf.data import leaks
from fer_tf.data.annotations import AnnotatedClip
from fer_tf.data.located import as_it_is_called
from fer_tf.data.schema import FaceRecord, encode
from fer_tf.data.tasks import stable_hash
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.align import FACE_SIZE
from fer_tf.faces.extractor import (
    FACES_VERSION,
    AlignedFace,
    ClipError,
    ClipFaces,
    ExtractorOptions,
    FaceExtractor,
)

# Options that change how fast faces are found, not which.
SPEED_OPTIONS = ("threads", "decode_timeout_s")
# What finds faces besides this project's own code.
LIBRARIES = ("mtcnn", "dlib-bin", "av", "pillow", "pi_heif", "opencv-python-headless", "face_recognition_models")


@dataclass(frozen=True)
class Videos:
    """Where the clips are.

    Attributes:
      root: folder that the annotations' paths start from.
      pattern: glob below the root that clips must match, or empty.
    """

    root: str
    pattern: str = ""

    @classmethod
    def parse(cls, root_or_glob: str) -> Videos:
        """Returns the place that a folder, or a glob such as `clips/*/*.mp4`, names; an existing folder is no glob."""
        return cls(*files.folder_and_pattern(root_or_glob))

    def locate(self, clip_id: str) -> tuple[str, str, str]:
        """Returns a clip's path, a fingerprint of the file there, and what tells the file however it is called.

        Raises:
          ClipError: `outside_root`, `outside_glob` or `missing`.
        """
        path = files.join(self.root, clip_id)
        if self.pattern and not fnmatchcase(clip_id, self.pattern):
            raise ClipError("outside_glob", path, f"does not match {files.join(self.root, self.pattern)}")
        if not files.is_local(path):
            # A bucket has neither links nor names that differ in case alone and are one.
            return path, self._remote_stamp(path), path
        path = as_it_is_called(self.root, clip_id)
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root:
            raise ClipError("outside_root", path, "leads out of the videos' root through a link")
        try:
            stat = os.stat(real)
        except OSError as error:
            raise ClipError("missing", path, error.strerror or "no such file") from None
        if not os.path.isfile(real):
            raise ClipError("missing", path, "no file but a folder or a device")
        stamp = f"{stat.st_size}/{stat.st_mtime_ns}"
        # The inode also where a file system takes `A` for `a`; not the device, which other machines number otherwise.
        return path, stamp, f"{stat.st_ino}/{stamp}" if stat.st_ino else os.path.relpath(real, root)

    def _remote_stamp(self, path: str) -> str:
        try:
            size, changed = files.stat(path)
        except OSError as error:
            raise ClipError("missing", path, error.strerror or str(error)) from None
        return f"{size}/{changed}"


def extraction_key(options: ExtractorOptions) -> str:
    """Returns a name that changes whenever the same clip could give other faces; reads the whole landmark model."""
    values = {key: value for key, value in dataclasses.asdict(options).items() if key not in SPEED_OPTIONS}
    if options.landmark_model and os.path.exists(options.landmark_model):
        digest = hashlib.blake2b(digest_size=16)
        with open(options.landmark_model, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        values["landmark_model_content"] = digest.hexdigest()
        # Faces say its name; where it lies, and from which folder that is told, changes none.
        values["landmark_model"] = os.path.basename(options.landmark_model)
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    text = json.dumps([values, versions, FACES_VERSION, media.JPEG_QUALITY, chunks.FACE_INDEX.descr], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def cache_path(extracted: str, key: str, clip_id: str, stamp: str) -> str:
    """Returns where a clip's faces are kept; `key` is the `extraction_key`."""
    name = hashlib.blake2b(f"{clip_id}\0{stamp}".encode(), digest_size=16).hexdigest()
    return files.join(extracted, key, name[:2], f"{name}.tfrecord")


def face_record(clip_id: str, face: AlignedFace, landmark_model: str, detector: str) -> FaceRecord:
    """Returns a face as a record whose labels and splits are still blank."""
    return FaceRecord(
        image_id=f"{clip_id}#{face.frame:06d}",
        image=media.encode_jpeg(face.image),
        image_format="jpeg",
        height=FACE_SIZE,
        width=FACE_SIZE,
        mask=media.encode_png(face.mask),
        landmarks=face.landmarks,
        box=face.box,
        score=face.score,
        expression="",
        expression_id=-1,
        pose="",
        pose_id=-1,
        person="",
        clip_id=clip_id,
        frame=face.frame,
        time=face.time,
        landmark_model=landmark_model,
        detector=detector,
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one clip.

    Attributes:
      clip: the clip's place in its chunk.
      faces: `FACE_INDEX` rows as bytes.
      rejected: lines of rejected.jsonl.
      reasons: their reasons, for counting.
      cache: where its faces are kept; empty when the clip could not be read.
      cached: whether they were there already.
      file: `stable_hash` of what tells the clip's file.
      decoded, kept: frames decoded and chosen.
      models: landmark model and detector.
    """

    clip: int
    faces: bytes = b""
    rejected: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    cache: str = ""
    cached: bool = False
    file: int = 0
    decoded: int = 0
    kept: int = 0
    models: tuple[str, str] = ("", "")


class ReadChunk(beam.DoFn):
    """From a chunk's number to its clips."""

    def __init__(self, building: str):
        self.building = building

    def process(self, chunk: int) -> Iterator[tuple[int, int, AnnotatedClip]]:
        for place, clip in enumerate(chunks.read_clips(self.building, chunk)):
            yield chunk, place, clip


class ExtractClip(beam.DoFn):
    """From a clip to its faces on disk and what is known of them.

    Args:
      videos: where the clips are.
      extracted: folder of the finished clips.
      options: the extractor's options.
      progress: folder where workers say how far they are.
    """

    def __init__(self, videos: Videos, extracted: str, options: ExtractorOptions, progress: str):
        self.videos, self.extracted, self.options, self.progress_folder = videos, extracted, options, progress
        # Here, in the driver: a model is read once and not by each worker.
        self._key = extraction_key(options)
        self._shared = Shared()

    def setup(self) -> None:
        self._progress = WorkerProgress(self.progress_folder)

    def finish_bundle(self) -> None:
        self._progress.flush()

    def process(self, element: tuple[int, int, AnnotatedClip]) -> Iterator[tuple[int, Outcome]]:
        chunk, place, clip = element
        try:
            path, stamp, file = self.videos.locate(clip.clip_id)
            cache = cache_path(self.extracted, self._key, clip.clip_id, stamp)
            header = _read_header(cache)
            cached = header is not None
            if header is None:
                header = self._extract(clip.clip_id, path, cache)
        except ClipError as error:
            line = chunks.reject_line("clip", error.reason, clip.clip_id, line=clip.line, detail=error.detail)
            outcome = Outcome(place, rejected=(line,), reasons=(error.reason,))
        else:
            outcome = dataclasses.replace(_outcome(place, clip, cache, cached, header), file=stable_hash(file))
        self._progress.add(faces=len(outcome.faces) // chunks.FACE_INDEX.itemsize, detected=not outcome.cached)
        yield chunk, outcome

    def _extract(self, clip_id: str, path: str, cache: str) -> dict:
        # One extractor a process, made when the first unfinished clip needs it: it takes seconds and memory.
        extractor = self._shared.acquire(lambda: FaceExtractor(self.options))
        with files.local_copy(path) as local:
            # A record has landmarks and a mask.
            found = found_faces(extractor, local).of_trusted()
        records = [face_record(clip_id, face, extractor.landmark_model, extractor.detector) for face in found.faces]
        header = {
            "clip": clip_id,
            "decoded": found.frames_decoded,
            "kept": found.frames_kept,
            "duration": found.duration,
            "models": [extractor.landmark_model, extractor.detector],
            "rejected": [dataclasses.astuple(rejected) for rejected in found.rejected],
            "faces": [_index_row(face, record) for face, record in zip(found.faces, records, strict=True)],
        }
        tfrecords.write(cache, (json.dumps(header).encode(), *map(encode, records)))
        return header


def found_faces(extractor: FaceExtractor, path: str) -> ClipFaces:
    """Returns a clip's faces; whatever goes wrong with one clip is a ClipError."""
    try:
        return extractor.extract(path)
    except (ClipError, MemoryError):
        raise
    except Exception as error:
        # One clip that trips a library must not end a corpus; it is listed, and the exit code tells.
        raise ClipError("failed", path, f"{type(error).__name__}: {error}") from error


def _index_row(face: AlignedFace, record: FaceRecord) -> list:
    import cv2

    gray = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    hashes = int(leaks.perceptual_hash(gray)), int(leaks.pixel_hash(face.image))
    return [face.frame, float(face.time), stable_hash(record.image_id), *hashes, len(record.image) + len(record.mask)]


def _read_header(cache: str) -> dict | None:
    """The first record of a finished clip's file, or None when there is none to read: the clip is then read again."""
    if not files.exists(cache):
        return None
    with contextlib.suppress(InputError):
        for header in tfrecords.read(cache):
            return json.loads(header)
    return None


def read_faces(cache: str) -> Iterator[bytes]:
    """Yields a finished clip's faces as serialized records without labels, in order of frames."""
    records = tfrecords.read(cache)
    next(records)
    yield from records


def _outcome(place: int, clip: AnnotatedClip, cache: str, cached: bool, header: dict) -> Outcome:
    faces = np.array([(place, *row) for row in header["faces"]], chunks.FACE_INDEX)
    rejected = [
        chunks.reject_line("frame", reason, clip.clip_id, frame=frame, detail=detail)
        for reason, frame, detail in header["rejected"]
    ]
    reasons = [reason for reason, _, _ in header["rejected"]]
    if not len(faces):
        rejected.append(chunks.reject_line("clip", "no_face_in_clip", clip.clip_id, line=clip.line))
        reasons.append("no_face_in_clip")
    return Outcome(
        clip=place,
        faces=faces.tobytes(),
        rejected=tuple(rejected),
        reasons=tuple(reasons),
        cache=cache,
        cached=cached,
        decoded=header["decoded"],
        kept=header["kept"],
        models=tuple(header["models"]),
    )


class WriteIndex(beam.DoFn):
    """Writes what is known of a chunk's faces, its rejects and its clips' files, and yields its counts."""

    def __init__(self, building: str):
        self.building = building

    def process(self, element: tuple[int, Iterable[Outcome]]) -> Iterator[dict]:
        chunk, outcomes = element[0], sorted(element[1], key=lambda outcome: outcome.clip)
        files.write_bytes(chunks.index_path(self.building, chunk), b"".join(outcome.faces for outcome in outcomes))
        lines = [line for outcome in outcomes for line in outcome.rejected]
        files.write_lines(chunks.rejected_path(self.building, f"clips-{chunk:05d}"), lines)
        counts: dict = {"clips_read": 0, "clips_cached": 0, "frames_decoded": 0, "frames_kept": 0, "rejected": {}}
        for outcome in outcomes:
            counts["clips_read"] += bool(outcome.cache)
            counts["clips_cached"] += outcome.cached
            counts["frames_decoded"] += outcome.decoded
            counts["frames_kept"] += outcome.kept
            for reason in outcome.reasons:
                counts["rejected"][reason] = counts["rejected"].get(reason, 0) + 1
        counts["models"] = sorted({outcome.models for outcome in outcomes if outcome.cache})
        counts["caches"] = {outcome.clip: outcome.cache for outcome in outcomes if outcome.cache}
        counts["files"] = {outcome.clip: outcome.file for outcome in outcomes if outcome.cache}
        files.write_json(summary_path(self.building, chunk), counts)
        yield {"chunk": chunk}


def summary_path(building: str, chunk: int) -> str:
    return files.join(building, f"index/summary-{chunk:05d}.json")


def read_summary(building: str, chunk: int) -> dict:
    """Returns a chunk's counts by reason and, by its clips' places in the chunk, `caches` and `files`.

    `caches` are where their faces are kept, `files` the `Outcome.file` of each.
    """
    summary = files.read_json(summary_path(building, chunk))
    for name in ("caches", "files"):
        summary[name] = {int(place): value for place, value in summary[name].items()}
    return summary


@dataclass
class ExtractFaces(beam.PTransform):
    """From chunk numbers to chunk indexes, with every readable clip's faces on disk.

    Attributes:
      building: folder of the chunks.
      videos: where the clips are.
      extracted: folder of the finished clips.
      options: the extractor's options.
    """

    building: str
    videos: Videos
    extracted: str
    options: ExtractorOptions

    def expand(self, numbers: beam.PCollection) -> beam.PCollection:
        progress = files.join(self.building, "progress")
        return (
            numbers
            | "ReadClips" >> beam.ParDo(ReadChunk(self.building))
            | "Spread" >> beam.Reshuffle()
            | "Extract" >> beam.ParDo(ExtractClip(self.videos, self.extracted, self.options, progress))
            | "GroupByChunk" >> beam.GroupByKey()
            | "WriteIndex" >> beam.ParDo(WriteIndex(self.building))
        )
