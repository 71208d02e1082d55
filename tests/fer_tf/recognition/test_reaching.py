"""A server that is not reached is told with its cause, and this machine's own is reached past a proxy."""

from __future__ import annotations

import socket
from concurrent import futures

import grpc
import pytest

from fer_tf.recognition.reaching import goes_past_proxy, is_loopback, why_no_answer
from fer_tf.recognition.server import Connection


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_each_cause_has_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    assert "without http://" in why_no_answer("http://localhost:8500")
    assert "HOST:PORT" in why_no_answer("localhost") and "HOST:PORT" in why_no_answer("localhost:grpc")
    assert "'no.such.invalid' is known" in why_no_answer("no.such.invalid:8500")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert "REST port" in why_no_answer(address) and "serving.client with --ca_cert" in why_no_answer(address)
        over_tls = why_no_answer(address, over_tls=True)
        assert "no TLS comes about: `ca_cert` must hold the authority" in over_tls and "--ca_cert" not in over_tls
    assert "start one with" in why_no_answer(address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "`http_proxy` names" in why_no_answer("models.example:8500")
    assert "proxy" not in why_no_answer(address)


def test_a_host_that_grpc_reaches_past_the_proxy_is_not_told_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for exceptions in ("other.invalid, .INVALID", "models.invalid"):
        monkeypatch.setenv("no_proxy", exceptions)
        assert "no machine of the name 'models.invalid' is known" in why_no_answer("models.invalid:8500")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,fe80::/10")
    assert goes_past_proxy("10.1.2.3") and goes_past_proxy("fe80::1") and not goes_past_proxy("11.1.2.3")
    assert "no_proxy=models.invalid goes past it" in why_no_answer("models.invalid:8500")
    # Where gRPC has a variable of its own, it does not look at the other one.
    monkeypatch.setenv("no_proxy", "models.invalid")
    monkeypatch.setenv("no_grpc_proxy", "other.invalid")
    assert "no_grpc_proxy=models.invalid goes past it" in why_no_answer("models.invalid:8500")


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
