"""How many faces are found, by pose, as pictures are and with a border, and in how many pictures without a face.

python -m benchmarks.finding --data=imfdb --pictures=300 --empty=no_faces
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf import files
from fer_tf.config import parse, run_command
from fer_tf.data import csv_rows
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.extractor import AlignedFace, ClipError, ExtractorOptions, FaceExtractor
from fer_tf.faces.frame import Frame
from fer_tf.faces.views import UPRIGHT, VIEWS

MAX_SIDE = 1920
COLUMNS = ("pictures", "found", "with border", "trusted", "CPU ms", "with border", "mean score")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures finding.

    Attributes:
      data: folder with annotations.csv, whose columns `video` and `pose` name a face's picture or clip and its pose.
      pictures: how many of each pose, drawn with the seed; 0 for all.
      empty: a folder of pictures and clips without a face; each clip gives its last frame.
      seed: of the draw.
      min_score: the detector's confidence that a face needs.
    """

    data: str = ""
    pictures: int = 60
    empty: str = ""
    seed: int = 0
    min_score: float = ExtractorOptions.min_score

    def __post_init__(self) -> None:
        if not self.data and not self.empty:
            raise InputError("name a folder with annotations.csv (--data), one of pictures without a face (--empty)")


@dataclass
class Counted:
    """What was found in some pictures: in how many as they are, with a border too, and with trusted landmarks."""

    pictures: int = 0
    plain: int = 0
    bordered: int = 0
    trusted: int = 0
    plain_s: float = 0.0
    border_s: float = 0.0
    score: float = 0.0

    def add(self, extractor: FaceExtractor, rgb: np.ndarray) -> None:
        """Looks at a picture as it is, and where that shows nothing with a border."""
        start = time.process_time()
        plain = look(extractor, rgb, bordered=False)
        middle = time.process_time()
        faces = plain or look(extractor, rgb, bordered=True)
        self.border_s += time.process_time() - middle
        self.plain_s += middle - start
        self.pictures += 1
        self.plain += bool(plain)
        self.bordered += bool(faces)
        self.trusted += any(face.landmarks_trusted for face in faces)
        self.score += faces[0].score if faces else 0.0

    def row(self) -> tuple[str, ...]:
        """The values under COLUMNS."""
        times = (f"{1000 * seconds / max(self.pictures, 1):.0f}" for seconds in (self.plain_s, self.border_s))
        counts = map(str, (self.pictures, self.plain, self.bordered, self.trusted))
        return (*counts, *times, f"{self.score / max(self.bordered, 1):.3f}")


def look(extractor: FaceExtractor, rgb: np.ndarray, bordered: bool) -> list[AlignedFace]:
    """Returns the faces of a picture in one way of looking."""
    return extractor.faces_in_view(Frame(rgb, 0, 0.0, 1.0), VIEWS[1] if bordered else UPRIGHT)


def picture_of(path: str) -> np.ndarray:
    """Returns a picture, or a clip's last frame, uint8 (h, w, 3)."""
    with contextlib.closing(media.open(path)) as file:
        if file.still:
            return file.frame(MAX_SIDE).rgb
        *_, last = file.frames()
        return last.frame(MAX_SIDE).rgb


def by_pose(folder: str) -> dict[str, list[str]]:
    """Returns the paths of each pose."""
    path = os.path.join(folder, "annotations.csv")
    with files.open_to_read(path) as lines:
        table = csv_rows.read(lines, path, ("video", "pose"))
        video, pose = (table.columns.index(column) for column in ("video", "pose"))
        found = defaultdict(list)
        for _, values in table.rows:
            found[values[pose]].append(os.path.join(folder, values[video]))
    return dict(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a row a pose."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.finding", description=__doc__)
    groups = by_pose(config.data) if config.data else {}
    draw = random.Random(config.seed)
    for paths in groups.values():
        draw.shuffle(paths)
        del paths[config.pictures or len(paths) :]
    if config.empty:
        groups["without a face"] = files.listed(config.empty)
    extractor = FaceExtractor(ExtractorOptions(min_score=config.min_score, threads=1))
    try:
        print(f"{'':16}", *(f"{column:>11}" for column in COLUMNS))
        for name, paths in groups.items():
            counted, unreadable = Counted(), 0
            for path in paths:
                try:
                    counted.add(extractor, picture_of(path))
                except ClipError:
                    unreadable += 1
            print(f"{name:16}", *(f"{value:>11}" for value in counted.row()), flush=True)
            if unreadable:
                print(f"{name:16} {unreadable} not read")
    finally:
        extractor.close()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
