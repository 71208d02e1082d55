"""Clients that keep a server busy while something happens to it."""

from __future__ import annotations

import threading

import grpc

from fer_tf.recognition.server import Connection
from tests.serving.test_server import predict_request


class Load:
    """Clients that ask without pause; notes each answer's version and each failure."""

    def __init__(self, address: str, faces: list[bytes], clients: int = 6) -> None:
        self.versions: list[int] = []
        self.failures: list[grpc.RpcError] = []
        self.clients = clients
        self._stop = threading.Event()
        self._address, self._faces = address, faces
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, number: int) -> None:
        with Connection(self._address) as connection:
            request = predict_request([self._faces[number]])
            while not self._stop.is_set():
                try:
                    response = connection.stub.Predict(request, timeout=60)
                    self.versions.append(response.model_spec.version.value)
                except grpc.RpcError as error:
                    self.failures.append(error)
                    return

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
