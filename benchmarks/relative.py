"""What answers relative to a person gain, on clips (each compared with itself) or on pictures of named persons.

    python -m benchmarks.relative                      # the sample corpus, what each clip ends with
    python -m benchmarks.relative --data=PICTURES      # its annotations.csv names `image`, `person` and `expression`

Where persons are named, faces of each are also drawn so that a share of them is neutral, which is where it harms.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_tf import Recognizer, files
from fer_tf.config import parse, run_command
from fer_tf.data import csv_rows
from fer_tf.errors import InputError
from fer_tf.evaluation.relative import relative
from fer_tf.resources import resource

STRENGTHS = (0.0, 0.5, 1.0)
SHARES = (1 / 7, 0.3, 0.5, 0.7, 0.9, 1.0)
FACES, DRAWS = 20, 10


@dataclass(frozen=True)
class BenchmarkConfig:
    """Flags of `python -m benchmarks.relative`.

    Attributes:
      data: folder with annotations.csv, whose columns `video` or `image`, `person` and `expression` name each file;
        empty for the sample corpus.
      model: whose answers.
      seed: of the draws.
    """

    data: str = ""
    model: str = "pretrained"
    seed: int = 0


def listed(data: str, expressions: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray, bool]:
    """Returns the files whose expression is one of some, labels, int, persons, str, and whether the files are clips."""
    path = files.join(data, "annotations.csv")
    with open(path, "rb") as lines:
        table = csv_rows.read(lines, path, ("person", "expression"))
        column = next((name for name in ("image", "video") if name in table.columns), None)
        if column is None:
            raise InputError(f"{path} has no column `image` or `video`.")
        places = [table.columns.index(name) for name in (column, "person", "expression")]
        rows = [[values[place] for place in places] for _, values in table.rows]
    known = [row for row in rows if row[2] in expressions]
    if not known:
        raise InputError(f"{path} names none of {tuple(expressions)}.")
    labels = np.array([expressions.index(name) for _, _, name in known])
    persons = np.array([person for _, person, _ in known])
    return [os.path.join(data, name) for name, _, _ in known], labels, persons, column == "video"


def answers(
    recognize: Recognizer, paths: Sequence[str], persons: np.ndarray, clips: bool
) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """Returns which files have a face, and for each strength the last one's probabilities, rows in their order."""
    faces = recognize(list(paths), frames_per_second="all")
    last = {face.input: place for place, face in enumerate(faces) if face.number == 1}
    found = np.array([path in last for path in paths])
    places = [last[path] for path in paths if path in last]
    if clips:
        return found, {strength: faces.relative("person", strength)[places] for strength in STRENGTHS}
    own = faces.relative("nobody")[places]
    return found, {strength: relative(own, persons[found], strength) for strength in STRENGTHS}


def uneven(
    own: np.ndarray, labels: np.ndarray, persons: np.ndarray, neutral: int, share: float, seed: int
) -> list[float]:
    """Returns for each strength what is right of faces of which a share is neutral.

    Args:
      own: probabilities, float (N, classes).
      labels, persons: of the faces.
      neutral: that class.
      share: of FACES of each person, drawn with repetition DRAWS times.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    right: dict[float, list[bool]] = {strength: [] for strength in STRENGTHS}
    count = round(share * FACES)
    for _, person in itertools.product(range(DRAWS), sorted(set(persons.tolist()))):
        resting = np.flatnonzero((persons == person) & (labels == neutral))
        others = np.flatnonzero((persons == person) & (labels != neutral))
        if not len(resting) or not len(others):
            continue
        drawn = np.concatenate([rng.choice(resting, count), rng.choice(others, FACES - count)])
        for strength in STRENGTHS:
            found = relative(own[drawn], np.full(FACES, person), strength)
            right[strength] += (found.argmax(axis=1) == labels[drawn]).tolist()
    return [float(np.mean(rows)) for rows in right.values()]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables."""
    flags, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.relative", description=__doc__ or "")
    data = flags.data or str(resource("samples"))
    with Recognizer.load(flags.model) as recognize:
        names = list(recognize.network.expressions)
        paths, labels, persons, clips = listed(data, names)
        found, by_strength = answers(recognize, paths, persons, clips)
    print(f"{len(paths)} {'clips' if clips else 'pictures'} of {len(set(persons))} persons, {int((~found).sum())} lost")
    print("taken off   right  " + "".join(f"{names[label]:>10}" for label in sorted(set(labels))))
    for strength, probabilities in by_strength.items():
        right = np.zeros(len(paths), bool)
        right[found] = probabilities.argmax(axis=1) == labels[found]
        shares = [100 * right[labels == label].mean() for label in sorted(set(labels))]
        print(f"{strength:9g} {100 * right.mean():7.1f}  " + "".join(f"{share:10.1f}" for share in shares))
    if not clips and "neutral" in names:
        print("\nneutral  " + "".join(f"{strength:>8g}" for strength in STRENGTHS))
        for share in SHARES:
            rows = uneven(by_strength[0.0], labels[found], persons[found], names.index("neutral"), share, flags.seed)
            print(f"{100 * share:5.0f} %  " + "".join(f"{100 * row:8.1f}" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
