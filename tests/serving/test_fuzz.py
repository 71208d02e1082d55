"""Mutated requests end in an error code; the server goes on, answers the correct ones and does not grow."""

from __future__ import annotations

import pytest

from benchmarks.serving_fuzz import GrpcTarget, Outcome, fuzz, rss_mb
from benchmarks.serving_fuzz_rest import RestTarget
from benchmarks.serving_setup import ServerProcess
from fer_tf.recognition.server import Connection
from tests.serving.conftest import serving

ALWAYS_WRONG = ("cut_image", "random_bytes_as_image", "huge_claim", "many_images")


def check(outcome: Outcome, count: int, kinds: int, good: str, *always_wrong: str) -> None:
    assert outcome.surprises == []
    assert sum(sum(codes.values()) for codes in outcome.codes.values()) == count
    assert len(outcome.codes) == kinds
    for kind in (*ALWAYS_WRONG, *always_wrong):
        refused = count_of(outcome, kind) - outcome.codes[kind][good]
        assert refused >= 0.8 * count_of(outcome, kind) > 0, (kind, outcome.codes[kind])


def count_of(outcome: Outcome, kind: str) -> int:
    return sum(outcome.codes[kind].values())


def test_a_thousand_mutated_requests_are_refused(address: str, embedded: bool) -> None:
    if not embedded:
        pytest.skip("TensorFlow Serving words its refusals otherwise")
    with Connection(address, timeout_s=60) as connection:
        check(fuzz(GrpcTarget(connection, 1), 1000), 1000, 14, "OK", "wrong_dtype")


def test_five_hundred_mutated_rest_requests_are_refused_in_json(exported: str) -> None:
    with serving(model_base_path=exported) as server:
        check(fuzz(RestTarget(server.http, 1), 500), 500, 17, "200", "cut_body", "random_body", "odd_value")


@pytest.mark.slow
@pytest.mark.parametrize("rest", [False, True], ids=["grpc", "rest"])
def test_ten_thousand_mutated_requests_do_not_make_the_server_grow(
    rest: bool, exported: str, server_process: type
) -> None:
    server: ServerProcess = server_process(f"--model_base_path={exported}")
    with Connection(server.address, timeout_s=60) as connection:
        target = RestTarget(server.http, 0) if rest else GrpcTarget(connection, 0)
        outcome = fuzz(target, 10_000, lambda: rss_mb(server.process.pid))
    check(outcome, 10_000, 17 if rest else 14, "200" if rest else "OK")
    assert outcome.rss_mb[1] - outcome.rss_mb[0] < 100, outcome.rss_mb
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)
