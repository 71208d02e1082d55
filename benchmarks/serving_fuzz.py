"""Sends thousands of mutated requests to a server and watches that it goes on, answers and does not grow.

`python -m benchmarks.serving_fuzz --requests=10000` starts a server of its own with a small untrained network;
`--server` names another; `--rest=true` asks over HTTP (`benchmarks/serving_fuzz_rest.py`). Every mutated request must
end in an error code or, where the mutation left it valid, in an answer; a correct request is asked in between and must
be answered the same each time.
"""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np

from benchmarks.wrong_images import WrongImages
from fer_tf.config import EXIT_FAILED, EXIT_OK, parse, run_command
from fer_tf.errors import InputError

# Any of these says in words that the request was wrong or too much.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.CANCELLED,
}
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METHODS = (
    PREDICT,
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/tensorflow.serving.PredictionService/Nonsense",
    "/tensorflow.serving.ModelService/GetModelStatus",
)


@dataclass(frozen=True)
class FuzzConfig:
    """Flags of `python -m benchmarks.serving_fuzz`.

    Args:
      requests: how many mutated requests.
      rest: whether requests go to the HTTP port instead of gRPC's.
      server: address of a running server; empty starts one.
      pid: process id of that server on this machine, to watch its memory; 0 does not.
      seed: seed of the mutations.
    """

    requests: int = 10_000
    rest: bool = False
    server: str = ""
    pid: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.requests < 1:
            raise InputError(f"`requests` must be at least 1. Received: {self.requests}.")


@dataclass
class Outcome:
    """What the server did.

    Attributes:
      codes: how often each status came, by kind of mutation.
      surprises: mutations that ended in a status that blames the server.
      correct: how often the correct request was asked, each time with the same answer.
      rss_mb: the server's memory after warming up and at the end, megabytes.
    """

    codes: dict[str, collections.Counter]
    surprises: list[str]
    correct: int
    rss_mb: tuple[float, float]


class Mutator(WrongImages[tuple[str, bytes]]):
    """Makes wrong requests; each method is one kind."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.kinds: tuple[Callable[[], tuple[str, bytes]], ...] = (
            self.damaged_image,
            self.cut_image,
            self.random_bytes_as_image,
            self.huge_claim,
            self.wrong_dtype,
            self.wrong_shape,
            self.absent_or_unknown_input,
            self.unknown_model,
            self.huge_tensor_claim,
            self.flipped_message,
            self.random_message,
            self.other_method,
            self.many_images,
        )

    def request(self, images: Sequence[bytes], signature: str = "serving_default") -> Any:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "fa_net", signature
        values = np.empty(len(images), object)
        values[:] = images
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(values, tf.string, [len(images)]))
        return request

    def correct(self) -> Any:
        return self.request([self.jpeg, self.png])

    def _sent(self, request: Any, method: str = PREDICT) -> tuple[str, bytes]:
        return method, request.SerializeToString()

    def _among_good(self, bad: bytes) -> tuple[str, bytes]:
        images = [self._image() for _ in range(self.rng.randrange(4))]
        images.insert(self.rng.randint(0, len(images)), bad)
        return self._sent(self.request(images, self.rng.choice(("serving_default", "embed"))))

    def wrong_dtype(self) -> tuple[str, bytes]:
        request = self.correct()
        request.inputs["image_bytes"].dtype = self.rng.randrange(0, 140)
        return self._sent(request)

    def wrong_shape(self) -> tuple[str, bytes]:
        request = self.correct()
        shape = request.inputs["image_bytes"].tensor_shape
        del shape.dim[:]
        for _ in range(self.rng.choice((0, 1, 2, 3, 300))):
            shape.dim.add(size=self.rng.choice((-1, 0, 1, 2, 3, 2**31, 2**62)))
        shape.unknown_rank = self.rng.random() < 0.2
        return self._sent(request)

    def absent_or_unknown_input(self) -> tuple[str, bytes]:
        request = self.correct()
        if self.rng.random() < 0.5:
            del request.inputs["image_bytes"]
        else:
            request.inputs[self.rng.choice(("x", "images", "", "é" * 500))].dtype = 1
        if self.rng.random() < 0.3:
            request.output_filter.append("nonsense")
        return self._sent(request)

    def unknown_model(self) -> tuple[str, bytes]:
        request = self.correct()
        spec = request.model_spec
        kind = self.rng.randrange(4)
        if kind == 0:
            spec.name = self.rng.choice(("", "nobody", "../fa_net", "fa_net\x00", "x" * 10_000))
        elif kind == 1:
            spec.version.value = self.rng.choice((-1, 0, 77, 2**62))
        elif kind == 2:
            spec.version_label = self.rng.choice(("", "stable", "x" * 1000))
        else:
            spec.signature_name = self.rng.choice(("nonsense", "__saved_model_init_op", "Classify", "x" * 1000))
        return self._sent(request)

    def huge_tensor_claim(self) -> tuple[str, bytes]:
        request = self.correct()
        request.model_spec.signature_name = "predict_images"
        del request.inputs["image_bytes"]
        tensor = request.inputs["images"]
        tensor.dtype = self.rng.choice((1, 4, 4, 4, 7))
        for size in (1, self.rng.choice((0, 5, 100_000, 2**40)), self.rng.choice((0, 5, 100_000)), 3):
            tensor.tensor_shape.dim.add(size=size)
        if self.rng.random() < 0.5:
            tensor.int_val.append(self.rng.choice((0, 7, 300, -5)))
        else:
            tensor.tensor_content = self.rng.randbytes(self.rng.randrange(200))
        return self._sent(request)

    def flipped_message(self) -> tuple[str, bytes]:
        data = bytearray(self.correct().SerializeToString())
        for _ in range(self.rng.choice((1, 5, 50))):
            data[self.rng.randrange(min(len(data), 200))] = self.rng.randrange(256)
        return PREDICT, bytes(data)

    def random_message(self) -> tuple[str, bytes]:
        return self.rng.choice(METHODS), self.rng.randbytes(self.rng.randrange(3000))

    def other_method(self) -> tuple[str, bytes]:
        from tensorflow_serving.apis import classification_pb2

        if self.rng.random() < 0.3:
            return self._sent(self.correct(), self.rng.choice(METHODS))
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "fa_net"
        request.model_spec.signature_name = self.rng.choice(("classify", "", "embed"))
        for _ in range(self.rng.randrange(3)):
            feature = request.input.example_list.examples.add().features.feature[
                self.rng.choice(("image/encoded", "image/encoded", "other"))
            ]
            if self.rng.random() < 0.5:
                feature.bytes_list.value.extend([self.rng.randbytes(50)] * self.rng.randrange(3))
            else:
                feature.float_list.value.append(1.0)
        return self._sent(request, METHODS[1])

    def many_images(self) -> tuple[str, bytes]:
        return self._sent(self.request([b"\xff\xd8\xff"] * self.rng.choice((65, 500, 5000))))


class Target(Protocol):
    """A way to ask a server: gRPC here, HTTP in `benchmarks/serving_fuzz_rest.py`."""

    rng: random.Random

    def answer(self) -> np.ndarray:
        """Returns what the server answers to the correct request."""

    def ask_wrongly(self) -> tuple[str, str, bool]:
        """Sends a mutated request; returns its kind, the answer's code, and whether that is a refusal or an answer."""

    def cut(self) -> None:
        """Breaks a connection off in the middle of a request."""


class GrpcTarget:
    """Asks over gRPC.

    Args:
      connection: an open `fer_tf.recognition.server.Connection`.
      seed: seed of the mutations.
    """

    def __init__(self, connection: Any, seed: int) -> None:
        self._connection, self._mutator = connection, Mutator(seed)
        self.rng = self._mutator.rng

    def answer(self) -> np.ndarray:
        """Returns the probabilities of the two correct pictures."""
        answers = self._connection.classify_encoded([self._mutator.jpeg, self._mutator.png])
        return np.stack([answer.probabilities for answer in answers])

    def ask_wrongly(self) -> tuple[str, str, bool]:
        """Sends a mutated request; an answer is no surprise, since a flipped byte may leave a request valid."""
        kind = self.rng.choice(self._mutator.kinds)
        method, payload = kind()
        code = _send(self._connection.channel, method, payload)
        return kind.__name__, code.name, code is grpc.StatusCode.OK or code in REFUSALS

    def cut(self) -> None:
        """Sends the start of HTTP/2 and half a request or noise, and is gone."""
        cut_connection(self._connection.address, self.rng)


def fuzz(target: Target, count: int, rss_fn: Callable[[], float] = lambda: 0.0) -> Outcome:
    """Sends mutated requests and returns what came of them.

    Args:
      target: how the server is asked.
      count: how many mutated requests.
      rss_fn: the server's memory in megabytes.

    Raises:
      RuntimeError: when a correct request between them is not answered as the first time.
    """
    codes: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    surprises: list[str] = []
    correct = 0
    warm = 0.0
    expected = target.answer()
    for number in range(count):
        # Buffers and caches fill first; growth counts from a tenth on.
        if number == max(count // 10, min(count - 1, 200)):
            warm = rss_fn()
        if number % 50 == 0:
            if not np.allclose(target.answer(), expected, atol=1e-5):
                raise RuntimeError(f"after {number} requests the correct request has another answer")
            correct += 1
        if number % 40 == 39:
            target.cut()
            codes["cut_connection"]["CUT"] += 1
            continue
        name, code, fair = target.ask_wrongly()
        codes[name][code] += 1
        if not fair:
            surprises.append(f"{name}: {code}")
    if not np.allclose(target.answer(), expected, atol=1e-5):
        raise RuntimeError("after all requests the correct request has another answer")
    return Outcome(dict(codes), surprises, correct + 1, (warm, rss_fn()))


def _send(channel: grpc.Channel, method: str, payload: bytes) -> grpc.StatusCode:
    call = channel.unary_unary(method, lambda data: data, lambda data: data)
    try:
        call(payload, timeout=30)
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()


def cut_connection(address: str, rng: random.Random) -> None:
    """Opens a connection, sends the start of HTTP/2 and half a request or noise, and is gone."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        headers = struct.pack(">I", 400)[1:] + b"\x01\x04" + struct.pack(">I", 1)
        raw.sendall(rng.choice((b"", start, start + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + headers, rng.randbytes(300))))


def rss_mb(pid: int) -> float:
    """Returns a process's resident memory, megabytes."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; fails when the server blamed itself, fell over or grew."""
    config, _ = parse(FuzzConfig, argv, prog="python -m benchmarks.serving_fuzz", description=__doc__.split("\n")[0])
    from benchmarks.serving_setup import ServerProcess, untrained_export

    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        address, pid = config.server, config.pid
        if not address:
            models = stack.enter_context(untrained_export(image_size=32))
            server = stack.enter_context(ServerProcess(f"--model_base_path={models}"))
            address, pid = server.http if config.rest else server.address, server.process.pid
        rss_fn = (lambda: rss_mb(pid)) if pid else (lambda: 0.0)
        target: Target
        if config.rest:
            from benchmarks.serving_fuzz_rest import RestTarget

            target = RestTarget(address, config.seed)
        else:
            from fer_tf.recognition.server import Connection

            target = GrpcTarget(stack.enter_context(Connection(address, timeout_s=60)), config.seed)
        outcome = fuzz(target, config.requests, rss_fn)
    for kind, codes in sorted(outcome.codes.items()):
        print(f"{kind:24s} {dict(codes.most_common())}")
    grown = outcome.rss_mb[1] - outcome.rss_mb[0]
    print(
        f"{config.requests} mutated requests in {time.monotonic() - start:.0f} s, "
        f"{outcome.correct} correct ones between them answered alike; "
        f"server memory {outcome.rss_mb[0]:.0f} MB after a tenth, {outcome.rss_mb[1]:.0f} MB at the end "
        f"({grown:+.0f} MB); surprises: {outcome.surprises[:5] or 'none'}"
    )
    return EXIT_FAILED if outcome.surprises or grown > 100 else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
