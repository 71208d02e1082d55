"""TensorFlow Serving's PredictionService and ModelService, answered from the manager's versions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from fer_tf.data.schema import FaceRecord, key_of
from serving.image_headers import check_image
from serving.loaded import Arrays, LoadedVersion
from serving.manager import ModelManager, versions_to_serve
from serving.metrics import Metrics
from serving.signatures import IMAGE_BYTES, IMAGES
from serving.tensors import MAX_TENSOR_BYTES, RequestError, invalid, to_proto

logger = logging.getLogger(__name__)
T = TypeVar("T")
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
EXAMPLE_KEY = key_of(FaceRecord, "image")
SIGNATURE_DEF = "signature_def"


class Calls:
    """Runs a call's body, for gRPC and HTTP alike: counts it, times it, and turns its exceptions into status codes.

    Args:
      metrics: where calls are counted.
      knows_fn: whether there is a model of a name; calls for others are counted without a name.
      most_bytes: bytes that all open requests together may hold.
    """

    def __init__(self, metrics: Metrics, knows_fn: Callable[[str], bool], most_bytes: int) -> None:
        self._metrics = metrics
        self._knows_fn = knows_fn
        self._most_bytes = most_bytes
        self._held = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes how many bytes a request holds more; it raises RequestError for too many."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._held and self._held + size > self._most_bytes:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the open requests hold {self._held} bytes; --max_open_bytes is {self._most_bytes}; "
                    "try again later, or in smaller requests",
                )
            self._held += size
            mine += size

        try:
            yield hold
        finally:
            self._held -= mine

    async def answer(self, method: str, model: str, body: Callable[[], Awaitable[T]]) -> T:
        """Returns the body's response.

        Raises:
          RequestError: for whatever the body raises.
        """
        start = time.monotonic()
        code = grpc.StatusCode.CANCELLED
        self._metrics.open_requests.inc()
        try:
            response = await body()
            code = grpc.StatusCode.OK
            return response
        except RequestError as error:
            code = error.code
            raise
        except tf.errors.OpError as error:
            code = grpc.StatusCode.INTERNAL
            logger.error("%s of %s failed: %s", method, model, error)
            raise RequestError(code, "the model failed") from None
        except Exception:
            code = grpc.StatusCode.INTERNAL
            logger.exception("%s of %s failed", method, model)
            raise RequestError(code, "the server failed") from None
        finally:
            self._metrics.open_requests.dec()
            # A caller must not be able to make a metric per invented name.
            model = model if self._knows_fn(model) else ""
            self._metrics.requests.labels(method, model, code.name).inc()
            self._metrics.latency.labels(method, model).observe(time.monotonic() - start)

    async def run(self, method: str, model: str, context: Any, body: Callable[[], Awaitable[T]]) -> T:
        """Returns the body's response, or aborts the gRPC call."""
        try:
            return await self.answer(method, model, body)
        except RequestError as error:
            # gRPC carries messages in headers, whose size is limited.
            await context.abort(error.code, error.message[:500])
            raise


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify and GetModelMetadata; Regress and MultiInference do not fit this model.

    The methods in small letters are the same calls for whoever does not speak gRPC.

    Args:
      manager: where versions are found.
      calls: what counts and times the calls.
      metrics: where images are counted.
      max_images: most images that a request may hold.
      max_image_pixels: most pixels that an image's header may claim.
    """

    def __init__(
        self, manager: ModelManager, calls: Calls, metrics: Metrics, max_images: int, max_image_pixels: int
    ) -> None:
        self._manager = manager
        self._calls = calls
        self._metrics = metrics
        self._max_images = max_images
        self._max_image_pixels = max_image_pixels

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:
        return await self._calls.run("Predict", request.model_spec.name, context, lambda: self.predict(request))

    async def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Returns the outputs of a signature, of all images that the request holds; raises RequestError."""
        with self._manager.find(request.model_spec).held() as loaded, self._calls.holding() as hold:
            hold(request.ByteSize())
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            inputs = loaded.parse_inputs(signature, request.inputs)
            self._check(inputs)
            known = loaded.signature_defs[signature].outputs
            wanted = list(request.output_filter) or list(known)
            if unknown := sorted(set(wanted) - set(known)):
                raise invalid(f"`output_filter` names {unknown[:5]}; signature {signature!r} gives {sorted(known)}")
            outputs = await self._answer(loaded, signature, inputs)
            response = predict_pb2.PredictResponse(model_spec=_answered_by(loaded, signature))
            for name in wanted:
                response.outputs[name].CopyFrom(to_proto(outputs[name]))
            return response

    async def Classify(self, request: classification_pb2.ClassificationRequest, context: Any) -> Any:
        return await self._calls.run("Classify", request.model_spec.name, context, lambda: self.classify(request))

    async def classify(self, request: classification_pb2.ClassificationRequest) -> Any:
        """Returns the best classes of each example's image; raises RequestError."""
        with self._manager.find(request.model_spec).held() as loaded, self._calls.holding() as hold:
            hold(request.ByteSize())
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            loaded.spec_of(signature)
            if loaded.signature_defs[signature].method_name != tf.saved_model.CLASSIFY_METHOD_NAME:
                raise invalid(f"signature {signature!r} is not for Classify; ask for `classify`")
            examples, context = _example_protos(request.input)
            # Before the examples are built: millions of empty ones fit in a request, each with the whole context.
            self._check_count(len(examples))
            serialized = _serialized(examples, context)
            if context is not None:
                hold(sum(map(len, serialized)))
            self._check({IMAGE_BYTES: np.array(_images_of(serialized), object)})
            outputs = await self._answer(loaded, signature, {"inputs": np.array(serialized, object)})
            response = classification_pb2.ClassificationResponse(model_spec=_answered_by(loaded, signature))
            for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
                classes = response.result.classifications.add().classes
                for label, score in zip(labels, scores, strict=True):
                    classes.add(label=label.decode(), score=float(score))
            return response

    async def Regress(self, request: regression_pb2.RegressionRequest, context: Any) -> Any:
        return await self._calls.run("Regress", request.model_spec.name, context, lambda: self.regress(request))

    async def regress(self, request: regression_pb2.RegressionRequest) -> Any:
        """Refuses: a classifier has no signature for it, which is what TensorFlow Serving answers too."""
        with self._manager.find(request.model_spec).held() as loaded:
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            loaded.spec_of(signature)
            method = loaded.signature_defs[signature].method_name
            raise invalid(f"signature {signature!r} is for {method}, not for Regress; this model is for Predict")

    async def MultiInference(self, request: Any, context: Any) -> Any:
        async def body() -> None:
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, "MultiInference does not fit a classifier; call Predict")

        return await self._calls.run("MultiInference", "", context, body)

    async def GetModelMetadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Any) -> Any:
        return await self._calls.run(
            "GetModelMetadata", request.model_spec.name, context, lambda: self.metadata(request)
        )

    async def metadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest) -> Any:
        """Returns the signatures of a version; raises RequestError."""
        if set(request.metadata_field) != {SIGNATURE_DEF}:
            raise invalid(f"`metadata_field` must be {SIGNATURE_DEF!r}. Received: {list(request.metadata_field)[:5]}.")
        with self._manager.find(request.model_spec).held() as loaded:
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_answered_by(loaded))
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.signature_defs)
            response.metadata[SIGNATURE_DEF].Pack(signatures)
            return response

    def _check(self, inputs: Arrays) -> None:
        """Refuses what is too much or no image before anything is unpacked."""
        self._check_count(len(next(iter(inputs.values()))))
        if IMAGES in inputs:
            height, width = inputs[IMAGES].shape[1:3]
            if height * width > self._max_image_pixels:
                raise invalid(f"each image has {width} x {height} pixels; the limit is {self._max_image_pixels}")
        for index, encoded in enumerate(inputs.get(IMAGE_BYTES, ())):
            try:
                check_image(encoded, self._max_image_pixels)
            except ValueError as error:
                raise invalid(f"image {index}: {error}") from None

    def _check_count(self, count: int) -> None:
        if not count:
            raise invalid("the batch is empty")
        if count > self._max_images:
            raise invalid(f"{count} images in one request; the limit is {self._max_images}")

    async def _answer(self, loaded: LoadedVersion, signature: str, inputs: Arrays) -> Arrays:
        outputs = await loaded.answer(signature, inputs)
        self._metrics.images.labels(loaded.name).inc(len(next(iter(inputs.values()))))
        return outputs


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
      manager: what serves the models.
      calls: what counts and times the calls.
      root: the folder that every model must stand in.
    """

    def __init__(self, manager: ModelManager, calls: Calls, root: str) -> None:
        self._manager = manager
        self._calls = calls
        self._root = os.path.realpath(root)

    async def GetModelStatus(self, request: get_model_status_pb2.GetModelStatusRequest, context: Any) -> Any:
        return await self._calls.run("GetModelStatus", request.model_spec.name, context, lambda: self.status(request))

    async def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of a model's versions; raises RequestError."""
        return self._manager.status(request.model_spec)

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: Any
    ) -> model_management_pb2.ReloadConfigResponse:
        async def body() -> model_management_pb2.ReloadConfigResponse:
            configs = list(request.config.model_config_list.config)
            check_configs(configs, self._root)
            await asyncio.to_thread(check_versions, configs)
            await self._manager.set_configs(configs)
            return model_management_pb2.ReloadConfigResponse()

        return await self._calls.run("HandleReloadConfigRequest", "", context, body)


def check_configs(configs: list[Any], root: str) -> None:
    """Raises RequestError unless each model has a name of its own and stands inside `root`."""
    if not configs:
        raise invalid("the configuration names no model")
    names = [config.name for config in configs]
    if len(set(names)) < len(names) or not all(names):
        raise invalid(f"each model needs a name of its own. Received: {names[:10]}.")
    for config in configs:
        path = os.path.realpath(config.base_path)
        if os.path.commonpath([path, os.path.realpath(root)]) != os.path.realpath(root) or not config.base_path:
            raise RequestError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"`base_path` of {config.name!r} must stand inside --model_root. Received: {config.base_path!r}.",
            )


def check_versions(configs: list[Any]) -> None:
    """Raises RequestError unless each model's folder holds a version that its policy asks for.

    Without it a misspelt folder would take down the model that is served.
    """
    for config in configs:
        if not versions_to_serve(config):
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"`base_path` of {config.name!r} holds no version to serve. Received: {config.base_path!r}.",
            )


def _answered_by(loaded: LoadedVersion, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=loaded.name, signature_name=signature)
    spec.version.value = loaded.version
    return spec


def _example_protos(data: input_pb2.Input) -> tuple[Sequence[Any], Any]:
    """The examples, and the context that they share, or None."""
    kind = data.WhichOneof("kind")
    if kind == "example_list":
        return data.example_list.examples, None
    if kind == "example_list_with_context":
        return data.example_list_with_context.examples, data.example_list_with_context.context
    raise invalid("`input` holds no examples")


def _serialized(examples: Sequence[Any], context: Any) -> list[bytes]:
    """The examples as the signature reads them; a shared context is merged into each."""
    shared = context.SerializeToString() if context is not None else b""
    size = len(examples) * len(shared) + sum(example.ByteSize() for example in examples)
    if size > MAX_TENSOR_BYTES:
        raise invalid(f"{len(examples)} examples with their context take {size} bytes; the limit is {MAX_TENSOR_BYTES}")
    # Concatenated protobufs merge; an example's own feature comes last and wins.
    return [shared + example.SerializeToString() for example in examples]


def _images_of(examples: list[bytes]) -> list[bytes]:
    images = []
    for index, serialized in enumerate(examples):
        values = tf.train.Example.FromString(serialized).features.feature[EXAMPLE_KEY].bytes_list.value
        if len(values) != 1:
            raise invalid(f"image {index}: the example needs `{EXAMPLE_KEY}` with one value. Received: {len(values)}.")
        images.append(values[0])
    return images
