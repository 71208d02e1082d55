"""The corpus in numbers: Table 1's row, Fig. 2 (images per expression) and Fig. 3b (subjects and images per pose)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_tf.data.tasks import FaceKeys
from fer_tf.faces.align import FACE_SIZE

POSE_LETTERS = {
    "front": "F",
    "half_left": "HL",
    "half_right": "HR",
    "bird_view": "BV",
    "full_left": "FL",
    "full_right": "FR",
}
AGE_BANDS = ((0, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 150))


def describe(
    faces: FaceKeys,
    expressions: Sequence[str],
    poses: Sequence[str],
    persons: Mapping[str, tuple[str, int]],
) -> dict[str, Any]:
    """Returns the paper's statistics of a corpus as plain JSON values.

    Args:
      faces: the keys of all faces.
      expressions, poses: the vocabularies.
      persons: gender and age (-1 for unknown) of each person with faces.
    """
    subjects = [len(np.unique(faces.person[faces.pose == pose])) for pose in range(len(poses))]
    per_expression = np.bincount(faces.expression, minlength=len(expressions))
    per_pose = np.bincount(faces.pose, minlength=len(poses))
    table = np.zeros((len(expressions), len(poses)), np.int64)
    np.add.at(table, (faces.expression, faces.pose), 1)
    genders: dict[str, int] = {}
    for gender, _ in persons.values():
        genders[gender or "unknown"] = genders.get(gender or "unknown", 0) + 1
    ages = [age for _, age in persons.values() if age >= 0]
    bands = {f"{low}-{high}": sum(low <= age <= high for age in ages) for low, high in AGE_BANDS}
    return {
        "table_1": {
            "expressions": int((per_expression > 0).sum()),
            "subjects": len(np.unique(faces.person)),
            "poses": int((per_pose > 0).sum()),
            "images": len(faces),
            "sequences": len(np.unique(faces.clip)),
            "resolution": f"{FACE_SIZE} × {FACE_SIZE}",
            "pose_list": ", ".join(
                POSE_LETTERS.get(pose, pose) for pose, count in zip(poses, per_pose, strict=True) if count
            ),
        },
        "images_per_expression": dict(zip(expressions, per_expression.tolist(), strict=True)),
        "images_per_pose": dict(zip(poses, per_pose.tolist(), strict=True)),
        "subjects_per_pose": dict(zip(poses, subjects, strict=True)),
        "images_per_expression_and_pose": table.tolist(),
        "genders": dict(sorted(genders.items())),
        "ages": {"youngest": min(ages, default=None), "oldest": max(ages, default=None), "bands": bands},
    }
