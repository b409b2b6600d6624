"""Whether a request becomes a message: the rules of acceptance, pure.

In this order: can it be sent at all (category, route, price), may the person be reached (opt-out),
is it the same thing again (campaign claim), would it be too much (caps). A duplicate is named
before a full cap, because the caller's own earlier message is the truer answer. What the wire
demands of a request (types, lengths, a phone number that can exist) was checked before it got here.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.core import persons as people
from gateway.core import segments
from gateway.core.effects import Event, Group, Post, group_of, status_event
from gateway.core.model import SCHEMA, Message, Person, Send, Step, StepStatus, encode
from gateway.core.policy import Policy, RouteStep
from ratelimit.caps import Full

OptOut = Literal["marketing", "all"]


class Accepted(msgspec.Struct):
    message: Message
    lane: tuple[str, str]
    post: Post
    event: Event


class Duplicate(msgspec.Struct):
    """`message` is the winner's id."""

    message: str
    post: Post


class Suppressed(msgspec.Struct):
    """`full` is the cap that refused; None when the person opted out."""

    full: Full | None
    post: Post


class Rejected(msgspec.Struct):
    """The request cannot be sent as it is: `pointer` names the key (RFC 6901), `detail` is a
    sentence."""

    pointer: str
    detail: str


Decision = Accepted | Duplicate | Suppressed | Rejected


def admit(
    send: Send,
    persons: Sequence[Person],
    opt_out: OptOut | None,
    policy: Policy,
    now_ms: int,
    day: datetime.date,
) -> Decision:
    """Decides one request. `persons` are the person's record and what else it may hold something
    under.

    On acceptance the claim and the cap slot are taken in the first of `persons` (in place);
    otherwise nothing is changed.
    """
    rule = policy.categories.get(send.category)
    if rule is None or not (route_name := send.route or rule.route):
        return Rejected(
            "/category",
            f"No route is configured for category '{send.category}': name one in `route`.",
        )
    route = policy.routes.get(route_name)
    if route is None:
        return Rejected(
            "/route", f"There is no route '{route_name}'; there are: {', '.join(policy.routes)}."
        )
    steps = _steps(send, route, policy, day)
    if isinstance(steps, Rejected):
        return steps
    if opt_out == "all" or (opt_out == "marketing" and send.category == "marketing"):
        return Suppressed(None, request_post(send, "suppressed"))
    if send.campaign is not None:
        winner = people.claimed_by(persons, send.campaign, send.id, now_ms)
        if winner is not None:
            return Duplicate(winner, request_post(send, "duplicates"))
    full = people.full_cap(persons, policy, send.category, steps[0].channel, now_ms, but=send.id)
    if full is not None:
        return Suppressed(full, request_post(send, "suppressed"))
    message = Message(
        schema=SCHEMA,
        id=send.id,
        app=send.app,
        to=send.to,
        country=send.country,
        category=send.category,
        route=route_name,
        created_ms=now_ms,
        updated_ms=now_ms,
        expires_ms=now_ms + (send.ttl_ms or rule.ttl_ms),
        steps=steps,
        sms_cost=_sms_cost(send, steps, policy, day),
        user=send.user,
        campaign=send.campaign,
        metadata=send.metadata,
        content=encode(send.content),
    )
    steps[0].status = StepStatus.QUEUED
    message.due_ms = message.expires_ms
    message.holds = people.take(persons, message, policy, now_ms)
    return Accepted(
        message=message,
        lane=(steps[0].provider, send.category),
        post=Post(group_of(message), {"accepted": 1}),
        event=status_event(message, None, now_ms),
    )


def _steps(
    send: Send, route: tuple[RouteStep, ...], policy: Policy, day: datetime.date
) -> list[Step] | Rejected:
    steps = []
    for part in route:
        price = policy.quote(part.provider, send.to, send.category, day)
        if price is None:
            return Rejected(
                "/to",
                f"There is no price for {part.provider} to this number and category "
                f"'{send.category}', so it cannot be sent by route '{send.route or 'default'}'.",
            )
        channel = policy.providers[part.provider].channel
        steps.append(
            Step(
                provider=part.provider,
                channel=channel,
                wait_ms=part.wait_ms,
                grace_ms=part.grace_ms,
                cost=price.cost,
                sell=price.sell,
                parts=segments.parts(send.content.for_channel("sms")) if channel == "sms" else 1,
            )
        )
    return steps


def _sms_cost(send: Send, steps: list[Step], policy: Policy, day: datetime.date) -> int:
    """What the content would cost us as SMS: by the route's own SMS step, else by the first SMS
    provider with a price for the number. With neither, SMS is no alternative, and the route's first
    step is the measure."""
    for step in steps:
        if step.channel == "sms":
            return step.cost * step.parts
    for name, provider in policy.providers.items():
        if provider.channel == "sms":
            price = policy.quote(name, send.to, send.category, day)
            if price is not None:
                return price.cost * segments.parts(send.content.for_channel("sms"))
    return steps[0].cost * steps[0].parts


def request_post(send: Send, measure: str) -> Post:
    """Counts a request that became no message."""
    group = Group(send.app, send.campaign or "", send.category, "", "", send.country)
    return Post(group, {measure: 1})
