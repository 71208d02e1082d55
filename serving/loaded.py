"""One loaded version of a model: its signatures, its metadata and the requests that it is answering."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from fer_tf.run_folder import GRAPH_FILE
from serving.batching import Batcher, BatchingOptions
from serving.metrics import Metrics
from serving.tensors import RequestError, invalid, to_numpy
from serving.warmup import read_warmup

Arrays = dict[str, np.ndarray]


class LoadedVersion:
    """A version that can answer.

    Args:
      name: the model's name.
      version: its number.
      version_dir: the SavedModel's folder.
      executor: threads in which the network runs.
      options: how requests are batched.
      metrics: where batch sizes are counted.
    """

    def __init__(
        self,
        name: str,
        version: int,
        version_dir: str,
        executor: Executor,
        options: BatchingOptions,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self.version = version
        self.version_dir = version_dir
        self._model = tf.saved_model.load(version_dir)
        self._functions = dict(self._model.signatures)
        self.specs = {key: fn.structured_input_signature[1] for key, fn in self._functions.items()}
        self.signature_defs = _signature_defs(version_dir)
        self._executor = executor
        self._options = options
        self._metrics = metrics
        self._batchers: dict[str, Batcher] = {}
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def warm_up(self) -> int:
        """Runs the requests that travel with the model; returns how many there were."""
        logs = read_warmup(self.version_dir)
        for log in logs:
            if log.HasField("predict_log"):
                request = log.predict_log.request
                signature = request.model_spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
                self.run(signature, self.parse_inputs(signature, request.inputs))
            elif log.HasField("classify_log"):
                examples = log.classify_log.request.input.example_list.examples
                values = np.array([example.SerializeToString() for example in examples], object)
                self.run(log.classify_log.request.model_spec.signature_name, {"inputs": values})
        return len(logs)

    def spec_of(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of a signature; raises RequestError when there is none of that name."""
        if signature not in self.specs:
            raise invalid(f"signature {signature!r} is unknown; {self.name} has {sorted(self.specs)}")
        return self.specs[signature]

    def parse_inputs(self, signature: str, inputs: dict) -> Arrays:
        """Returns a request's inputs as arrays with one common first dimension.

        Raises:
          RequestError: INVALID_ARGUMENT naming the input that is missing, unknown or wrong.
        """
        specs = self.spec_of(signature)
        missing, unknown = sorted(set(specs) - set(inputs)), sorted(set(inputs) - set(specs))
        if missing or unknown:
            raise invalid(f"signature {signature!r} takes {sorted(specs)}. Missing: {missing}. Unknown: {unknown[:5]}.")
        arrays = {name: to_numpy(inputs[name], spec, name) for name, spec in specs.items()}
        if any(not values.size for values in arrays.values()):
            raise invalid("the batch is empty")
        if len({len(values) for values in arrays.values()}) > 1:
            raise invalid("the inputs differ in their first dimension")
        return arrays

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Runs the network; blocks."""
        outputs = self._functions[signature](**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: values.numpy() for name, values in outputs.items()}

    async def answer(self, signature: str, inputs: Arrays) -> Arrays:
        """Runs the network, together with whatever else waits for this signature."""
        batcher = self._batchers.get(signature)
        if batcher is None:
            batcher = self._batchers[signature] = Batcher(
                lambda arrays: self.run(signature, arrays),
                self._executor,
                self._options,
                lambda size: self._metrics.batch_size.labels(self.name).observe(size),
            )
        return await batcher.submit(inputs)

    @contextlib.contextmanager
    def held(self) -> Iterator[LoadedVersion]:
        """Keeps the version loaded while a request uses it."""
        self._open += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def drain(self) -> None:
        """Returns when every request that held the version has been answered."""
        await self._idle.wait()
        for batcher in self._batchers.values():
            await batcher.close()


def _signature_defs(version_dir: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    with open(os.path.join(version_dir, GRAPH_FILE), "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    for graph in saved_model.meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            # The loader's own marker is no signature.
            return {key: value for key, value in graph.signature_def.items() if not key.startswith("__")}
    raise RequestError(grpc.StatusCode.NOT_FOUND, f"{version_dir} has no graph tagged `serve`")
