"""A data folder drawn in code, in the pipeline's layout: schematic faces that change with the expression."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence

import cv2
import numpy as np

from fer_tf import tfrecords
from fer_tf.data import parts, schema
from fer_tf.data.schema import FaceRecord, PairRecord
from fer_tf.faces.align import FACE_SIZE
from fer_tf.labels import F2ED_POSES, TASKS

EXPRESSIONS = ("angry", "happy", "sad", "surprise")
# Removed when the process ends.
_PARTS = tempfile.TemporaryDirectory(prefix="part_of")
YAW = {"front": 0, "half_left": 14, "half_right": -14, "bird_view": 0}
PITCH = {"front": 0, "half_left": 0, "half_right": 0, "bird_view": 12}
# Mouth curve (px, + is a smile), mouth opening (px), brow slope (px, + is inner end down).
SHAPE = {"angry": (-4, 2, 8), "happy": (10, 4, 0), "sad": (-10, 2, -8), "surprise": (0, 18, -2)}


def landmarks_of(expression: str, pose: str, wobble: float = 0.0) -> np.ndarray:
    """68 points in iBUG order, float32 (68, 2), pixels of a 256 x 256 crop."""
    curve, opening, slope = SHAPE[expression]
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([128 + 88 * np.cos(angle), 112 + 118 * np.sin(angle)], 1)
    span = np.linspace(0, 1, 5)
    arch = -8 * np.sin(np.pi * span)
    left_brow = np.stack([58 + 52 * span, 84 + arch + slope * (span - 0.5)], 1)
    right_brow = np.stack([146 + 52 * span, 84 + arch + slope * (0.5 - span)], 1)
    bridge = np.stack([np.full(4, 128), np.linspace(102, 148, 4)], 1)
    nostrils = np.stack([np.linspace(110, 146, 5), 158 + 4 * np.sin(np.pi * span)], 1)
    eye = np.array([[-18, 0], [-8, -7], [8, -7], [18, 0], [8, 6], [-8, 6]], float)
    left_eye, right_eye = eye + (86, 108), eye + (170, 108)
    outer_angle = np.linspace(np.pi, -np.pi, 13)[:12]
    outer = np.stack([128 + 36 * np.cos(outer_angle), 194 - (10 + opening / 2) * np.sin(outer_angle)], 1)
    inner_angle = np.linspace(np.pi, -np.pi, 9)[:8]
    inner = np.stack([128 + 26 * np.cos(inner_angle), 194 - (2 + opening / 2) * np.sin(inner_angle)], 1)
    for lips in (outer, inner):
        lips[:, 1] -= curve * (np.abs(lips[:, 0] - 128) / 36) ** 2
    points = np.concatenate([jaw, left_brow, right_brow, bridge, nostrils, left_eye, right_eye, outer, inner])
    depth = 1 - ((points[:, 0] - 128) / 100) ** 2
    return (points + np.stack([YAW[pose] * depth, PITCH[pose] * depth], 1) + wobble).astype(np.float32)


def _lines(image: np.ndarray, points: np.ndarray, colour: tuple, width: int) -> None:
    groups = ((0, 17, 0), (17, 22, 0), (22, 27, 0), (27, 31, 0), (31, 36, 0), (36, 42, 1), (42, 48, 1), (48, 60, 1))
    for start, end, closed in groups:
        cv2.polylines(image, [points[start:end].round().astype(np.int32)], bool(closed), colour, width, cv2.LINE_AA)


def draw(expression: str, pose: str, person: int, wobble: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A face (uint8 RGB 256 x 256 x 3), its mask (uint8 256 x 256) and its landmarks."""
    points = landmarks_of(expression, pose, wobble)
    rng = np.random.default_rng(person)
    skin = tuple(int(v) for v in rng.integers(120, 220, 3))
    image = np.full((FACE_SIZE, FACE_SIZE, 3), rng.integers(0, 90, 3), np.uint8)
    cv2.fillPoly(image, [cv2.convexHull(points.round().astype(np.int32))], skin)
    _lines(image, points, (40, 20, 20), 3)
    mask = np.zeros((FACE_SIZE, FACE_SIZE), np.uint8)
    _lines(mask, points, (255,), 2)
    return image, mask, points


def part_of(
    image_ids: Sequence[str], labels: Sequence[int], images: Sequence[bytes], **columns: Sequence[str]
) -> parts.Part:
    """A training part of records with these images; `persons` and `poses` may be given too."""
    folder = tempfile.mkdtemp(dir=_PARTS.name)
    path = os.path.join(folder, "faces-00000-of-00001.tfrecord")
    texts = {name: columns.get(f"{name}s", [""] * len(labels)) for name in ("person", "pose")}
    face = _face(0, 1, EXPRESSIONS[0], "front", 0, ("front",))
    rows = zip(image_ids, labels, images, texts["person"], texts["pose"], strict=True)
    tfrecords.write(
        path,
        (
            schema.encode(
                dataclasses.replace(
                    face, image_id=name, expression_id=label, image=image, person=person, pose=pose, split="train"
                )
            )
            for name, label, image, person, pose in rows
        ),
    )
    return parts.survey([path], "fer2013", 8)["train"]


def _splits(person: int, persons: int) -> dict[str, str]:
    """Each task's part for a person: every task tests another one, so that a tag read for another's is seen."""
    parts = [*["train"] * (persons - 2), "val", "test"]
    return {task: parts[(person + shift) % persons] for shift, task in enumerate(TASKS)}


def write_toy_data(folder: str, persons: int = 5, frames: int = 2, poses: tuple[str, ...] = F2ED_POSES) -> str:
    """Writes `records/`, `pairs/` and `dataset.json`; every task by other persons. Returns the folder."""
    import tensorflow as tf

    faces: list[FaceRecord] = []
    for person in range(persons):
        for expression in EXPRESSIONS:
            for pose in poses:
                for frame in range(frames):
                    faces.append(_face(person, persons, expression, pose, frame, poses))
    pairs = [
        _pair(a, b) for a in faces for b in faces if a.clip_group == b.clip_group and a.frame == b.frame and a != b
    ]
    for records, pattern in ((faces, schema.FACES_PATTERN), (pairs, schema.PAIRS_PATTERN)):
        for shard in range(2):
            path = os.path.join(folder, pattern.format(shard=shard, shards=2))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with tf.io.TFRecordWriter(path) as writer:
                for record in records[shard::2]:
                    writer.write(schema.encode(record))
    splits = {part: sum(face.er_ss == part for face in faces) for part in ("train", "val", "test")}
    dataset = {
        "schema_version": schema.SCHEMA_VERSION,
        "fingerprint": f"toy-{persons}-{frames}-{len(poses)}",
        "seed": 0,
        "image_size": FACE_SIZE,
        "expressions": list(EXPRESSIONS),
        "poses": list(poses),
        "persons": [f"T{person:03d}" for person in range(persons)],
        "tasks": {task: dict(splits) for task in TASKS},
        "counts": {"faces": len(faces)},
        "records": {"files": 2, "examples": len(faces)},
        "pairs": {"files": 2, "examples": len(pairs)},
        "landmark_model": "drawn",
        "detector": "drawn",
        "statistics": _statistics(faces, persons, poses),
    }
    with open(os.path.join(folder, "dataset.json"), "w") as file:
        json.dump(dataset, file)
    return folder


def _statistics(faces: list[FaceRecord], persons: int, poses: tuple[str, ...]) -> dict:
    return {
        "table_1": {
            "expressions": len(EXPRESSIONS),
            "subjects": persons,
            "poses": len(poses),
            "images": len(faces),
            "sequences": len({face.clip_id for face in faces}),
            "resolution": f"{FACE_SIZE} x {FACE_SIZE}",
            "pose_list": ", ".join(poses),
        },
        "images_per_expression": {name: sum(face.expression == name for face in faces) for name in EXPRESSIONS},
        "images_per_pose": {pose: sum(face.pose == pose for face in faces) for pose in poses},
        "subjects_per_pose": {pose: persons for pose in poses},
    }


def _face(person: int, persons: int, expression: str, pose: str, frame: int, poses: tuple[str, ...]) -> FaceRecord:
    image, mask, points = draw(expression, pose, person, wobble=2.0 * frame)
    clip = f"T{person:03d}/{expression}/{pose}.mp4"
    return FaceRecord(
        image_id=f"{clip}#{frame:06d}",
        image=cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes(),
        image_format="jpeg",
        height=FACE_SIZE,
        width=FACE_SIZE,
        mask=cv2.imencode(".png", mask)[1].tobytes(),
        landmarks=points,
        box=np.array([40, 40, 176, 176], np.float32),
        score=0.99,
        expression=expression,
        expression_id=EXPRESSIONS.index(expression),
        pose=pose,
        pose_id=poses.index(pose),
        person=f"T{person:03d}",
        clip_id=clip,
        frame=frame,
        time=frame / 25,
        landmark_model="drawn",
        detector="drawn",
        gender=("female", "male")[person % 2],
        age=20 + 10 * (person % 3),
        clip_group=f"T{person:03d}/{expression}",
        **_splits(person, persons),
    )


def _pair(source: FaceRecord, target: FaceRecord) -> PairRecord:
    return PairRecord(
        source=source.image,
        target=target.image,
        target_mask=target.mask,
        source_landmarks=source.landmarks,
        target_landmarks=target.landmarks,
        source_id=source.image_id,
        target_id=target.image_id,
        source_pose=source.pose,
        target_pose=target.pose,
        expression=source.expression,
        expression_id=source.expression_id,
        person=source.person,
        same_moment=1,
        er_ss=source.er_ss,
        er_ue=source.er_ue,
        er_up=source.er_up,
        er_zid=source.er_zid,
    )
