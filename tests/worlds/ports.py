"""Ports for the servers of tests: one that is given out is nobody else's until the tests end."""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for a server that sets SO_REUSEADDR.

    A socket that is bound to it and never listens keeps it: the system gives it to no other
    test's server and to no client, and who connects before the server listens is refused.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    port: int = holder.getsockname()[1]
    return port
