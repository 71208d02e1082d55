"""Hosts to listen on, by name or by number, of IPv6 too."""

from __future__ import annotations

import os
import socket


def bare(host: str) -> str:
    """Returns a host as sockets take it: `::1` for `[::1]`."""
    return host.strip("[]")


def bracketed(host: str) -> str:
    """Returns a host as addresses take it before a port: `[::1]` for `::1`."""
    return f"[{bare(host)}]" if ":" in host else host


def listener(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; raises OSError where it cannot."""
    return socket.create_server((bare(host), port), family=family(host))


def family(host: str) -> socket.AddressFamily:
    """Returns the kind of sockets that a host needs."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def ask_without_proxy(host: str) -> None:
    """Has this process ask this machine without a proxy, which would not find it."""
    names = ("no_proxy", "NO_PROXY")
    # Some look at one of them, some at the other.
    known = [*(os.environ.get(name, "") for name in names), "localhost", "127.0.0.1", bare(host)]
    os.environ |= dict.fromkeys(names, ",".join(filter(None, known)))
