"""TensorFlow Serving's HTTP API, and beside it liveness, readiness and Prometheus metrics, as one ASGI application.

Every question is read into the proto of the gRPC call that asks the same and answered by the same service, so limits,
batching and error texts are the same. Every error is JSON: {"error": "..."}.
"""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import prometheus_client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from fer_tf.recognition.networks import version_number
from serving import json_tensors
from serving.loaded import LoadedVersion
from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.services import DEFAULT_SIGNATURE, SIGNATURE_DEF, Calls, ModelService, PredictionService
from serving.tensors import RequestError

T = TypeVar("T")
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_ASK = re.compile(_MODEL + ":(?P<verb>predict|classify|regress)")
_ABOUT = re.compile(_MODEL + "(?P<metadata>/metadata)?")
# A gRPC status as TensorFlow Serving tells it over HTTP.
_HTTP_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
# Below these nothing else is shown.
OWN_PATHS = ("/healthz/", "/readyz/", "/v1/")
# A client that sends too much hears so better when it was listened to for a while; what it sends is thrown away.
LISTEN_ON_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one caller may take.

    Attributes:
      body_bytes: largest body.
      body_seconds: longest time in which a body must be here.
      open_requests: questions to a model that are open at a time.
      tls_alone: whether questions are for gRPC, because they must come over TLS.
    """

    body_bytes: int
    body_seconds: float
    open_requests: int
    tls_alone: bool = False


class Rest:
    """What each address answers; belongs to the gRPC server's event loop.

    Args:
      manager: where versions are found.
      calls: what counts and times the calls.
      prediction, models: the services that answer.
      metrics: what is shown under `metrics_path`.
      metrics_path: where the metrics stand; empty hides them.
      answering_fn: whether requests are answered now: not before the start and not while the server stops.
      limits: what one caller may take.
    """

    def __init__(
        self,
        manager: ModelManager,
        calls: Calls,
        prediction: PredictionService,
        models: ModelService,
        metrics: Metrics,
        metrics_path: str,
        answering_fn: Callable[[], bool],
        limits: Limits,
    ) -> None:
        self._manager, self._calls, self._limits = manager, calls, limits
        self._prediction, self._models, self._metrics = prediction, models, metrics
        self._metrics_path, self._answering_fn = metrics_path, answering_fn
        self._open = 0
        self._reader = ThreadPoolExecutor(1, "json")

    def asgi(self) -> Starlette:
        """Returns the application for an ASGI server."""
        routes = [
            Route("/healthz", _alive),
            Route("/readyz", self._ready),
            Route("/v1/{rest:path}", self._api, methods=["GET", "POST"]),
        ]
        if self._metrics_path:
            routes.insert(0, Route(self._metrics_path, self._show_metrics))
        handlers = {HTTPException: _refusal, ClientDisconnect: _gone, Exception: _broken}
        app = Starlette(routes=routes, exception_handlers=handlers)
        # An address that is nearly one is an error in JSON, no redirection without words.
        app.router.redirect_slashes = False
        return app

    def close(self) -> None:
        """Ends the thread that reads large bodies."""
        self._reader.shutdown(wait=False)

    async def _ready(self, _: Request) -> Response:
        ready = self._answering_fn() and self._manager.ready()
        return PlainTextResponse("ready\n") if ready else PlainTextResponse("not ready\n", 503)

    async def _show_metrics(self, _: Request) -> Response:
        page = prometheus_client.generate_latest(self._metrics.registry)
        return Response(page, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def _api(self, request: Request) -> Response:
        # Not request.url, which the Host header has a part in.
        path = request.scope["path"]
        asks, about = _ASK.fullmatch(path), _ABOUT.fullmatch(path)
        if not (asks or about):
            raise HTTPException(404, f"no such address: {path[:200]!r}; there are /v1/models/NAME and NAME:predict")
        methods = ("POST",) if asks else ("GET", "HEAD")
        if request.method not in methods:
            raise HTTPException(405, f"{path[:200]} takes {methods[0]}", {"Allow": ", ".join(methods)})
        try:
            return _json(await (self._ask(asks, request) if asks else self._about(about)))
        except RequestError as error:
            return _json({"error": error.message}, _HTTP_OF.get(error.code, 500))

    async def _ask(self, asked: re.Match, request: Request) -> dict[str, Any]:
        if self._limits.tls_alone:
            raise RequestError(
                grpc.StatusCode.PERMISSION_DENIED,
                "this server takes requests over TLS alone (--ssl_config_file), which its HTTP port does not speak; "
                "ask over gRPC",
            )
        method = asked["verb"].capitalize()
        if not self._answering_fn():
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "the server is stopping, or has not begun")
        if self._open >= self._limits.open_requests:
            self._metrics.requests.labels(method, "", "RESOURCE_EXHAUSTED").inc()
            raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._open} requests are open; try again later")
        self._open += 1
        try:
            with self._calls.holding() as hold:
                try:
                    body = await self._body(request, hold)
                except RequestError as error:
                    self._metrics.requests.labels(method, "", error.code.name).inc()
                    raise
                answer = getattr(self, f"_{asked['verb']}")
                return await self._calls.answer(method, asked["name"], lambda: answer(_spec(asked), body))
        finally:
            self._open -= 1

    async def _about(self, asked: re.Match) -> dict[str, Any]:
        spec = _spec(asked)
        if asked["metadata"]:
            question = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
            response = await self._calls.answer(
                "GetModelMetadata", spec.name, lambda: self._prediction.metadata(question)
            )
            return json_tensors.metadata(response)
        query = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = await self._calls.answer("GetModelStatus", spec.name, lambda: self._models.status(query))
        return json_tensors.status(response)

    async def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
        loaded = self._manager.find(spec)

        def read() -> tuple[predict_pb2.PredictRequest, bool]:
            said = json_tensors.read_object(body)
            spec.signature_name = json_tensors.signature_of(said)
            question = predict_pb2.PredictRequest(model_spec=spec)
            json_tensors.fill_predict(question, said, _inputs(loaded, spec.signature_name))
            return question, json_tensors.ROWS in said

        question, by_rows = await self._read(read, body)
        response = await self._prediction.predict(question)
        return json_tensors.predictions(response.outputs, by_rows)

    async def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
        question = classification_pb2.ClassificationRequest(model_spec=spec)
        await self._read(lambda: _fill_examples(question, body), body)
        return json_tensors.classifications(await self._prediction.classify(question))

    async def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
        question = regression_pb2.RegressionRequest(model_spec=spec)
        await self._read(lambda: _fill_examples(question, body), body)
        return await self._prediction.regress(question)

    async def _read(self, read: Callable[[], T], body: bytes) -> T:
        if len(body) <= json_tensors.MANY_BYTES:
            return read()

        def read_much() -> T:
            with json_tensors.without_collector():
                return read()

        return await asyncio.get_running_loop().run_in_executor(self._reader, read_much)

    async def _body(self, request: Request, hold: Callable[[int], None]) -> bytes:
        """Reads the body; never holds more than the limit of it.

        Raises:
          RequestError: RESOURCE_EXHAUSTED when all bodies together are too large.
          HTTPException: 408 when it is slow, 413 when it is large, 415 when it is compressed.
        """
        if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
            raise HTTPException(
                415, f"`Content-Encoding` {encoding[:50]!r} is not read; send the JSON as it is", _CLOSE
            )
        limit = self._limits.body_bytes
        claimed = int(request.headers.get("content-length", 0))
        if claimed > limit and (claimed > LISTEN_ON_BYTES or "expect" in request.headers):
            raise _too_large(limit, f"{claimed} bytes")

        async def take() -> tuple[bytes, int]:
            kept, size = bytearray(), 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > LISTEN_ON_BYTES:
                    break
                if size <= limit:
                    hold(len(chunk))
                    kept += chunk
                else:
                    kept.clear()
            return bytes(kept), size

        try:
            body, size = await asyncio.wait_for(take(), self._limits.body_seconds)
        except asyncio.TimeoutError:
            seconds = f"{self._limits.body_seconds:g}"
            raise HTTPException(408, f"the body was not here after {seconds} seconds", _CLOSE) from None
        if size > limit:
            raise _too_large(limit, f"{size} bytes" if size <= LISTEN_ON_BYTES else f"above {LISTEN_ON_BYTES} bytes")
        return body


_CLOSE = {"Connection": "close"}


def _too_large(limit: int, received: str) -> HTTPException:
    return HTTPException(413, f"the body is larger than --max_message_bytes={limit}. Received: {received}.", _CLOSE)


def _spec(asked: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=asked["name"])
    if asked["label"] is not None:
        spec.version_label = asked["label"]
    elif asked["version"] is not None:
        number = version_number(asked["version"])
        if number is None:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"{spec.name} has no version {asked['version'][:40]}")
        spec.version.value = number
    return spec


def _inputs(loaded: LoadedVersion, signature: str) -> dict[str, Any]:
    return loaded.spec_of(signature or DEFAULT_SIGNATURE)


def _fill_examples(question: Any, body: bytes) -> None:
    said = json_tensors.read_object(body)
    question.model_spec.signature_name = json_tensors.signature_of(said)
    json_tensors.fill_examples(question, said)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_tensors.dump(value), status, headers, "application/json")


async def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


async def _refusal(request: Request, error: Any) -> Response:
    phrase = http.HTTPStatus(error.status_code).phrase
    # The framework's own refusals say no more than the code's name.
    message = error.detail if error.detail != phrase else f"{phrase}: {request.method} {request.scope['path'][:200]}"
    return _json({"error": message}, error.status_code, error.headers)


async def _gone(_: Request, error: Exception) -> Response:
    # Nobody reads this.
    return _json({"error": "the client went away"}, 499)


async def _broken(_: Request, error: Exception) -> Response:
    return _json({"error": "the server failed"}, 500)
