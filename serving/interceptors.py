"""What happens to a call before its service sees it, and how long it may wait or stay."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.metrics import Metrics

# A message that takes longer ties up what others could use.
MESSAGE_SECONDS = 30.0
# At a stop a stream may say so much longer, such as that the server stops.
LAST_WORDS_SECONDS = 0.5


class Gate(grpc.aio.ServerInterceptor):
    """Refuses calls above the limit and ends those whose message does not come, and streams when the server stops.

    Bytes that are no message of the method's type are answered with INVALID_ARGUMENT. gRPC by itself answers them with
    UNKNOWN and writes a traceback for each into the log, which a caller could fill. Belongs to one event loop.

    Args:
      limit: questions open at a time. As many of health's and of reflection's may be open beside them, and as many
        streams: whether the server is well must be heard when it has much to do.
      metrics: where refusals are counted.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit, self._metrics = limit, metrics
        self._open: collections.Counter[tuple[bool, bool]] = collections.Counter()
        self._guarded: dict[str, grpc.RpcMethodHandler] = {}
        self._stopping = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Ends the streams, which would go on for ever, after their last words."""
        self._stopping.set_result(None)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method in self._guarded:
            return self._guarded[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        # Only methods that exist get here, so the dictionary stays small.
        self._guarded[method] = self._guard(method, handler)
        return self._guarded[method]

    def _guard(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        kind, name = (method.startswith("/tensorflow.serving."), handler.response_streaming), method.rpartition("/")[2]

        def deserialize(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError as error:
                return error

        async def refuse(context: Any, code: grpc.StatusCode, reason: str) -> None:
            self._metrics.requests.labels(name, "", code.name).inc()
            await context.abort(code, reason)

        async def message(requests: AsyncIterator[Any], context: Any) -> Any:
            try:
                received = await asyncio.wait_for(anext(requests), MESSAGE_SECONDS)
            except asyncio.TimeoutError:
                reason = f"the message was not here after {MESSAGE_SECONDS:g} seconds"
                await refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, reason)
            except StopAsyncIteration:
                await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a message")
            if isinstance(received, DecodeError):
                await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(received)[:200])
            return received

        async def answer(requests: AsyncIterator[Any], context: Any) -> Any:
            if self._open[kind] >= self._limit:
                reason = f"{self._open[kind]} requests are open; try again later"
                await refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
            self._open[kind] += 1
            try:
                if handler.request_streaming:
                    return await self._stream(handler.stream_stream(requests, context), context)
                request = await message(requests, context)
                if handler.response_streaming:
                    return await self._stream(handler.unary_stream(request, context), context)
                return await handler.unary_unary(request, context)
            finally:
                self._open[kind] -= 1

        # Over the wire a call with one message is a stream of one, and only for a stream's may a server stop waiting.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(answer, deserialize, handler.response_serializer)

    async def _stream(self, answers: Any, context: Any) -> None:
        """Sends what a service gives, until it ends or the server stops."""

        async def send() -> None:
            if asyncio.iscoroutine(answers):
                return await answers
            async for each in answers:
                await context.write(each)

        sending = asyncio.ensure_future(send())
        try:
            await asyncio.wait({sending, self._stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                await asyncio.wait({sending}, timeout=LAST_WORDS_SECONDS)
            if sending.done():
                return sending.result()
        finally:
            sending.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
