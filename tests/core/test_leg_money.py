"""Money by leg: whatever order receipts, reactions and timers come in, the ledger is the bill, of
each provider and of all."""

from __future__ import annotations

import random
from collections import Counter
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import events
from gateway.core.channels import Until
from gateway.core.ids import step_ref
from gateway.core.policy import RouteStep
from gateway.core.records.message import StepStatus
from providers.contract import Fault, Receipt
from tests.worlds.cascade_world import DAY, ID, MINUTE, PRICES, World, policy, request

PROVIDERS = (("viber", "viber-3"), ("sms",), ("viber-2",))
UNTIL: tuple[Until, ...] = ("delivered", "seen", "clicked")
# What becomes of what a provider has: whether it arrives, how often that is told, what is done.
FATES = st.tuples(
    st.booleans(),
    st.integers(1, 2),
    st.sets(st.sampled_from(["seen", "replied", "clicked"])),
)
# What a step's first provider says of it: that it has it, that it does not want it now, or nothing,
# and then twice that it does not know it, which is not always true.
ANSWERS = st.sampled_from(["accepted", "refused", "lost", "mistaken"])
FOR_NOW = Fault("20", "BUSY", False)


class Life:
    """A message and what its providers know of it that nobody was told yet."""

    def __init__(self, world: World, answer: str, fates: list[tuple[bool, int, set[str]]]) -> None:
        self.world = world
        self.answer = answer
        self.fates = fates
        self.untold: list[events.Event] = []
        self.bill: Counter[str] = Counter()  # of each provider
        self.arrivals: Counter[int] = Counter()  # by step
        self.billed: dict[int, int] = {}  # by leg, by what was told first

    def go_on(self, chance: random.Random) -> None:
        """One thing happens: a step is sent, something is told, or the timer fires."""
        world = self.world
        if self.untold and chance.random() < 0.5:
            self.tell(self.untold.pop(chance.randrange(len(self.untold))))
        elif world.message.step.status == StepStatus.QUEUED:
            self._send()
        elif world.message.due_ms:
            world.timer()

    def _send(self) -> None:
        world, index = self.world, self.world.message.current
        assert not world.message.reaction, "who reacted gets no further step"
        assert world.happen(events.Claimed(index)).submit
        step = world.message.step
        answer = self.answer if index == 0 and len(step.attempts) == 1 else "accepted"
        if answer in ("accepted", "mistaken"):
            self._has_it(index)
        if answer == "accepted":
            world.happen(events.Accepted(index))
        elif answer == "refused":
            world.happen(events.StepRefused(index, FOR_NOW))
        else:
            world.happen(events.LostAnswer(index))
            world.happen(events.NotKnown(index))
            assert step.status == StepStatus.UNKNOWN, "it is asked twice"
            world.happen(events.NotKnown(index))
        if answer != "accepted":
            assert (step.status, step.chosen) == (StepStatus.QUEUED, 1)

    def _has_it(self, index: int) -> None:
        """What the provider does with it, and is going to tell."""
        world, step = self.world, self.world.message.steps[index]
        arrives, times, reactions = self.fates[index + (len(step.attempts) > 1) * len(PROVIDERS)]
        provider, series = step.candidate.provider, step.series
        ref = step_ref(ID, index, series)

        def reported(status: Literal["sent", "delivered", "seen", "undelivered"]) -> events.Event:
            return events.Reported(index, Receipt(status, ref=ref), provider, series)

        if arrives or world.policy.provider(provider).charged_on == "sent":
            self.bill[provider] += PRICES[provider].cost
        if not arrives:
            self.untold.append(reported("undelivered"))
            return
        self.arrivals[index] += 1
        self.untold += [reported("delivered")] * times
        self.untold += [
            reported("seen")
            if kind == "seen"
            else events.Reacted(index, "clicked" if kind == "clicked" else "replied", 0)
            for kind in sorted(reactions)
        ]

    def tell(self, event: events.Event) -> None:
        world = self.world
        assert isinstance(event, events.Reported | events.Reacted)
        step = world.message.steps[event.step]
        arrived = step.arrived
        if isinstance(event, events.Reacted) and len(step.attempts) > 1 and not arrived:
            self.untold.append(event)  # nobody can tell to what of both, before one has arrived
            return
        world.happen(event)
        if step.arrived and not arrived:
            self.billed.setdefault(step.leg, step.sell * step.parts)


@given(
    ANSWERS,
    st.lists(FATES, min_size=6, max_size=6),
    st.lists(st.sampled_from(UNTIL), min_size=3, max_size=3),
    st.sampled_from(["delivered", "sent"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=400)
def test_the_ledger_is_the_bill_in_every_order_of_events(
    answer: str,
    fates: list[tuple[bool, int, set[str]]],
    untils: list[Until],
    charged_on: str,
    chance: random.Random,
) -> None:
    steps = tuple(
        RouteStep(names, 15 * MINUTE, 0, until, 4 * 60 * MINUTE)
        for names, until in zip(PROVIDERS, untils, strict=True)
    )
    world = World(policy(steps=steps, charged_on=charged_on), request(ttl_ms=3 * DAY))
    life = Life(world, answer, fates)
    while life.untold or world.message.due_ms:
        life.go_on(chance)
    message, sums = world.message, world.sums()
    assert message.closed
    assert sums["cost"] == life.bill.total()
    for provider in PRICES:
        assert world.sums(provider=provider)["cost"] == life.bill[provider]
        booked = world.sums(provider=provider)
        assert booked["undelivered"] in (0, 1), "what is taken back was booked for it"
    assert sums["billed"] == sum(life.billed.values()) == (message.billed or 0)
    legs = {step.leg for step in message.steps if step.arrived}
    assert sums["delivered"] == len(legs)
    assert sums["double_delivered"] == life.arrivals.total() - len(legs)
    if set(untils) == {"delivered"}:
        assert message.leg == 0, "nobody is waited for"
