"""Money by leg: whatever order receipts, reactions and timers come in, the ledger is the bill."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import events
from gateway.core.channels import Until
from gateway.core.policy import RouteStep
from gateway.core.records.message import StepStatus
from providers.contract import Receipt
from tests.worlds.cascade_world import DAY, ID, MINUTE, PRICES, World, policy, request

PROVIDERS = ("viber", "sms", "viber-2")
UNTIL: tuple[Until, ...] = ("delivered", "seen", "clicked")
# What becomes of a step that is sent: whether it arrives, how often that is told, what is done.
FATES = st.tuples(
    st.booleans(),
    st.integers(1, 2),
    st.sets(st.sampled_from(["seen", "replied", "clicked"])),
)


class Life:
    """A message and what its providers know of it that nobody was told yet."""

    def __init__(self, world: World, fates: list[tuple[bool, int, set[str]]]) -> None:
        self.world = world
        self.fates = fates
        self.untold: list[events.Event] = []
        self.bill = 0  # of the providers, who charge what arrives
        self.billed: dict[int, int] = {}  # by leg, by what was told first

    def go_on(self, chance: random.Random) -> None:
        """One thing happens: a step is sent, something is told, or the timer fires."""
        world = self.world
        if world.message.step.status == StepStatus.QUEUED:
            self._send()
        elif self.untold and chance.random() < 0.6:
            self.tell(self.untold.pop(chance.randrange(len(self.untold))))
        elif world.message.due_ms:
            world.timer()

    def _send(self) -> None:
        world, index = self.world, self.world.message.current
        assert not world.message.reaction, "who reacted gets no further step"
        world.send()
        arrives, times, reactions = self.fates[index]
        provider = world.message.steps[index].candidate.provider
        ref = f"{ID}.{index}"
        if not arrives:
            self.untold.append(events.Reported(index, Receipt("undelivered", ref=ref), provider))
            return
        self.bill += PRICES[provider].cost
        self.untold += [events.Reported(index, Receipt("delivered", ref=ref), provider)] * times
        self.untold += [
            events.Reported(index, Receipt("seen", ref=ref), provider)
            if kind == "seen"
            else events.Reacted(index, "clicked" if kind == "clicked" else "replied", 0)
            for kind in sorted(reactions)
        ]

    def tell(self, event: events.Event) -> None:
        world = self.world
        assert isinstance(event, events.Reported | events.Reacted)
        step = world.message.steps[event.step]
        arrived = step.arrived
        world.happen(event)
        if step.arrived and not arrived:
            self.billed.setdefault(step.leg, step.sell * step.parts)


@given(
    st.lists(FATES, min_size=3, max_size=3),
    st.lists(st.sampled_from(UNTIL), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_the_ledger_is_the_bill_in_every_order_of_events(
    fates: list[tuple[bool, int, set[str]]], untils: list[Until], chance: random.Random
) -> None:
    steps = tuple(
        RouteStep((name,), 15 * MINUTE, 0, until, 4 * 60 * MINUTE)
        for name, until in zip(PROVIDERS, untils, strict=True)
    )
    world = World(policy(steps=steps), request(ttl_ms=3 * DAY))
    life = Life(world, fates)
    while life.untold or world.message.due_ms:
        life.go_on(chance)
    message, sums = world.message, world.sums()
    assert message.closed
    assert sums["cost"] == life.bill
    assert sums["billed"] == sum(life.billed.values()) == (message.billed or 0)
    arrivals = Counter(step.leg for step in message.steps if step.arrived)
    assert sums["delivered"] == len(arrivals)
    assert sums["double_delivered"] == arrivals.total() - len(arrivals)
    if set(untils) == {"delivered"}:
        assert message.leg == 0, "nobody is waited for"
