"""The record files of synthetic faces: a rejected face is replaced, and progress is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fer_tf.synthesis import shards
from fer_tf.synthesis.judge import FaceMeasure
from fer_tf.synthesis.make import Made, Request
from fer_tf.synthesis.plan import FaceFacts, Item

FACE = FaceFacts("a", "happy", "front", "P0")


def requests(pose: str, wanted: int, spare: int) -> list[Request]:
    items = [Item(f"{pose}{n}", "t", "happy", pose, spare=n >= wanted) for n in range(wanted + spare)]
    return [Request(item, FACE, FACE, 0) for item in items]


class Maker:
    """Keeps every face of one pose, every second of another, and none of the rest."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.made: Counter[str] = Counter()

    def make(self, batch: Sequence[Request]) -> list[Made]:
        self.batches.append(len(batch))
        return [self._one(request.item) for request in batch]

    def _one(self, item: Item) -> Made:
        self.made[item.pose] += 1
        good = item.pose == "front" or (item.pose == "half_left" and self.made[item.pose] % 2 == 0)
        record = object() if good else None
        return Made(item, record, "" if good else "no_face", FaceMeasure(good, 0.0, 0.0))


def test_a_cell_is_filled_with_spare_faces_until_it_is_full_or_hopeless() -> None:
    planned = [*requests("front", 100, 100), *requests("half_left", 100, 100), *requests("bird_view", 100, 100)]
    planned.sort(key=lambda request: request.item.spare)
    maker = Maker()
    found = list(shards._made(planned, maker))
    kept = Counter(made.item.pose for made in found if made.record is not None)
    # Front needs no spare face, half left all of its own, and of bird view none passes however many are made.
    assert kept == {"front": 100, "half_left": 100}
    assert Counter(made.item.pose for made in found) == {"front": 100, "half_left": 200, "bird_view": 200}
    assert len({made.item for made in found}) == len(found)
    assert max(maker.batches) == shards.BATCH


def test_every_shard_has_its_share_of_the_faces_and_of_the_spare_ones(monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FACES", 10)
    planned = sorted(requests("front", 25, 25), key=lambda request: request.item.spare)
    parts = shards.shards_of(planned)
    assert [Counter(request.item.spare for request in part) for part in parts] == [
        {False: 9, True: 9},
        {False: 8, True: 8},
        {False: 8, True: 8},
    ]
    assert sorted(request.item.image_id for part in parts for request in part) == sorted(
        request.item.image_id for request in planned
    )
