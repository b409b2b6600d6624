"""The running simulator: the exchange, the pusher, the clock that drives them, and what is counted.

Part of the I/O edge: the only reader of the clock. `app` turns HTTP requests into calls of it. Its
methods do not fail on what peers do; a webhook that cannot be reached is the pusher's business. A
durable book that cannot be written ends the process: what is not written down must be neither
answered nor reported, and the next start goes on where the book ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from providers.contract import Channel
from providers.simulator.bookfile import BookFile
from providers.simulator.exchange import Exchange, Push, Sent
from providers.simulator.fate import Handling, handling
from providers.simulator.knobs import Knobs
from providers.simulator.lines import Item, Line, Recalled, Settled
from providers.simulator.pusher import Pushed, Pusher
from providers.simulator.traffic import SlidingSecond
from providers.simulator.twin import Sending, Twin
from providers.simulator.twins import CHANNELS

EARLY_PUSH_S_MAX: Final = 5.0  # how long an answer waits for its early reports to be taken
FLUSH_S_MAX: Final = 30.0
ATTEMPT_KEYS_MAX: Final = 100_000

Outage = Literal["none", "refuse", "hang", "unavailable"]


class Stats(msgspec.Struct, frozen=True):
    """What has come in and gone out since the last reset.

    `requests` counts by "METHOD path" and how it ended: an HTTP status, `lost`, `answer-lost`,
    `garbage`, `refused` or `hung`. `messages_per_s_max` is the most messages any one sliding second
    brought to a channel, those of throttled requests included; `admitted_per_s_max` leaves them
    out. `pending` is what is still to happen, from `next_ms` to `last_ms` (epoch milliseconds);
    `reports_waiting` is what is not yet taken by a webhook.
    """

    requests: dict[str, dict[str, int]]
    messages: int
    duplicates: int
    messages_per_s_max: dict[Channel, int]
    admitted_per_s_max: dict[Channel, int]
    pending: int
    next_ms: int | None
    last_ms: int | None
    reports_waiting: int
    pushed: Pushed


class Runtime:
    """`book` is the durable book, if there is one; what it holds is the past of this provider.
    Raises BookFault when it cannot be read."""

    def __init__(self, knobs: Knobs, book: BookFile | None = None, api_key: str = "") -> None:
        self.api_key = api_key
        self._first_knobs = knobs
        self.knobs = knobs
        self._book = book
        self.exchange = Exchange(knobs, noting=book is not None)
        settled = None if book is None else self._settled
        self.pusher = Pusher(lambda: self.knobs, settled, api_key)
        self._requests: dict[str, Counter[str]] = {}
        self._attempts: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._outage_ends_ms: int | None = None
        self._outage_changed = asyncio.Event()
        self._fresh_windows()
        if book is not None:
            recalled = Recalled(self.exchange.book)
            for number, line in enumerate(book.lines(), 2):
                try:
                    recalled.take(line)
                except (ValueError, KeyError) as fault:
                    raise book.fault(number, str(fault)) from None
            self.exchange.restore(recalled)

    def begin(self) -> None:
        """Lets what a durable book left to come take its course; needs the running loop."""
        self._arm()

    @property
    def book_full(self) -> bool:
        """Whether the durable book takes no further message."""
        return self._book is not None and self._book.full

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def count(self, what: str, outcome: str) -> None:
        """Counts one request by what it asked and how it ended."""
        self._requests.setdefault(what, Counter())[outcome] += 1

    def handling(self, key: str) -> Handling:
        """How this request is treated; `key` is its first message id, or what else names it."""
        knobs = self.knobs
        attempt = 0
        if (
            knobs.lost_share
            or knobs.throttle_share
            or knobs.server_error_share
            or knobs.answer_lost_share
            or knobs.garbage_share
        ):
            attempt = self._attempts.pop(key, 0)
            self._attempts[key] = attempt + 1
            if len(self._attempts) > ATTEMPT_KEYS_MAX:
                del self._attempts[next(iter(self._attempts))]
        return handling(knobs, key, attempt)

    def offered(self, channel: Channel, messages: int) -> None:
        """Notes messages that came, whatever becomes of them."""
        self._offered[channel].add(self.now_ms(), messages)

    def above_rate(self, channel: Channel, messages: int) -> bool:
        """Whether this many more messages would pass the provider's own rate."""
        rate = self.knobs.rate_per_s
        return rate > 0 and self._admitted[channel].within(self.now_ms()) + messages > rate

    def admitted(self, channel: Channel, messages: int) -> None:
        """Notes messages that are let in: they count for the rate."""
        self._admitted[channel].add(self.now_ms(), messages)

    def accept(self, twin: Twin, channel: Channel, sending: Sending, messages: int) -> Sent:
        """Takes a send; its receipts will follow."""
        self.admitted(channel, messages)
        sent = self.exchange.send(twin, sending, self.now_ms())
        self._write(self.exchange.take_notes())
        self._arm()
        return sent

    async def push_first(self, early: Sequence[Push]) -> None:
        """Pushes reports and returns when they are taken, or after EARLY_PUSH_S_MAX."""
        if early:
            await self.pusher.push_first(early, EARLY_PUSH_S_MAX)

    def turn(self, knobs: Knobs, *, outage_begins: bool) -> None:
        """Puts other knobs in force; `outage_begins` starts the outage's period anew."""
        self.knobs = knobs
        self.exchange.turn(knobs)
        if outage_begins:
            self._outage_ends_ms = self.now_ms() + knobs.outage_ms if knobs.outage_ms else None
        self._outage_changed.set()
        self._outage_changed = asyncio.Event()

    def outage(self) -> Outage:
        """The outage in force now."""
        ends_ms = self._outage_ends_ms
        if ends_ms is not None and self.now_ms() >= ends_ms:
            return "none"
        return self.knobs.outage

    async def outage_over(self) -> None:
        """Returns when nothing hangs any more."""
        while self.outage() == "hang":
            ends_ms = self._outage_ends_ms
            left_s = None if ends_ms is None else max(0.0, (ends_ms - self.now_ms() + 1) / 1000)
            try:
                async with asyncio.timeout(left_s):
                    await self._outage_changed.wait()
            except TimeoutError:
                continue

    async def flush(self, *, everything: bool) -> None:
        """Pushes what is due, or everything that is still to come, and waits until it is taken."""
        self._happen(everything=everything)
        if everything:
            self.pusher.retry_now()
        self._arm()
        await self.pusher.drain(FLUSH_S_MAX)

    async def reset(self) -> None:
        """Forgets all messages, counts and waiting reports, and returns to the first knobs."""
        await self.pusher.clear()
        self.exchange.clear()
        if self._book is not None:
            self._book.clear()
        self._requests.clear()
        self._attempts.clear()
        self._fresh_windows()
        self.turn(self._first_knobs, outage_begins=True)
        self._arm()

    async def close(self) -> None:
        self.turn(msgspec.structs.replace(self.knobs, outage="none"), outage_begins=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.pusher.close()
        if self._book is not None:
            self._book.close()

    def stats(self) -> Stats:
        return Stats(
            requests={what: dict(outcomes) for what, outcomes in self._requests.items()},
            messages=len(self.exchange.book),
            duplicates=self.exchange.book.duplicates,
            messages_per_s_max={name: window.peak for name, window in self._offered.items()},
            admitted_per_s_max={name: window.peak for name, window in self._admitted.items()},
            pending=self.exchange.pending,
            next_ms=self.exchange.next_ms(),
            last_ms=self.exchange.last_ms(),
            reports_waiting=self.pusher.waiting,
            pushed=self.pusher.pushed,
        )

    def _fresh_windows(self) -> None:
        self._offered: dict[Channel, SlidingSecond] = {name: SlidingSecond() for name in CHANNELS}
        self._admitted: dict[Channel, SlidingSecond] = {name: SlidingSecond() for name in CHANNELS}

    def _arm(self) -> None:
        """Sets the one timer to the earliest thing due."""
        next_ms = self.exchange.next_ms()
        if self._timer is not None:
            if self._timer_ms == next_ms:
                return
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            delay_s = max(0.0, (next_ms - self.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)
            self._timer_ms = next_ms

    def _tick(self) -> None:
        self._timer = None
        self._happen(everything=False)
        self._arm()

    def _happen(self, *, everything: bool) -> None:
        pushes = self.exchange.tick(self.now_ms(), everything=everything)
        self._write(self.exchange.take_notes())
        self.pusher.add(pushes)

    def _settled(self, items: list[Item]) -> None:
        self._write([Settled(items)])

    def _write(self, lines: Sequence[Line]) -> None:
        if self._book is None or not lines:
            return
        try:
            self._book.write(lines)
        except OSError as fault:
            sys.stderr.write(f"The book cannot be written ({fault.strerror}): make room, start.\n")
            sys.stderr.flush()
            os._exit(1)  # an orderly end would answer requests that are not written down
