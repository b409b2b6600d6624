"""Days of bad weather in virtual time: the real store, dispatch and rules, everything else a fake.

`Storm` is a world drawn from one seed: callers who send, repeat and cancel, dispatchers that die,
stand still and come back at any await, a Redis that is slow, cut off or away, clocks apart by
seconds, providers with fates. When nothing can happen for a while, the clock is moved on. What must
hold at the end is in `storm_rules`. The same seed gives the same days, to the last word.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import trio

from gateway import telemetry
from gateway.core.cascade import events as cascade_events
from gateway.core.records.message_codec import unpack_message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.settings.tables import Lanes
from gateway.store.messages.receipts import take_receipts
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Receipt
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.simulation.storm_audience import Audience
from tests.simulation.storm_budgets import Budgets
from tests.simulation.storm_callers import Callers
from tests.simulation.storm_campaigns import Campaigns
from tests.simulation.storm_moving_on import HORIZON_S, PARKED_MS, STRANGER, MovingOn
from tests.simulation.storm_people import People
from tests.simulation.storm_plan import Plan
from tests.simulation.storm_policy import rules_of
from tests.simulation.storm_provider import Book, StormProvider
from tests.simulation.storm_seams import AWAY, seams
from tests.worlds.cascade_world import T0
from tests.worlds.virtual_clock import VirtualClock

HOUR_S = 3_600.0
CALM_S = 30 * HOUR_S  # from then on the weather is good
STILL_MAX_S = 14.0  # a process stands still for so long at most
MISHAPS_MAX = 15  # of one dispatcher, or a deadly world never gets anything done
CALLBACK_DELAYS_S = (1.0, 5.0, 30.0, 300.0)
AGAIN_S = 5.0
TRACE_MAX = 4_000
# Calls to Redis of one run, nearly all of them idle dispatchers' while something is due soon; with
# more it goes in circles. (Seed 20417 makes 365,000: a budget is full for hours.)
FREE_STEPS = 1_000_000


class Slot:
    """A dispatcher's place: one process after the other, each with its own clock."""

    def __init__(self, storm: Storm, number: int) -> None:
        self.storm = storm
        self.number = number
        self.scope = trio.CancelScope()
        self.consumer = ""
        self.store: Store | None = None
        self.still_until = 0.0
        self.mishaps_left = MISHAPS_MAX

    async def hook(self) -> None:
        """At both ends of every call of this process: here it may die or stand still."""
        storm, plan = self.storm, self.storm.plan
        if not storm.calm and self.consumer and self.mishaps_left:
            draw = storm.chance.random()
            self.mishaps_left -= draw < plan.die_share + plan.still_share
            if draw < plan.die_share:
                storm.note(f"{self.consumer} dies")
                self.consumer = ""
                self.scope.cancel()
                await trio.lowlevel.checkpoint()
            elif draw < plan.die_share + plan.still_share:
                for_s = storm.chance.uniform(0.5, STILL_MAX_S)
                storm.note(f"{self.consumer} stands still for {for_s:.1f} s")
                self.still_until = trio.current_time() + for_s
        if self.still_until > trio.current_time():
            await trio.sleep_until(self.still_until)

    async def run(self) -> None:
        storm = self.storm
        for life in itertools.count():
            self.consumer = consumer = f"d{self.number}-{life}"
            self.still_until = 0.0
            storm.note(f"{consumer} starts")
            deps = self._deps(consumer)
            with trio.CancelScope() as self.scope:
                await dispatch(deps)
            self.consumer = ""
            await trio.sleep(storm.chance.choice((0.0, 0.3, 4.0, 15.0)))

    def _deps(self, consumer: str) -> DispatchDeps:
        storm = self.storm
        redis = MemoryClient(storm.weather, self.hook)
        stopping = trio.Event()
        if storm.chance.random() < 0.3:
            stop = partial(self._stop, consumer, stopping)
            storm.later(storm.chance.uniform(1.0, 40.0), stop, soon=True)
        share = 0.0 if storm.calm else storm.plan.fault_share
        self.store = storm.store(redis)
        return DispatchDeps(
            store=self.store,
            wake_up_link=redis,
            providers={
                name: StormProvider(book, self.hook, share, *storm.RATES[name])
                for name, book in storm.books.items()
            },
            clock=storm.clock(),
            consumer=consumer,
            metrics=DispatchMetrics(telemetry.new_registries()),
            terms=Lanes(),
            stopping=stopping,
        )

    def _stop(self, consumer: str, stopping: trio.Event) -> None:
        if self.consumer == consumer and not self.storm.calm:
            self.storm.note(f"{consumer} is asked to stop")
            stopping.set()


class Storm:
    # A second, in one request.
    RATES: ClassVar = {"viber": (1_000, 10), "viber-2": (200, 5), "sms": (100, 4)}

    def __init__(self, plan: Plan, clock: VirtualClock) -> None:
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.trace: list[str] = []
        self.virtual_clock = clock
        self.queue: list[tuple[float, int, Callable[[], object], bool]] = []
        self._count = itertools.count()
        self._queued = trio.Event()
        self.server = MemoryRedis(lambda: T0 * 1_000 + round(clock.current_time() * 1e6))
        self.weather = Weather(self.server, self.chance, partial(self.later, soon=True))
        self.weather.cut_share, self.weather.slow_share = plan.cut_share, plan.slow_share
        self.weather.unheard_share = plan.unheard_share
        self.policy = rules_of(plan)
        self.books = {
            "viber": Book("viber", self, (5, 4, 3, 2, 3, 2)),
            "sms": Book("sms", self, (8, 0, 2, 1, 1, 1)),
        }
        if plan.shared:
            self.books["viber-2"] = Book("viber-2", self, (5, 4, 3, 2, 3, 2))
        self.busy = 0  # callers and callbacks under way
        self.callers = Callers(self)
        self.campaigns = Campaigns(self)
        self.people, self.audience = People(self), Audience(self)
        self.budgets = Budgets(self)
        self.moving_on = MovingOn(self)
        self.slots = [Slot(self, n) for n in range(plan.dispatchers)]
        self.nursery: trio.Nursery

    # --- time

    @property
    def hours(self) -> float:
        """How long the world has been going on."""
        return self.virtual_clock.current_time() / HOUR_S

    @property
    def calm(self) -> bool:
        return trio.current_time() >= CALM_S

    def clock(self) -> Callable[[], int]:
        """A machine's clock, in epoch milliseconds."""
        apart_ms = round(self.chance.uniform(-1, 1) * self.plan.clocks_apart_s * 1000)
        return lambda: T0 + round(trio.current_time() * 1000) + apart_ms

    def later(self, delay_s: float, work: Callable[[], object], *, soon: bool = False) -> None:
        """Puts work off. `soon`: it does not keep the clock from being moved on, but is done then:
        idle polling loses calls all the time."""
        at_s = trio.current_time() + delay_s
        heapq.heappush(self.queue, (at_s, next(self._count), work, soon))
        self._queued.set()

    def start(self, delay_s: float, work: Callable[..., Awaitable[object]], *about: Any) -> None:
        """Starts a task of its own, so much later."""
        self.later(delay_s, partial(self.nursery.start_soon, work, *about))

    def note(self, line: str) -> None:
        if len(self.trace) < TRACE_MAX:
            self.trace.append(f"{trio.current_time():11.3f}  {line}")

    async def _happen(self) -> None:
        """Does what was put off, each at its time."""
        while True:
            self._queued = trio.Event()
            now = trio.current_time()
            while self.queue and self.queue[0][0] <= now:
                heapq.heappop(self.queue)[2]()
            wait_s = self.queue[0][0] - now if self.queue else 1e9
            with trio.move_on_after(wait_s):
                await self._queued.wait()

    # --- the world

    def client(self) -> MemoryClient:
        """A caller's, which stands still nowhere, but lets others go first."""
        return MemoryClient(self.weather, trio.lowlevel.checkpoint)

    def store(self, redis: MemoryClient) -> Store:
        kept = Retention(unmatched_ms=PARKED_MS, claims_max=1)
        return Store(redis, self.policy, shards=self.plan.shards, retention=kept)

    async def answered(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does it again until it is answered; no time is left out meanwhile."""
        self.busy += 1
        try:
            while True:
                try:
                    return await work()
                except AWAY:
                    self.note("nobody says whether it was done")
                await trio.sleep(AGAIN_S)
        finally:
            self.busy -= 1

    def post(self, book: Book, receipt: Receipt, attempt: int = 0) -> None:
        """The provider calls back, and again until it is answered 200."""
        self.nursery.start_soon(self._post, book, receipt, attempt)

    async def _post(self, book: Book, receipt: Receipt, attempt: int) -> None:
        clock, store = self.clock(), self.store(self.client())
        self.busy += 1
        try:
            taken = await take_receipts(store, book.name, [receipt], clock())
        except AWAY:
            again_s = CALLBACK_DELAYS_S[min(attempt, len(CALLBACK_DELAYS_S) - 1)]
            self.later(again_s, lambda: self.post(book, receipt, attempt + 1))
            return
        finally:
            self.busy -= 1
        what = "applied" if taken.applied else "parked"
        self.note(f"{book.name} reports {receipt.ref} {receipt.status}: {what}")
        letter = book.letters.get(receipt.ref or "")
        if receipt.status in ("delivered", "seen") and letter is not None:
            letter.reported = True
            if receipt.status == "seen" and taken.applied:
                self.callers.saw_reaction(letter.ref.message_id)

    def _script(self) -> None:
        """When Redis is away and when a provider has no credit."""
        chance = self.chance
        for _ in range(self.plan.outages):
            at_s = chance.choice((5.0, 20.0, 900.0, 20_000.0)) + chance.uniform(0, 30)
            self.later(at_s, lambda: self._redis_goes())
            self.later(at_s + chance.choice((0.5, 6.0, 40.0)), lambda: self._redis_comes())
        for _ in range(self.plan.breaks):
            book = chance.choice(list(self.books.values()))
            at_s = chance.uniform(0, 60)
            self.later(at_s, partial(setattr, book, "broke", True))
            self.later(at_s + chance.choice((3.0, 400.0)), partial(setattr, book, "broke", False))
        for n in range(2):
            stranger = Receipt(status="delivered", ref=f"{STRANGER}{n}", provider_id=f"pid-{n}")
            self.later(chance.uniform(0, 600), partial(self.post, self.books["sms"], stranger))

    def _redis_goes(self) -> None:
        self.note("redis goes away")
        self.weather.down = True
        self.server.scripts.clear()

    def _redis_comes(self) -> None:
        self.note("redis is back")
        self.weather.down = False

    # --- the end

    def over(self) -> bool:
        if self.weather.calls > FREE_STEPS:
            raise AssertionError("the world goes in circles")
        if trio.current_time() >= HORIZON_S:
            return True
        if not self.calm or not self.moving_on.quiet() or not self.all_closed():
            return False
        return self.moving_on.next_at_s() >= HORIZON_S

    def messages(self) -> dict[str, Any]:
        return {
            id_.decode(): unpack_message(id_.decode(), self.server.data[key])
            for key in self.server.names()
            if (id_ := key.partition(b"}m:")[2])
        }

    def all_closed(self) -> bool:
        return all(message.closed for message in self.messages().values())

    async def live(self) -> None:
        with mock.patch.object(cascade_events, "settle", self.budgets.settle):
            await self._live()

    async def _live(self) -> None:
        async with trio.open_nursery() as self.nursery:
            self._script()
            for of in (self.callers, self.campaigns, self.people, self.audience, self.budgets):
                of.begin()
            self.later(CALM_S, self._calm_down)
            for slot in self.slots:
                self.nursery.start_soon(slot.run)
            self.nursery.start_soon(self._happen)
            await self.moving_on.run()
            self.nursery.cancel_scope.cancel()

    def _calm_down(self) -> None:
        self.note("the weather is good from now on")
        self.weather.cut_share = self.weather.slow_share = self.weather.unheard_share = 0.0
        for slot in self.slots:
            slot.scope.cancel()


def lived(plan: Plan, worlds: list[Storm] | None = None) -> Storm:
    """Lives a plan to its end. `worlds` is given the world at its start, for when it ends badly."""

    async def main() -> Storm:
        storm = Storm(plan, clock)
        if worlds is not None:
            worlds.append(storm)
        await storm.live()
        return storm

    clock = VirtualClock()
    with seams(plan.seed):
        return clock.run(main)
