"""Whether a request becomes a message: the rules of acceptance, pure.

In this order: can it be sent at all (`plan`), may the person be reached (opt-out), is it the same
thing again (campaign claim), does the campaign leave the person out, would it be too much (caps),
may it cost so much (budgets). A duplicate is named before what follows, because the caller's own
earlier message is the truer answer. What the wire demands of a request (types, lengths, a phone
number that can exist) was checked before it got here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.core import timing
from gateway.core.campaigns import audience, campaigns
from gateway.core.effects import group_of, status_change_of
from gateway.core.links.tracking import links_of
from gateway.core.money.budgets import NO_FUNDS, Funds, named, needs_of
from gateway.core.people.opt_outs import OptOuts
from gateway.core.people.persons import claimed_by, take
from gateway.core.plan import KNOWN_NOTHING, Known, OptedOut, Plan, Rejection, plan
from gateway.core.policy import Policy
from gateway.core.records.content import NO_WORDS, content_codec
from gateway.core.records.entries import Group, Post, StatusChange
from gateway.core.records.held import Held
from gateway.core.records.links import StepLinks
from gateway.core.records.message import Clock, Message, StepStatus
from gateway.core.records.person import Person
from gateway.core.records.request import BudgetRefusal, MessageRequest
from ratelimit.caps import Full


class Admitted(msgspec.Struct, gc=False):
    """`lane` is where it waits; None: it is held. `links` are those that it is to have, by step."""

    message: Message
    lane: tuple[str, str] | None
    post: Post
    status_change: StatusChange
    way: Plan
    links: Sequence[StepLinks] = ()


class Duplicate(msgspec.Struct):
    """`message` is the winner's id."""

    message: str
    post: Post
    way: Plan


class Suppressed(msgspec.Struct):
    """`full` is the cap that refused, and `budget` the budget, where it was one; `detail` says more
    of the reason."""

    reason: str
    post: Post
    way: Plan | OptedOut
    full: Full | None = None
    detail: str = ""
    budget: BudgetRefusal | None = None


class OverQuota(msgspec.Struct):
    """It would be accepted, and the app's quota is used up: `detail` says so."""

    detail: str
    way: Plan


class Unfunded(msgspec.Struct):
    """It would be accepted, and so much of each budget has to be leased before it can be
    decided."""

    needs: Mapping[str, int]
    way: Plan


Decision = Admitted | Duplicate | Suppressed | OverQuota | Unfunded | Rejection


def admit(
    request: MessageRequest,
    persons: Sequence[Person],
    opt_outs: OptOuts,
    policy: Policy,
    now_ms: int,
    home: str = "",
    known: Known = KNOWN_NOTHING,
    funds: Funds = NO_FUNDS,
    told_full: Container[str] = (),
) -> Decision:
    """Decides one request. `persons` are the person's record and what else it may hold something
    under, `home` the first identity that is known of the person; empty: the request's first.
    `funds` is what may be reserved of budgets, and `told_full` those that have no more.

    A decision has the plan by which it was made. On acceptance the claim and the cap slot are taken
    in the first of `persons` (in place), and of `funds` what it may cost; otherwise nothing is
    changed.
    """
    request = _drawn(request, home, policy)
    way = plan(request, persons, policy, now_ms, opt_outs, known)
    if not isinstance(way, Plan):
        return way if isinstance(way, Rejection) else _suppressed("opted_out", request, way)
    no_way = _campaign_refuses(request, home, policy, now_ms)
    if no_way is not None:
        return _suppressed(no_way, request, way)
    if request.campaign is not None:
        winner = claimed_by(persons, request.campaign, request.id, now_ms)
        if winner is not None:
            return Duplicate(winner, request_post(request, "duplicates", way.route), way)
        campaign = policy.declared.of(request.campaign)
        if campaign is not None:
            why = audience.left_out(persons, campaign, request.id, now_ms)
            if why is not None:
                return _suppressed("excluded", request, way, detail=why)
    if way.full is not None:
        return _suppressed("frequency_cap", request, way, way.full)
    if request.no_room:
        return _suppressed("recipients_max", request, way)
    if request.over_quota:
        return OverQuota(request.over_quota, way)
    reserved: dict[str, int] = {}
    if policy.budgets:
        funded = _funded(request, way, policy, funds, told_full)
        if not isinstance(funded, Funded):
            return funded
        way, reserved = funded
    message = _message(request, way, policy, now_ms)
    message.reserved = reserved
    message.holds = bool(persons) and take(persons, message, policy, now_ms)
    return Admitted(
        message=message,
        lane=None if message.held is not None else way.lane(request.category),
        post=Post(group_of(message), {"accepted": 1}),
        status_change=status_change_of(message, None, now_ms),
        way=way,
        links=links_of(request.content, way.steps, policy.links) if request.tracked else (),
    )


class Funded(NamedTuple):
    """The plan of a request and what it reserves of budgets; held, nothing."""

    way: Plan
    reserved: dict[str, int]


def _funded(
    request: MessageRequest, way: Plan, policy: Policy, funds: Funds, told_full: Container[str]
) -> Funded | Suppressed | Unfunded:
    """Reserves what the request may cost, or says what a full budget does with it."""
    needs = needs_of(request, way.steps, policy.budgets)
    lacking = funds.take(needs, told_full)
    if lacking is None:
        return Funded(way, needs)
    full = named(policy.budgets, lacking.full)
    if full is None:
        return Unfunded(lacking.needs, way)
    if full.then == "refuse":
        hit = BudgetRefusal(full.name, full.limit, funds.spent(full.name))
        return _suppressed("budget", request, way, budget=hit)
    return Funded(replace(way, held=Held("budget", budget=full.name)), {})


def _drawn(request: MessageRequest, home: str, policy: Policy) -> MessageRequest:
    """The request with what it says in the variant that is drawn for its person."""
    sayings = request.sayings
    if not sayings:  # as almost always
        return request
    stands = 0
    if len(sayings) > 1:
        key, first = policy.declared.holdout_key, home or request.home
        stands = campaigns.share_of(key, request.campaign or "", first, campaigns.VARIANT_DRAW)
    said = next(each for each in sayings if stands < each.upto)
    own = request.content
    return replace(request, content=said.content(own), said=said, own=own)


def _suppressed(
    reason: str,
    request: MessageRequest,
    way: Plan | OptedOut,
    full: Full | None = None,
    detail: str = "",
    budget: BudgetRefusal | None = None,
) -> Suppressed:
    post = request_post(request, "suppressed", way.route)
    return Suppressed(reason, post, way, full, detail, budget)


def _campaign_refuses(
    request: MessageRequest, home: str, policy: Policy, now_ms: int
) -> campaigns.WhyNot | None:
    if not policy.declared.campaigns:
        return None
    first = home or request.home
    starts_ms = max(now_ms, request.not_before_ms)
    return campaigns.why_not(policy.declared, request.campaign, request.category, first, starts_ms)


def _message(request: MessageRequest, way: Plan, policy: Policy, now_ms: int) -> Message:
    """The record of a request that is accepted, its first step queued or held."""
    first = way.steps[way.first]
    first.status = StepStatus.QUEUED if way.held is None else StepStatus.RETRYING
    if first.chosen < 0:
        first.chosen = 0
    if way.first or way.held is not None:
        first.clock = Clock(now_ms)
    # Its first fields by place: msgspec looks for each name among all fields, and CPython makes a
    # tuple and a dict of more than 30 arguments, of which a named one counts twice.
    message = Message(
        request.app,
        request.addresses,
        request.country,
        request.category,
        way.route,
        now_ms,
        now_ms,
        way.expires_ms,
        way.steps,
        request.id,
        current=way.first,
        baseline_cost=way.baseline_cost,
        user=request.user,
        own_users=request.own_users,
        campaign=request.campaign,
        importance=int(request.importance),
        metadata=request.metadata,
        content=_kept(request),
        not_before_ms=request.not_before_ms,
        tz=request.tz,
    )
    message.held = way.held
    message.trace = request.trace
    message.counted = policy.declared.of(request.campaign) is not None
    if (said := request.said) is not None:
        message.variant = said.variant
        if said.version is not None:
            message.content_of, message.vars = said.version.id, said.vars
    message.due_ms = way.expires_ms
    if way.held is None:
        message.due_ms = timing.queued_due_ms(message, first, policy)
    return message


def _kept(request: MessageRequest) -> bytes:
    """What stands in the message of the content: of one that says a version its own words."""
    if request.said is None or request.said.version is None:
        return content_codec.encode(request.content)
    own = request.own
    return content_codec.encode(own) if own is not None and own != NO_WORDS else b""


def request_post(request: MessageRequest, measure: str, route: str) -> Post:
    """Counts a request of that route that became no message."""
    group = Group(
        app=request.app,
        campaign=request.campaign or "",
        category=request.category,
        country=request.country,
        route=route,
        variant=request.said.variant if request.said is not None else "",
    )
    return Post(group, {measure: 1})
