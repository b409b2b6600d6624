"""Why a message is sent as it is, as its app sees it. Pure; it cannot fail."""

from __future__ import annotations

import msgspec

from gateway.core.channels import ChannelName, Until
from gateway.core.explain import Explanation, Gate, GateName, GateVerdict, PlannedStep
from gateway.core.money.money import format_amount
from gateway.core.records.request import Answer
from gateway.core.views.message import Amount
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.api.results import UNSET, Result, result_of

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


class GateView(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A question and its answer, with what decided it: `price` in `currency` is what the app pays
    for the first step that goes; `message` has the campaign already; `count`
    of at most `limit` messages in `window` count against the cap `name`, free at `retry_at`; of
    the `limit` of the budget `name` so much is `used`, with what is reserved; a step is held
    `until`."""

    gate: GateName
    verdict: GateVerdict
    detail: str | None
    price: Amount | msgspec.UnsetType = UNSET
    currency: str | msgspec.UnsetType = UNSET
    message: str | msgspec.UnsetType = UNSET
    name: str | msgspec.UnsetType = UNSET
    limit: int | Amount | msgspec.UnsetType = UNSET
    window: str | msgspec.UnsetType = UNSET
    count: int | msgspec.UnsetType = UNSET
    retry_at: Time | msgspec.UnsetType = UNSET
    until: Time | msgspec.UnsetType = UNSET
    used: Amount | msgspec.UnsetType = UNSET


class PlannedStepView(msgspec.Struct, frozen=True):
    """A step of the way: its first provider in line, what the app would pay for it, and whether it
    is skipped. `wait` is a duration, such as 15m."""

    channel: ChannelName
    provider: str
    price: Amount | None
    parts: int | None
    wait: str
    until: Until
    verdict: GateVerdict
    detail: str | None


class ExplainView(msgspec.Struct, frozen=True):
    """Every gate that was asked, in order, up to the one that stopped it, and the steps."""

    gates: list[GateView]
    plan: list[PlannedStepView]


class DryResult(Result, kw_only=True):
    """What a real request would have come to now, without an `id` of its own, and why."""

    explain: ExplainView


def dry_result(answer: Answer, explanation: Explanation, currency: str) -> DryResult:
    """An answer that nothing came of. `error` where the request cannot be sent as it is."""
    told = result_of(answer)
    if told.outcome == "accepted":
        told.id = UNSET
    fields = msgspec.structs.asdict(told)
    return DryResult(**fields, explain=explain_view(explanation, currency))


def explain_view(explanation: Explanation, currency: str) -> ExplainView:
    """The gates and steps."""
    return ExplainView(
        [_gate(gate, currency) for gate in explanation.gates],
        [_step(step) for step in explanation.plan],
    )


def _gate(gate: Gate, currency: str) -> GateView:
    priced = gate.price is not None
    limit = gate.limit if gate.amount is None else format_amount(gate.amount)
    return GateView(
        gate=gate.gate,
        verdict=gate.verdict,
        detail=gate.detail,
        price=format_amount(gate.price or 0) if priced else UNSET,
        currency=currency if priced else UNSET,
        message=gate.message or UNSET,
        name=gate.name or UNSET,
        limit=UNSET if limit is None else limit,
        window=gate.window or UNSET,
        count=UNSET if gate.count is None else gate.count,
        retry_at=UNSET if gate.retry_at_ms is None else rfc3339(gate.retry_at_ms),
        until=UNSET if gate.until_ms is None else rfc3339(gate.until_ms),
        used=UNSET if gate.used is None else format_amount(gate.used),
    )


def _step(step: PlannedStep) -> PlannedStepView:
    return PlannedStepView(
        channel=step.channel,
        provider=step.provider,
        price=None if step.price is None else format_amount(step.price),
        parts=step.parts,
        wait=_duration(step.wait_ms),
        until=step.until,
        verdict=step.verdict,
        detail=step.detail,
    )


def _duration(length_ms: int) -> str:
    """As the configuration writes it: in the largest unit that divides it."""
    unit, unit_ms = next((u, ms) for u, ms in _UNITS if length_ms % ms == 0)
    return f"{length_ms // unit_ms}{unit}"
