"""A small world for the rules' tests: a policy, one person, one message, and what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any, Literal

from gateway.core import admission, cascade, events
from gateway.core.addresses import Addresses
from gateway.core.campaigns.send_windows import Hours, SendWindow
from gateway.core.effects import Effects
from gateway.core.ids import step_ref
from gateway.core.money.budgets import NO_FUNDS, Funds
from gateway.core.money.prices import Price
from gateway.core.people.opt_outs import NONE, OptOuts
from gateway.core.policy import (
    WHEN_AWAY_DEFAULT,
    CategoryRule,
    Policy,
    ProviderRule,
    RouteStep,
    WhenAway,
)
from gateway.core.records.content import Content
from gateway.core.records.entries import Post, StatusChange
from gateway.core.records.message import Message, StepStatus, names_of
from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest
from providers.contract import Category, Receipt
from ratelimit.caps import Cap, window_max_ms

T0 = 4_102_444_800_000  # in 2100: Redis drops by its own clock what is over
MINUTE = 60_000
DAY = 86_400_000
ID = "1M7Q5CQG0000000000AB"[:20]
TTL_MS: dict[Category, int] = {
    "otp": 5 * MINUTE,
    "transactional": 3 * DAY,
    "marketing": 3 * DAY,
}
NOBODY: Mapping[str, int] = {}
HOUR = 60 * MINUTE
# By the recipient's clock, which is UTC unless a test says so; T0 is a midnight.
DAYTIME = SendWindow(Hours(9 * HOUR, 21 * HOUR, frozenset(range(7))), country_zones={"RU": "UTC"})
PRICES = {
    "viber": Price(cost=5_000, sell=9_000, currency="EUR"),
    "sms": Price(40_000, 70_000, "EUR"),
    "viber-2": Price(6_000, 11_000, "EUR"),  # where a route names it
    "viber-3": Price(7_000, 13_000, "EUR"),
}


def policy(
    *,
    caps: tuple[Cap, ...] = (),
    steps: tuple[RouteStep, ...] | None = None,
    resend_unknown: bool = False,
    when_away: WhenAway | None = None,
    send_window: SendWindow | None = None,
    **provider: Any,
) -> Policy:
    steps = steps or (
        RouteStep(("viber",), 15 * MINUTE, 10_000),
        RouteStep(("sms",), 24 * 60 * MINUTE, 10_000),
    )
    fast = (
        RouteStep(("viber",), MINUTE, 5_000),
        RouteStep(("sms",), 5 * MINUTE, 10_000),
    )
    return Policy(
        routes={
            "viber-then-sms": steps,
            "sms-only": steps[-1:],
            "viber-only": steps[:1],
            "fast": fast,
        },
        categories={
            category: CategoryRule(
                "viber-then-sms",
                ttl,
                resend_unknown,
                when_away or WHEN_AWAY_DEFAULT[category],
                send_window,
            )
            for category, ttl in TTL_MS.items()
        },
        providers={
            name: ProviderRule(name.partition("-")[0], **({"can_look_up": True} | provider))
            for name in ("viber", "sms", *(name for step in steps for name in step.providers))
        },
        caps=caps,
        dedupe_ms=30 * DAY,
        slot_ms={c: w for c in TTL_MS if (w := window_max_ms(caps, c))},
        currency="EUR",
        quote=lambda provider, digits, category, day: PRICES.get(provider),
    )


def request(*, to: str = "79161234567", **changes: Any) -> MessageRequest:
    """A request to a phone, or to the `addresses` that are given."""
    fields: dict[str, Any] = {
        "id": ID,
        "app": "shop",
        "addresses": Addresses(to),
        "country": "RU",
        "category": "marketing",
        "content": Content("Привет"),
        "campaign": "autumn",
    }
    return MessageRequest(**(fields | changes))


class World:
    """One message's life. `now_ms` only moves when told."""

    def __init__(
        self,
        rules: Policy | None = None,
        send: MessageRequest | None = None,
        opt_outs: OptOuts = NONE,
        person: Person | None = None,
        *,
        funds: Funds = NO_FUNDS,
        told_full: Container[str] = (),
    ) -> None:
        self.policy = rules or policy()
        self.person = person or Person()
        self.now_ms = T0
        self.posts: list[Post] = []
        self.status_changes: list[StatusChange] = []
        self.submitted: list[int] = []  # the step of each send
        self.lane: tuple[str, str] | None = None
        self.look_ups = 0
        self.funds = funds
        decision = admission.admit(
            send or request(),
            [self.person],
            opt_outs,
            self.policy,
            T0,
            funds=funds,
            told_full=told_full,
        )
        assert isinstance(decision, admission.Admitted), decision
        self.message: Message = decision.message
        self.posts.append(decision.post)
        self.status_changes.append(decision.status_change)
        self.lane = decision.lane

    def happen(self, event: events.Event) -> Effects:
        """The person is there only where the decision says that it needs it."""
        needed = cascade.needs_people(self.message, event, self.policy, self.now_ms)
        people = [self.person] if needed else []
        effects = cascade.advance(self.message, event, people, self.policy, self.now_ms, self.funds)
        self.posts += effects.posts
        self.status_changes += effects.status_changes
        if effects.submit:
            self.submitted.append(self.message.current)
        if effects.lane is not None:
            self.lane = effects.lane
        self.look_ups += effects.look_up
        return effects

    def send(self, answer: str = "accepted") -> None:
        """Claims and sends the current step; the provider answers."""
        step = self.message.current
        assert self.happen(events.Claimed(step)).submit
        if answer == "accepted":
            self.happen(events.Accepted(step))
        elif answer == "lost":
            self.happen(events.LostAnswer(step))

    def report(
        self,
        status: Any,
        step: int | None = None,
        *,
        provider: str | None = None,
        series: int = 0,
        part: Literal["", "of_whole", "loose"] = "",
        **fields: Any,
    ) -> Effects:
        index = self.message.current if step is None else step
        receipt = Receipt(status=status, ref=step_ref(self.message.id, index, series), **fields)
        provider = provider or self.message.steps[index].candidate.provider
        return self.happen(events.Reported(index, receipt, provider, series, part))

    def timer(self, away: Mapping[str, int] = NOBODY) -> Effects:
        """Moves time to the message's timer and lets it fire; `away`: providers, and since when."""
        assert self.message.due_ms, "no timer is running"
        self.now_ms = max(self.now_ms, self.message.due_ms)
        return self.happen(events.TimerDue(away))

    def sums(self, measure_of: str | None = None, provider: str | None = None) -> Counter[str]:
        """What was booked, over all posts or those of one channel or provider."""
        sums: Counter[str] = Counter()
        for post in self.posts:
            if measure_of in (None, post.group.channel) and provider in (None, post.group.provider):
                for measure, amount in post.measures.items():
                    sums[measure] += amount
        return sums

    def statuses(self) -> list[str]:
        return [names_of(StepStatus)[s.status] for s in self.message.steps]

    def held(self) -> bool:
        """Whether the person's record holds anything for this message."""
        claim = self.person.claims.get(self.message.campaign or "")
        return (claim is not None and claim.message == self.message.id) or any(
            slot.message == self.message.id for slot in self.person.slots
        )
