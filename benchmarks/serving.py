"""Requests a second and latencies of the model server, beside the bare SavedModel called with the same batches.

`python -m benchmarks.serving` exports an untrained Fa-Net (speed does not depend on the weights; `--model_base_path`
takes an export), then measures, in rounds that alternate so that a noisy machine hits all alike:
  bare       the SavedModel called in process, one image at a time and in the batches that the server may form
  batched    the server with --enable_batching=true, at 1, 8 and 64 concurrent clients
  rest       the batched server over HTTP, the same picture as base64 in JSON
  unbatched  the same server with --enable_batching=false
The clients run in one process of their own with asynchronous calls, each sends its next request when the last is
answered. Client, server and bare model share the machine: on two cores the clients' own work counts against the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError


@dataclass(frozen=True)
class BenchmarkConfig:
    """Flags of `python -m benchmarks.serving`.

    Args:
      model_base_path: an export to measure; empty makes one of an untrained network.
      image_size: side of that network's input, pixels.
      precision: float32 or bfloat16, of that network.
      clients: concurrent clients, comma-separated.
      seconds: length of one measurement.
      rounds: how often each measurement is repeated; medians are printed.
      max_batch_size: the server's largest batch, and the bare model's.
      batch_timeout_micros: the server's longest wait for a fuller batch.
      num_batch_threads: batches that the server runs side by side.
      load: internal, address that this process sends requests to instead of measuring everything.
      rest: internal, whether it sends them over HTTP.
      payload: internal, file with the request that it sends.
      server_pid: internal, process whose processor time it looks at.
    """

    model_base_path: str = ""
    image_size: int = 128
    precision: str = "float32"
    clients: str = "1,8,64"
    seconds: float = 5.0
    rounds: int = 3
    max_batch_size: int = 64
    batch_timeout_micros: int = 2000
    num_batch_threads: int = 2
    load: str = ""
    rest: bool = False
    payload: str = ""
    server_pid: int = 0

    def __post_init__(self) -> None:
        if not all(part.strip().isdigit() and int(part) > 0 for part in self.clients.split(",")):
            raise InputError(f"`clients` must be numbers such as 1,8,64. Received: {self.clients!r}.")
        if self.seconds <= 0 or self.rounds < 1:
            raise InputError("`seconds` must be above 0 and `rounds` at least 1")

    @property
    def client_counts(self) -> list[int]:
        return [int(part) for part in self.clients.split(",")]


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
      rate: images a second.
      p50, p95, p99: latencies, milliseconds.
      cpu_ms: processor time of the server, or of the bare model's process, for one image, milliseconds; on a machine
        that others use too it says more than the rate.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    cpu_ms: float = float("nan")

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float, images: int = 1, cpu: float = float("nan")) -> Measured:
        p50, p95, p99 = np.percentile(np.array(latencies) * 1000, (50, 95, 99))
        count = len(latencies) * images
        return cls(count / seconds, float(p50), float(p95), float(p99), 1000 * cpu / count)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(BenchmarkConfig, argv, prog="python -m benchmarks.serving", description=__doc__.split("\n")[0])
    if config.load:
        with open(config.payload, "rb") as file:
            payload = file.read()
        measured = asyncio.run(
            (send_rest_load if config.rest else send_load)(
                config.load, payload, config.client_counts[0], config.seconds, config.server_pid
            )
        )
        print(json.dumps(measured.__dict__))
        return EXIT_OK
    from benchmarks.serving_setup import ServerProcess, untrained_export

    with contextlib.ExitStack() as stack:
        models = config.model_base_path or stack.enter_context(untrained_export(config.image_size, config.precision))
        flags = [
            f"--model_base_path={models}",
            f"--max_batch_size={config.max_batch_size}",
            f"--batch_timeout_micros={config.batch_timeout_micros}",
            f"--num_batch_threads={config.num_batch_threads}",
        ]
        servers = {
            "batched": stack.enter_context(ServerProcess(*flags)),
            "unbatched": stack.enter_context(ServerProcess(*flags, "--enable_batching=false")),
        }
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, request in (("grpc", request_bytes()), ("rest", rest_request_bytes())):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(request)
        results = measure(config, models, servers, folder)
    report(config, results)
    return EXIT_OK


def measure(
    config: BenchmarkConfig, models: str, servers: dict[str, Any], payloads: str
) -> dict[tuple[str, int], list[Measured]]:
    """Returns every round's numbers by (what, clients); for the bare model `clients` is the batch."""
    bare = Bare(models)
    results: dict[tuple[str, int], list[Measured]] = {}
    for _ in range(config.rounds):
        for count in config.client_counts:
            batch = min(count, config.max_batch_size)
            results.setdefault(("bare", count), []).append(bare.run(batch, config.seconds))
            for name, server, rest in (
                ("batched", servers["batched"], False),
                ("rest", servers["batched"], True),
                ("unbatched", servers["unbatched"], False),
            ):
                results.setdefault((name, count), []).append(
                    from_another_process(server, rest, payloads, count, config.seconds)
                )
    return results


class Bare:
    """The SavedModel called in this process, without a server.

    Args:
      models: the export's folder.
    """

    def __init__(self, models: str) -> None:
        import tensorflow as tf

        from serving.export import newest_version_dir
        from serving.warmup import example_face

        self._model = tf.saved_model.load(newest_version_dir(models))
        self._signature = self._model.signatures["serving_default"]
        self._face = example_face()

    def run(self, batch: int, seconds: float) -> Measured:
        """Calls it again and again, inputs and outputs as Python values, as the server has to."""
        import tensorflow as tf

        latencies = []
        for warming in (True, False):
            end = time.perf_counter() + (0.5 if warming else seconds)
            begin, cpu = time.perf_counter(), time.process_time()
            latencies.clear()
            while time.perf_counter() < end:
                start = time.perf_counter()
                outputs = self._signature(image_bytes=tf.constant([self._face] * batch))
                for values in outputs.values():
                    values.numpy()
                latencies.append(time.perf_counter() - start)
        return Measured.of(latencies, time.perf_counter() - begin, batch, time.process_time() - cpu)


def from_another_process(server: Any, rest: bool, payloads: str, clients: int, seconds: float) -> Measured:
    """Sends load from another process, as clients would; that one does not import TensorFlow."""
    payload = os.path.join(payloads, "rest" if rest else "grpc")
    address = server.http if rest else server.address
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving",
        f"--load={address}",
        f"--payload={payload}",
        f"--rest={rest}",
    ]
    output = subprocess.run(
        [*command, f"--clients={clients}", f"--seconds={seconds}", f"--server_pid={server.process.pid}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return Measured(**json.loads(output.strip().splitlines()[-1]))


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has taken; nan where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def send_load(address: str, payload: bytes, clients: int, seconds: float, pid: int) -> Measured:
    """Lets clients ask one image after another and returns what they saw, and what process `pid` took for it."""
    import grpc

    async with grpc.aio.insecure_channel(address) as channel:
        # Bytes in, bytes out: decoding the answer is left out, so that the clients take little of the machine.
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", None, None)
        return await measured_load([lambda: call(payload)] * clients, seconds, pid)


async def send_rest_load(address: str, payload: bytes, clients: int, seconds: float, pid: int) -> Measured:
    """The same over HTTP, each client on a connection of its own that stays open."""
    host, port = address.rsplit(":", 1)

    def client_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Callable[[], Awaitable[Any]]:
        async def call() -> None:
            writer.write(payload)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.split(b"\r\n")[0].decode())

        return call

    connections = [await asyncio.open_connection(host, int(port)) for _ in range(clients)]
    measured = await measured_load([client_on(*connection) for connection in connections], seconds, pid)
    for _, writer in connections:
        writer.close()
    return measured


async def measured_load(calls: Sequence[Callable[[], Awaitable[Any]]], seconds: float, pid: int) -> Measured:
    """Lets each client call again when it was answered, a second to warm up and then `seconds`."""
    latencies: list[float] = []

    async def client(call: Callable[[], Awaitable[Any]], end: float) -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - start)

    warm = time.perf_counter() + 1.0
    await asyncio.gather(*(client(call, warm) for call in calls))
    latencies.clear()
    begin, cpu = time.perf_counter(), cpu_seconds(pid)
    await asyncio.gather(*(client(call, begin + seconds) for call in calls))
    return Measured.of(latencies, time.perf_counter() - begin, cpu=cpu_seconds(pid) - cpu)


def request_bytes() -> bytes:
    """A Predict request with one face."""
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import predict_pb2

    from serving.warmup import example_face

    request = predict_pb2.PredictRequest(output_filter=["probabilities"])
    request.model_spec.name, request.model_spec.signature_name = "fa_net", "serving_default"
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[example_face()])
    tensor.tensor_shape.dim.add(size=1)
    request.inputs["image_bytes"].CopyFrom(tensor)
    return request.SerializeToString()


def rest_request_bytes() -> bytes:
    """The same question as an HTTP request."""
    import base64

    from serving.warmup import example_face

    body = json.dumps({"instances": [{"b64": base64.b64encode(example_face()).decode()}]}).encode()
    head = f"POST /v1/models/fa_net:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def report(config: BenchmarkConfig, results: dict[tuple[str, int], list[Measured]]) -> None:
    """Prints medians over the rounds, their spread, and the ratios that matter."""
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "grpcio"))
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f} (with this benchmark), {versions}")
    print(f"network {config.model_base_path or f'{config.image_size} x {config.image_size}, {config.precision}'}")
    print(f"medians of {config.rounds} rounds of {config.seconds:g} s; in brackets the rounds' lowest and highest rate")

    def middle(key: tuple[str, int], field: str) -> float:
        return statistics.median(getattr(round_, field) for round_ in results[key])

    heads = " ".join(f"{head:>8s}" for head in ("p50 ms", "p95 ms", "p99 ms"))
    print(f"{'':10s} {'clients':>7s} {'images/s':>9s} {'':>17s} {heads} {'CPU ms/image':>13s}")
    for name, count in sorted(results, key=lambda key: (key[1], key[0])):
        rates = [round_.rate for round_ in results[name, count]]
        spread = f"[{min(rates):.0f} to {max(rates):.0f}]"
        numbers = [middle((name, count), field) for field in ("p50", "p95", "p99")]
        cpu = middle((name, count), "cpu_ms")
        shown = "batch" if name == "bare" else "      "
        print(
            f"{name:10s} {count:7d} {statistics.median(rates):9.1f} {spread:>17s} "
            + " ".join(f"{value:8.1f}" for value in numbers)
            + f" {cpu:13.2f}  {shown}"
        )
    most, least = max(config.client_counts), min(config.client_counts)
    # Ratios round by round: what disturbs one round disturbs both sides.
    for other, goal in (("bare", 0.85), ("unbatched", 3.0)):
        pairs = zip(results["batched", most], results[other, most], strict=True)
        ratios = [(a.rate / b.rate, b.cpu_ms / a.cpu_ms) for a, b in pairs]
        rate, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
        print(f"batched / {other} images a second at {most} clients: {rate:.2f} (goal {goal}); by CPU time {cpu:.2f}")
    rates, extras = zip(
        *(
            (a.rate / b.rate, a.cpu_ms - b.cpu_ms)
            for a, b in zip(results["rest", most], results["batched", most], strict=True)
        ),
        strict=True,
    )
    cpu = statistics.median(extras)
    print(
        f"rest / gRPC images a second at {most} clients: {statistics.median(rates):.2f}; {cpu:+.2f} ms of CPU an image"
    )
    pairs = zip(results["batched", least], results["bare", least], strict=True)
    extra = statistics.median(a.p50 - b.p50 for a, b in pairs)
    print(f"p50 of {least} client over the bare call: {extra:+.2f} ms (goal 3)")


if __name__ == "__main__":
    sys.exit(run_command(main))
