"""Concurrent requests share batches; a bad one, a late one or one too many harms only itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.batching import Arrays, Batcher, BatchingOptions
from serving.tensors import RequestError

BAD = -1.0


class Network:
    """Doubles its input, fails on BAD as a decoder does, and notes its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.seconds = seconds

    def __call__(self, inputs: Arrays) -> Arrays:
        self.sizes.append(len(inputs["x"]))
        time.sleep(self.seconds)
        if (inputs["x"] == BAD).any():
            message = "Graph execution error:\n\nDetected at node x\nbroken pixels\n\t [[{{node x}}]] [Op:run]"
            raise tf.errors.InvalidArgumentError(None, None, message)
        return {"y": inputs["x"] * 2}


def run(body: Callable[[Batcher], Coroutine[Any, Any, Any]], network: Network, **options: Any) -> Any:
    async def main() -> Any:
        with ThreadPoolExecutor(2) as executor:
            batcher = Batcher(network, executor, BatchingOptions(**options))
            try:
                return await asyncio.wait_for(body(batcher), 30)
            finally:
                await batcher.close()

    return asyncio.run(main())


def rows(*values: float) -> Arrays:
    return {"x": np.array(values, np.float32)}


def test_concurrent_requests_share_batches_and_each_gets_its_own_rows() -> None:
    network = Network(0.01)

    async def body(batcher: Batcher) -> list[Arrays]:
        return await asyncio.gather(*(batcher.submit(rows(*range(n, n + n % 3 + 1))) for n in range(60)))

    answers = run(body, network, max_batch_size=16)
    for n, answer in enumerate(answers):
        np.testing.assert_array_equal(answer["y"], 2 * np.arange(n, n + n % 3 + 1))
    assert max(network.sizes) <= 16 and len(network.sizes) <= 10


def test_without_batching_every_request_runs_alone() -> None:
    network = Network()
    run(lambda batcher: asyncio.gather(*(batcher.submit(rows(n)) for n in range(20))), network, enabled=False)
    assert network.sizes == [1] * 20


def test_a_lone_request_does_not_wait_for_company() -> None:
    async def body(batcher: Batcher) -> float:
        start = time.monotonic()
        for _ in range(5):
            await batcher.submit(rows(1))
        return time.monotonic() - start

    # Five waits of a minute would be seen on any machine.
    assert run(body, Network(), timeout_s=60.0) < 30.0


def test_a_bad_image_spoils_only_its_own_request_and_is_named() -> None:
    network = Network(0.01)

    async def body(batcher: Batcher) -> list[Any]:
        requests = [rows(n, n) for n in range(30)]
        requests[7] = rows(1, 2, 3, 4, BAD, 5)
        return await asyncio.gather(*map(batcher.submit, requests), return_exceptions=True)

    answers = run(body, network, max_batch_size=64)
    assert isinstance(answers[7], RequestError) and answers[7].message == "image 4: broken pixels"
    assert answers[7].code is grpc.StatusCode.INVALID_ARGUMENT
    for n in set(range(30)) - {7}:
        np.testing.assert_array_equal(answers[n]["y"], [2 * n, 2 * n])
    # Halving finds it: far fewer runs than one per request.
    assert len(network.sizes) < 20


def test_a_large_request_runs_in_parts_and_names_the_image_of_the_whole() -> None:
    network = Network()
    answer = run(lambda batcher: batcher.submit(rows(*range(100))), network, max_batch_size=32)
    np.testing.assert_array_equal(answer["y"], 2 * np.arange(100))
    assert network.sizes == [32, 32, 32, 4]
    with pytest.raises(RequestError, match="image 70: broken pixels"):
        run(lambda batcher: batcher.submit(rows(*range(70), BAD, 1, 2)), network, max_batch_size=32)


def test_requests_of_different_shapes_do_not_meet_in_a_batch() -> None:
    network = Network(0.005)

    async def body(batcher: Batcher) -> list[Arrays]:
        requests = [{"x": np.full((1, 2 + n % 2), n, np.float32)} for n in range(20)]
        return await asyncio.gather(*map(batcher.submit, requests))

    for n, answer in enumerate(run(body, network)):
        np.testing.assert_array_equal(answer["y"], np.full((1, 2 + n % 2), 2 * n))
    assert len(network.sizes) < 20


def test_a_batch_holds_no_more_bytes_than_it_may_unless_one_request_does() -> None:
    network = Network(0.01)

    async def body(batcher: Batcher) -> list[Arrays]:
        return await asyncio.gather(
            *(batcher.submit(rows(*range(3))) for _ in range(20)), batcher.submit(rows(*range(9)))
        )

    answers = run(body, network, max_batch_size=64, max_batch_bytes=24)
    assert [len(answer["y"]) for answer in answers] == [3] * 20 + [9]
    assert set(network.sizes) <= {3, 6, 9} and network.sizes.count(9) == 1


def test_too_many_waiting_images_are_refused_and_the_others_answered() -> None:
    async def body(batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*(batcher.submit(rows(n)) for n in range(30)), return_exceptions=True)

    answers = run(body, Network(0.02), max_batch_size=4, max_enqueued=10)
    refused = [answer for answer in answers if isinstance(answer, RequestError)]
    assert refused and {error.code for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert len(refused) <= 20 and sum(isinstance(answer, dict) for answer in answers) == 30 - len(refused)


def test_a_request_whose_caller_left_is_not_run() -> None:
    network = Network(0.05)

    async def body(batcher: Batcher) -> None:
        first = [asyncio.create_task(batcher.submit(rows(1))) for _ in range(2)]
        await asyncio.sleep(0.02)
        late = [asyncio.create_task(batcher.submit(rows(9))) for _ in range(8)]
        await asyncio.sleep(0.01)
        for task in late:
            task.cancel()
        await asyncio.gather(*first, *late, return_exceptions=True)
        assert (await batcher.submit(rows(3)))["y"] == [6]

    run(body, network, max_batch_size=8, timeout_s=0.0, threads=1)
    assert sum(network.sizes) == 3
