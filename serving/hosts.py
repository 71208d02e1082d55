"""Hosts to listen on, by name or by number, of IPv6 too."""

from __future__ import annotations

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
