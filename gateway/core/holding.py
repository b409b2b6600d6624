"""Whether a message may start its step now, and else why and until when it is held. Pure.

Asked when a step is to go into its lane, and again when it is claimed. What is held waits outside
the lanes and costs nothing until its moment comes.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from gateway.core.addresses import Addresses
from gateway.core.campaigns.campaigns import window_of
from gateway.core.campaigns.send_windows import opening_ms
from gateway.core.policy import Policy
from gateway.core.records.held import AWAY, Held
from gateway.core.records.message import Message, Step, StepStatus
from providers.contract import Category

PAUSED, PACE = Held("paused"), Held("pace")
ZONE_UNKNOWN = Held("send_window")  # it opens when the user has a zone, if ever


class Timed(Protocol):
    """What a request and a message say of when it may be sent."""

    @property
    def category(self) -> Category: ...

    @property
    def addresses(self) -> Addresses: ...

    @property
    def country(self) -> str: ...

    @property
    def campaign(self) -> str | None: ...

    @property
    def tz(self) -> str | None: ...

    @property
    def not_before_ms(self) -> int: ...


def starts_ms(timed: Timed, policy: Policy) -> int:
    """Nothing of it is sent before that moment, by its own `send_at` and its campaign's start; 0:
    by neither."""
    campaign = policy.declared.of(timed.campaign)
    return max(timed.not_before_ms, campaign.start_ms if campaign is not None else 0)


def held_of(timed: Timed, policy: Policy, now_ms: int) -> Held | None:
    """Why its step may not start now; None: it may.

    Where several things keep it, the moment is that at which none does any more, as far as is known
    now, and the reason is what keeps it last."""
    if not policy.holds_steps and not timed.not_before_ms:
        return None  # as almost always
    rule = policy.categories.get(timed.category)
    window = rule.send_window if rule is not None else None
    campaign = policy.declared.of(timed.campaign)
    if window is None and campaign is None and not timed.not_before_ms:
        return None
    moment_ms = max(now_ms, starts_ms(timed, policy))
    if campaign is not None:
        if campaign.state == "paused":
            return PAUSED
        window = window_of(campaign, policy.send_windows, window)
    if window is not None:
        phone = timed.addresses.phone
        opens_ms = opening_ms(window, timed.tz, phone, timed.country, moment_ms)
        if opens_ms != moment_ms:
            return Held("send_window", opens_ms or 0)
    return Held("scheduled", moment_ms) if moment_ms > now_ms else None


def waits_for(
    message: Message, policy: Policy, now_ms: int, away: Container[str] = ()
) -> Held | None:
    """What keeps a message now; `away`: the providers that are. Its record says what kept it when
    it was held: where that moment has passed, or was never known, its campaign may keep it, paused
    or by its pace. That its provider is away stands in the record once its step's time is over."""
    held = message.held
    if held is None:
        lonely = is_in_lane(message) and _all_in(away, message.step, policy)
        return AWAY if lonely else None
    if held == ZONE_UNKNOWN or held.reason in ("budget", "away"):
        return held
    if held.until_ms > now_ms:
        return held
    pace = PACE if is_first(message) and paced(message, policy) else None
    return held_of(message, policy, now_ms) or pace or held


def is_in_lane(message: Message) -> bool:
    """Whether its step waits its turn in a provider's lane."""
    return not message.closed and message.step.status == StepStatus.QUEUED


def _all_in(away: Container[str], step: Step, policy: Policy) -> bool:
    """Whether none of the providers is there that may have the step."""
    return all(policy.present(each.provider) in away for each in step.candidates)


def is_first(message: Message) -> bool:
    """Whether nothing of it was ever tried, so that it is its first step that waits."""
    return not any(step.attempts for step in message.steps)


def paced(timed: Timed, policy: Policy) -> bool:
    """Whether its first step waits for a place in its campaign's pace."""
    campaign = policy.declared.of(timed.campaign)
    return campaign is not None and campaign.pace_per_min > 0
