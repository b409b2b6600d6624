"""The SMSC's door: binds, submit_sm with the faults that one can meet, and deliver_sm.

Any system id is an account, and the password is the simulator's key. Whatever a client says is
answered; a stream that cannot be followed closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from providers.simulator.exchange import Push
from providers.simulator.runtime import Runtime
from providers.simulator.smsc.parts import Gathering
from providers.simulator.smsc.twin import SCHEME, Smsc, sending
from providers.smpp import pdu, reading
from providers.smpp.pdu import Frame, Frames, Malformed

COUNTED_AS: Final = "SMPP submit_sm"
READ_OCTETS: Final = 65_536
_SERVICE: Final = Smsc()
_CHANNEL: Final = _SERVICE.channels[0]


class _Answer(NamedTuple):
    """What a submit_sm is answered with, how long after and after which reports; no `octets`: it
    never is."""

    octets: bytes
    after_ms: int = 0
    early: Sequence[Push] = ()


class SmscDoor:
    """What a server of asyncio calls with each connection."""

    def __init__(self, runtime: Runtime, api_key: str) -> None:
        self.runtime = runtime
        self.gathering = Gathering()
        self._api_key = api_key
        self._ids = itertools.count(time.time_ns() // 1_000)  # none of an earlier start
        self._sessions: set[_Session] = set()
        self._turns = itertools.count()
        runtime.pusher.carriers[SCHEME] = self._deliver

    def close(self) -> None:
        """Cuts every connection."""
        for session in self._sessions:
            session.cut()

    def new_id(self) -> str:
        return f"{next(self._ids):x}"

    def bind_status(self, bind: pdu.Bind) -> int:
        if self.runtime.outage() == "unavailable":
            return pdu.SYSTEM_ERROR
        if not bind.system_id:
            return pdu.WRONG_SYSTEM_ID
        known = hmac.compare_digest(bind.password.encode(), self._api_key.encode())
        return pdu.OK if known else pdu.WRONG_PASSWORD

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, reader, writer)
        self._sessions.add(session)
        try:
            await session.run()
        except (OSError, Malformed):
            pass  # it is gone, or speaks something else
        finally:
            self._sessions.discard(session)
            session.end()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _deliver(self, url: str, pdus: bytes, timeout_s: float) -> bool:
        """Whether a session of the account, each in turn, has answered all of these in time."""
        account = url.partition(":")[2]
        bound = [each for each in self._sessions if each.receives and each.account == account]
        if not bound:
            return False
        session = bound[next(self._turns) % len(bound)]
        return await session.deliver(pdus, timeout_s)


class _Session:
    def __init__(
        self, door: SmscDoor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.account = ""  # of whom it is bound
        self.receives = self._sends = False
        self._door = door
        self._runtime = door.runtime
        self._reader = reader
        self._writer = writer
        self._sequence = 0
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client leaves, or an outage cuts it off. Raises Malformed."""
        frames = Frames()
        while True:
            data = await self._reader.read(READ_OCTETS)
            outage = self._runtime.outage()
            if outage == "hang":
                await self._runtime.outage_over()
            if not data or outage in ("hang", "refuse"):
                return
            for frame in frames.feed(data):
                try:
                    self._take(frame)
                except Malformed as fault:
                    self._writer.write(pdu.refusal(frame, fault.status))
                if frame.command == pdu.UNBIND:
                    await self._writer.drain()
                    return
            await self._writer.drain()

    def cut(self) -> None:
        self._writer.transport.abort()

    def end(self) -> None:
        """Nothing more comes: what was asked has no answer."""
        self.receives = False
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(False)
        for answering in self._answering:
            answering.cancel()

    async def deliver(self, pdus: bytes, timeout_s: float) -> bool:
        """Sends deliver_sm; whether all were taken in time."""
        if self._writer.transport.is_closing():  # cut, and not noticed yet
            return False
        asked: dict[int, asyncio.Future[bool]] = {}
        octets = []
        for frame in Frames().feed(pdus):
            self._sequence = self._sequence % pdu.SEQUENCE_MAX + 1
            asked[self._sequence] = asyncio.get_running_loop().create_future()
            length = pdu.HEADER.size + len(frame.body)
            octets.append(pdu.HEADER.pack(length, frame.command, pdu.OK, self._sequence))
            octets.append(frame.body)
        self._asked.update(asked)
        self._writer.write(b"".join(octets))
        try:
            done, _ = await asyncio.wait(asked.values(), timeout=timeout_s)
            return len(done) == len(asked) and all(each.result() for each in done)
        finally:
            for sequence in asked:
                self._asked.pop(sequence, None)

    def _take(self, frame: Frame) -> None:
        """Raises Malformed."""
        if frame.command & pdu.RESPONSE:
            asked = self._asked.pop(frame.sequence, None)
            if asked is not None and not asked.done():
                asked.set_result(frame.status == pdu.OK)
            return
        body = reading.decode(frame)
        if isinstance(body, pdu.Bind):
            self._bind(frame, body)
        elif frame.command == pdu.SUBMIT_SM and isinstance(body, pdu.Short):
            self._answer(self._submit(frame, body))
        elif frame.command in (pdu.ENQUIRE_LINK, pdu.UNBIND):
            self._writer.write(pdu.encode(frame.command | pdu.RESPONSE, frame.sequence))
        else:
            raise Malformed(pdu.INVALID_COMMAND, "A client sends no such PDU here.")

    def _bind(self, frame: Frame, bind: pdu.Bind) -> None:
        status = pdu.ALREADY_BOUND if self.account else self._door.bind_status(bind)
        if status != pdu.OK:
            self._writer.write(pdu.refusal(frame, status))
            return
        self.account = bind.system_id
        self._sends = frame.command != pdu.BIND_RECEIVER
        self.receives = frame.command != pdu.BIND_TRANSMITTER
        bound = pdu.Bound(
            system_id="simulator", tlvs={pdu.SC_INTERFACE_VERSION: bytes([pdu.VERSION])}
        )
        self._writer.write(pdu.encode(frame.command | pdu.RESPONSE, frame.sequence, bound))
        if self.receives:  # what waited for somebody need not wait for its time
            self._runtime.pusher.retry_now(f"{SCHEME}:{self.account}")

    def _answer(self, answer: _Answer) -> None:
        if not answer.after_ms and not answer.early:
            self._writer.write(answer.octets)
            return
        answering = asyncio.get_running_loop().create_task(self._answer_later(answer))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer_later(self, answer: _Answer) -> None:
        await self._runtime.push_first(answer.early)
        await asyncio.sleep(answer.after_ms / 1000)
        self._writer.write(answer.octets)

    def _submit(self, frame: Frame, message: pdu.Short) -> _Answer:
        runtime = self._runtime
        if not self._sends:
            return self._refused(frame, pdu.NOT_BOUND)
        if runtime.outage() == "unavailable":
            return self._refused(frame, pdu.SYSTEM_ERROR)
        handled = runtime.handling(_name(message))
        if handled.fate == "lost":
            runtime.count(COUNTED_AS, "lost")
            return _Answer(b"")
        runtime.offered(_CHANNEL, 1)
        if handled.fate == "throttled" or runtime.above_rate(_CHANNEL, 1):
            return self._refused(frame, pdu.THROTTLED)
        if runtime.book_full:
            return self._refused(frame, pdu.QUEUE_FULL)
        broken = handled.fate == "broken"
        if broken and not runtime.knobs.server_error_accepts:
            return self._refused(frame, pdu.SYSTEM_ERROR)
        id_, status, early = self._accept(message)
        if handled.fate == "answer-lost" or broken:  # a refusal would be believed
            runtime.count(COUNTED_AS, "answer-lost")
            return _Answer(b"", 0, early)
        if status != pdu.OK:
            return self._refused(frame, status, handled.answer_ms)
        garbage = handled.fate == "garbage"
        runtime.count(COUNTED_AS, "garbage" if garbage else _outcome(pdu.OK))
        taken = pdu.Taken(message_id="" if garbage else id_)
        octets = pdu.encode(frame.command | pdu.RESPONSE, frame.sequence, taken)
        return _Answer(octets, handled.answer_ms, early)

    def _accept(self, message: pdu.Short) -> tuple[str, int, list[Push]]:
        """Takes a part: its id, a status, and what must be told before it is answered."""
        id_ = self._door.new_id()
        whole = self._door.gathering.take(self.account, message, id_)
        if whole is None:
            self._runtime.admitted(_CHANNEL, 1)
            return id_, pdu.OK, []
        sent = self._runtime.accept(_SERVICE, _CHANNEL, sending(message, self.account, whole), 1)
        return id_, sent.answer.status, sent.early

    def _refused(self, frame: Frame, status: int, after_ms: int = 0) -> _Answer:
        self._runtime.count(COUNTED_AS, _outcome(status))
        return _Answer(pdu.refusal(frame, status), after_ms)


def _outcome(status: int) -> str:
    return f"0x{status:02x}"


def _name(message: pdu.Short) -> str:
    """What tells a PDU from others, and is the same when it comes again."""
    told = (message.source, message.destination, message.esm_class, message.content)
    return blake2b(repr((*told, sorted(message.tlvs.items()))).encode(), digest_size=16).hexdigest()
