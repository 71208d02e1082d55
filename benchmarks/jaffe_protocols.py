"""What a method scores on JAFFE under several protocols: how much of a printed value is the protocol's.

    python -m benchmarks.jaffe_protocols --data=jaffe_db --method=fisherface
    python -m benchmarks.jaffe_protocols --data=jaffe_db --method=cnn_svm --protocols=[split,whole] --image_size=48

Only `persons` asks for people that the method never saw. `whole` asks for the very faces that it was trained on: a
method that keeps them by heart is right on all, so its score says nothing of other faces.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fer_tf import competitors
from fer_tf.competitors.faces import Faces, View, joined, view_of
from fer_tf.config import of, parse, run_command
from fer_tf.data.inputs import FaceSet
from trainer.competitor import few_threads, work_of
from trainer.config import TaskConfig
from trainer.fa_net import read_faces

FOLDS = 10
PROTOCOLS = {
    "split": "the paper's: 120 faces train, 70 test",
    "more": "143 train, the validation faces among them, the same 70 test",
    "folds": "ten folds of all 213, drawn by class",
    "six": "ten folds without the neutral faces: 183, six classes",
    "by_faces": "as folds; parameters are chosen on faces left out, not on persons",
    "pictures": "as folds, the pictures whole: faces neither found nor levelled",
    "persons": "each person answered by a method that was trained on the other nine",
    "whole": "trained and tested on the same 213; no recognition of other faces",
}
Protocol = Literal["split", "more", "folds", "six", "by_faces", "pictures", "persons", "whole"]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Flags of `python -m benchmarks.jaffe_protocols`.

    Attributes:
      data: JAFFE's folder.
      method: one of the competitors.
      protocols: which to score, in this order.
      epochs: of a network; 0 takes its own.
      image_size: side of the faces; 0 takes the method's own.
      seed: of the folds and of everything random.
    """

    data: str = "jaffe_db"
    method: str = "fisherface"
    protocols: tuple[Protocol, ...] = tuple(PROTOCOLS)  # type: ignore[assignment]
    epochs: int = 0
    image_size: int = 0
    seed: int = 0


def parted(protocol: str, faces: Faces, sizes: Sequence[int], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows that train and the rows that test, int, once for each method that is trained.

    Args:
      protocol: one of PROTOCOLS.
      faces: training, validation and test faces one after another.
      sizes: how many of each there are.
      seed: of the folds.
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold

    rows = np.arange(len(faces))
    if protocol == "whole":
        yield rows, rows
    elif protocol in ("split", "more"):
        yield rows[: sizes[0] if protocol == "split" else -sizes[2]], rows[-sizes[2] :]
    elif protocol == "persons":
        yield from LeaveOneGroupOut().split(rows, groups=faces.persons)
    else:
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, faces.labels)


def score(protocol: str, config: TaskConfig, read: FaceSet, faces: Faces, sizes: Sequence[int]) -> tuple[int, int]:
    """Returns how many faces a method names rightly under a protocol, and how many it was asked."""
    if protocol == "six":
        faces = faces.rows(faces.labels != read.expressions.index("neutral"))
    unknown = np.full(len(faces), "") if protocol == "by_faces" else faces.persons
    right = asked = 0
    for kept, left in parted(protocol, faces, sizes, config.run.seed):
        method = competitors.build(config.method, dataclasses.replace(work_of(config, read), cache="", folder=""))
        method.fit(dataclasses.replace(faces, persons=unknown).rows(kept))
        right += int((method.logits(faces.rows(left)).argmax(1) == faces.labels[left]).sum())
        asked += len(left)
    return right, asked


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each protocol."""
    flags, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.jaffe_protocols", description=__doc__ or "")
    shared = {name: getattr(flags, name) for name in ("method", "data", "epochs", "image_size", "seed")}
    config = of(TaskConfig, task="jaffe", **shared)
    read = read_faces(config)
    fresh = competitors.build(flags.method, work_of(config, read))
    view = view_of(read, flags.image_size or fresh.side, fresh.landmarks)
    sizes = [len(part) for part in read.parts.values()]
    found: dict[View, Faces] = {}
    for protocol in flags.protocols:
        seen = dataclasses.replace(view, align=view.align and protocol != "pictures")
        if seen not in found:
            found[seen] = joined([seen.read(part) for part in read.parts.values()])
        started = time.monotonic()
        with few_threads(sum(sizes)):
            right, asked = score(protocol, config, read, found[seen], sizes)
        share, seconds = 100 * right / asked, time.monotonic() - started
        print(f"{protocol:10}{share:6.1f} %  of {asked:3}  {seconds:6.0f} s  {PROTOCOLS[protocol]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
