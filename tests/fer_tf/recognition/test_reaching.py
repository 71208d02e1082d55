"""A server that is not reached is told with its cause, and this machine's own is reached past a proxy."""

from __future__ import annotations

import socket
from concurrent import futures

import grpc
import pytest

from fer_tf.recognition.reaching import is_loopback, why_no_answer
from fer_tf.recognition.server import Connection


def test_each_cause_has_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert "without http://" in why_no_answer("http://localhost:8500")
    assert "HOST:PORT" in why_no_answer("localhost") and "HOST:PORT" in why_no_answer("localhost:grpc")
    assert "'no.such.invalid' is known" in why_no_answer("no.such.invalid:8500")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert "REST port" in why_no_answer(address) and "--ca_cert" in why_no_answer(address)
    assert "start one with" in why_no_answer(address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "`http_proxy` names" in why_no_answer("models.example:8500")
    assert "proxy" not in why_no_answer(address)


def test_this_machine_is_reached_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_loopback("localhost:1") and is_loopback("127.0.0.2:1") and is_loopback("[::1]:1")
    assert not is_loopback("models.example:1") and not is_loopback("10.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Connection(f"localhost:{port}") as connection:
            connection.wait(10)
    finally:
        server.stop(0)
