"""How often a person reacts on each channel, and the order of a route by what a reaction costs
there. Pure, in integers: the same numbers give the same order in every process.

A rate is the mean of a Beta distribution: reactions over exposures, both fading with a half-life of
HALF_LIFE_S, with a prior worth PRIOR_EXPOSURES: what the app's persons do on that channel, and
before they had APP_EXPOSURES_MIN exposures there what `[reach] prior` says. Exposures and reactions
are thousandths, so that fading loses little to rounding; rates are millionths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from gateway.core.channels import Until
from gateway.core.policy import Metric, OrderBy, Policy, RouteStep
from gateway.core.records.message import Step, StepStatus
from gateway.core.records.person import ChannelMemory, Person
from gateway.core.records.words import ReactionName

THOUSAND, MILLION = 1_000, 1_000_000
HALF_LIFE_S = 90 * 86_400
PRIOR_EXPOSURES = 8
APP_EXPOSURES_MIN = 100
KNOWN_EXPOSURES, KNOWN_CHANNELS = 3, 2  # as many of so many channels, or the written order holds
SURE_Z = 1.96  # of the bounds between which a rate is 19 times of 20


class Counted(msgspec.Struct, frozen=True, gc=False):
    """Exposures and reactions, in thousandths."""

    exposures: int = 0
    reactions: int = 0

    def faded(self, seconds: int) -> Counted:
        """What is left of them after so long."""
        if seconds <= 0 or not (self.exposures or self.reactions):
            return self
        left = 0.5 ** (seconds / HALF_LIFE_S)
        return Counted(round(self.exposures * left), round(self.reactions * left))

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.exposures + other.exposures, self.reactions + other.reactions)


class Tally(msgspec.Struct, frozen=True, gc=False):
    """One more of an app's exposures or reactions on a channel."""

    app: str
    channel: str
    what: Literal["exposures", "reactions"]


NOTHING = Counted()
AppRates = Mapping[tuple[str, str], Counted]  # by app and channel
NO_RATES: AppRates = {}


def counts_as(kind: ReactionName, metric: Metric, *, first: bool = True) -> bool:
    """Whether what a person did is what rates count. Where every kind does, only the `first` thing
    that was done with a message counts: one exposure has one reaction at most."""
    return kind == metric or (metric == "any" and first)


def counts_conversions(policy: Policy) -> bool:
    """Whether conversions are what rates count, and anybody asks them."""
    return policy.counts and policy.reach.metric == "converted"


def interval(mean: float, count: float) -> tuple[int, int]:
    """Between which a rate lies 19 times of 20 that was measured so often, by Wilson's score, in
    millionths."""
    squared = SURE_Z**2 / count
    middle = mean + squared / 2
    spread = math.sqrt(squared * (mean * (1 - mean) + squared / 4))
    low, high = ((middle + way * spread) / (1 + squared) for way in (-1, 1))
    return round(max(low, 0) * MILLION), round(min(high, 1) * MILLION)


class PersonRate(msgspec.Struct, frozen=True):
    """A person's rate on a channel, and what it is made of; `prior` and `rate` in millionths."""

    counted: Counted
    prior: int
    rate: int

    @property
    def bounds(self) -> tuple[int, int]:
        """Between which the rate lies, measured as often as it is worth exposures."""
        count = self.counted.exposures / THOUSAND + PRIOR_EXPOSURES
        return interval(self.rate / MILLION, count)


def memories(people: Iterable[Person], channel: str) -> list[ChannelMemory]:
    """What each of a person's records remembers of a channel, where it remembers anything."""
    return [memory for person in people if (memory := person.channels.get(channel)) is not None]


def counted_of(people: Iterable[Person], channel: str, now_ms: int) -> Counted:
    """What is counted of a person on a channel; of several records the one that knows more."""
    now_s = now_ms // 1000
    found = [
        Counted(memory.exposures, memory.reactions).faded(now_s - memory.counted_s)
        for memory in memories(people, channel)
    ]
    return max(found, key=lambda one: (one.exposures, one.reactions), default=NOTHING)


def prior_of(app: str, channel: str, policy: Policy, rates: AppRates) -> int:
    """What a person of whom nothing is known is taken to do on a channel, in millionths."""
    known = rates.get((app, channel), NOTHING)
    if known.exposures < APP_EXPOSURES_MIN * THOUSAND:
        return policy.reach.prior.get(channel, 0)
    return min(known.reactions * MILLION // known.exposures, MILLION)


def rate_of(counted: Counted, prior: int) -> PersonRate:
    weight = PRIOR_EXPOSURES * THOUSAND
    mean = (counted.reactions * MILLION + weight * prior) // (counted.exposures + weight)
    return PersonRate(counted, prior, min(mean, MILLION))


def put_in_order(
    steps: Sequence[Step],
    asked: Sequence[RouteStep],
    shown: Callable[[str, Until], Until],
    by: OrderBy,
    people: Sequence[Person],
    app: str,
    policy: Policy,
    rates: AppRates,
    now_ms: int,
) -> list[Step]:
    """The steps that can run in the order of what a reaction of this person is expected to cost, or
    of its rate alone; the others keep their places. What is awaited, and for how long after the
    delivery, belongs to the place: `asked` says it, a step of the route each, and `shown` what of
    it counts on a channel."""
    places = [i for i, step in enumerate(steps) if step.status == StepStatus.PLANNED]
    known = {c: counted_of(people, c, now_ms) for c in {step.channel for step in steps}}
    enough = [c for c in known.values() if c.exposures >= KNOWN_EXPOSURES * THOUSAND]
    if len(enough) < KNOWN_CHANNELS:
        return list(steps)
    for i in places:
        channel = steps[i].channel
        steps[i].rate = rate_of(known[channel], prior_of(app, channel, policy, rates)).rate
    ordered = list(steps)
    for place, i in zip(places, sorted(places, key=lambda i: _place(steps[i], by)), strict=True):
        step = ordered[place] = steps[i]
        step.until = shown(step.channel, asked[place].until)
        step.react_ms = asked[place].react_ms if step.until != "delivered" else 0
    return ordered


def expected_cost(step: Step, unit: int = 1) -> int:
    """What a reaction to the step is expected to cost, in `unit` parts of 1e-6 currency units."""
    return step.candidate.cost * step.parts * MILLION * unit // step.rate


def _place(step: Step, by: OrderBy) -> tuple[bool, int]:
    """By what steps are put in order, the smallest first; without any reaction to expect, last."""
    if not step.rate:
        return True, 0
    return False, -step.rate if by == "rate" else expected_cost(step, THOUSAND)
