"""A provider that is spoken to by SMPP, as dispatch uses it.

`run` keeps one session (or a pair, where sending and receiving are bound apart) and comes back to
its provider with growing delays, also where it is bound and hung up on at once; there are as many
as dispatch has places for. `deliver` sends over the session with most room. A message of several
parts is taken when each part is; a part that is refused for now while another was taken is tried
again, because the message is out. A message of which no part was taken goes back, one that lost an
answer is unknown. Should its answers come later all the same, they are brought as receipts are; a
refusal only where it is for good, since what was refused for now may have been sent again
meanwhile.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from providers.contract import (
    Fault,
    NotSent,
    NotTaken,
    Outcome,
    Receive,
    Refused,
    SendFault,
    Submission,
    Submitted,
    WithoutLookUps,
)
from providers.smpp import pdu, reasons, texts, words
from providers.smpp.receipts import one_id
from providers.smpp.session import Answer, Arrived, Ended, Session
from providers.smpp.settings import SmppConfig

RECONNECT_S_MIN, RECONNECT_S_MAX = 1.0, 60.0
SESSION_S: Final = 2.0  # how long a batch waits for a session that is being bound
PART_TRIES: Final = 5
PART_PAUSE_S: Final = 1.0

_log = structlog.get_logger("dispatch")


Connect = Callable[[], Awaitable[trio.abc.Stream]]
_Told = list[Answer | None]  # the answers to a message's PDUs, each in its place


class _Message(NamedTuple):
    """A submission as PDUs, the first of which is the `first` of its batch."""

    ref: str
    pdus: Sequence[pdu.Short]
    countable: bool
    first: int

    @property
    def places(self) -> range:
        """Those of its PDUs in the batch."""
        return range(self.first, self.first + len(self.pdus))


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
        self._reference = random.randrange(0x10000)

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def tokens(self, batch: Sequence[Submission]) -> int:
        config = self.config
        return sum(texts.count(sent.text, config.encodings, config.long) for sent in batch)

    async def deliver(self, batch: Sequence[Submission]) -> list[Outcome]:
        messages: list[_Message] = []
        pdus: list[pdu.Short] = []
        outcomes: dict[str, Outcome] = {}
        for sent in batch:
            self._reference = (self._reference + 1) & 0xFFFF
            written = words.write(sent, self.config, self._reference)
            if isinstance(written, Fault):
                outcomes[sent.ref] = Refused(sent.ref, written, about="message")
                continue
            messages.append(_Message(sent.ref, *written, len(pdus)))
            pdus += written.pdus
        if messages:
            deadline = trio.current_time() + self.config.timeout_ms / 1000
            session = await self._session()
            late = partial(self._came_late, messages)
            count, answers = await session.submit(pdus, _asks_to_stop, late)
            if not count:
                raise NotSent("no_room", "The session ended, or took nothing in time.")

            in_part: list[tuple[_Message, _Told]] = []
            for message in messages:
                told = [answers.get(place) for place in message.places]
                if _is_out_in_part(told, count - message.first):
                    in_part.append((message, told))
                else:
                    self._note(outcomes, message, told, count)

            async def complete(message: _Message, told: _Told) -> None:
                with trio.move_on_at(deadline):
                    if await self._complete(session, message, told):
                        self._note(outcomes, message, told, count)

            if in_part:  # together: nothing of the batch is recorded before the last of them
                async with trio.open_nursery() as nursery:
                    for each in in_part:
                        nursery.start_soon(complete, *each)
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

    def _note(
        self, outcomes: dict[str, Outcome], message: _Message, told: _Told, count: int
    ) -> None:
        """What became of a message when the first `count` PDUs of the batch were written; nothing
        where nobody knows."""
        ref, written = message.ref, count - message.first
        if written <= 0:
            outcomes[ref] = NotTaken(ref)
        elif None not in told[:written]:
            final = [answer for answer in told if answer is not None]
            refused = _refusal(final)
            if refused is None:
                outcomes[ref] = self._submitted(message, final)
            elif refused in reasons.SLOW_DOWN:
                outcomes[ref] = NotTaken(ref, throttled=True)
            else:
                outcomes[ref] = reasons.refused(ref, refused, self._ids(final))

    def _ids(self, told: Sequence[Answer]) -> tuple[str, ...]:
        """Those of the parts that were taken."""
        written = self.config.id_format_resp
        return tuple(one_id(each.message_id, written) for each in told if each.status == pdu.OK)

    def _submitted(self, message: _Message, told: Sequence[Answer]) -> Submitted:
        ids = self._ids(told)
        if len(ids) == 1:
            return Submitted(message.ref, ids[0], 1 if message.countable else None)
        return Submitted(message.ref, parts=len(ids), part_ids=ids)

    def _came_late(
        self, messages: Sequence[_Message], place: int, answers: Mapping[int, Answer]
    ) -> None:
        """An answer came that nobody waited for any more. When it was the last that its message
        lacked, what it says is brought: all parts were taken, or one was refused for good."""
        message = next(each for each in messages if place in each.places)
        told = [answers[each] for each in message.places if each in answers]
        if len(told) < len(message.places):
            return
        refused = _refusal(told)
        if refused is None:
            self._late.append(self._submitted(message, told))
        elif all(map(_stays, told)) and refused not in reasons.OF_ACCOUNT:
            self._late.append(reasons.refused(message.ref, refused, self._ids(told)))
        self._late_came.set()

    async def _complete(self, session: Session, message: _Message, told: _Told) -> bool:
        """Sends the parts that were not taken until now, of a message that is out in part; whether
        each part has an answer that stays."""
        for _ in range(PART_TRIES):
            lacking = [place for place, answer in enumerate(told) if not _stays(answer)]
            if not lacking:
                return True
            await trio.sleep(PART_PAUSE_S)
            parts = [message.pdus[place] for place in lacking]
            count, answers = await session.submit(parts, _asks_to_stop)
            if any(place not in answers for place in range(count)):
                return False
            for place, answer in answers.items():
                told[lacking[place]] = answer
        return all(map(_stays, told))

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
        """For ever. What is on its way when it is cancelled stays unknown."""
        while True:
            await self._late_came.wait()
            self._late_came = trio.Event()
            late, self._late = self._late, []
            if late:
                await receive((), (), late)

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


def _refusal(told: Sequence[Answer]) -> int | None:
    """The status of the first part that was refused."""
    return next((answer.status for answer in told if answer.status != pdu.OK), None)


def _is_out_in_part(told: _Told, written: int) -> bool:
    """Whether some of its PDUs were taken, and of no other that was written the answer is lost."""
    if len(told) == 1 or None in told[:written]:
        return False
    taken = sum(answer is not None and answer.status == pdu.OK for answer in told)
    return 0 < taken < len(told)


def _stays(answer: Answer | None) -> bool:
    """Whether an answer to a part is its last word."""
    if answer is None:
        return False
    return answer.status not in reasons.SLOW_DOWN and answer.status not in reasons.TEMPORARY
