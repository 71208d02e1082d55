"""Why a model server is not reached: one message for each cause."""

from __future__ import annotations

import ipaddress
import os
import socket

START = "start one with `python -m serving.server`, or name another"
# As gRPC looks for them.
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def is_loopback(address: str) -> bool:
    """Returns whether `host:port` is this machine's own, which no proxy can reach."""
    host = address.rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def why_no_answer(address: str) -> str:
    """Returns what is known about an address at which no gRPC server answers, with advice."""
    if "://" in address:
        return f"a server is HOST:PORT without {address.split('://')[0]}://. Received: {address!r}"
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return f"a server is HOST:PORT, such as localhost:8500. Received: {address!r}"
    proxy = next((name for name in PROXY_VARIABLES if os.environ.get(name)), "")
    if proxy and not is_loopback(address):
        return (
            f"no server answers at {address} through the proxy {os.environ[proxy]} that `{proxy}` names; "
            f"no_proxy={host} goes past it"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except socket.gaierror:
        return f"no server answers at {address}: no machine of the name {host!r} is known"
    except ConnectionRefusedError:
        return f"no server answers at {address}; {START}"
    except OSError as error:
        return f"no server answers at {address}: {error.strerror or error}; {START}"
    return (
        f"something listens at {address} but speaks no gRPC in the clear: the REST port is another one (8501 where "
        "gRPC has 8500), and one with TLS is asked by serving.client or the demo with --ca_cert"
    )
