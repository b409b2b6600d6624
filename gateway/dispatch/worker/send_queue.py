"""What one worker may send now: claimed messages by urgency, and tokens whose moment has come.

The two meet here and no earlier. A token is nobody's, so a message whose claim took long goes with
the next tokens (with tokens of its own it stood behind all that was granted ahead: 125 ms for an
otp behind a campaign, 2026-11-22), and an otp goes before what was claimed first. Of each grant
that the next one follows closely a few tokens are kept until then: an otp that comes in between
goes at once, and if none comes, they serve the next grant's messages.

The time is an argument, in trio's seconds. Tokens that grow too old lapse, which breaks no limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway.dispatch.deps import CATEGORIES
from gateway.dispatch.worker.claim import ClaimedStep
from gateway.dispatch.worker.fair_share import divide
from providers.contract import Category

LATE_S = 0.01  # tokens used later than this after their moment would crowd those after them
KEPT_S = 0.012  # the few that are kept for otp: a grant's 10 ms, and a little
KEPT_MAX = 2
KEEP_OF = 10  # one token in so many is kept


class SendQueue:
    def __init__(self, floor_percent: int) -> None:
        self._floor = floor_percent
        self._steps: dict[Category, deque[ClaimedStep]] = {c: deque() for c in CATEGORIES}
        self._owed = (0, 0)
        self._tokens: deque[tuple[float, int]] = deque()  # until when, how many; the oldest first
        self._kept: tuple[float, int] = (0.0, 0)

    def __len__(self) -> int:
        """How many messages wait."""
        return sum(map(len, self._steps.values()))

    def otp(self) -> int:
        """How many of them are of the most urgent category."""
        return len(self._steps[CATEGORIES[0]])

    def add(self, steps: Iterable[ClaimedStep]) -> None:
        for step in steps:
            self._steps[step.entry.category].append(step)

    def add_tokens(self, count: int, now: float, next_at: float | None) -> None:
        """The moment of so many tokens has come; that of the next ones is known, or None."""
        kept_until, kept = self._kept
        if kept and kept_until >= now:
            self._tokens.append((min(kept_until, now + LATE_S), kept))
        near = next_at is not None and next_at - now < LATE_S + (KEPT_S - LATE_S) / 2
        keep = min(count // KEEP_OF, KEPT_MAX) if near else 0
        self._kept = (now + KEPT_S, keep)
        self._tokens.append((now + LATE_S, count - keep))

    def tokens(self, now: float) -> int:
        """How many may be used at this moment, by otp at least. Those that lapsed are dropped."""
        while self._tokens and self._tokens[0][0] < now:
            self._tokens.popleft()
        if self._kept[0] < now:
            self._kept = (0.0, 0)
        return sum(count for _, count in self._tokens) + self._kept[1]

    def take(self, room: int, now: float) -> list[ClaimedStep]:
        """Takes what goes now, the most urgent first: at most `room` messages, a token each."""
        common = self.tokens(now) - self._kept[1]
        otp, transactional, marketing = (len(self._steps[c]) for c in CATEGORIES)
        waiting = (otp, transactional, marketing)
        counts, self._owed = divide(max(min(room, common), 0), waiting, self._floor, self._owed)
        with_kept = min(self._kept[1], otp - counts[0], max(room - sum(counts), 0))
        self._spend(sum(counts))
        self._kept = (self._kept[0], self._kept[1] - with_kept)
        taken: list[ClaimedStep] = []
        for category, count in zip(
            CATEGORIES, (counts[0] + with_kept, counts[1], counts[2]), strict=True
        ):
            line = self._steps[category]
            taken += [line.popleft() for _ in range(count)]
        return taken

    def drop(self, since: float) -> list[ClaimedStep]:
        """Takes out what was claimed before that moment: it goes back to its lane."""
        dropped: list[ClaimedStep] = []
        for category, line in self._steps.items():
            dropped += [step for step in line if step.since < since]
            self._steps[category] = deque(step for step in line if step.since >= since)
        return dropped

    def drop_tokens(self) -> None:
        """No token is used after all."""
        self._tokens.clear()
        self._kept = (0.0, 0)

    def _spend(self, count: int) -> None:
        while count:
            until, has = self._tokens.popleft()
            if has > count:
                self._tokens.appendleft((until, has - count))
            count -= min(has, count)
