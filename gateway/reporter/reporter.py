"""Makes the reports that are due and hands them over: into a folder, or to a receiver of webhooks.

One process does it, by a lease. A period counts as made once its file lies there or its receiver
took it; who dies before that is written down makes it again, which changes no file and repeats the
webhook's id. One that stood still until another had the lease notes nothing of what it did. A
folder is tried again every FOLDER_AGAIN_MS until it takes the file; a receiver by the schedule of
webhooks, after which the period is given up. What fails holds up its own schedule alone. Raises
RedisUnavailable.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from gateway.core.records.webhook import Secret, Webhook
from gateway.core.views.words import rfc3339
from gateway.core.webhooks import REPORT, next_delay_ms
from gateway.dispatch.webhooks.posting import Posting
from gateway.errors import CallerFault
from gateway.files import system_sentence, write_new
from gateway.finance.reports.schedule import Period, ReportSchedule
from gateway.redis.errors import RedisError
from gateway.reporter.rendering import NumberSources
from gateway.store import randomness
from gateway.store.archive import archiving
from gateway.store.money import scheduled_reports
from gateway.store.money.scheduled_reports import REASON_CHARS, ScheduleState

FOLDER_AGAIN_MS = 300_000

_log = structlog.get_logger("reports")
_to_json = msgspec.json.Encoder().encode


class HandOverFault(NamedTuple):
    """Why a report was not handed over; `wish_ms`: for how long its receiver wishes to be left
    alone."""

    reason: str
    wish_ms: int = 0


class Made(NamedTuple):
    """What a try came to; no `reason`: it is there."""

    report: str
    period: str
    reason: str = ""


class Waiting(NamedTuple):
    """A report that was not handed over, and when it is tried again."""

    report: str
    reason: str
    again_ms: int


class Reporter:
    """`clock` gives epoch milliseconds; `open_posting` connects to a receiver."""

    def __init__(
        self,
        books: NumberSources,
        schedules: Sequence[ReportSchedule],
        clock: Callable[[], int],
        open_posting: Callable[[str], Posting],
    ) -> None:
        self._books = books
        self._redis = books.redis
        self._schedules = schedules
        self._clock = clock
        self._open_posting = open_posting
        self._holder = randomness.token()

    async def turn(self) -> list[Made] | None:
        """Makes what is due now, the oldest first; None: another process does."""
        if not await self._holds():
            return None
        made: list[Made] = []
        states = await scheduled_reports.states(self._redis)
        for schedule in self._schedules:
            state = states.get(schedule.name, ScheduleState())
            while (period := self._due(schedule, state)) is not None:
                if not await self._holds():
                    return None
                before, state = state, await self._try(schedule, period, state)
                if not await scheduled_reports.note(self._redis, schedule.name, before, state):
                    return None
                made.append(Made(schedule.name, period.name, state.reason))
        return made

    async def waiting(self) -> list[Waiting]:
        """What failed and is not due yet."""
        states = await scheduled_reports.states(self._redis)
        known = [(each.name, states[each.name]) for each in self._schedules if each.name in states]
        return [
            Waiting(name, state.reason, state.again_ms)
            for name, state in known
            if state.again_ms > self._clock()
        ]

    async def _holds(self) -> bool:
        return await scheduled_reports.hold(self._redis, self._holder)

    async def leave(self) -> None:
        """Lets another process do it at once."""
        await scheduled_reports.give_back(self._redis, self._holder)

    def _due(self, schedule: ReportSchedule, state: ScheduleState) -> Period | None:
        now_ms = self._clock()
        if state.again_ms > now_ms:
            return None
        return schedule.next_due(state.through_day, self._books.days, now_ms)

    async def _try(
        self, schedule: ReportSchedule, period: Period, state: ScheduleState
    ) -> ScheduleState:
        """How it stands after one try."""
        try:
            octets = await self._books.render(schedule, period, self._clock())
            fault = await self._hand_over(schedule, period, octets)
        except RedisError:
            raise
        except Exception as error:  # of whatever kind: the others are made all the same
            if not isinstance(error, OSError | CallerFault):
                _log.exception("a scheduled report failed", report=schedule.name)
            fault = HandOverFault(_reason(error, schedule))
        if fault is None:
            _log.info("a scheduled report is made", report=schedule.name, period=period.name)
            return ScheduleState(period.last.isoformat(), period.name, self._clock())
        return self._after_failure(schedule, period, state, fault)

    def _after_failure(
        self, schedule: ReportSchedule, period: Period, state: ScheduleState, fault: HandOverFault
    ) -> ScheduleState:
        now_ms, tries = self._clock(), state.tries + 1
        if not state.through:  # it is this one that is tried again, and then those after it
            begins = period.first - datetime.timedelta(days=1)
            state = replace(state, through=begins.isoformat())
        delay_ms: int | None = FOLDER_AGAIN_MS
        if schedule.url:
            delay_ms = next_delay_ms(tries, random.randrange(100), fault.wish_ms)
        reason = fault.reason[:REASON_CHARS]
        told = {"report": schedule.name, "period": period.name, "tries": tries, "reason": reason}
        if delay_ms is None:
            _log.error("a scheduled report is given up", **told)
            through = period.last.isoformat()
            return ScheduleState(through, state.made, state.made_ms, 0, now_ms, 0, reason)
        _log.error("a scheduled report is not there", **told, again_in_s=delay_ms // 1_000)
        return replace(
            state, tries=tries, failed_ms=now_ms, again_ms=now_ms + delay_ms, reason=reason
        )

    async def _hand_over(
        self, schedule: ReportSchedule, period: Period, octets: bytes
    ) -> HandOverFault | None:
        """Raises OSError."""
        if schedule.url:
            return await self._post(schedule, period, octets)
        name = schedule.file_name(period)
        if not await self._books.aside(lambda: write_new(Path(schedule.folder, name), octets)):
            _log.warning("a file of this name is there and stays as it is", file=name)
        return None

    async def _post(
        self, schedule: ReportSchedule, period: Period, octets: bytes
    ) -> HandOverFault | None:
        now_ms = self._clock()
        installation, _ = await archiving.installation(self._redis)
        whole = f"{installation} {schedule.name} {period.name}"
        event_id = f"rep_{hashlib.sha256(whole.encode()).hexdigest()[:24]}"
        receiver = Webhook(schedule.name, schedule.url, (REPORT,), (Secret(schedule.secret),))
        with self._posting(schedule.url) as posting:
            body = body_of(schedule, period, self._books.days.zone, octets, now_ms)
            answer = await posting.call(receiver, event_id, now_ms, body)
        if 200 <= answer.status < 300:
            return None
        said = answer.error or f"it answered {answer.status} {answer.text}".rstrip()
        shown, _, _ = schedule.url.partition("?")  # what follows may be secret
        return HandOverFault(f"{shown}: {said}", answer.leave_ms)

    @contextmanager
    def _posting(self, url: str) -> Iterator[Posting]:
        posting = self._open_posting(url)
        try:
            yield posting
        finally:
            posting.close()


def _reason(error: Exception, schedule: ReportSchedule) -> str:
    if isinstance(error, OSError):
        return system_sentence(error, schedule.folder)
    return str(error) or type(error).__name__


def body_of(
    schedule: ReportSchedule, period: Period, zone: str, octets: bytes, now_ms: int
) -> bytes:
    """What a receiver is posted. A workbook is in base64, everything else is text."""
    is_text = schedule.form != "xlsx"
    data = {
        "name": schedule.name,
        "period": period.name,
        "from": period.first,
        "to": period.last,
        "zone": zone,
        "format": schedule.form,
        "file": schedule.file_name(period),
        "encoding": "utf-8" if is_text else "base64",
        "content": octets.decode() if is_text else base64.b64encode(octets).decode(),
    }
    return _to_json({"type": REPORT, "timestamp": rfc3339(now_ms), "data": data})
