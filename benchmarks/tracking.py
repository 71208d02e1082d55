"""Following people through clips with known identities: switches and fragments a minute, by each way of following.

`python -m benchmarks.tracking` makes clips of the sample people (two cross, one leaves and returns, a cut, a crowd of
six) and follows the same detections by box overlap alone, by motion, and by motion and appearance.

A switch is a look in which a person's number is another than at the look before; a fragment a number that a person has
beyond the first; a mix a number that two persons share.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_tf.faces.extractor import AlignedFace, ExtractorOptions, FaceExtractor
from fer_tf.recognition.answers import Answer
from fer_tf.recognition.appearance import Describer
from fer_tf.recognition.tracking import Tracker, scene_of
from fer_tf.resources import resource

PERSONS = ("P001", "P003", "P004", "P006", "P009", "P010")
WIDTH, HEIGHT, RATE, SIDE = 960, 540, 25, 300
NOBODY = Answer((), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Placed:
    """A person in a frame: who, the picture's centre, and how much is in front of whom (larger is nearer)."""

    person: str
    x: float
    y: float
    near: float = 0.0
    scale: float = 1.0


Script = Callable[[float], list[Placed]]


def cross(seconds: float) -> list[Placed]:
    """Two walk past each other, twice."""
    phase = abs((seconds / 3.0) % 2 - 1)
    return [
        Placed("P001", 180 + 600 * phase, 280, 0),
        Placed("P004", 780 - 600 * phase, 270, 1),
    ]


def returns(seconds: float) -> list[Placed]:
    """One stays, one leaves the picture for two seconds and comes back, and in the meantime a third is there."""
    away = np.clip(abs(seconds % 8 - 4) - 1.5, 0, 1)
    people = [Placed("P003", 220, 280), Placed("P006", 700 + 460 * (1 - away), 280)]
    if 3.0 < seconds % 8 < 4.6:
        people.append(Placed("P009", 560, 290))
    return people


def cut(seconds: float) -> list[Placed]:
    """Shot and counter shot: two persons in turns, at the same place."""
    return [Placed("P004" if int(seconds / 1.6) % 2 else "P010", 480, 280)]


def crowd(seconds: float) -> list[Placed]:
    """Six sway, two of them change places every few seconds."""
    people = []
    for index, person in enumerate(PERSONS):
        x = 110 + 148 * index + 30 * np.sin(1.3 * seconds + index)
        y = 200 + 130 * (index % 2) + 20 * np.sin(0.9 * seconds + 2 * index)
        people.append(Placed(person, x, y, index, 0.55))
    swap = 0.5 - 0.5 * np.cos(seconds * np.pi / 4)
    first, second = people[1], people[4]
    people[1] = Placed(
        first.person, first.x + swap * (second.x - first.x), first.y - 90 * np.sin(np.pi * swap), 9, 0.55
    )
    people[4] = Placed(second.person, second.x + swap * (first.x - second.x), second.y, 1, 0.55)
    return people


SCRIPTS: dict[str, Script] = {"cross": cross, "returns": returns, "cut": cut, "crowd": crowd}


class Stage:
    """Draws frames of the sample people, each from a clip of theirs that plays to and fro."""

    def __init__(self, seed: int) -> None:
        import av
        import cv2

        rng = np.random.default_rng(seed)
        self._frames: dict[str, list[np.ndarray]] = {}
        for person in PERSONS:
            expression = ("happy", "surprise", "sad")[int(rng.integers(3))]
            path = Path(resource("samples")) / "take_1" / person / expression / "front.mp4"
            with av.open(str(path)) as clip:
                frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
            self._frames[person] = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
        self._walls = [self._wall(rng) for _ in range(2)]
        grid = np.linspace(-1, 1, SIDE)
        away = np.hypot(*np.meshgrid(grid / 0.62, grid / 0.92))
        self._alpha = np.clip((1.0 - away) / 0.12, 0, 1)[..., None].astype(np.float32)

    def _wall(self, rng: np.random.Generator) -> np.ndarray:
        import cv2

        coarse = rng.integers(40, 200, (6, 10, 3)).astype(np.uint8)
        return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    def draw(self, number: int, placed: list[Placed], wall: int) -> np.ndarray:
        import cv2

        picture = self._walls[wall].astype(np.float32)
        for one in sorted(placed, key=lambda one: one.near):
            frames = self._frames[one.person]
            step = number % (2 * len(frames) - 2)
            frame = frames[min(step, 2 * len(frames) - 2 - step)]
            matrix = np.array(
                [[one.scale, 0, one.x - one.scale * SIDE / 2], [0, one.scale, one.y - one.scale * SIDE / 2]]
            )
            size = (WIDTH, HEIGHT)
            alpha = cv2.warpAffine(self._alpha, matrix, size)[..., None]
            picture = picture * (1 - alpha) + alpha * cv2.warpAffine(frame, matrix, size).astype(np.float32)
        return picture.astype(np.uint8)


@dataclass(frozen=True)
class LookedAt:
    """A frame's faces, and who each is (empty where nobody of the script is near)."""

    time: float
    faces: list[AlignedFace]
    persons: list[str]
    scene: np.ndarray


def looks_of(name: str, seconds: float, looks_per_second: float, seed: int, extractor: FaceExtractor) -> list[LookedAt]:
    """Finds the faces of a made-up clip once, for every way of following."""
    stage = Stage(seed)
    looks = []
    step = RATE / looks_per_second
    for index in range(int(seconds * looks_per_second)):
        number = round(index * step)
        at = number / RATE
        placed = SCRIPTS[name](at)
        rgb = stage.draw(number, placed, int(at / 1.6) % 2 if name == "cut" else 0)
        faces = extractor.faces_in_image(rgb)
        persons = [_who(face.box, placed) for face in faces]
        looks.append(LookedAt(at, faces, persons, scene_of(rgb)))
    return looks


def _who(box: np.ndarray, placed: list[Placed]) -> str:
    centre = box[:2] + box[2:] / 2
    # Of two at one place, the nearer hides the other.
    away = [
        (np.hypot(centre[0] - one.x, centre[1] - one.y - 0.05 * SIDE * one.scale), -one.near, one) for one in placed
    ]
    close = [entry for entry in away if entry[0] < 0.25 * SIDE * entry[2].scale]
    return min(close, key=lambda entry: (round(entry[0] / 25), entry[1]))[2].person if close else ""


class OverlapTracker:
    """The former rule: the box overlaps by 0.3 or lies near with a like size, within a second."""

    def __init__(self) -> None:
        self._tracks: list[tuple[int, np.ndarray, float]] = []
        self._count = 0

    def update(self, time: float, look: LookedAt) -> list[int]:
        self._tracks = [track for track in self._tracks if time - track[2] <= 1.0]
        boxes = [face.box for face in look.faces]
        pairs = sorted(
            ((_closeness(track[1], box), index, track) for index, box in enumerate(boxes) for track in self._tracks),
            key=lambda pair: -pair[0],
        )
        chosen: dict[int, int] = {}
        for close, index, track in pairs:
            if close > 0 and index not in chosen and track[0] not in chosen.values():
                chosen[index] = track[0]
        numbers = []
        for index, box in enumerate(boxes):
            if index not in chosen:
                self._count += 1
                chosen[index] = self._count
            numbers.append(chosen[index])
            self._tracks = [track for track in self._tracks if track[0] != chosen[index]]
            self._tracks.append((chosen[index], box, time))
        return numbers


def _closeness(a: np.ndarray, b: np.ndarray) -> float:
    from fer_tf.faces.boxes import overlap

    if (shared := overlap(a, b)) >= 0.3:
        return shared
    sizes = sorted((float(a[3]), float(b[3])))
    distance = float(np.linalg.norm((a[:2] + a[2:] / 2) - (b[:2] + b[2:] / 2)))
    near = distance < 0.5 * sizes[1] and sizes[0] > 0.5 * sizes[1]
    return 0.15 * (1 - distance / sizes[1]) if near else 0.0


def followed(way: str, looks: list[LookedAt], describe: Describer) -> tuple[list[list[int]], float, int]:
    """Returns each look's numbers, the CPU seconds that following took, and how many faces were described."""
    before, started = describe.count, time.process_time()
    if way == "overlap":
        overlapping = OverlapTracker()
        numbers = [overlapping.update(look.time, look) for look in looks]
    else:
        tracker = Tracker(0.0, describe=describe if way == "motion and appearance" else None)
        numbers = [
            [
                number
                for number, _ in tracker.update(
                    look.time, [face.box for face in look.faces], [NOBODY] * len(look.faces), look.faces, look.scene
                )
            ]
            for look in looks
        ]
    return numbers, time.process_time() - started, describe.count - before


def judged(looks: list[LookedAt], numbers: list[list[int]]) -> dict[str, int]:
    """Counts switches, fragments and mixes."""
    of_person: dict[str, list[int]] = collections.defaultdict(list)
    for look, found in zip(looks, numbers, strict=True):
        for person, number in zip(look.persons, found, strict=True):
            if person:
                of_person[person].append(number)
    switches = sum(a != b for own in of_person.values() for a, b in itertools.pairwise(own))
    fragments = sum(len(set(own)) - 1 for own in of_person.values())
    persons_of: dict[int, set[str]] = collections.defaultdict(set)
    for person, own in of_person.items():
        for number in own:
            persons_of[number].add(person)
    mixes = sum(len(persons) > 1 for persons in persons_of.values())
    return {"switches": switches, "fragments": fragments, "mixes": mixes}


def results(seconds: float, looks_per_second: float, seed: int) -> Iterator[dict]:
    """Yields one row a clip and way of following."""
    extractor, describe = FaceExtractor(ExtractorOptions()), Describer()
    try:
        for name in SCRIPTS:
            looks = looks_of(name, seconds, looks_per_second, seed, extractor)
            faces = sum(len(look.faces) for look in looks)
            for way in ("overlap", "motion", "motion and appearance"):
                numbers, cpu_s, described = followed(way, looks, describe)
                yield {
                    "clip": name,
                    "way": way,
                    **{key: round(60 / seconds * value, 2) for key, value in judged(looks, numbers).items()},
                    "looks": len(looks),
                    "faces": faces,
                    "described": described,
                    "cpu_ms_a_look": round(1000 * cpu_s / len(looks), 2),
                }
    finally:
        extractor.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=24.0, help="length of each clip")
    parser.add_argument("--looks_per_second", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for row in results(args.seconds, args.looks_per_second, args.seed):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
