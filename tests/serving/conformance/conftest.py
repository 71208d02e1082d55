"""Where clients that nobody here wrote come from: each is found, or made below `.conformance`, or skipped out loud."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

from benchmarks.serving_setup import ROOT, ServerProcess
from fer_tf.recognition.server import Connection
from tests.serving.conftest import encode, face_crops

CLIENTS = Path(__file__).parent / "clients"
MADE = ROOT / ".conformance"
GO = {
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0",
}


def skip(client: str, why: object) -> None:
    pytest.skip(f"NOT TESTED: {client}: {why}")


def make(client: str, command: list[str], **options: object) -> None:
    """Runs what brings a client; the test is skipped with the reason when it fails."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900, **options)
    except FileNotFoundError as error:
        skip(client, error)
    except subprocess.CalledProcessError as error:
        skip(client, error.stderr.strip().splitlines()[-1:] or error)
    except subprocess.TimeoutExpired as error:
        skip(client, error)


def program(name: str) -> str:
    """A program's path: the one on PATH, or of its official Go module."""
    found = shutil.which(name) or shutil.which(name, path=str(MADE / "bin"))
    if not found and name in GO:
        environment = {**os.environ, "GOBIN": str(MADE / "bin")}
        make(name, ["go", "install", GO[name]], env=environment)
        found = shutil.which(name, path=str(MADE / "bin"))
    if not found:
        skip(name, "it is not installed")
    return found


def python_with(name: str, *packages: str) -> str:
    """The interpreter of an environment of its own: these packages need other versions than the project."""
    folder = MADE / name
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        make(name, [sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        make(name, [*pip, *packages])
        (folder / "made").touch()
    return str(folder / "bin" / "python")


def node_folder() -> Path:
    """A folder with the Node client and its packages."""
    folder = MADE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "client.js"):
        shutil.copyfile(CLIENTS / name, folder / name)
    if not (folder / "node_modules" / "@grpc" / "grpc-js").exists():
        make("@grpc/grpc-js", ["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder)
    return folder


def run(*command: object, cwd: Path | None = None) -> str:
    """What a client prints; its own words when it fails."""
    found = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, f"{command[:3]}: {found.stdout[-1000:]} {found.stderr[-2000:]}"
    return found.stdout


class Served:
    """A server in a process of its own, a face, and what this project's own client is told about it.

    Attributes:
      grpc, http: where it answers.
      face, pixels: files with the face as PNG and as an array (1, 128, 128, 3).
      encoded: the PNG.
      answer: this project's own client's.
    """

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.grpc, self.http = server.address, server.http
        # Small enough for a command line.
        crop = np.ascontiguousarray(face_crops(1)[0][::2, ::2])
        self.encoded = encode(crop, ".png")
        self.face, self.pixels, self.protos = folder / "face.png", folder / "face.npy", folder / "protos.bin"
        self.face.write_bytes(self.encoded)
        np.save(self.pixels, crop[None])
        self.protos.write_bytes(descriptors().SerializeToString())
        with Connection(server.address, timeout_s=60) as connection:
            (self.answer,) = connection.classify_encoded([self.encoded])


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The official protos of both services with all that they import, those first."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor: object) -> None:
        if descriptor.name not in files:
            for needed in descriptor.dependencies:
                add(needed)
            files[descriptor.name] = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(files[descriptor.name])

    for module in (prediction_service_pb2, model_service_pb2):
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values())


@pytest.fixture(scope="session")
def served(exported: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ServerProcess(f"--model_base_path={exported}", "--enable_reflection=true") as server:
        yield Served(server, tmp_path_factory.mktemp("served"))
