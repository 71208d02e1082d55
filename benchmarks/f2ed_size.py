"""A corpus of F2ED's size: tags, records, one epoch of ER-SS through the input pipeline, the plan of synthetic faces.

python -m benchmarks.f2ed_size                 # 219,719 faces after a tenth of them; 6 GB of files, removed at the end
python -m benchmarks.f2ed_size --scale=0.1     # a tenth after a hundredth

The faces are those of the samples, found once and encoded again at several JPEG qualities, under the names of 119
persons, 54 expressions, 4 poses and 5,418 clips. Finding 219,719 faces is not part of it: `benchmarks.scaling` has its
cost a face. Each phase is a process of its own, so each has its own peak of memory.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.ten_million_rows import EXPRESSIONS, Phase, alone
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.data.tasks import FaceKeys, TaskOptions, part_name, plan, split, stable_hash
from fer_tf.errors import InputError
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import F2ED_POSES, TASKS
from fer_tf.resources import samples_folder

CLIPS, FACES, PERSONS, SYNTHETIC = 5_418, 219_719, 119, 175_000
SHARDS = 16
# Sample clips whose faces are taken, and at which qualities each face is encoded.
SAMPLE_CLIPS, QUALITIES = 12, (80, 84, 88, 92, 95)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures a corpus of F2ED's size, after a tenth of it.

    Attributes:
      scale: share of F2ED's clips and faces.
      image_size: side of the images that the epoch is read at, pixels.
      batch_size: images in a batch.
      folder: where the files go; empty for a temporary folder.
    """

    scale: float = 1.0
    image_size: int = 128
    batch_size: int = 128
    folder: str = ""

    def __post_init__(self) -> None:
        if not 0.01 <= self.scale <= 1:
            raise InputError(f"`scale` must be from 0.01 to 1. Received: {self.scale}.")


def gather(folder: str) -> int:
    """Finds the samples' faces and encodes each several times; returns how many pictures that gives."""
    from fer_tf.faces import media
    from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor

    root = samples_folder()
    clips = sorted(os.path.join(place, name) for place, _, names in os.walk(root) for name in names if "mp4" in name)
    extractor = FaceExtractor(ExtractorOptions(max_keyframes=4))
    images, masks, points = [], [], []
    for clip in clips[:: max(1, len(clips) // SAMPLE_CLIPS)][:SAMPLE_CLIPS]:
        for face in extractor.extract(clip).faces:
            for quality in QUALITIES:
                images.append(media.encode_jpeg(face.image, quality))
                masks.append(media.encode_png(face.mask))
                points.append(face.landmarks)
    extractor.close()
    pool = {"images": np.array(images, object), "masks": np.array(masks, object), "points": np.array(points)}
    np.savez(os.path.join(folder, "pool.npz"), **pool)
    return len(images)


def labels(clip: int) -> tuple[str, int, int]:
    """Returns a clip's person, expression and pose: four cameras film each take."""
    take, pose = divmod(clip, len(F2ED_POSES))
    return f"P{take % PERSONS:03d}", (take + take // PERSONS) % len(EXPRESSIONS), pose


def tag(folder: str, faces: int, clips: int) -> str:
    """Tags every face for the four tasks, as the build does."""
    clip_of = np.arange(faces) * clips // faces
    per_clip = [labels(clip) for clip in range(clips)]

    def hashes(names: Sequence[str]) -> np.ndarray:
        return np.array([stable_hash(name) for name in names], np.uint64)

    keys = FaceKeys(
        image=hashes([image_id(clip, face) for face, clip in enumerate(clip_of)]),
        clip=hashes([str(clip) for clip in range(clips)])[clip_of],
        moment=hashes([str(clip // len(F2ED_POSES)) for clip in range(clips)])[clip_of],
        person=hashes([person for person, _, _ in per_clip])[clip_of],
        expression=np.array([expression for _, expression, _ in per_clip])[clip_of],
        pose=np.array([pose for _, _, pose in per_clip])[clip_of],
    )
    parts = split(keys, plan(keys, EXPRESSIONS, F2ED_POSES, TaskOptions()))
    np.savez(os.path.join(folder, "parts.npz"), **parts)
    return ", ".join(f"{task} {np.bincount(parts[task], minlength=3)[:3].tolist()}" for task in TASKS)


def image_id(clip: int, face: int) -> str:
    """Returns a face's id: clip and frame."""
    return f"clip_{clip:05d}.mp4#{face:06d}"


def write(folder: str, faces: int, clips: int) -> str:
    """Writes the records of all faces into shards."""
    pool = np.load(os.path.join(folder, "pool.npz"), allow_pickle=True)
    images, masks, points = pool["images"], pool["masks"], pool["points"]
    parts = dict(np.load(os.path.join(folder, "parts.npz")))
    import tensorflow as tf

    writers = [tf.io.TFRecordWriter(path) for path in record_files(folder)]
    for face in range(faces):
        clip = face * clips // faces
        person, expression, pose = labels(clip)
        record = FaceRecord(
            image_id=image_id(clip, face),
            image=images[face % len(images)],
            image_format="jpeg",
            height=FACE_SIZE,
            width=FACE_SIZE,
            mask=masks[face % len(images)],
            landmarks=points[face % len(images)],
            expression=EXPRESSIONS[expression],
            expression_id=expression,
            pose=F2ED_POSES[pose],
            pose_id=pose,
            person=person,
            clip_id=f"clip_{clip:05d}.mp4",
            clip_group=f"take_{clip // len(F2ED_POSES)}",
            frame=face,
            **{task: part_name(int(parts[task][face])) for task in TASKS},
        )
        writers[face % SHARDS].write(schema.encode(record))
    for writer in writers:
        writer.close()
    return f"{sum(os.path.getsize(path) for path in record_files(folder)) / 1e9:.2f} GB"


def record_files(folder: str) -> list[str]:
    """Returns the shards' paths."""
    return [os.path.join(folder, f"faces-{shard:05d}-of-{SHARDS:05d}.tfrecord") for shard in range(SHARDS)]


def epoch(folder: str, image_size: int, batch_size: int) -> str:
    """Reads the labels of all records, then one epoch of ER-SS's training part as recipe `best` trains on it."""
    from fer_tf.data import inputs
    from fer_tf.data.parts import survey
    from trainer.recipes import STRONG

    train = survey(record_files(folder), "er_ss", len(EXPRESSIONS))["train"]
    steps = len(train) // batch_size
    batches = inputs.training_batches(
        train,
        len(EXPRESSIONS),
        image_size=image_size,
        channels=1,
        crop=0.9,
        batch_size=batch_size,
        steps_per_epoch=steps,
        augmentation=STRONG,
        seed=0,
    )
    seen = sum(len(faces) for faces, _ in batches.take(steps))
    return f"{seen:,} images of {len(train):,}"


def plan_faces(folder: str, wanted: int) -> str:
    """Plans the synthetic faces of ER-SS, with spare ones, as the trainer's stage `synthesize` does."""
    from fer_tf.synthesis.plan import plan as plan_of
    from fer_tf.synthesis.plan import training_faces
    from fer_tf.synthesis.shards import SPARES

    faces = training_faces(record_files(folder), "er_ss")
    items = plan_of(faces, wanted / len(faces), spares=SPARES)
    return f"{sum(not item.spare for item in items):,} faces and {sum(item.spare for item in items):,} spare ones"


def run(config: BenchmarkConfig, folder: str, scale: float) -> dict[str, Phase]:
    """Runs all phases on a share of the corpus; returns what each cost."""
    faces, clips = round(FACES * scale), round(CLIPS * scale)
    phases = {
        "tag the four tasks": alone(tag, folder, faces, clips),
        "write the records": alone(write, folder, faces, clips),
        f"one epoch of ER-SS at {config.image_size} pixels": alone(epoch, folder, config.image_size, config.batch_size),
        f"plan {round(SYNTHETIC * scale):,} synthetic faces": alone(plan_faces, folder, round(SYNTHETIC * scale)),
    }
    for path in record_files(folder):
        os.remove(path)
    return phases


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.f2ed_size", description=__doc__ or "")
    folder = tempfile.mkdtemp(prefix="f2ed_size_", dir=config.folder or None)
    try:
        print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version[:7]}")
        print(f"{alone(gather, folder).result} pictures of the samples' faces")
        tenth, whole = (run(config, folder, config.scale * share) for share in (0.1, 1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{round(FACES * config.scale):,} faces of {round(CLIPS * config.scale):,} clips\n")
    print("| phase | wall, s | CPU, s | peak, MB | CPU of a tenth, s | exponent | |\n|---|---|---|---|---|---|---|")
    # What a process takes that only starts TensorFlow is in both; it hides the exponent of a small corpus.
    for (name, phase), small in zip(whole.items(), tenth.values(), strict=True):
        exponent = math.log10(phase.cpu / max(small.cpu, 1e-3))
        cells = [name, f"{phase.wall:.0f}", f"{phase.cpu:.1f}", f"{phase.peak_mb:.0f}", f"{small.cpu:.1f}"]
        print("| " + " | ".join([*cells, f"{exponent:.2f}", str(phase.result)]) + " |", flush=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
