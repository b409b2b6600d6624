"""One route over many channels, for people who have some of the addresses. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.money.money import format_amount, parse_amount
from gateway.demo.campaign import MessageTemplate

DIGITS = b"{digits}"  # in the template: what tells people apart

ShownMessage = Mapping[str, Any]


class Addressed(msgspec.Struct, frozen=True):
    """People who have these addresses: `reached` by channel, and not at all; and what it cost."""

    addresses: list[str]
    people: int
    reached: dict[str, int]
    nowhere: int
    cost: str


class ReachShown(msgspec.Struct, frozen=True):
    """Messages over one route, whose `costs` are by channel; those channels are its steps."""

    people: list[Addressed]
    costs: dict[str, str]
    cost: str
    currency: str


def bodies(template: MessageTemplate, phones: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A message to each. Of the template's addresses the first have all, the second lack the first
    kind, and so on; then it begins again."""
    text = msgspec.json.encode(template)
    kinds = list(template["to"])
    for number, phone in enumerate(phones):
        body = msgspec.json.decode(text.replace(DIGITS, phone.removeprefix("+").encode()))
        has = kinds[number % len(kinds) :]
        yield body | {"to": {kind: body["to"][kind] for kind in has}}


def reach_of(
    sent: Sequence[ShownMessage], messages: Sequence[ShownMessage], currency: str
) -> ReachShown:
    """`messages` are what the bodies `sent` became, in the same order."""
    ways: dict[tuple[str, ...], list[ShownMessage]] = {}
    for body, message in zip(sent, messages, strict=True):
        ways.setdefault(tuple(body["to"]), []).append(message)
    channels = [step["channel"] for step in messages[0]["steps"]]
    costs = dict.fromkeys(channels, 0)
    for message in messages:
        for step in message["steps"]:
            costs[step["channel"]] += _cost(step)
    people = [_addressed(addresses, found, channels) for addresses, found in ways.items()]
    by_channel = {channel: format_amount(cost) for channel, cost in costs.items()}
    return ReachShown(people, by_channel, format_amount(sum(costs.values())), currency)


def _addressed(
    addresses: Sequence[str], messages: Sequence[ShownMessage], channels: Sequence[str]
) -> Addressed:
    arrived = Counter(
        next((step["channel"] for step in message["steps"] if step["delivered_at"]), None)
        for message in messages
    )
    return Addressed(
        addresses=list(addresses),
        people=len(messages),
        reached={channel: arrived[channel] for channel in channels},
        nowhere=arrived[None],
        cost=format_amount(sum(_cost(step) for message in messages for step in message["steps"])),
    )


def _cost(step: ShownMessage) -> int:
    return parse_amount(step["cost"] or "0")
