"""One bound connection: what is sent over it, and what comes.

At most `window` PDUs are without an answer. An answer is waited for as long as `response_timeout`
says; what has none by then, or when the session ends, is lost: it may have been taken. While the
session lasts, an answer that comes later is still told for a while. After silence the peer is asked
whether it is there, and a session that stays silent ends. What comes for us is handed over together
and answered only then. Nothing is ever sent twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from providers.smpp import pdu, reading
from providers.smpp.pdu import Frame, Frames, Malformed
from providers.smpp.settings import SmppConfig
from providers.standstill import READ_ON_S, read_on, stood_still

RECEIVE_OCTETS: Final = 65_536
HALF_FRAME_S: Final = 10.0  # between the octets of one PDU
# From one hand-over to the next where more is likely: whoever sends no more than came together so
# far is not waited for. What is stored together costs less, 115 µs CPU a receipt in sixes, 86 in
# thirteens and 51 in batches of 37 (sizes in turn), and at 1,000 messages/s thirteen come instead
# of six (medians of four; 2026-11-29).
HAND_OVER_PACE_S: Final = 0.01
ARRIVED_MAX: Final = 5_000  # not handed over yet; beyond it nothing more is read
LEAVE_S: Final = 5.0  # for answers that are under way when one of us unbinds
UNBIND_S: Final = 2.0
LATE_S: Final = 600.0  # beyond their time answers are known for so long
LATE_MAX: Final = 10_000  # of them; the oldest is forgotten for one more

_THANKS: Final = pdu.Taken()
_ARRIVING: Final = (pdu.DELIVER_SM, pdu.DATA_SM)
_log = structlog.get_logger("dispatch")


class Ended(Exception):
    """The session is over: why."""


class Answer(NamedTuple):
    status: int
    message_id: str


class Arrived(NamedTuple):
    """What came for us, and what it is to be answered with."""

    message: pdu.Short | pdu.Data
    answer: bytes


HandOver = Callable[[Sequence[Arrived]], Awaitable[None]]
Late = Callable[[int], None]  # told the place of an answer that came late


class _Waiting:
    """The answers to PDUs that were sent together, by their place; None where it is lost."""

    def __init__(
        self, answers: dict[int, Answer], stop: Callable[[Answer], bool], late: Late | None
    ) -> None:
        self._answers = answers
        self._stop = stop
        self._late = late
        self.stopped = False  # an answer said so
        self.sequences: dict[int, int] = {}  # of those under way: which place
        self.sending = True
        self.done = trio.Event()

    def heard(self, sequence: int, answer: Answer | None) -> None:
        place = self.sequences.pop(sequence)
        if answer is not None:
            self._answers[place] = answer
            self.stopped = self.stopped or self._stop(answer)
        self.look()

    def heard_late(self, place: int, answer: Answer) -> None:
        self._answers[place] = answer
        if self._late is not None:
            self._late(place)

    def look(self) -> None:
        if not self.sequences and not self.sending:
            self.done.set()


class _Overdue(NamedTuple):
    """An answer that is not waited for any more: whose, at which place, and until when it is still
    known."""

    waiting: _Waiting
    place: int
    until: float


class Session:
    """`begin` binds, `run` works until the session is over. `sends` says whether it may submit."""

    def __init__(self, stream: trio.abc.Stream, config: SmppConfig, kind: pdu.BindKind) -> None:
        self._stream = stream
        self._config = config
        self._kind = kind
        self.sends = kind != "receiver"
        self.ended = trio.Event()
        self._reason = ""  # why it ended
        self._frames = Frames()
        self._early: list[Frame] = []  # came with the answer to the bind
        self._unbinding: int | None = None  # the sequence of the peer's unbind
        self._sequence = 0
        self._writing = trio.Lock()
        self._under_way: dict[int, _Waiting] = {}
        self._overdue: dict[int, _Overdue] = {}  # in the order of their time
        self._freed = trio.Event()
        self._arrived: list[Arrived] = []
        self._came = trio.Event()
        self._taken = trio.Event()
        self._heard_at = trio.current_time()

    @property
    def room(self) -> int:
        """How many PDUs more may be under way."""
        return 0 if self._unbinding is not None else self._config.window - len(self._under_way)

    async def begin(self) -> int:
        """Binds; the status of the answer. Raises Ended when there is none."""
        config = self._config
        body = pdu.Bind(
            system_id=config.system_id, password=config.password, system_type=config.system_type
        )
        command = pdu.BINDS[self._kind]
        await self._write(pdu.encode(command, self._next(), body))
        while True:
            frames = await self._read()
            for place, frame in enumerate(frames):
                if frame.command in (command | pdu.RESPONSE, pdu.GENERIC_NACK):
                    self._early = frames[place + 1 :]
                    return frame.status

    async def run(self, hand_over: HandOver) -> None:
        """Raises Ended."""
        try:
            async with trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                nursery.start_soon(self._until_ended, scope, self._keep_alive)
                nursery.start_soon(self._until_ended, scope, partial(self._hand_over, hand_over))
                await self._until_ended(scope, self._read_all)
            raise Ended(self._reason)
        finally:
            self.ended.set()
            self._freed.set()
            for sequence, waiting in list(self._under_way.items()):
                waiting.heard(sequence, None)
            self._under_way.clear()

    async def _until_ended(
        self, scope: trio.CancelScope, work: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await work()
        except Ended as ended:
            self._reason = self._reason or str(ended)
            scope.cancel()

    async def submit(
        self,
        messages: Iterable[pdu.Short],
        answers: dict[int, Answer],
        stop: Callable[[Answer], bool],
        late: Late | None = None,
    ) -> int:
        """Sends submit_sm after submit_sm, until an answer says to stop or there was no room for as
        long as an answer may take; how many were written. Each answer is put into `answers`, by its
        place, when it comes: one that is missing at the end is lost, and `late` is told of it
        should it come after all."""
        waiting = _Waiting(answers, stop, late)
        room_until = trio.current_time() + self._config.response_timeout_s
        written = 0
        batch: list[bytes] = []
        try:
            for place, message in enumerate(messages):
                if self.room <= 0:
                    await self._write_all(batch)
                    batch = []
                    if not await self._has_room(room_until):
                        break
                if self.ended.is_set() or waiting.stopped:
                    break
                sequence = self._next()
                batch.append(pdu.encode(pdu.SUBMIT_SM, sequence, message))
                self._under_way[sequence] = waiting
                waiting.sequences[sequence] = place
                written = place + 1
            await self._write_all(batch)
            waiting.sending = False
            waiting.look()
            until = trio.current_time() + self._config.response_timeout_s
            with trio.move_on_at(until):
                await read_on(waiting.done.wait, until)
        finally:
            until = trio.current_time() + LATE_S
            for sequence, place in waiting.sequences.items():
                if self._under_way.pop(sequence, None) is not None:
                    self._overdue[sequence] = _Overdue(waiting, place, until)
            self._forget_overdue()
            self._set_freed()
        return written

    async def close(self) -> None:
        """Ends it without a word."""
        await trio.aclose_forcefully(self._stream)

    async def leave(self) -> None:
        """Waits a little for the answers that are under way, and unbinds. `run` must be running."""
        with trio.move_on_after(LEAVE_S):
            while self._under_way and not self.ended.is_set():
                await self._freed.wait()
        if not self.ended.is_set():
            with trio.move_on_after(UNBIND_S):
                try:
                    await self._write(pdu.encode(pdu.UNBIND, self._next()))
                except Ended:
                    return
                await self.ended.wait()

    async def _has_room(self, until: float) -> bool:
        """Waits for room; False when there is none in time."""
        with trio.move_on_at(until):
            while self.room <= 0 and not self.ended.is_set():
                await self._freed.wait()
        return self.room > 0

    def _forget_overdue(self) -> None:
        """Those that are too old, and the oldest of too many."""
        now = trio.current_time()
        while self._overdue:
            sequence, oldest = next(iter(self._overdue.items()))
            if oldest.until > now and len(self._overdue) <= LATE_MAX:
                return
            del self._overdue[sequence]

    def _set_freed(self) -> None:
        self._freed.set()
        if not self.ended.is_set():
            self._freed = trio.Event()

    def _next(self) -> int:
        self._sequence = self._sequence % pdu.SEQUENCE_MAX + 1
        return self._sequence

    # Read

    async def _read_all(self) -> None:
        await self._take(self._early)
        while self._unbinding is None:
            await self._take(await self._read())
        with trio.move_on_after(LEAVE_S):
            while self._under_way:
                await self._take(await self._read())
        await self._write(pdu.encode(pdu.UNBIND | pdu.RESPONSE, self._unbinding))
        raise Ended("The provider unbound.")

    async def _read(self) -> list[Frame]:
        wait_s = HALF_FRAME_S if self._frames.waiting else float("inf")
        try:
            with trio.fail_after(wait_s):
                data = await self._stream.receive_some(RECEIVE_OCTETS)
        except trio.TooSlowError:
            raise Ended("A PDU came in part only.") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Ended(f"The connection is broken: {error}") from None
        if not data:
            raise Ended("The provider closed the connection.")
        self._heard_at = trio.current_time()
        try:
            return self._frames.feed(bytes(data))
        except Malformed as error:
            raise Ended(str(error)) from None

    async def _take(self, frames: Sequence[Frame]) -> None:
        answers: list[bytes] = []
        freed = False
        for frame in frames:
            if frame.sequence in self._under_way and frame.command & pdu.RESPONSE:
                self._answered(frame)
                freed = True
            elif frame.sequence in self._overdue and frame.command & pdu.RESPONSE:
                self._answered_late(frame)
            elif frame.command in _ARRIVING:
                self._arrive(frame, answers)
            elif frame.command == pdu.ENQUIRE_LINK:
                answers.append(pdu.encode(frame.command | pdu.RESPONSE, frame.sequence))
            elif frame.command == pdu.UNBIND:
                self._unbinding = frame.sequence
            elif frame.command == pdu.UNBIND | pdu.RESPONSE:
                raise Ended("We unbound.")
            elif not frame.command & pdu.RESPONSE and frame.command != pdu.ALERT_NOTIFICATION:
                answers.append(pdu.refusal(frame, pdu.INVALID_COMMAND))
        if freed:
            self._set_freed()
        if self._arrived:
            self._came.set()
        await self._write_all(answers)
        while len(self._arrived) >= ARRIVED_MAX:
            await self._taken.wait()

    def _answered(self, frame: Frame) -> None:
        waiting = self._under_way.pop(frame.sequence)
        waiting.heard(frame.sequence, self._answer_in(frame))
        if frame.status == pdu.NOT_BOUND:
            raise Ended("The provider says that we are not bound.")

    def _answered_late(self, frame: Frame) -> None:
        overdue = self._overdue.pop(frame.sequence)
        answer = self._answer_in(frame)
        if answer is not None and trio.current_time() < overdue.until:
            overdue.waiting.heard_late(overdue.place, answer)

    def _answer_in(self, frame: Frame) -> Answer | None:
        """None: it says nothing that helps."""
        try:
            body = reading.decode(frame, tolerant=True)
        except Malformed as error:
            _log.warning("an answer cannot be read", provider=self._config.name, reason=str(error))
            return None
        id_ = body.message_id if isinstance(body, pdu.Taken) else ""
        status = frame.status
        if frame.command == pdu.GENERIC_NACK and status == pdu.OK:
            status = pdu.INVALID_COMMAND
        # Taken without an id its receipts cannot be told from others': as good as lost.
        known = id_ or status != pdu.OK
        return Answer(status, id_) if known else None

    def _arrive(self, frame: Frame, answers: list[bytes]) -> None:
        try:
            body = reading.decode(frame, tolerant=True)
        except Malformed as error:
            _log.warning("a receipt cannot be read", provider=self._config.name, reason=str(error))
            answers.append(pdu.refusal(frame, error.status))
            return
        assert isinstance(body, pdu.Short | pdu.Data)
        answer = pdu.encode(frame.command | pdu.RESPONSE, frame.sequence, _THANKS)
        self._arrived.append(Arrived(body, answer))

    # Write

    async def _write_all(self, pdus: Sequence[bytes]) -> None:
        if pdus:
            try:
                await self._write(b"".join(pdus))
            except Ended:
                pass  # whoever reads hears of it too, and what waits is then lost

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Ended(f"The connection is broken: {error}") from None

    # Beside both

    async def _keep_alive(self) -> None:
        silence_s = self._config.enquire_link_s
        while True:
            if (due := self._heard_at + silence_s) > trio.current_time():
                await trio.sleep_until(due)
                continue
            asked_at = trio.current_time()
            await self._write(pdu.encode(pdu.ENQUIRE_LINK, self._next()))
            until = asked_at + min(silence_s, self._config.response_timeout_s)
            await trio.sleep_until(until)
            if stood_still(until):
                await trio.sleep(READ_ON_S)
            if self._heard_at < asked_at:
                raise Ended("The provider does not answer any more.")

    async def _hand_over(self, hand_over: HandOver) -> None:
        """What comes soon after the last hand-over waits a moment for others, unless as many are
        there as ever were: a peer whose window is full sends no more before we answer."""
        together_max, paced_until = 1, 0.0
        while True:
            await self._came.wait()
            with trio.move_on_at(paced_until):
                while len(self._arrived) < together_max:
                    self._came = trio.Event()
                    await self._came.wait()
            self._came = trio.Event()
            arrived, self._arrived = self._arrived, []
            self._taken.set()
            self._taken = trio.Event()
            await hand_over(arrived)
            await self._write_all([each.answer for each in arrived])
            together_max = max(together_max, len(arrived))
            paced_until = trio.current_time() + HAND_OVER_PACE_S
