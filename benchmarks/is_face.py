"""How well an export's `is_face` tells face crops from other pictures.

`python -m benchmarks.is_face --crops=data/faces --pictures=samples` makes an export (its network's weights do not
matter), asks it about a data folder's faces, about whole pictures and frames spread over clips, about the faces cut
out of those, and about noise, and prints how many of each group are taken for a face crop, at several thresholds.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.config import EXIT_OK, parse, run_command

THRESHOLDS = (0.3, 0.5, 0.8)
# Files that are looked at in the folders below one.
BELOW = 200
SUFFIXES = (".jpg", ".jpeg", ".png", ".tiff", ".mp4", ".mov")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Flags of `python -m benchmarks.is_face`.

    Args:
      crops: data folder with aligned faces.
      pictures: folders of pictures and clips, comma-separated; each file that stands in a folder itself is a group of
        its own, those in folders below are one group.
      frames: frames that are taken of a clip; of one in a folder below, the last alone.
      most: most of the data folder's faces.
    """

    crops: str = "data/faces"
    pictures: str = "samples"
    frames: int = 16
    most: int = 1000


def groups_of(config: BenchmarkConfig) -> Iterator[tuple[str, list[bytes]]]:
    """Yields each group's name and its pictures, encoded."""
    from fer_tf.data.folder import DataFolder

    if config.crops:
        records = itertools.islice(DataFolder(config.crops).faces(), config.most)
        yield f"aligned faces of {config.crops}", [record.image for record in records]
    for folder in filter(None, config.pictures.split(",")):
        found = sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*"), recursive=True))
        found = [path for path in found if path.lower().endswith(SUFFIXES)]
        groups = {path: [path] for path in found if os.path.dirname(path) == folder.rstrip("/")}
        below = [path for path in found if path not in groups]
        groups |= {f"below {folder}": below[:: max(1, len(below) // BELOW)]} if below else {}
        for name, paths in groups.items():
            frames = [frame for path in paths for frame in frames_of(path, config.frames if len(paths) == 1 else 1)]
            yield f"whole, {name}", [encode(frame) for frame in frames]
            yield f"cut out of {name}", [encode(face.image) for frame in frames for face in cut(frame)]
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (side, side, 3), np.uint8) for side in (4, 8, 16, 32, 256) for _ in range(40)]
    yield "noise of five grains", [encode(enlarged(picture)) for picture in coarse]


def frames_of(path: str, count: int) -> list[np.ndarray]:
    """Returns frames spread over a clip, its last one alone, or the one of a picture."""
    from fer_tf.faces import media

    with contextlib.closing(media.open(path)) as file:
        if file.still:
            return [file.frame(1024).rgb]
        frames = [frame.frame(1024).rgb for frame in file.frames()]
    return [frames[index] for index in np.linspace(len(frames) - 1, 0, count).astype(int)]


@functools.cache
def extractor() -> Any:
    from fer_tf.faces.extractor import FaceExtractor

    return FaceExtractor()


def cut(frame: np.ndarray) -> Iterator[Any]:
    """Yields the aligned faces of a frame."""
    yield from extractor().faces_in_image(np.ascontiguousarray(frame))


def enlarged(picture: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)


def encode(picture: np.ndarray) -> bytes:
    from fer_tf.recognition.answers import encode_face

    return encode_face(picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.is_face", description=__doc__.split("\n")[0])
    from benchmarks.serving_setup import untrained_export
    from fer_tf.recognition.networks import ExportedNetwork

    print(f"{'':44s} {'n':>5s}  5 %  50 %  95 %   taken for a face crop at {THRESHOLDS}")
    with untrained_export(image_size=32) as models:
        network = ExportedNetwork(os.path.join(models, "1"))
        for name, pictures in groups_of(config):
            if not pictures:
                print(f"{name:44s} {0:5d}")
                continue
            seen = np.array([answer.is_face for answer in network.classify_encoded(pictures)])
            low, middle, high = np.percentile(seen, (5, 50, 95))
            shares = "  ".join(f"{(seen >= threshold).mean():7.2%}" for threshold in THRESHOLDS)
            print(f"{name:44s} {len(seen):5d} {low:.2f}  {middle:.2f}  {high:.2f}   {shares}", flush=True)
    extractor().close()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
