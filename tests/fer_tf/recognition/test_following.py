"""Following keeps made-up people apart where box overlap alone loses or mixes them."""

from __future__ import annotations

import pytest

from benchmarks.tracking import followed, judged, looks_of
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.recognition.appearance import Describer


@pytest.mark.parametrize(("clip", "seconds", "mistakes_before"), [("cross", 4.0, "switches"), ("cut", 3.6, "mixes")])
def test_people_keep_their_numbers(clip: str, seconds: float, mistakes_before: str) -> None:
    extractor = FaceExtractor()
    looks = looks_of(clip, seconds, 5.0, 0, extractor)
    extractor.close()
    assert {person for look in looks for person in look.persons} >= {"P004"}
    describe = Describer()
    before = judged(looks, followed("overlap", looks, describe)[0])
    assert before[mistakes_before] > 0 and describe.count == 0
    now = judged(looks, followed("motion and appearance", looks, describe)[0])
    assert now == {"switches": 0, "fragments": 0, "mixes": 0}
    assert describe.count < sum(len(look.faces) for look in looks)
