"""What happens to a call before its service sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class RefuseUndecodable(grpc.aio.ServerInterceptor):
    """Answers bytes that are no message of the method's type with INVALID_ARGUMENT.

    gRPC by itself answers them with UNKNOWN and writes a traceback for each into the log, which a caller could fill.
    """

    def __init__(self) -> None:
        self._guarded: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method in self._guarded:
            return self._guarded[method]
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        # Only methods that exist get here, so the dictionary stays small.
        self._guarded[method] = _guarded(handler)
        return self._guarded[method]


def _guarded(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    def deserialize(data: bytes) -> Any:
        try:
            return handler.request_deserializer(data)
        except DecodeError as error:
            return error

    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, DecodeError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(request)[:200])
        return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)
