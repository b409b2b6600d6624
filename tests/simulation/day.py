"""A day of cascades in virtual time: the real rules, a memory for Redis, providers with fates.

Runs under trio's MockClock, so a day takes as long as its decisions. Every single decision is held
against the promises in `gateway.core.cascade`'s docstring while it is made.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import trio
from msgspec.structs import replace

from gateway.core import admission, cascade
from gateway.core import events as ev
from gateway.core.effects import Effects
from gateway.core.ids import new_id, step_ref
from gateway.core.money.budgets import NO_FUNDS, Budget
from gateway.core.records.entries import Post
from gateway.core.records.message import ARRIVED, Message, Step, StepStatus, names_of
from gateway.core.records.person import Person
from gateway.dispatch.worker.fair_share import divide
from providers.contract import Fault, Receipt, ReceiptStatus
from ratelimit.caps import Cap
from ratelimit.limiter import Schedule
from tests.simulation.day_budgets import DayBudgets
from tests.worlds.cascade_world import DAY, PRICES, T0, policy, request

CATEGORIES = ("otp", "transactional", "marketing")
RATES = {"viber": 40, "sms": 20}
BACK = {StepStatus.QUEUED, StepStatus.RETRYING}
FROM = {StepStatus.SENDING, StepStatus.UNKNOWN}
FOUND = (StepStatus.UNKNOWN, StepStatus.SENT)  # the provider has it after all
FEEDS_S = 60.0
FATES = {
    "viber": (
        ("seen", 25), ("delivered", 20), ("silent", 20), ("late", 6), ("undelivered", 10),
        ("expired", 6), ("refused", 5), ("busy", 4), ("lost", 2), ("lost_taken", 2),
    ),
    "sms": (
        ("delivered", 80), ("undelivered", 8), ("silent", 4), ("busy", 3), ("lost", 2),
        ("lost_taken", 3),
    ),
}  # fmt: skip


def provider_of(step: Step) -> str:
    """The one in whose lane the step is or was."""
    assert step.provider is not None
    return step.provider


class Day:
    """`happen` decides; the rest is what carries its effects out, and the world that answers."""

    def __init__(self, seed: int, nursery: trio.Nursery, budgets: tuple[Budget, ...] = ()) -> None:
        self.random = random.Random(seed)
        self.nursery = nursery
        rules = policy(caps=(Cap("two-a-day", 2, DAY, "1d", "marketing", None),))
        self.policy = replace(rules, budgets=budgets)
        self.budgets = DayBudgets(budgets)
        self.messages: dict[str, Message] = {}
        self.persons: dict[str, Person] = {}
        self.refused: Counter[str] = Counter()
        self.posts: list[Post] = []
        self.lanes: dict[str, dict[str, list[str]]] = {
            p: {c: [] for c in CATEGORIES} for p in RATES
        }
        self.work = {p: trio.Event() for p in RATES}
        self.sends: dict[str, list[tuple[int, int]]] = {p: [] for p in RATES}
        self.taken: dict[str, str] = {}  # ref: provider, what providers really have
        self.delivered: Counter[str] = Counter()  # provider: steps it delivered, its own bill
        self.fates: Counter[str] = Counter()
        self.resumed = 0  # of those that waited for a budget

    @property
    def now_ms(self) -> int:
        return T0 + round(trio.current_time() * 1000)

    def admit(self, phone: str, category: str, campaign: str | None) -> None:
        id_ = new_id(self.now_ms, 0, self.random.getrandbits(45))
        send = request(id=id_, to=phone, category=category, campaign=campaign)
        person = self.persons.setdefault(phone, Person())
        decision = admission.admit(
            send,
            [person],
            {},
            self.policy,
            self.now_ms,
            funds=self.budgets.funds(self.now_ms),
            told_full=self.budgets.names,
        )
        if not isinstance(decision, admission.Admitted):
            self.refused[type(decision).__name__] += 1
            return
        self.messages[id_] = decision.message
        self.budgets.reserve(decision.message.reserved, self.now_ms)
        if decision.message.held is not None:
            self.budgets.waiting.append(id_)
        self.posts.append(decision.post)
        self._carry_out(decision.message, 0, Effects(lane=decision.lane))

    def happen(self, id_: str, event: ev.Event) -> Effects:
        message = self.messages[id_]
        person = self.persons[message.holder.removeprefix("p:")]
        before = [step.status for step in message.steps]
        billed, due, was_final = message.billed, message.due_ms, message.finished
        arrived = message.status in ARRIVED
        funds = self.budgets.funds(self.now_ms) if isinstance(event, ev.Released) else NO_FUNDS
        effects = cascade.advance(message, event, [person], self.policy, self.now_ms, funds)
        self.budgets.reserve(effects.reserved, self.now_ms)
        self.budgets.move(effects.moves, self.now_ms)
        self._check_steps(message, before)
        assert billed is None or message.billed == billed, "billed once, at the first delivery"
        if effects.submit:
            assert not was_final
            assert not arrived
            assert self.now_ms < message.expires_ms
        self.check_holding(message, person)
        self.posts += effects.posts
        self._carry_out(message, due, effects)
        return effects

    async def feed(self) -> None:
        """What waits for a budget goes on in its order, as soon as there is room for the first."""
        while True:
            await trio.sleep(FEEDS_S)
            waiting = self.budgets.waiting
            while waiting:
                released = self.happen(waiting[0], ev.Released(full=self.budgets.names))
                message = self.messages[waiting[0]]
                if message.held is not None and not message.finished:
                    break
                self.resumed += released.lane is not None
                del waiting[0]

    def _check_steps(self, message: Message, before: Sequence[int]) -> None:
        for step, status in zip(message.steps, before, strict=True):
            back = step.status in BACK and (status in FROM or status in BACK)
            found = (status, step.status) == FOUND
            assert step.status >= status or back or found, (
                names_of(StepStatus)[status],
                names_of(StepStatus)[step.status],
            )

    def check_holding(self, message: Message, person: Person) -> None:
        claim = person.claims.get(message.campaign or "")
        holds = claim is not None and claim.message == message.id
        holds = holds or any(slot.message == message.id for slot in person.slots)
        wants = message.campaign is not None or message.category == "marketing"
        lives = not message.finished or message.delivered_step >= 0
        if wants and lives:
            assert holds
        elif not wants or message.closed:
            assert not holds

    def _carry_out(self, message: Message, due_before: int, effects: Effects) -> None:
        if effects.lane is not None:
            provider, category = effects.lane
            self.lanes[provider][category].append(message.id)
            self.work[provider].set()
        if message.due_ms and message.due_ms != due_before:
            self.nursery.start_soon(self._timer, message, message.due_ms)
        if effects.look_up:
            self.nursery.start_soon(self._look_up, message)

    async def _timer(self, message: Message, due_ms: int) -> None:
        await trio.sleep_until((due_ms - T0) / 1000 + 0.001)
        if message.due_ms == due_ms:
            self.happen(message.id, ev.TimerDue())

    async def _look_up(self, message: Message) -> None:
        index, step = message.current, message.steps[message.current]
        ref = step_ref(message.id, index, step.series)
        await trio.sleep(self.random.uniform(0.05, 2))
        if ref in self.taken:
            receipt = Receipt(status="sent", ref=ref)
            self.happen(message.id, ev.Reported(index, receipt, provider_of(step), step.series))
        else:
            self.happen(message.id, ev.NotKnown(index))

    # --- dispatch ---

    async def lane(self, provider: str) -> None:
        schedule = Schedule(RATES[provider], 100)
        owed = (0, 0)
        lanes = self.lanes[provider]
        while True:
            await self.work[provider].wait()
            now_us = round(trio.current_time() * 1_000_000)
            grant = schedule.take(100, now_us)
            if not grant.tokens:
                await trio.sleep(grant.wait_us / 1e6)
                continue
            await trio.sleep(grant.wait_us / 1e6)
            waiting = [len(lanes[c]) for c in CATEGORIES]
            counts, owed = divide(grant.tokens, (waiting[0], waiting[1], waiting[2]), 10, owed)
            ids = []
            for category, count in zip(CATEGORIES, counts, strict=True):
                ids += lanes[category][:count]
                del lanes[category][:count]
            if not any(lanes.values()):
                self.work[provider] = trio.Event()
            claim = ev.Claimed(ev.CURRENT, provider=provider)
            sent = [id_ for id_ in ids if self.happen(id_, claim).submit]
            self.sends[provider].append((now_us + grant.wait_us, len(sent)))
            for id_ in sent:
                self.nursery.start_soon(self._send, self.messages[id_])

    # --- the providers ---

    async def _send(self, message: Message) -> None:
        index, step = message.current, message.steps[message.current]
        ref = step_ref(message.id, index, step.series)
        provider = provider_of(step)
        names, weights = zip(*FATES[provider], strict=True)
        (fate,) = self.random.choices(names, weights)
        self.fates[f"{provider} {fate}"] += 1
        assert ref not in self.taken, "a provider that has a step is never sent it again"
        await trio.sleep(self.random.uniform(0.02, 0.4))
        if fate in ("refused", "busy"):
            fault = Fault("7", fate, fate == "refused")
            self.happen(message.id, ev.StepRefused(index, fault))
            return
        if fate == "lost":
            self.happen(message.id, ev.LostAnswer(index))
            return
        self.taken[ref] = provider
        self.nursery.start_soon(self._report, message, index, step.series, fate)
        if fate == "lost_taken":
            self.happen(message.id, ev.LostAnswer(index))
        else:
            self.happen(message.id, ev.Accepted(index))

    async def _report(self, message: Message, index: int, series: int, fate: str) -> None:
        """The receipts of a step: repeated, in any order, some before the answer of the send."""
        statuses: list[ReceiptStatus] = []
        if fate in ("delivered", "late", "lost_taken"):
            statuses = ["sent", "delivered"]
        elif fate == "seen":
            statuses = ["delivered", "seen"]
        elif fate in ("undelivered", "expired"):
            statuses = ["sent", "undelivered" if fate == "undelivered" else "expired"]
        if "delivered" in statuses:
            self.delivered[provider_of(message.steps[index])] += 1
        if fate == "late":
            await trio.sleep(self.random.uniform(16 * 60, 4 * 3600))
        receipts = statuses * self.random.choice((1, 1, 2, 3))
        self.random.shuffle(receipts)
        for status in receipts:
            await trio.sleep(self.random.choice((0.0, 0.3, 5.0, 300.0)))
            receipt = Receipt(status=status, ref=step_ref(message.id, index, series))
            provider = provider_of(message.steps[index])
            self.happen(message.id, ev.Reported(index, receipt, provider, series))


async def live(seed: int, messages: int, days: float, budgets: tuple[Budget, ...] = ()) -> Day:
    """A campaign at nine, codes and payments all day, and time enough for everything to end."""
    async with trio.open_nursery() as nursery:
        day = Day(seed, nursery, budgets)
        if budgets:
            nursery.start_soon(day.feed)
        for provider in RATES:
            nursery.start_soon(day.lane, provider)
        people = [str(79_160_000_000 + n) for n in range(messages)]

        async def campaign(name: str, hour: int, to: Sequence[str]) -> None:
            await trio.sleep_until(hour * 3600)
            for phone in to:
                day.admit(phone, "marketing", name)

        async def codes() -> None:
            while trio.current_time() < 86_400:
                await trio.sleep(day.random.expovariate(messages / 86_400))
                category = day.random.choice(("otp", "transactional"))
                day.admit(day.random.choice(people), category, None)

        half = messages // 2
        nursery.start_soon(campaign, "autumn", 9, people[:half])
        nursery.start_soon(campaign, "autumn", 10, people[half // 2 : half])  # all duplicates
        nursery.start_soon(campaign, "winter", 15, people[:half])
        nursery.start_soon(campaign, "sale", 20, people[:half])  # the third of the day
        nursery.start_soon(codes)
        await trio.sleep(days * 86_400)
        nursery.cancel_scope.cancel()
    return day


def cost_of(day: Day) -> int:
    """What the providers' own books say they delivered, at list prices."""
    return sum(PRICES[provider].cost * count for provider, count in day.delivered.items())
