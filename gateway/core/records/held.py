"""Why a message's step is held, and until when: a part of the message's record."""

from __future__ import annotations

from typing import Literal

import msgspec

HeldReason = Literal["scheduled", "send_window", "paused", "pace", "budget", "away"]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """`until_ms` is the moment as far as it is known; 0: it is not. `budget` is the one that is
    full, where it is that."""

    reason: HeldReason
    until_ms: int = 0
    budget: str = ""

    @property
    def stops_clock(self) -> bool:
        """Whether the step may not start, so that nothing of its time is used. One whose provider
        is away might, unless it is looked at again at a moment only."""
        return self.reason != "away" or self.until_ms > 0

    @property
    def has_no_moment(self) -> bool:
        """Whether what it waits for comes when somebody or something else lets it."""
        return self.reason in ("paused", "pace", "budget")

    @property
    def skipped(self) -> str:
        """What a step of it is skipped for that is held beyond its message's time."""
        return self.reason if self.reason in ("send_window", "budget") else "ttl"


AWAY = Held("away")
