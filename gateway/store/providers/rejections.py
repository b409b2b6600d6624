"""Rejections that come as receipts: found to be the account's, and found to be over.

Every process that takes receipts has a watch of its own. A streak of alike rejections writes the
pause that dispatchers read. Acceptance proves nothing where rejections come later, so such a pause
is ended by a receipt alone: that of a probe, whose references stand in the pause, and that says
anything but the same. What came before a pause ended says nothing of now: every watch that sees it
gone begins to count anew. Redis unavailable: nothing happens, and the next receipts try again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog

from gateway.core.rejections import RejectionStreak
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.store.providers import pauses
from gateway.store.providers.pauses import REJECTIONS, DecidePause, Pause, Trouble
from providers.contract import Receipt

FRESH_MS = 1_000  # how old the known pauses may be

_log = structlog.get_logger("receipts")


class RejectionWatch:
    """`count` is told the provider of each pause that begins here."""

    def __init__(
        self,
        redis: RedisClient,
        now_ms: Callable[[], int],
        count: Callable[[str], None],
        former: Mapping[str, str] = pauses.NOT_RENAMED,
    ) -> None:
        self._redis = redis
        self._former = former
        self._now_ms = now_ms
        self._count = count
        self._streaks: defaultdict[str, RejectionStreak] = defaultdict(RejectionStreak)
        self._pauses: dict[str, Pause] = {}
        self._read_ms = 0

    async def saw(self, provider: str, receipts: Sequence[Receipt]) -> None:
        """Receipts came, in this order."""
        streak = self._streaks[provider]
        rejected = streak.saw(
            [
                receipt.fault.code
                if receipt.fault and is_rejected_for_the_account(receipt)
                else None
                for receipt in receipts
                if receipt.status in ("delivered", "seen") or is_rejected_for_the_account(receipt)
            ]
        )
        try:
            pause = await self._pause_of(provider, anew=rejected is not None)
            if pause is not None and pause.by_receipt:
                if any(_clears(receipt, pause) for receipt in receipts):
                    await self._end(provider, pause)
            elif rejected is not None and streak.code() is not None:
                await self._begin(provider, rejected)
        except RedisError as error:
            _log.warning("rejections are not told to others", provider=provider, reason=str(error))

    async def _pause_of(self, provider: str, *, anew: bool) -> Pause | None:
        known = self._pauses.get(provider)
        by_receipt = known is not None and known.by_receipt  # its probes are noted at any moment
        if anew or by_receipt or self._now_ms() - self._read_ms >= FRESH_MS:
            await self._read()
        return self._pauses.get(provider)

    async def _read(self) -> None:
        found = await pauses.read(self._redis, self._former)
        for provider, known in self._pauses.items():
            pause = found.get(provider)
            if pause is None or pause.since != known.since:
                self._streaks[provider].clear()
        self._pauses = found
        self._read_ms = self._now_ms()

    async def _begin(self, provider: str, code: str) -> None:
        trouble = Trouble(REJECTIONS, code, "Nearly all receipts say so.", by_receipt=True)
        pause = pauses.begun(trouble, self._now_ms())
        stands = await self._change(
            provider, lambda now: pause if now is None or pauses.outranks(trouble, now) else now
        )
        if stands is not pause:
            return
        self._count(provider)
        _log.error(
            "provider paused",
            provider=provider,
            kind=pause.kind,
            code=code,
            detail=pause.detail,
            advice=pauses.ADVICE[pause.kind],
        )

    async def _end(self, provider: str, pause: Pause) -> None:
        stands = await self._change(
            provider, lambda now: None if now is None or now.since == pause.since else now
        )
        self._streaks[provider].clear()
        if stands is None:
            lasted_s = (self._now_ms() - pause.since) // 1000
            _log.info("provider resumed", provider=provider, kind=pause.kind, after_s=lasted_s)

    async def _change(self, provider: str, decide: DecidePause) -> Pause | None:
        """What stands after it."""
        changed = await pauses.change(self._redis, provider, decide, former=self._former)
        stands = changed.after
        if stands is None:
            self._pauses.pop(provider, None)
        else:
            self._pauses[provider] = stands
        return stands


def is_rejected_for_the_account(receipt: Receipt) -> bool:
    return (
        receipt.status in ("rejected", "undelivered")
        and receipt.about == "account"
        and receipt.fault is not None
    )


def _clears(receipt: Receipt, pause: Pause) -> bool:
    """Whether it shows that a probe got through to the person, or failed for the person's sake."""
    of_probe = receipt.ref in pause.probes or receipt.provider_id in pause.probes
    return of_probe and receipt.status != "sent" and receipt.about == "person"
