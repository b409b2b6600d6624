"""What is known of a person on each channel, as an app sees it. Pure; it cannot fail."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.addresses import Addresses
from gateway.core.channels import CHANNELS
from gateway.core.people.rates import MILLION, THOUSAND
from gateway.core.people.reach import ChannelState
from gateway.core.records.message import Message
from gateway.core.views.words import Time, rfc3339
from gateway.settings.tables import Share


class ChannelView(msgspec.Struct, frozen=True):
    """Whether the person is reached on a channel, since when that is known (null: nothing was heard
    lately of this address), and how often the person reacts there: `exposures` and `reactions` as
    they count now, and between which bounds the rate lies 19 times of 20."""

    reachable: bool | None
    reachable_at: Time | None
    exposures: float
    reactions: float
    rate: Share
    rate_low: Share
    rate_high: Share


def view_of(state: ChannelState) -> ChannelView:
    rate = state.rate
    low, high = rate.bounds
    return ChannelView(
        reachable=state.reachable,
        reachable_at=rfc3339(state.reachable_ms) if state.reachable_ms is not None else None,
        exposures=rate.counted.exposures / THOUSAND,
        reactions=rate.counted.reactions / THOUSAND,
        rate=rate.rate / MILLION,
        rate_low=low / MILLION,
        rate_high=high / MILLION,
    )


def addresses_of(stored: Addresses, messages: Sequence[Message]) -> Addresses:
    """The addresses that a person has: of each kind the one that is stored, else the one to which
    something was sent last; `messages` are the newest first."""
    known = (stored, *(message.addresses for message in messages))
    found = {
        kind: next(getattr(each, kind) for each in known if each.has(kind))
        for kind in {row.address for row in CHANNELS.values()}
        if any(each.has(kind) for each in known)
    }
    return Addresses(**found)
