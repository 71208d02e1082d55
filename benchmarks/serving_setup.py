"""What the serving benchmarks share: an export of an untrained network and a server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@contextlib.contextmanager
def untrained_export(image_size: int, precision: str = "float32", variant: str = "light_cnn_9") -> Iterator[str]:
    """Yields a model folder with one version of an untrained Fa-Net: speed does not depend on the weights.

    Args:
      image_size: side of the network's input, pixels.
      precision: `float32` or `bfloat16`.
      variant: which LightCNN.
    """
    from fer_tf.models import fa_net
    from serving.export import export_saved_model

    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        spec = fa_net.FaNetSpec(EXPRESSIONS, variant=variant, image_size=image_size, temperature=20.0)
        fa_net.save(run, fa_net.build(spec), spec)
        models = os.path.join(folder, "models", "fa_net")
        export_saved_model(run, models, precision=precision)
        yield models


class ServerProcess:
    """`python -m serving.server` on free ports; as a context it ends with the block.

    Args:
      flags: the server's flags.

    Attributes:
      process: the server.
      address, http: where it answers gRPC and HTTP.
      log: its lines on standard error so far.
    """

    def __init__(self, *flags: str) -> None:
        self.process = self.start("serving.server", "--port=0", "--rest_api_port=0", *flags)
        self.log: list[str] = []
        # A pipe that nobody empties would stop the server.
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        if not line.startswith("ready: "):
            self.process.wait(10)
            self._reader.join(5)
            raise RuntimeError(f"the server did not start: {line!r} {''.join(self.log)}")
        found = dict(pair.split("=") for pair in line.split()[1:])
        self.address, self.http = found["grpc"], found["http"]

    def start(self, module: str, *flags: str) -> Any:
        """Begins `python -m MODULE`; returns the process."""
        command = [sys.executable, "-m", module, *flags]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
