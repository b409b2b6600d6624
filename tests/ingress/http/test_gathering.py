"""What is written in one turn of the loop leaves in one piece, and closing loses none of it."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.ingress.http.gathering import HELD_MAX, GatheringTransport


class Wire(asyncio.Transport):
    """What left, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def gathering() -> tuple[Wire, GatheringTransport]:
    wire = Wire()
    return wire, GatheringTransport(wire, asyncio.get_running_loop())


def test_each_turn_is_one_piece() -> None:
    async def run() -> None:
        wire, transport = await gathering()
        transport.write(b"head")
        transport.write(b"body")
        assert wire.pieces == []
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)
        assert wire.pieces == [b"headbody", b"next"]

    asyncio.run(run())


def test_much_does_not_wait_for_the_end_of_the_turn() -> None:
    async def run() -> None:
        wire, transport = await gathering()
        transport.write(b"x" * HELD_MAX)
        assert wire.pieces == []
        transport.write(b"y")
        assert wire.pieces == [b"x" * HELD_MAX + b"y"]

    asyncio.run(run())


def test_closing_sends_what_is_held_and_aborting_does_not() -> None:
    async def run() -> None:
        wire, transport = await gathering()
        transport.write(b"last")
        transport.close()
        assert (wire.pieces, transport.is_closing()) == ([b"last"], True)
        wire, transport = await gathering()
        transport.write(b"last")
        transport.abort()
        await asyncio.sleep(0)
        assert (wire.pieces, transport.is_closing()) == ([], True)

    asyncio.run(run())


def test_nothing_is_written_to_a_connection_that_closed_meanwhile() -> None:
    async def run() -> None:
        wire, transport = await gathering()
        transport.write(b"late")
        wire.close()
        await asyncio.sleep(0)
        assert wire.pieces == []

    asyncio.run(run())
