"""A provider that is spoken to by SMPP, as dispatch uses it.

`run` keeps one session (or a pair, where sending and receiving are bound apart) and comes back to
its provider with growing delays, also where it is bound and hung up on at once; there are as many
as dispatch has places for. `deliver` sends over the session with most room. A part that is refused
for now while another of its message was taken is tried again, because the message is out. What is
taken is told of while answers of the batch are missing. Should an answer that was lost come later
all the same, it is brought as receipts are; a refusal only where it is for good, since what was
refused for now may have been sent again meanwhile.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from providers.contract import (
    Fault,
    NotSent,
    Outcome,
    Receive,
    Refused,
    SendFault,
    Submission,
    Submitted,
    TellTaken,
    WithoutLookUps,
)
from providers.smpp import pdu, reasons, texts, words
from providers.smpp.batch import Batch, Message
from providers.smpp.part_references import PartReferences
from providers.smpp.session import LEAVE_S, Answer, Arrived, Ended, Session
from providers.smpp.settings import SmppConfig

RECONNECT_S_MIN, RECONNECT_S_MAX = 1.0, 60.0
SESSION_S: Final = 2.0  # how long a batch waits for a session that is being bound
PART_TRIES: Final = 5
PART_PAUSE_S: Final = 1.0
# What was taken is told of after one to two of these, while answers of its batch are missing.
TELL_PACE_S: Final = 0.1

_log = structlog.get_logger("dispatch")


Connect = Callable[[], Awaitable[trio.abc.Stream]]


class SmppProvider(WithoutLookUps):
    def __init__(self, config: SmppConfig, connect: Connect | None = None) -> None:
        """`connect` opens a connection in the place of the usual one."""
        self.config = config
        self.batch_max = config.window
        self._connect = connect or (lambda: open_stream(config))
        self._sessions: list[Session] = []
        self._trouble: SendFault | None = None  # why there is none
        self._changed = trio.Event()
        self._late: list[Submitted | Refused] = []  # not brought yet
        self._late_came = trio.Event()
        self._open: dict[Batch, tuple[Session, TellTaken]] = {}  # of several messages
        self._idle = trio.lowlevel.ParkingLot()  # for when there are none
        self._part_references = PartReferences()

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def tokens(self, batch: Sequence[Submission]) -> int:
        config = self.config
        return sum(texts.count(sent.text, config.encodings, config.long) for sent in batch)

    async def deliver(
        self, batch: Sequence[Submission], tell_taken: TellTaken | None = None
    ) -> list[Outcome]:
        sending = Batch(self.config.id_format_resp)
        outcomes = sending.outcomes
        for sent in batch:
            number = self._part_references.take(sent.ref, sent.to)
            written = words.write(sent, self.config, number)
            if isinstance(written, Fault):
                outcomes[sent.ref] = Refused(sent.ref, written, about="message")
            else:
                sending.add(sent.ref, written)
        if sending.messages:
            deadline = trio.current_time() + self.config.timeout_ms / 1000
            session = await self._session()
            if tell_taken is not None and len(sending.messages) > 1:
                self._open[sending] = session, tell_taken
                self._idle.unpark_all()
            try:
                count = await self._send(sending, session, deadline)
            finally:
                self._open.pop(sending, None)
            if not count:
                raise NotSent("no_room", "The session ended, or took nothing in time.")
        return [outcomes[sent.ref] for sent in batch if sent.ref in outcomes]

    async def run(self, receive: Receive) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            try:
                await self._keep_session(receive)
                lasted = trio.current_time() - began >= RECONNECT_S_MIN
                failures = 0 if lasted else failures + 1
            except SendFault as fault:
                if self._trouble is None or self._trouble.code != fault.code:
                    _log.warning("no session", provider=self.config.name, reason=fault.detail)
                self._trouble = fault
                self._tell()
                failures += 1
            whole_s = min(RECONNECT_S_MIN * 2.0 ** min(failures, 10), RECONNECT_S_MAX)
            await trio.sleep(whole_s * (1.0 - random.random() / 2.0))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    # Outcomes

    async def _send(self, batch: Batch, session: Session, deadline: float) -> int:
        """Sends a batch, and parts of it again until the deadline; how many of its PDUs were
        written."""
        late = partial(self._came_late, batch)
        count = await session.submit(batch.pdus, batch.answers, _asks_to_stop, late)
        in_part = batch.settle(count)
        if in_part:  # together: the batch ends with the last of them
            with trio.move_on_at(deadline):
                async with trio.open_nursery() as nursery:
                    for each in in_part:
                        nursery.start_soon(self._complete, session, batch, each)
            batch.settle_again(in_part)
        return count

    async def _complete(self, session: Session, batch: Batch, message: Message) -> None:
        """Sends the parts again that were not taken until now, of a message that is out in part."""
        for _ in range(PART_TRIES):
            lacking = batch.lacking(message)
            if not lacking:
                return
            await trio.sleep(PART_PAUSE_S)
            if session.ended.is_set():
                return
            answers: dict[int, Answer] = {}
            parts = [batch.pdus[place] for place in lacking]
            count = await session.submit(parts, answers, _asks_to_stop)
            for place, answer in answers.items():
                batch.answers[lacking[place]] = answer
            if any(place not in answers for place in range(count)):
                return

    async def _tell_as_they_come(self, sessions: Sequence[Session]) -> None:
        """For ever. Tells what is taken over these sessions while others of its batch are open. A
        task of each batch for it would cost 100 µs, of which a message over SMPP has some 300."""
        while True:
            while not self._open:
                await self._idle.park()
            await trio.sleep(TELL_PACE_S)
            for batch, (session, tell_taken) in list(self._open.items()):
                if session in sessions and (news := batch.news()):
                    tell_taken(news)

    def _came_late(self, batch: Batch, place: int) -> None:
        """An answer came that nobody waited for any more: what it says is brought."""
        late = batch.late(place)
        if late is not None:
            self._late.append(late)
            self._late_came.set()

    # Sessions

    async def _session(self) -> Session:
        """The session with most room. Raises NotSent and AccountFault when there is none."""
        with trio.move_on_after(SESSION_S):
            while not self._sessions and self._trouble is None:
                await self._changed.wait()
        if self._sessions:
            return max(self._sessions, key=lambda session: session.room)
        if self._trouble is not None:
            raise type(self._trouble)(self._trouble.code, self._trouble.detail)
        raise NotSent("no_session", "There is no session.")

    async def _keep_session(self, receive: Receive) -> None:
        """Binds, and works until a session of the pair is over. Raises NotSent and AccountFault
        when there is none to be had. Cancelled, it unbinds."""
        kinds: Sequence[pdu.BindKind] = ("transceiver",)
        if self.config.bind == "tx+rx":
            kinds = ("receiver", "transmitter")
        sessions: list[Session] = []
        try:
            for kind in kinds:
                session = await self._bind(kind)
                sessions.append(session)
            await self._work(sessions, receive)
        finally:
            with trio.CancelScope(shield=True):
                for session in sessions:
                    await session.close()

    async def _bind(self, kind: pdu.BindKind) -> Session:
        config = self.config
        try:
            with trio.fail_after(config.connect_timeout_s):
                stream = await self._connect()
                session = Session(stream, config, kind)
                try:
                    status = await session.begin()
                except BaseException:
                    await session.close()
                    raise
        except trio.TooSlowError:
            raise NotSent("connect_timeout", "There was no session in time.") from None
        except (OSError, Ended, trio.BrokenResourceError) as error:
            raise NotSent("connect_failed", str(error) or "The connection broke.") from None
        if status != pdu.OK:
            await session.close()
            raise reasons.bind_refused(status)
        return session

    async def _work(self, sessions: Sequence[Session], receive: Receive) -> None:
        working = trio.CancelScope(shield=True)  # while it is cancelled, answers still come
        over = trio.Event()

        async def hand_over(arrived: Sequence[Arrived]) -> None:
            await receive(*words.read(arrived, self.config, time.time()))

        async def work(session: Session) -> None:
            try:
                await session.run(hand_over)
            except Ended as ended:
                _log.info("session over", provider=self.config.name, reason=str(ended))
            finally:
                over.set()

        async def work_all() -> None:
            with working:
                async with trio.open_nursery() as each:
                    each.start_soon(self._bring_late, receive)
                    each.start_soon(self._tell_as_they_come, sessions)
                    for session in sessions:
                        each.start_soon(work, session)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work_all)
            senders = [session for session in sessions if session.sends]
            self._sessions += senders
            self._trouble = None
            self._tell()
            try:
                await over.wait()
            finally:
                self._sessions = [each for each in self._sessions if each not in senders]
                with trio.CancelScope(shield=True):
                    for session in sessions:
                        await session.leave()
                working.cancel()

    async def _bring_late(self, receive: Receive) -> None:
        """Until cancelled, and then what came until then, unless that takes long: it is brought by
        the next session."""
        try:
            while True:
                await self._late_came.wait()
                self._late_came = trio.Event()
                await self._bring(receive)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_S):
                await self._bring(receive)

    async def _bring(self, receive: Receive) -> None:
        late, self._late = self._late, []
        if late:
            try:
                await receive((), (), late)
            except BaseException:
                self._late = late + self._late
                self._late_came.set()
                raise

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def open_stream(config: SmppConfig, context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """A connection to the provider, with TLS where it is configured. Raises OSError and trio's
    BrokenResourceError."""
    stream = await trio.open_tcp_stream(config.host, config.port)
    if not config.tls:
        return stream
    secured = trio.SSLStream(
        stream,
        context or ssl.create_default_context(),
        server_hostname=config.host,
        https_compatible=True,  # whether a peer said all before it closed, the PDUs' lengths tell
    )
    await secured.do_handshake()
    return secured


def _asks_to_stop(answer: Answer) -> bool:
    """Whether nothing more should be sent for now."""
    return answer.status in reasons.SLOW_DOWN or answer.status in reasons.OF_ACCOUNT
