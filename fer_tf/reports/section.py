"""The corpus in numbers, as the build's page and the report show it: Table 1, Figs. 2, 3(b) and 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fer_tf.data.statistics import POSE_LETTERS
from fer_tf.reports import figures, page
from fer_tf.reports.page import Picture
from fer_tf.reports.paper_tables import table_1
from fer_tf.reports.sheets import Sheet
from fer_tf.reports.tables import Table

NEEDS_DATA = "needs a data folder: python -m beam_pipelines.build"
NO_LANDMARKS = "this set has no landmarks; needs a data folder: python -m beam_pipelines.build"
PER_EXPRESSION, PER_POSE = "Fig. 2. Images per expression", "Fig. 3(b). Subjects and images per pose"


@dataclass(frozen=True)
class Section:
    """What `parts.corpus` of the templates draws."""

    table: Table
    pictures: tuple[Picture, ...]
    sheet: Sheet


def section(statistics: dict[str, Any] | None, sheet: Sheet, name: str = "this corpus") -> Section:
    """Returns the section of some data.

    Args:
      statistics: its `statistics`, as `fer_tf.data.statistics.describe` gives them; None without data.
      sheet: a face of each kind, or what it would need.
      name: what Table 1 calls the data.
    """
    if statistics is None:
        return Section(table_1(None), (Picture(PER_EXPRESSION, NEEDS_DATA), Picture(PER_POSE, NEEDS_DATA)), sheet)
    return Section(table_1(statistics, name), (_per_expression(statistics), _per_pose(statistics)), sheet)


def _per_expression(statistics: dict[str, Any]) -> Picture:
    images = statistics["images_per_expression"]
    least, most = min(images, key=images.get), max(images, key=images.get)
    text = f"{len(images)} expressions, from {images[least]:,} ({least}) to {images[most]:,} ({most})."
    return page.svg(figures.images_per_expression(images, ""), PER_EXPRESSION, text)


def _per_pose(statistics: dict[str, Any]) -> Picture:
    images, subjects = statistics["images_per_pose"], statistics["subjects_per_pose"]
    if not any(subjects.values()):
        return Picture(PER_POSE, "needs faces whose pose and person are known, which this set does not tell")
    poses = "; ".join(
        f"{pose.replace('_', ' ')} ({POSE_LETTERS.get(pose, pose)}) {count:,} images of {subjects[pose]:,} subjects"
        for pose, count in images.items()
    )
    return page.svg(figures.subjects_and_images_per_pose(images, subjects, ""), PER_POSE, f"{poses}.")
