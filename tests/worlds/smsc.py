"""An SMSC in this process, whose every answer a test decides, and a session with it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from providers.contract import PersonReply, Receipt, Refused, Submission, Submitted
from providers.smpp import pdu, reading
from providers.smpp.pdu import Frame, Frames
from providers.smpp.provider import SmppProvider
from providers.smpp.settings import SmppConfig

# What a test makes of a submit_sm: a status and an id, or None for no answer.
Decide = Callable[[pdu.Short], tuple[int, str] | None]


def config(**changes: Any) -> SmppConfig:
    fields: dict[str, Any] = {
        "name": "smsc",
        "kind": "smpp",
        "sender": "Shop",
        "rate_per_s": 100,
        "timeout_ms": 60_000,
        "places": 1,
        "host": "127.0.0.1",
        "port": 2775,
        "tls": False,
        "system_id": "kaskad",
        "password": "secret",
        "system_type": "",
        "bind": "trx",
        "window": 10,
        "enquire_link_s": 30.0,
        "response_timeout_s": 30.0,
        "connect_timeout_s": 10.0,
        "source_ton": None,
        "source_npi": None,
        "dest_ton": 1,
        "dest_npi": 1,
        "long": "udh",
        "encodings": ("gsm7", "ucs2"),
        "id_format_resp": "text",
        "id_format_dlr": "text",
    }
    return SmppConfig(**(fields | changes))


def submission(ref: str = "m.0", text: str = "Hello", **changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "ref": ref,
        "to": "+79161234567",
        "sender": "Shop",
        "category": "marketing",
        "text": text,
        "validity_ms": 3_600_000,
    }
    return Submission(**(fields | changes))


class Smsc:
    """`__call__` serves one connection. `decide` answers submit_sm; None of it is no answer."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.decide: Decide = lambda message: (pdu.OK, f"id-{next(self.numbers)}")
        self.bind_status = pdu.OK
        self.answers_links = True
        self.binds: list[str] = []
        self.submitted: list[pdu.Short] = []
        self.sequences: list[int] = []  # theirs
        self.answered: list[int] = []  # sequences of deliver_sm that we were thanked for
        self.unbound = 0
        self.streams: list[trio.abc.Stream] = []  # but for those that were unbound
        self.changed = trio.Event()
        self._sending = trio.Lock()
        self._sequence = itertools.count(1)
        self._commands = {code: kind for kind, code in pdu.BINDS.items()}

    async def connect(self) -> trio.abc.Stream:
        """The other end of a connection that is served from now on."""
        ours, theirs = trio.testing.memory_stream_pair()
        trio.lowlevel.spawn_system_task(self._serve, ours)
        await trio.lowlevel.checkpoint()
        return theirs

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            await self(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(stream)

    async def __call__(self, stream: trio.abc.Stream) -> None:
        self.streams.append(stream)
        frames = Frames()
        while data := await stream.receive_some(65_536):
            unbound = self.unbound
            answers = [self._answer(frame) for frame in frames.feed(bytes(data))]
            if self.unbound > unbound:
                self.streams.remove(stream)
            self.changed.set()
            self.changed = trio.Event()
            if any(answers):
                async with self._sending:
                    await stream.send_all(b"".join(answers))

    def _answer(self, frame: Frame) -> bytes:
        body = reading.decode(frame)
        command, status, answer = frame.command | pdu.RESPONSE, pdu.OK, pdu.NOTHING
        if isinstance(body, pdu.Bind):
            self.binds.append(self._commands[frame.command])
            status = self.bind_status
            reply: pdu.Body = pdu.Bound(system_id="SMSC") if status == pdu.OK else pdu.NOTHING
            return pdu.encode(command, frame.sequence, reply, status=status)
        if frame.command == pdu.SUBMIT_SM and isinstance(body, pdu.Short):
            self.submitted.append(body)
            self.sequences.append(frame.sequence)
            decided = self.decide(body)
            if decided is None:
                return b""
            status, id_ = decided
            taken: pdu.Body = pdu.Taken(message_id=id_) if status == pdu.OK else pdu.NOTHING
            return pdu.encode(command, frame.sequence, taken, status=status)
        if frame.command & pdu.RESPONSE:
            if frame.command == pdu.DELIVER_SM | pdu.RESPONSE:
                self.answered.append(frame.sequence)
            return b""
        if frame.command == pdu.ENQUIRE_LINK and not self.answers_links:
            return b""
        self.unbound += frame.command == pdu.UNBIND
        return pdu.encode(command, frame.sequence, answer)

    async def push(self, message: pdu.Short | pdu.Data, stream: int = -1) -> int:
        """Sends a deliver_sm or data_sm; its sequence."""
        sequence = next(self._sequence)
        command = pdu.DELIVER_SM if isinstance(message, pdu.Short) else pdu.DATA_SM
        async with self._sending:
            await self.streams[stream].send_all(pdu.encode(command, sequence, message))
        return sequence

    async def answer(self, place: int, status: int = pdu.OK, id_: str = "") -> None:
        """Answers the submit_sm that came in that place."""
        taken: pdu.Body = pdu.Taken(message_id=id_) if status == pdu.OK else pdu.NOTHING
        command = pdu.SUBMIT_SM | pdu.RESPONSE
        answer = pdu.encode(command, self.sequences[place], taken, status=status)
        async with self._sending:
            await self.streams[-1].send_all(answer)

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():
            await self.changed.wait()


class Desk:
    """Takes what a session brings; closed, it waits like one whose Redis is away."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.replies: list[PersonReply] = []
        self.late: list[Submitted | Refused] = []
        self.together: list[int] = []  # how many receipts came with each call
        self.at: list[float] = []  # ... and when
        self.opened = trio.Event()
        self.opened.set()
        self.came = trio.Event()

    async def __call__(
        self,
        receipts: Sequence[Receipt],
        replies: Sequence[PersonReply] = (),
        late: Sequence[Submitted | Refused] = (),
    ) -> None:
        self.together.append(len(receipts))
        self.at.append(trio.current_time())
        self.came.set()
        await self.opened.wait()
        self.receipts += receipts
        self.replies += replies
        self.late += late


@asynccontextmanager
async def session(
    smsc: Smsc, desk: Desk | None = None, **changes: Any
) -> AsyncIterator[SmppProvider]:
    """A provider whose task runs for the length of the block, and then is cancelled."""
    provider = SmppProvider(config(**changes), smsc.connect)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.run, desk or Desk())
        yield provider
        nursery.cancel_scope.cancel()
