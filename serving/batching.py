"""Concurrent requests become one batch, so that the network runs once for all of them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import grpc
import numpy as np
import tensorflow as tf

from serving.tensors import RequestError, invalid

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are gathered.

    Attributes:
      enabled: whether requests are merged at all.
      max_batch_size: images that the network takes at once; a larger request is run in parts.
      timeout_s: longest wait for company, seconds.
      max_batch_bytes: bytes in a batch of several requests; the network takes several times as much.
      max_enqueued: images that may wait; more are refused.
      threads: batches that run side by side, so that one is unpacked while another computes.
    """

    enabled: bool = True
    max_batch_size: int = 64
    timeout_s: float = 0.002
    max_batch_bytes: int = 16 * 1024 * 1024
    max_enqueued: int = 1024
    threads: int = 2


@dataclass(eq=False)
class _Waiting:
    inputs: Arrays
    size: int
    answer: asyncio.Future[Arrays] = field(repr=False)

    def __post_init__(self) -> None:
        arrays = self.inputs.values()
        self.bytes = sum(sum(map(len, a)) if a.dtype == object and a.ndim == 1 else a.nbytes for a in arrays)

    def fits(self, other: _Waiting) -> bool:
        return all(values.shape[1:] == other.inputs[name].shape[1:] for name, values in self.inputs.items())


class Batcher:
    """Gathers the requests for one signature of one version; belongs to one event loop.

    Args:
      run_fn: arrays with a common first dimension to arrays with the same; called in `executor`.
      executor: threads for `run_fn`.
      options: sizes and delays.
      observe_fn: called with the size of every batch.
    """

    def __init__(
        self,
        run_fn: Callable[[Arrays], Arrays],
        executor: Executor,
        options: BatchingOptions,
        observe_fn: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run_fn = run_fn
        self._executor = executor
        self._options = options
        self._observe_fn = observe_fn
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._queued = 0
        self._running = 0
        self._last_requests = 0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._forming = asyncio.Lock()
        self._workers = [asyncio.create_task(self._work()) for _ in range(options.threads if options.enabled else 0)]

    async def submit(self, inputs: Arrays) -> Arrays:
        """Returns the outputs for the inputs, after a batch with them has run.

        Raises:
          RequestError: INVALID_ARGUMENT with the index of a bad image, UNAVAILABLE when too many wait.
        """
        size = len(next(iter(inputs.values())))
        if not self._options.enabled:
            return await self._in_thread(lambda: run_blaming(self._run_fn, inputs, self._options.max_batch_size))
        if self._queued and self._queued + size > self._options.max_enqueued:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, f"{self._queued} images wait already; try again later")
        waiting = _Waiting(inputs, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued += size
        self._arrived.set()
        if self._queued >= self._options.max_batch_size:
            self._full.set()
        return await waiting.answer

    async def close(self) -> None:
        """Stops the workers; call it when no request is open."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _in_thread(self, call: Callable[[], Arrays]) -> Arrays:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _work(self) -> None:
        while True:
            async with self._forming:
                batch = await self._next_batch()
            if not batch:
                continue
            self._running += 1
            try:
                await self._answer(batch)
            finally:
                self._running -= 1

    async def _next_batch(self) -> list[_Waiting]:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        # A lone client gets no company by waiting.
        company = self._running or self._last_requests > 1 or len(self._queue) > 1
        if company and self._queued < self._options.max_batch_size:
            # Woken once, when the batch is full or the time is over, and not by every arrival.
            self._full.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._options.timeout_s)
        return self._take()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        size, taken = 0, 0
        while self._queue and size < self._options.max_batch_size and taken < self._options.max_batch_bytes:
            waiting = self._queue.popleft()
            if waiting.answer.done():
                # The caller gave up or ran out of time.
                self._queued -= waiting.size
            elif not batch or (
                waiting.fits(batch[0])
                and size + waiting.size <= self._options.max_batch_size
                and taken + waiting.bytes <= self._options.max_batch_bytes
            ):
                batch.append(waiting)
                size += waiting.size
                taken += waiting.bytes
            else:
                others.append(waiting)
                if waiting.fits(batch[0]):
                    break
        self._queue.extendleft(reversed(others))
        self._queued -= size
        self._last_requests = len(batch)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        self._observe_fn(sum(waiting.size for waiting in batch))
        try:
            answers = await self._in_thread(
                lambda: run_requests(self._run_fn, [waiting.inputs for waiting in batch], self._options.max_batch_size)
            )
        except Exception as error:
            answers = [error] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)


def run_requests(
    run_fn: Callable[[Arrays], Arrays], requests: list[Arrays], max_batch_size: int
) -> list[Arrays | Exception]:
    """Runs several requests as one batch; a bad one is found by halving and spoils no other's answer.

    Returns:
      list: each request's outputs, or its RequestError.
    """
    if len(requests) == 1:
        try:
            return [run_blaming(run_fn, requests[0], max_batch_size)]
        except RequestError as error:
            return [error]
    sizes = [len(next(iter(inputs.values()))) for inputs in requests]
    merged = {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}
    try:
        outputs = run_fn(merged)
    except tf.errors.InvalidArgumentError:
        half = len(requests) // 2
        return run_requests(run_fn, requests[:half], max_batch_size) + run_requests(
            run_fn, requests[half:], max_batch_size
        )
    ends = np.cumsum(sizes)
    return [
        {name: values[end - size : end] for name, values in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def run_blaming(run_fn: Callable[[Arrays], Arrays], inputs: Arrays, max_batch_size: int) -> Arrays:
    """Runs one request, in parts when it is above `max_batch_size`.

    Raises:
      RequestError: INVALID_ARGUMENT with the index of the first bad image.
    """
    size = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, max(size, 1), max_batch_size):
        part = {name: values[start : start + max_batch_size] for name, values in inputs.items()}
        try:
            parts.append(run_fn(part))
        except tf.errors.InvalidArgumentError as error:
            index, reason = _first_bad(run_fn, part, reason_of(error))
            raise invalid(f"image {start + index}: {reason}") from None
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _first_bad(run_fn: Callable[[Arrays], Arrays], inputs: Arrays, reason: str) -> tuple[int, str]:
    """Index of the first image with which the run fails, and TensorFlow's reason."""
    low, high = 0, len(next(iter(inputs.values())))
    while high - low > 1:
        middle = (low + high) // 2
        try:
            run_fn({name: values[low:middle] for name, values in inputs.items()})
            low = middle
        except tf.errors.InvalidArgumentError as error:
            high, reason = middle, reason_of(error)
    return low, reason


def reason_of(error: tf.errors.OpError) -> str:
    """The sentence of a TensorFlow error that says what was wrong, without the trace around it."""
    lines = [line for line in error.message.split("\n") if line and not line.startswith("Detected at node")]
    reason = next(
        (line for line in lines if line != "Graph execution error:" and "stack traces" not in line), "invalid"
    )
    return re.sub(r"\s*\[\[\{\{node.*", "", reason)[:300]
