"""Why a model server is not reached: one message for each cause."""

from __future__ import annotations

import contextlib
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


def goes_past_proxy(host: str) -> bool:
    """Returns whether the variables of exceptions name a host, as gRPC reads them: its end, or a net that it is in."""
    for entry in os.environ.get(_exceptions(), "").lower().split(","):
        entry = entry.strip()
        if entry and host.lower().endswith(entry):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def _exceptions() -> str:
    """The variable that names what is reached without a proxy; where gRPC has its own, it does not read the other."""
    return "no_grpc_proxy" if "no_grpc_proxy" in os.environ else "no_proxy"


def why_no_answer(address: str, over_tls: bool = False) -> str:
    """Returns what is known about an address at which no gRPC server answers, with advice.

    Args:
      address: `host:port`, as it was given.
      over_tls: whether it was asked over TLS.
    """
    if "://" in address:
        return f"a server is HOST:PORT without {address.split('://')[0]}://. Received: {address!r}"
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        return f"a server is HOST:PORT, such as localhost:8500. Received: {address!r}"
    proxy = next((name for name in PROXY_VARIABLES if os.environ.get(name)), "")
    if proxy and not is_loopback(address) and not goes_past_proxy(host):
        return (
            f"no server answers at {address} through the proxy {os.environ[proxy]} that `{proxy}` names; "
            f"{_exceptions()}={host} goes past it"
        )
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except socket.gaierror:
        return f"no server answers at {address}: no machine of the name {host!r} is known"
    except ConnectionRefusedError:
        return f"no server answers at {address}; {START}"
    except OSError as error:
        return f"no server answers at {address}: {error.strerror or error}; {START}"
    rest = "the REST port is another one (8501 where gRPC has 8500)"
    if over_tls:
        return (
            f"something listens at {address}, but no TLS comes about: `ca_cert` must hold the authority that signed "
            f"the server's certificate, and the certificate must name {host!r}; a server in the clear is asked "
            f"without `ca_cert`, and {rest}"
        )
    return (
        f"something listens at {address} but speaks no gRPC in the clear: {rest}, and one with TLS is asked by "
        "serving.client with --ca_cert"
    )
