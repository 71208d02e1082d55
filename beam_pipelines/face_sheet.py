"""Which faces the build's page shows: one of every expression and pose, from a clip that a stable hash chooses."""

from __future__ import annotations

from typing import Any

from beam_pipelines import extract, write
from beam_pipelines.chunks import Census
from fer_tf.data.schema import decode
from fer_tf.data.tasks import SplitPlan, stable_hash
from fer_tf.reports.sheets import SHEET_EXPRESSIONS, SheetFace, sheet_face


def sample_faces(building: str, census: Census, limits: SplitPlan) -> list[SheetFace]:
    """Returns a face of every expression and pose.

    Args:
      building: folder of the chunks and their indexes.
      census: what the annotations hold.
      limits: the tasks' limits.
    """
    chosen: dict[tuple[str, str], tuple[int, Any]] = {}
    shown = set(census.labels.expressions[:SHEET_EXPRESSIONS])
    for chunk in census.chunks:
        for clip in write.tagged_clips(building, chunk, census.labels, limits):
            cell = clip.clip.expression, clip.clip.pose
            rank = stable_hash(f"sheet/{clip.clip.clip_id}")
            if cell[0] in shown and rank < chosen.get(cell, (1 << 64, None))[0]:
                chosen[cell] = rank, clip
    faces = []
    for kind, (_, clip) in chosen.items():
        # Late in the clip the expression is at its strongest.
        wanted = (3 * (len(clip.frames) - 1)) // 4
        record = next(face for place, face in enumerate(extract.read_faces(clip.cache)) if place == wanted)
        face = decode(record)
        faces.append(sheet_face(face.image_id, *kind, face.image, face.mask))
    return faces
