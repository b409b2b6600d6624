"""Why a request is decided as it is: the gates that were asked, and the steps it takes. Pure.

Nothing is decided here. Of a request the verdict is the decision that `admission.admit` made and
the plan it made it by; what is added are the numbers behind them. Of a message it is what its
record says. A gate that had nothing to ask, such as `cap` where none counts, is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from gateway.core.admission import Admitted, Decision, Duplicate, Suppressed
from gateway.core.campaigns.campaigns import CANCELLED, ENDED, HOLDOUT_PARTS, Campaign, window_of
from gateway.core.channels import CHANNELS, Until
from gateway.core.holding import PACE, paced, starts_ms, waits_for
from gateway.core.money.budgets import NO_FUNDS, Budget, Funds, named
from gateway.core.money.money import format_amount
from gateway.core.people import persons
from gateway.core.people.opt_outs import EVERY_CHANNEL, OptOuts
from gateway.core.people.rates import MILLION, expected_cost
from gateway.core.plan import OPTED_OUT, Plan, Rejection, left_out
from gateway.core.policy import Policy
from gateway.core.records.content import Content
from gateway.core.records.held import Held
from gateway.core.records.message import Message, MessageStatus, Step, StepStatus
from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest
from ratelimit.caps import Full

GateName = Literal[
    "route",
    "address",
    "price",
    "opt_out",
    "consent",
    "campaign",
    "holdout",
    "duplicate",
    "cap",
    "budget",
    "send_window",
    "schedule",
    "pace",
]
GateVerdict = Literal["pass", "hold", "stop", "skip"]
_ORDER: Sequence[GateName] = get_args(GateName)

# Of a message that was stopped on its way, by its reason.
_GATE_OF: Mapping[str, GateName] = {
    "opted_out": "opt_out",
    "frequency_cap": "cap",
    CANCELLED: "campaign",
    ENDED: "campaign",
    "paused": "campaign",
    "budget": "budget",
    "send_window": "send_window",
    "scheduled": "schedule",
    "pace": "pace",
}
_STOPPED = (MessageStatus.SUPPRESSED, MessageStatus.CANCELLED, MessageStatus.EXPIRED)
_UNASKED = ("paused", "budget")  # who waits for these is asked for send window and pace afterwards


class Gate(msgspec.Struct, frozen=True):
    """One question, its answer, and what decided it. `price` is what the app pays for the first
    step, in 1e-6 units; `message` has the campaign already; `count` messages of at most `limit` in
    `window` count against the cap of that name, and one more fits at `retry_at_ms`; of the budget
    of that name `used` of `amount` is, in 1e-6 units; a step is held `until_ms`."""

    gate: GateName
    verdict: GateVerdict = "pass"
    detail: str | None = None
    price: int | None = None
    message: str | None = None
    name: str | None = None
    limit: int | None = None
    window: str | None = None
    count: int | None = None
    retry_at_ms: int | None = None
    until_ms: int | None = None
    amount: int | None = None
    used: int | None = None


class PlannedStep(msgspec.Struct, frozen=True):
    """A step and what it would be. `price` is what the app pays where it bills, in 1e-6 units, None
    where there is none; `parts` None where the channel has none."""

    channel: str
    provider: str
    price: int | None
    parts: int | None
    wait_ms: int
    until: Until
    verdict: GateVerdict
    detail: str | None


class Explanation(msgspec.Struct, frozen=True):
    """Gates in the order in which they are asked, up to the one that stopped it, and the steps in
    theirs; after them those that it would not have."""

    gates: list[Gate] = []
    plan: list[PlannedStep] = []


def explain(
    request: MessageRequest,
    decision: Decision,
    people: Sequence[Person],
    opt_outs: OptOuts,
    policy: Policy,
    now_ms: int,
    funds: Funds = NO_FUNDS,
) -> Explanation:
    """Why `admit` decided a request so, of these records and at this moment."""
    if isinstance(decision, Rejection):
        before = [] if decision.gate == "route" else [Gate("route")]
        stopped_at = Gate(decision.gate, "stop", decision.detail)
        return Explanation([*before, stopped_at], _left_out(request, policy, now_ms))
    way = decision.way
    first = way.steps[way.first] if isinstance(way, Plan) else _wished(way.steps)
    wishes = ", ".join(
        f"{scope} on {name or 'every channel'}"
        for name, scope in opt_outs.items()
        if name not in request.lacks_consent
    )
    numbers: dict[GateName, Gate] = {"opt_out": Gate("opt_out", detail=wishes or None)}
    fullest = _fullest_cap(request, first.channel, people, policy, now_ms)
    if fullest is not None:
        numbers["cap"] = _cap(fullest)
    numbers["budget"] = _budget(request, decision, policy.budgets, funds)
    lacks = request.lacks_consent
    lacking = ", ".join(name or "every channel" for name in lacks)
    numbers["consent"] = Gate("consent", detail=f"none for {lacking}" if lacking else None)
    stopped = _stopped(decision, wishes, policy.declared.of(request.campaign))
    unasked = bool(lacks) and (not wishes or EVERY_CHANNEL in lacks)
    if stopped is not None and stopped.gate == "opt_out" and unasked:
        stopped = Gate("consent", "stop", f"none for {lacking}")
    gates = []
    variant = decision.message.variant if isinstance(decision, Admitted) else ""
    for gate in _asked(way.route, way.steps, first, request, policy, variant):
        if stopped is not None and gate.gate == stopped.gate:
            gates.append(stopped)
            break
        gates.append(numbers.get(gate.gate, gate))
    if stopped is None and isinstance(way, Plan):
        gates = _with_pause(gates, request, way.held, policy)
        gates += _timing(request, way.held, policy, now_ms)
    steps = [_planned(step, way.route, policy) for step in way.steps]
    if request.tracked:
        content = _content(request, variant)
        steps = [_with_links(step, content) for step in steps]
    return Explanation(gates, steps + _left_out(request, policy, now_ms))


def explain_message(message: Message, policy: Policy, now_ms: int) -> Explanation:
    """The same of a message: what let it in, what stopped it on its way, and what holds it now."""
    first = _first(message)
    gates = _asked(message.route, message.steps, first, message, policy, message.variant)
    held = message.held if message.held == PACE else waits_for(message, policy, now_ms)
    if held is not None and held.reason == "budget":
        full = Gate("budget", "hold", name=held.budget)
        gates = [full if gate.gate == "budget" else gate for gate in gates]
    if not message.finished:
        gates = _with_pause(gates, message, held, policy)
    gates += _timing(message, held, policy, now_ms)
    if message.finished:
        gates = _at_its_end(gates, message)
    return Explanation(gates, [_planned(step, message.route, policy) for step in message.steps])


def _at_its_end(gates: Sequence[Gate], message: Message) -> list[Gate]:
    """The gates of a message of which nothing starts any more: none holds it, and one may have
    stopped it."""
    told = [gate for gate in gates if gate.verdict != "hold"]
    stopped = _GATE_OF.get(message.reason or "")
    if stopped is None or message.status not in _STOPPED:
        return told
    stop = Gate(stopped, "stop", f"on its way: {message.reason}")
    others = [gate for gate in told if gate.gate != stopped]
    return sorted([*others, stop], key=lambda gate: _ORDER.index(gate.gate))


def _asked(
    route: str,
    steps: Sequence[Step],
    first: Step,
    about: MessageRequest | Message,
    policy: Policy,
    variant: str,
) -> list[Gate]:
    """The gates that somebody passed who was accepted, in their order."""
    lacking = [
        f"{step.channel}: {step.fault.code}"
        for step in steps
        if step.fault is not None and step.fault.code in ("no_address", "no_content")
    ]
    gates = [
        Gate("route", detail=route),
        Gate("address", detail=", ".join(lacking) or None),
        Gate("price", price=first.sell * first.parts),
        Gate("opt_out"),
        *([Gate("consent")] if about.category in policy.consent else []),
    ]
    if (campaign := policy.declared.of(about.campaign)) is not None:
        told = f"{campaign.state}, variant {variant}" if variant else campaign.state
        gates.append(Gate("campaign", detail=told, limit=campaign.recipients_max))
        if campaign.holdout and about.category == "marketing":
            share = f"{100 * campaign.holdout / HOLDOUT_PARTS:g} % of people"
            gates.append(Gate("holdout", detail=share))
    if about.campaign is not None:
        gates.append(Gate("duplicate"))
    if about.category in policy.slot_ms:
        gates.append(Gate("cap"))
    if any(budget.counts(about) for budget in policy.budgets):
        gates.append(Gate("budget"))
    return gates


def _budget(
    request: MessageRequest, decision: Decision, budgets: Sequence[Budget], funds: Funds
) -> Gate:
    """Of the budgets that count the request the one that is full, else the one with the least
    left."""
    counting = [budget for budget in budgets if budget.counts(request)]
    if not counting:
        return Gate("budget")
    held = decision.message.held if isinstance(decision, Admitted) else None
    full = named(counting, held.budget) if held is not None else None
    told = full or min(counting, key=lambda budget: budget.limit - funds.spent(budget.name))
    gate = Gate("budget", name=told.name, amount=told.limit, used=funds.spent(told.name))
    return gate if full is None else replace(gate, verdict="hold")


def _with_pause(
    gates: list[Gate], about: MessageRequest | Message, held: Held | None, policy: Policy
) -> list[Gate]:
    """The gates, with the pause of a campaign: it holds what something else holds as well."""
    campaign = policy.declared.of(about.campaign)
    paused = campaign is not None and campaign.state == "paused"
    if not paused and (held is None or held.reason != "paused"):
        return gates
    return [replace(g, verdict="hold") if g.gate == "campaign" else g for g in gates]


def _timing(
    about: MessageRequest | Message, held: Held | None, policy: Policy, now_ms: int
) -> list[Gate]:
    """Whether its step may start now, as far as something might hold it."""
    campaign, rule = policy.declared.of(about.campaign), policy.categories.get(about.category)
    window = window_of(campaign, policy.send_windows, rule.send_window if rule else None)
    reason = held.reason if held is not None else None
    gates = []
    if reason == "send_window":
        assert held is not None
        gates.append(Gate("send_window", "hold", until_ms=held.until_ms or None))
    elif window is not None and reason not in _UNASKED:
        gates.append(Gate("send_window"))
    if (moment_ms := starts_ms(about, policy)) > now_ms:
        gates.append(Gate("schedule", "hold", until_ms=moment_ms))
    elif moment_ms:
        gates.append(Gate("schedule"))
    if reason == "pace" or (paced(about, policy) and reason is None):
        pace = campaign.pace if campaign is not None else None
        gates.append(Gate("pace", "hold" if reason == "pace" else "pass", pace))
    return gates


def _stopped(decision: Decision, wishes: str, campaign: Campaign | None) -> Gate | None:
    """The gate that a request did not pass."""
    match decision:
        case Duplicate():
            return Gate(
                "duplicate", "stop", "the campaign's to this person", message=decision.message
            )
        case Suppressed(reason="opted_out"):
            return Gate("opt_out", "stop", wishes)
        case Suppressed(full=full) if full is not None:
            return _cap(full, "stop")
        case Suppressed(budget=hit) if hit is not None:
            return Gate("budget", "stop", name=hit.name, amount=hit.limit, used=hit.used)
        case Suppressed(reason="recipients_max") if campaign is not None:
            return Gate("campaign", "stop", "recipients_max", limit=campaign.recipients_max)
        case Suppressed(reason=reason, detail=detail):
            told = f"{reason}: {detail}" if detail else reason
            return Gate("holdout" if reason == "holdout" else "campaign", "stop", told)
        case _:
            return None


def _cap(state: Full, verdict: GateVerdict = "pass") -> Gate:
    cap = state.cap
    return Gate(
        "cap",
        verdict,
        name=cap.name,
        limit=cap.limit,
        window=cap.window,
        count=state.count,
        retry_at_ms=state.retry_at_ms if state.count >= cap.limit else None,
    )


def _fullest_cap(
    request: MessageRequest, channel: str, people: Sequence[Person], policy: Policy, now_ms: int
) -> Full | None:
    """Of the caps that count the first step, the one with the least room."""
    states = [
        state
        for state in persons.cap_states(people, policy, now_ms, but=request.id)
        if state.cap.counts(request.category, channel)
    ]
    return min(states, key=lambda state: state.cap.limit - state.count, default=None)


def _first(message: Message) -> Step:
    """The step that ran first, or is to."""
    ran = (step for step in message.steps if step.status != StepStatus.SKIPPED or step.attempts)
    return next(ran, message.step)


def _wished(steps: Sequence[Step]) -> Step:
    """The step that would run first, had nobody opted out."""
    return next(step for step in steps if step.fault == OPTED_OUT)


def _planned(step: Step, route: str, policy: Policy) -> PlannedStep:
    fault = step.fault if step.status == StepStatus.SKIPPED else None
    told = (
        [fault.code if fault.name == fault.code else f"{fault.code}: {fault.name}"] if fault else []
    )
    if fault is None and len(step.candidates) > 1:
        others = ", ".join(c.provider for c in step.candidates if c is not step.candidate)
        told.append(f"else by {others}")
    if step.doubted:
        told.append("not_reachable, but the last that can run")
    if step.rate:
        cost = format_amount(expected_cost(step))
        told.append(f"reacts to {step.rate / MILLION:.4f} of deliveries: {cost} a reaction")
    if step.auto and fault is None:
        told.append("learned wait" if step.wait_ms < step.auto else "no shorter wait is learned")
    asked = _asked_until(step, route, policy)
    if asked != step.until:
        told.append(f"{asked} cannot be shown here: {step.until} counts")
    return PlannedStep(
        channel=step.channel,
        provider=step.candidate.provider,
        price=step.sell * step.parts,
        parts=step.parts if CHANNELS[step.channel].price_unit == "part" else None,
        wait_ms=step.wait_ms,
        until=step.until,
        verdict="pass" if fault is None else "skip",
        detail="; ".join(told) or None,
    )


def _content(request: MessageRequest, variant: str) -> Content:
    """What it says in the variant that was drawn."""
    said = next((each for each in request.sayings if each.variant == variant), None)
    return request.content if said is None else said.content(request.content)


def _with_links(step: PlannedStep, content: Content) -> PlannedStep:
    """The step, and whether its links make the text longer by a part."""
    plain = CHANNELS[step.channel].count(content.text_for(step.channel))
    if step.parts is None or step.parts <= plain:
        return step
    longer = f"{step.parts} parts with its links, {plain} without"
    return replace(step, detail=f"{step.detail}; {longer}" if step.detail else longer)


def _left_out(request: MessageRequest, policy: Policy, now_ms: int) -> list[PlannedStep]:
    """The steps of the route that the message would not have."""
    return [
        PlannedStep(
            channel=each.channel.name,
            provider=each.step.providers[0],
            price=None,
            parts=None,
            wait_ms=each.step.wait_ms,
            until=each.channel.can_show(each.step.until),
            verdict="skip",
            detail=why,
        )
        for each, why in left_out(request, policy, now_ms)
    ]


def _asked_until(step: Step, route: str, policy: Policy) -> Until:
    """What the route asks of the step, as it is configured now."""
    row = CHANNELS[step.channel]
    steps = policy.resolved.get(route, ())
    asked = (each.step for each in steps if each.channel is row and each.until == step.until)
    return next((each.until for each in asked), step.until)
