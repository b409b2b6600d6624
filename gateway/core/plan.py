"""Which steps a message takes: the one place that looks up a route. Pure.

A step of the route needs an address of its channel's kind, content, and a candidate with a price.
A candidate that is retired or has no price is left out, and a step without any candidate with it.
Of several the message's lot says, by their weights, which one is asked first.
A step without address or content, for messages of another importance, or on a channel that the
person opted out of or is not reached on, stays in the message, as skipped, where another can run.
When none can, the plan is OptedOut where an opt-out stops one of them, else a Rejection with the
reason that stops the most useful step. That nobody is reached never stops the last.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec

from gateway.core.addresses import NOBODY, Addresses
from gateway.core.channels import CHANNELS
from gateway.core.holding import PACE, held_of, paced, starts_ms
from gateway.core.ids import lot_of
from gateway.core.links.tracking import text_to_price, until_on
from gateway.core.money.days import DAY_MS, day_of
from gateway.core.people import persons, reach
from gateway.core.people.opt_outs import NONE, OptOuts, refuses
from gateway.core.people.rates import NO_RATES, AppRates, put_in_order
from gateway.core.policy import AHEAD_MAX_MS, Policy, ResolvedStep, RouteStep
from gateway.core.records.attempt import Candidate
from gateway.core.records.content import Content
from gateway.core.records.held import Held
from gateway.core.records.message import Step, StepStatus
from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest
from gateway.core.records.words import IMPORTANCE_NAMES
from gateway.core.shares import first_of
from gateway.core.timing import usual_grace_ms
from gateway.core.waits import NOTHING_LEARNED, Learned, wait_of
from providers.contract import Category, Fault
from ratelimit.caps import Full

OPTED_OUT = Fault("opted_out", "opted_out", True)
ROUTE_SHOWN_MAX = 128  # characters of one that there is not


class Rejection(msgspec.Struct, frozen=True):
    """The request cannot be sent as it is: `pointer` names the key (RFC 6901), `detail` is a
    sentence, `gate` what it did not pass."""

    pointer: str
    detail: str
    gate: Literal["route", "address", "price", "schedule"] = "route"


_NO_ADDRESS = Rejection(
    "/to", "No address of this user is stored: store one, or give it in `to`.", "address"
)


class OptedOut(msgspec.Struct, frozen=True):
    """The person opted out of every channel on which the request could be sent: `steps` are
    skipped, each for its reason."""

    route: str
    steps: list[Step]


class Known(msgspec.Struct, frozen=True):
    """What messages taught so far, of every process: the apps' rates on each channel, and how long
    providers take."""

    rates: AppRates = NO_RATES
    waits: Learned = NOTHING_LEARNED


KNOWN_NOTHING = Known()


class Plan(msgspec.Struct, frozen=True, gc=False):
    """`steps` in their order, made for this message alone; `first` is the one that runs first;
    `held` is why it may not start now. `full` is a cap that stops it. `baseline_cost` is what the
    reports compare with; None: nothing."""

    route: str
    steps: list[Step]
    first: int
    expires_ms: int
    held: Held | None = None
    full: Full | None = None
    baseline_cost: int | None = None

    @property
    def channel(self) -> str:
        """Of the first step."""
        return self.steps[self.first].channel

    def lane(self, category: Category) -> tuple[str, str]:
        """Where the message waits first."""
        return self.steps[self.first].candidate.provider, category


def plan(
    request: MessageRequest,
    people: Sequence[Person],
    policy: Policy,
    now_ms: int,
    opt_outs: OptOuts = NONE,
    known: Known = KNOWN_NOTHING,
) -> Plan | Rejection | OptedOut:
    """The way of one message. `people` are the person's records; without them no cap is asked.
    `known` is what all messages taught so far."""
    named = _route(request.category, request.route, policy)
    if isinstance(named, Rejection):
        return named
    if request.not_before_ms > now_ms + AHEAD_MAX_MS:
        detail = f"At most {AHEAD_MAX_MS // DAY_MS} days ahead."
        return Rejection("/send_at", detail, "schedule")
    name, route = named
    day, digits = day_of(now_ms), request.addresses.prefix_digits
    steps, asked = [], []
    for each in route:
        step = _step(request, each, policy, digits, day, known.waits)
        if step is not None:
            steps.append(step)
            asked.append(each.step)
    if not steps:
        return _no_candidate(request, name, route)
    if opt_outs:
        _skip_opted_out(request, steps, opt_outs)
    if (by := policy.best.get(name)) is not None:
        shown = partial(until_on, request, policy.links)
        steps = put_in_order(
            steps, asked, shown, by, people, request.app, policy, known.rates, now_ms
        )
    if any(person.channels for person in people):  # seldom is anything remembered
        reach.end_hidden_on_delivery(steps, people, policy)
        reach.skip_unreachable(steps, request, people, policy, now_ms)
    first = 0
    while steps[first].status != StepStatus.PLANNED:
        first += 1
        if first == len(steps):
            return _nothing_runs(request, name, steps)
    held = held_of(request, policy, now_ms)
    if held is None and policy.holds_steps and paced(request, policy):
        held = PACE
    begins_ms = now_ms if held is None else max(held.until_ms, now_ms)
    full = persons.full_cap(
        people, policy, request.category, steps[first].channel, begins_ms, but=request.id
    )
    return Plan(
        route=name,
        steps=steps,
        first=first,
        expires_ms=_expires_ms(request, policy, now_ms),
        held=held,
        full=full,
        baseline_cost=_baseline_cost(request, steps, first, policy, day),
    )


def left_out(
    request: MessageRequest, policy: Policy, now_ms: int
) -> list[tuple[ResolvedStep, str]]:
    """The steps of its route that no plan of this request has, and why: nobody has a price for
    them, or everybody is retired."""
    named = _route(request.category, request.route, policy)
    if isinstance(named, Rejection):
        return []
    digits, day = request.addresses.prefix_digits, day_of(now_ms)
    return [
        (each, "no_price" if each.sending else "retired")
        for each in named[1]
        if all(policy.quote(p, digits, request.category, day) is None for p in each.sending)
    ]


def _expires_ms(request: MessageRequest, policy: Policy, now_ms: int) -> int:
    """From when it may be sent on for its ttl, and no longer than its campaign lasts."""
    ttl_ms = request.ttl_ms or policy.categories[request.category].ttl_ms
    campaign = policy.declared.of(request.campaign)
    if campaign is None:
        return max(now_ms, request.not_before_ms) + ttl_ms
    expires_ms = max(now_ms, starts_ms(request, policy)) + ttl_ms
    return campaign.no_later(expires_ms)


def hold_ms(request: MessageRequest, policy: Policy, now_ms: int) -> int:
    """How long from now a message of this request can hold a claim or a slot at most, if it is
    delivered in its time; 0 where it has no route."""
    named = _route(request.category, request.route, policy)
    if isinstance(named, Rejection):
        return 0
    step_ms = max(each.step.wait_ms + each.step.grace_ms for each in named[1])
    after_ms = persons.held_after_ms(step_ms, request.category, policy)
    ttl_ms = request.ttl_ms or policy.categories[request.category].ttl_ms
    ahead_ms = max(starts_ms(request, policy) - now_ms, 0)
    return ahead_ms + ttl_ms + after_ms + persons.KEEP_STEP_MS


def first_provider(request: MessageRequest, policy: Policy) -> str | None:
    """Who would do the first step of its route that is for messages of its importance, whatever
    addresses it has; None where nobody would."""
    named = _route(request.category, request.route, policy)
    if isinstance(named, Rejection):
        return None
    asked = (each.sending for each in named[1] if _is_for(each.step, request.importance))
    return next((sending[0] for sending in asked if sending), None)


def channels_without_text(
    category: Category,
    route: str | None,
    importance: int,
    content: Content,
    addresses: Addresses | None,
    policy: Policy,
) -> list[str]:
    """Channels of a route that a message of this importance takes, for which there is an address
    and no text; of all channels with a provider where there is no such route, which is admission's
    to refuse. `addresses` None: they are not known."""
    named = _route(category, route, policy)
    if isinstance(named, Rejection):
        asked = {rule.channel for rule in policy.providers.values()}
    else:
        asked = {each.channel.name for each in named[1] if _is_for(each.step, importance)}
    return [
        name
        for name, row in CHANNELS.items()
        if name in asked
        and (addresses is None or addresses.has(row.address))
        and "text" in content.lacks(name)
    ]


def _route(
    category: Category, route: str | None, policy: Policy
) -> tuple[str, tuple[ResolvedStep, ...]] | Rejection:
    rule = policy.categories.get(category)
    if rule is None or not (name := route or rule.route):
        return Rejection(
            "/category",
            f"No route is configured for category '{category}': name one in `route`.",
        )
    steps = policy.resolved.get(name)
    if steps is None:
        shown, there_are = name[:ROUTE_SHOWN_MAX], ", ".join(policy.routes)
        return Rejection("/route", f"There is no route '{shown}'; there are: {there_are}.")
    return name, steps


def _step(
    request: MessageRequest,
    asked: ResolvedStep,
    policy: Policy,
    digits: str,
    day: datetime.date,
    waits: Learned,
) -> Step | None:
    """One step, skipped where it has no address or content or is not for messages of such an
    importance; None where nobody has a price."""
    candidates: list[Candidate] = []
    sells: list[int] = []
    row, timed = asked.channel, asked.step
    has_address, sending = request.addresses.has(row.address), asked.sending
    if has_address and asked.by_device:
        sending, has_address = _by_device(asked, request.addresses, policy)
    for provider in sending:
        price = policy.quote(provider, digits, request.category, day)
        if price is not None:
            candidates.append(Candidate(provider, price.cost))
            sells.append(price.sell)
    if not candidates:
        return None
    first, alone = 0, len(candidates) == 1
    if not alone:
        weights = [policy.provider(candidate.provider).weight for candidate in candidates]
        first = first_of(weights, lot_of(request.id))
        candidates.insert(0, candidates.pop(first))
    step = Step(row.name, candidates, sells[first], timed.wait_ms, timed.grace_ms)
    step.until = (
        until_on(request, policy.links, row.name, timed.until) if request.tracked else asked.until
    )
    step.chosen = 0 if alone else -1
    if (rule := timed.learned) is not None:
        step.auto = rule.max_ms
        step.wait_ms = wait_of(rule, candidates[0].provider, request.country, waits)
        step.grace_ms = usual_grace_ms(step.wait_ms) if rule.grace_ms is None else rule.grace_ms
    if step.until != "delivered":
        step.react_ms = timed.react_ms
    if not _is_for(timed, request.importance):
        step.status = StepStatus.SKIPPED
        step.fault = Fault("importance", IMPORTANCE_NAMES[request.importance], True)
    elif not has_address:
        step.status = StepStatus.SKIPPED
        step.fault = Fault("no_address", row.address, True)
    elif lacking := request.content.lacks(row.name):
        step.status = StepStatus.SKIPPED
        step.fault = Fault("no_content", " or ".join(lacking), True)
    elif row.parts is not None:
        step.parts = row.parts(text_to_price(request, row.name, policy.links))
    return step


def _by_device(
    asked: ResolvedStep, addresses: Addresses, policy: Policy
) -> tuple[tuple[str, ...], bool]:
    """Who may do a step for somebody with these devices, and whether they reach one of them: a
    provider may reach some kinds alone."""
    kinds = ("", *addresses.device_kinds)
    able = tuple(name for name in asked.sending if policy.provider(name).devices in kinds)
    return able or asked.sending, bool(able)


def _is_for(step: RouteStep, importance: int) -> bool:
    return step.importance <= importance <= step.importance_max


def _skip_opted_out(request: MessageRequest, steps: Sequence[Step], opt_outs: OptOuts) -> None:
    for step in steps:
        if step.status == StepStatus.PLANNED and refuses(opt_outs, step.channel, request.category):
            step.status = StepStatus.SKIPPED
            step.fault = OPTED_OUT


def _no_candidate(request: MessageRequest, name: str, route: Sequence[ResolvedStep]) -> Rejection:
    if request.addresses == NOBODY:
        return _NO_ADDRESS
    names = dict.fromkeys(name for each in route for name in each.step.providers)
    sending = list(dict.fromkeys(name for each in route for name in each.sending))
    if not sending:
        return Rejection(
            "/route",
            f"Nothing is sent by route '{name}': {', '.join(names)} "
            f"{'is' if len(names) == 1 else 'are'} retired.",
        )
    providers = ", ".join(sending)
    return Rejection(
        "/to",
        f"There is no price for {providers} to this number and category '{request.category}', so "
        f"it cannot be sent by route '{name}'.",
        "price",
    )


_WHY_NOT = {
    "no_address": "no address",
    "no_content": "no content",
    "importance": "not for this importance",
}


def _nothing_runs(request: MessageRequest, route: str, steps: list[Step]) -> Rejection | OptedOut:
    if request.addresses == NOBODY:
        return _NO_ADDRESS
    if any(step.fault == OPTED_OUT for step in steps):
        return OptedOut(route, steps)
    codes = {step.fault.code for step in steps if step.fault is not None}
    lacking = [
        f"{step.channel}: {_WHY_NOT[step.fault.code]}" for step in steps if step.fault is not None
    ]
    return Rejection(
        "/importance" if codes == {"importance"} else "/to",
        f"No step of route '{route}' can run ({', '.join(lacking)}).",
        "address",
    )


def _baseline_cost(
    request: MessageRequest, steps: Sequence[Step], first: int, policy: Policy, day: datetime.date
) -> int | None:
    """What the content would cost us on the baseline's channel: by the route's own step, else by
    the first provider of it with a price for the number. With neither it is no alternative, and the
    message's first step is the measure. Without an address of its kind nothing is compared."""
    row = CHANNELS[policy.baseline]
    if not request.addresses.has(row.address):
        return None
    for step in steps:
        if step.channel == row.name:
            return step.candidate.cost * step.parts
    for name, provider in policy.providers.items():
        if provider.channel == row.name:
            price = policy.quote(name, request.addresses.prefix_digits, request.category, day)
            if price is not None:
                return price.cost * row.count(text_to_price(request, row.name, policy.links))
    return steps[first].candidate.cost * steps[first].parts
