"""A mail server that answers what a test says, stage by stage, and keeps what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.worlds.raw_server import Peer, server_context, serving

GOOD = {
    "HELLO": "220 mail.example ready",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "END": "250 2.0.0 queued as 7",
    "RSET": "250 2.0.0 ok",
    "QUIT": "221 bye",
}


@dataclass
class MailServer:
    """`says` holds, by stage, what to answer instead of what is good: the next ones in turn.
    An empty text closes the connection, "hang" answers never."""

    offers: tuple[str, ...] = ("PIPELINING", "SIZE 1000000", "AUTH PLAIN LOGIN", "STARTTLS")
    says: dict[str, list[str]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    hanging: trio.Event = field(default_factory=trio.Event)  # set when it answers never
    _heard: trio.Event = field(default_factory=trio.Event)

    async def until(self, command: str, times: int) -> None:
        """Until it was told the command so many times."""
        while self.commands.count(command) < times:
            await self._heard.wait()

    async def __call__(self, peer: Peer) -> None:
        self.connections += 1
        if not await self._answer(peer, "HELLO"):
            return
        while line := await self._line(peer):
            self.commands.append(line)
            self._heard.set()
            self._heard = trio.Event()
            stage = line.partition(" ")[0].upper()
            if stage == "EHLO":
                lines = ["mail.example", *self.offers]
                text = "".join(f"250{'-' if o is not lines[-1] else ' '}{o}\r\n" for o in lines)
                await peer.say(text.encode())
                continue
            if not await self._answer(peer, stage):
                return
            if stage == "QUIT":
                return
            if stage == "STARTTLS":
                peer.stream = trio.SSLStream(
                    peer.stream, server_context(), server_side=True, https_compatible=True
                )
            elif self._last.startswith("354") and not await self._mail(peer):
                return

    async def _mail(self, peer: Peer) -> bool:
        octets = b""
        while not octets.endswith(b"\r\n.\r\n"):
            line = await self._raw(peer)
            if not line:
                return False
            octets += line
        self.mails.append(octets[:-3])
        return await self._answer(peer, "END")

    async def _answer(self, peer: Peer, stage: str) -> bool:
        queue = self.says.get(stage)
        self._last = queue.pop(0) if queue else GOOD.get(stage, "334 ")
        if self._last == "hang":
            self.hanging.set()
            await trio.sleep_forever()
        if self._last:
            await peer.say(self._last.encode() + b"\r\n")
        return bool(self._last)

    async def _line(self, peer: Peer) -> str:
        return (await self._raw(peer)).decode().rstrip("\r\n")

    async def _raw(self, peer: Peer) -> bytes:
        while b"\n" not in peer._buffer:
            if not await peer._fill():
                return b""
        line, _, rest = bytes(peer._buffer).partition(b"\n")
        peer._buffer[:] = rest
        return line + b"\n"


@asynccontextmanager
async def mail_server(*, tls: bool = False, **given: object) -> AsyncIterator[MailServer]:
    server = MailServer(**given)  # type: ignore[arg-type]
    async with serving(server, tls=tls) as listening:
        server.port = int(listening.base_url.rpartition(":")[2])
        yield server
