"""Mutated requests end in an error code; the server goes on, answers the correct ones and does not grow."""

from __future__ import annotations

import pytest

from benchmarks.serving_fuzz import Outcome, fuzz, rss_mb
from benchmarks.serving_setup import ServerProcess


def check(outcome: Outcome, count: int) -> None:
    assert outcome.surprises == []
    assert sum(sum(codes.values()) for codes in outcome.codes.values()) == count
    assert len(outcome.codes) == 14
    for kind in ("cut_image", "random_bytes_as_image", "huge_claim", "wrong_dtype", "many_images"):
        refused = count_of(outcome, kind) - outcome.codes[kind]["OK"]
        assert refused >= 0.8 * count_of(outcome, kind) > 0, (kind, outcome.codes[kind])


def count_of(outcome: Outcome, kind: str) -> int:
    return sum(outcome.codes[kind].values())


def test_a_thousand_mutated_requests_are_refused(address: str, embedded: bool) -> None:
    if not embedded:
        pytest.skip("TensorFlow Serving words its refusals otherwise")
    check(fuzz(address, 1000, seed=1), 1000)


@pytest.mark.slow
def test_ten_thousand_mutated_requests_do_not_make_the_server_grow(exported: str, server_process: type) -> None:
    server: ServerProcess = server_process(f"--model_base_path={exported}")
    outcome = fuzz(server.address, 10_000, seed=0, rss_fn=lambda: rss_mb(server.process.pid))
    check(outcome, 10_000)
    assert outcome.rss_mb[1] - outcome.rss_mb[0] < 100, outcome.rss_mb
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)
