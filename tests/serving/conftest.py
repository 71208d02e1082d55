"""Servers and clients for the tests; the contract tests can also be pointed at another server.

`FER_TF_SERVER=host:port pytest tests/serving/test_server.py` runs the protocol's tests against that address, such as a
real TensorFlow Serving with an export of any Fa-Net.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from benchmarks.serving_setup import ServerProcess
from fer_tf.recognition.server import Connection
from tests import programs
from tests.conftest import made_once
from tests.toy_data import EXPRESSIONS, draw

POSES = ("front", "half_left", "half_right", "bird_view")


def face_crops(count: int) -> list[np.ndarray]:
    """Drawn faces with noise of their own, uint8 (256, 256, 3) RGB."""
    rng = np.random.default_rng(0)
    crops = []
    for index in range(count):
        image, _, _ = draw(EXPRESSIONS[index % 4], POSES[index // 4 % 4], index // 16, wobble=index % 7)
        noise = rng.standard_normal(image.shape, np.float32)
        crops.append(np.clip(image + 12 * noise, 0, 255).astype(np.uint8))
    return crops


def encode(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def write_wide_clip(path: Path) -> str:
    """Three frames of 128 x 96 pixels, each pixel a third wider than high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for level in (60, 120, 180):
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


@pytest.fixture(scope="session")
def faces() -> list[bytes]:
    """64 different face crops as JPEG."""
    return [encode(crop) for crop in face_crops(64)]


class ForkedServer(ServerProcess):
    """A server whose process begins with TensorFlow imported."""

    def start(self, module: str, *flags: str) -> programs.Module:
        return programs.Module(module, *flags)


@pytest.fixture
def server_process() -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers with flags; those still running are stopped after the test."""
    started: list[ServerProcess] = []

    def start(*flags: str) -> ServerProcess:
        started.append(ForkedServer(*flags))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@contextlib.contextmanager
def serving(**flags: object) -> Iterator[object]:
    """A server inside the test's process, in a thread with an event loop of its own."""
    from serving.config import ServerConfig
    from serving.server import Server

    server = None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def make() -> Server:
        made = Server(ServerConfig(**{"port": 0, "rest_api_port": 0, **flags}))
        await made.start()
        return made

    try:
        server = asyncio.run_coroutine_threadsafe(make(), loop).result(120)
        server.address, server.http = f"127.0.0.1:{server.port}", f"127.0.0.1:{server.http_port}"
        yield server
    finally:
        if server:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An export of a network of three layers, which a server loads in half the time: for what is not about answers."""
    from fer_tf.models import fa_net
    from serving.export import export_saved_model
    from tests.trainer.conftest import small_networks

    def make(folder: Path) -> None:
        spec = fa_net.FaNetSpec(EXPRESSIONS, image_size=32, task="er_ss")
        with small_networks():
            fa_net.save(str(folder / "run"), fa_net.build(spec), spec)
            export_saved_model(str(folder / "run"), str(folder / "fa_net"))

    return str(made_once(tmp_path_factory, "small", make) / "fa_net")


@pytest.fixture
def connection(address: str) -> Iterator[Connection]:
    with Connection(address, timeout_s=60) as opened:
        yield opened


@pytest.fixture(scope="session")
def embedded() -> bool:
    """Whether the server under test is this project's own."""
    return not os.environ.get("FER_TF_SERVER")
