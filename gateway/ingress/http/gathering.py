"""A transport that sends what is written in one turn of the loop in one piece.

Uvicorn writes the head of an answer and its body apart, and uvloop hands each to the kernel at
once: two system calls an answer, where one does. No more than HELD_MAX bytes wait for the end of
the turn.
"""

from __future__ import annotations

import asyncio
from typing import Any

HELD_MAX = 64 * 1024


class GatheringTransport(asyncio.Transport):
    """Stands before a connection's own transport. Closing sends what is held, aborting drops it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._size += len(data)
        if self._size > HELD_MAX:
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def abort(self) -> None:
        self._held.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def _send(self) -> None:
        held = self._held
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))
        held.clear()
        self._size = 0
