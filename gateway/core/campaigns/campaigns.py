"""What is declared of a campaign, and what it says of one request or step. Pure.

A campaign needs no declaration: one that only messages name runs. Declarations are read by every
process; what they say holds for messages under way as well, but for what was fixed when a message
was accepted: its route, ttl and category.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from gateway.core.campaigns.send_windows import SendWindow
from gateway.core.records.words import ImportanceName, LinksWord
from providers.contract import Category

CampaignState = Literal["running", "paused", "cancelled"]
WhyNot = Literal["campaign_cancelled", "campaign_ended", "recipients_max", "holdout"]
CANCELLED: Final = "campaign_cancelled"  # the reason of what ends or is refused by that
ENDED: Final = "campaign_ended"  # likewise
NO_WINDOW = "none"
HOLDOUT_PARTS = 10_000  # a share is so many of these
VARIANT_DRAW = b"variant"


class Campaign(msgspec.Struct, frozen=True, omit_defaults=True):
    """Defaults of its messages are None where they name none. Moments are epoch milliseconds, 0 is
    none; `pace_per_min` bounds first steps a minute; `holdout` is of HOLDOUT_PARTS."""

    state: CampaignState = "running"
    category: Category | None = None
    importance: ImportanceName | None = None
    route: str | None = None
    ttl_ms: int | None = None
    links: LinksWord | None = None
    start_ms: int = 0
    end_ms: int = 0
    pace: str | None = None  # as given
    pace_per_min: int = 0  # 0: none
    send_window: str | None = None
    recipients_max: int | None = None
    holdout: int = 0
    exclude_campaigns: tuple[str, ...] = ()
    silent_for: str | None = None  # as given
    silent_ms: int = 0  # 0: nobody need be silent
    updated_ms: int = 0
    updated_by: str = ""
    cancelled_ms: int = 0
    words: bytes = b""  # the hash of what it says, which is kept apart; empty: nothing
    moved_ms: int = 0  # when its start, end or send window was changed last

    @property
    def over_ms(self) -> int:
        """Since when it takes no more, or from when on it will not; 0: nobody said."""
        return self.cancelled_ms or self.end_ms

    def is_over(self, now_ms: int) -> bool:
        """Whether its end has come."""
        return 0 < self.end_ms <= now_ms

    def no_later(self, at_ms: int) -> int:
        """A moment, or its end where that is earlier."""
        return min(at_ms, self.end_ms) if self.end_ms else at_ms


class Declared(msgspec.Struct, frozen=True):
    """All campaigns that are declared, and the key by which hold-outs are drawn. `excluded` are
    those whose people some campaign leaves out; `cancelled` are those that were; `asks_silence`:
    some campaign asks who reacted lately."""

    campaigns: Mapping[str, Campaign] = {}
    holdout_key: bytes = b""
    excluded: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()
    asks_silence: bool = False

    def __post_init__(self) -> None:
        declared = self.campaigns.values()
        excluded = frozenset(name for each in declared for name in each.exclude_campaigns)
        msgspec.structs.force_setattr(self, "excluded", excluded)
        cancelled = [name for name, each in self.campaigns.items() if each.state == "cancelled"]
        msgspec.structs.force_setattr(self, "cancelled", frozenset(cancelled))
        asks_silence = any(campaign.silent_ms for campaign in declared)
        msgspec.structs.force_setattr(self, "asks_silence", asks_silence)

    def of(self, name: str | None) -> Campaign | None:
        return self.campaigns.get(name) if name is not None else None

    def asked_by(self, name: str | None) -> tuple[str, ...]:
        """The campaigns whose claims decide about a request of this one: its own, and those whose
        people it leaves out."""
        if name is None:
            return ()
        campaign = self.campaigns.get(name)
        return (name,) if campaign is None else (name, *campaign.exclude_campaigns)

    def is_cancelled(self, name: str | None) -> bool:
        return name in self.cancelled


NONE_DECLARED = Declared()


def why_not(
    declared: Declared, name: str | None, category: Category, first: str, starts_ms: int
) -> WhyNot | None:
    """Why a request of a campaign becomes no message, before anything of the person is asked.
    `first` is the person's first known identity; before `starts_ms` nothing of it is sent."""
    campaign = declared.of(name)
    if campaign is None or name is None:
        return None
    if campaign.state == "cancelled":
        return CANCELLED
    if campaign.is_over(starts_ms):
        return ENDED
    if campaign.holdout and category == "marketing":
        key = declared.holdout_key
        if first and share_of(key, name, first) < campaign.holdout:
            return "holdout"
    return None


def share_of(key: bytes, campaign: str, identity: str, draw: bytes = b"") -> int:
    """Where a person stands in a campaign, below HOLDOUT_PARTS: the same whenever it is asked, and
    another in each campaign and each `draw` of it."""
    told = f"{len(campaign)}:{campaign}{identity}".encode()
    digest = blake2b(told, key=key, digest_size=8, person=draw).digest()
    return int.from_bytes(digest) * HOLDOUT_PARTS >> 64


def window_of(
    campaign: Campaign | None, windows: Mapping[str, SendWindow], otherwise: SendWindow | None
) -> SendWindow | None:
    """The send window that holds for a step: the campaign's before its category's. Where it names
    one that is gone from the configuration it counts as naming none."""
    if campaign is None or campaign.send_window is None:
        return otherwise
    if campaign.send_window == NO_WINDOW:
        return None
    return windows.get(campaign.send_window, otherwise)
