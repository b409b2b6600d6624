"""`POST /v1/conversions`: what people did in the end, put down to the message that made them.

Each counts once under its id, whether it comes late or again, and is put down to the last human
click within `[conversions] click_window`, else to the last delivery within `delivery_window`; a
negative value corrects. Every item has an answer of its own, in order, once it is durable.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import person_id
from gateway.core.channels import ChannelName
from gateway.core.money import money
from gateway.core.reactions.conversions import By
from gateway.core.records.conversion import Conversion
from gateway.core.records.message import Message
from gateway.core.texts import name_of
from gateway.ingress.api.bodies.array_items import Items, answer_each, in_turns
from gateway.ingress.api.bodies.decoder import moment_ms, read_item, require_json
from gateway.ingress.api.bodies.names import Name, name_fault
from gateway.ingress.api.results import message_after, outcome_of, own_message, refusal_of
from gateway.ingress.archived import ArchivedMessages
from gateway.ingress.http.fields import MESSAGE_ID
from gateway.ingress.http.problems import Problem, RequestFault, invalid
from gateway.ingress.http.request import Request
from gateway.store.reactions import conversions
from gateway.store.reactions.conversions import Booked, ToldConversion
from gateway.store.store import Store

CONVERSIONS_MAX = 1_000
EXAMPLE = {
    "id": "order-1071",
    "message": MESSAGE_ID,
    "value": "49.90",
    "currency": "EUR",
    "at": "2026-11-21T10:00:00Z",
}
_SHOWN = msgspec.json.encode(EXAMPLE).decode()


class ConversionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person did in the end, such as an order."""

    id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=128, description="Yours: it counts once.")
    ]
    message: Annotated[str, msgspec.Meta(description="The message's id.")] | None = None
    user: Annotated[Name, msgspec.Meta(description="Who it was, instead of a message.")] | None = (
        None
    )
    campaign: (
        Annotated[Name, msgspec.Meta(description="With user: of this campaign alone.")] | None
    ) = None
    value: Annotated[
        Decimal,
        msgspec.Meta(description="A decimal string, such as 49.90; less than 0 corrects."),
    ] = Decimal(0)
    currency: (
        Annotated[str, msgspec.Meta(description="Of value: the installation's, or left out.")]
        | None
    ) = None
    at: (
        Annotated[
            datetime.datetime,
            msgspec.Meta(tz=True, description="When: RFC 3339; else now."),
        ]
        | None
    ) = None


class Attributed(msgspec.Struct, frozen=True):
    """The step that has a conversion, and by what."""

    message: str
    step: int
    channel: ChannelName
    campaign: str | None
    by: By


class ConversionResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What one conversion came to; `index` in an array's answer.

    accepted: it counts. duplicate: its id counted already, and this is what it was put down to.
    rejected: `error` says why it cannot. error: we could not take it now, and it can be sent
    again.
    """

    index: int | msgspec.UnsetType = msgspec.UNSET
    outcome: Literal["accepted", "duplicate", "rejected", "error"]
    attributed: Attributed | msgspec.UnsetType | None = msgspec.UNSET
    assisted: tuple[ChannelName, ...] | msgspec.UnsetType = msgspec.UNSET
    error: Problem | msgspec.UnsetType = msgspec.UNSET


class ConversionEndpoint:
    """Takes conversions. `now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        messages: ArchivedMessages,
        now_ms: Callable[[], int],
        body_bytes_max: int,
    ) -> None:
        self._store = store
        self._messages = messages
        self._now_ms = now_ms
        self._body_bytes_max = body_bytes_max

    async def take(self, request: Request) -> None:
        require_json(request)
        await answer_each(
            request, self._body_bytes_max, CONVERSIONS_MAX, "conversion", self._decide
        )

    async def _decide(self, app: str, raws: Items) -> list[ConversionResult]:
        """What each came to, in order."""
        items = [read_item(ConversionRequest, raw, _SHOWN) async for raw in in_turns(raws)]
        ids = [i.message for i in items if isinstance(i, ConversionRequest) and i.message]
        messages = await self._messages.find(dict.fromkeys(ids))
        found = [self._asked(app, item, messages) for item in items]
        asked = [each for each in found if isinstance(each, ToldConversion)]
        booked = iter(
            await conversions.book(self._store, app, asked, self._now_ms(), self._messages.find)
        )
        return [
            _result(next(booked)) if isinstance(each, ToldConversion) else _failed(each)
            for each in found
        ]

    def _asked(
        self,
        app: str,
        item: ConversionRequest | Problem,
        messages: dict[str, Message | Exception],
    ) -> ToldConversion | Problem:
        if isinstance(item, Problem):
            return item
        item = _with_names_as_kept(item)
        policy, now_ms = self._store.policy, self._now_ms()
        faults = list(_faults(item, policy.currency))
        if faults:
            return invalid(faults)
        at_ms = min(moment_ms(item.at) or now_ms, now_ms)
        value = money.signed(item.value)
        if item.message is None:
            user = f"u:{person_id(item.user, policy.numbering_of(app))}"
            return ToldConversion(item.id, at_ms, value, user=user, campaign=item.campaign)
        message = own_message(messages.get(item.message), app)
        if isinstance(message, Problem):
            return message
        return ToldConversion(item.id, at_ms, value, message)


def _with_names_as_kept(item: ConversionRequest) -> ConversionRequest:
    user, campaign = (name and name_of(name) for name in (item.user, item.campaign))
    return replace(item, user=user, campaign=campaign)


def _faults(item: ConversionRequest, currency: str) -> list[RequestFault]:
    names = {"user": item.user, "campaign": item.campaign}
    told = {key: name_fault(name) for key, name in names.items() if name is not None}
    faults = [RequestFault(f"/{key}", detail) for key, detail in told.items() if detail]
    if (item.message is None) == (item.user is None):
        faults.append(RequestFault("", "Name a message or a user: one of the two."))
    if item.campaign is not None and item.user is None:
        faults.append(RequestFault("/campaign", "A campaign is named with a user alone."))
    if item.currency not in (None, currency):
        faults.append(RequestFault("/currency", f"Values are in {currency} here."))
    try:
        money.signed(item.value)
    except money.AmountError as error:
        faults.append(RequestFault("/value", f"{error}"))
    return faults


def _result(booked: Booked) -> ConversionResult:
    for failed in booked.failed:
        if failed.effects.refused is not None:
            detail = "This message has as many conversions as one may have."
            return _failed(invalid([RequestFault("/message", detail)]))
        why = message_after(failed, "A conversion cannot be applied: it was set aside.")
        if isinstance(why, Problem):
            return _failed(why)
    conversion = booked.conversion
    if isinstance(conversion, Exception):
        return _failed(refusal_of(conversion).problem)
    return ConversionResult(
        outcome="duplicate" if booked.again else "accepted",
        attributed=_attributed(conversion),
        assisted=conversion.assisted,
    )


def _attributed(conversion: Conversion) -> Attributed | None:
    target = conversion.had_by
    if target is None or conversion.by is None:
        return None
    return Attributed(
        target.message, target.step, conversion.channel, conversion.campaign, conversion.by
    )


def _failed(why: Problem) -> ConversionResult:
    return ConversionResult(outcome=outcome_of(why), error=why)
