"""Where a person has not said yes: categories that need a recorded opt-in (`[consent] require`).
Pure.

What is lacking counts as an opt-out does: a step on such a channel is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.channels import CHANNELS
from gateway.core.people.opt_outs import EVERY_CHANNEL, NONE, OptOuts
from gateway.core.records.user import Consent
from providers.contract import Category


def lacking(category: Category, given: Iterable[Consent]) -> OptOuts:
    """The channels on which no message of the category may be sent."""
    channels = {each.channel for each in given if each.category == category}
    if None in channels:
        return NONE
    if not channels:
        return {EVERY_CHANNEL: "all"}
    return {name: "all" for name in CHANNELS if name not in channels}
