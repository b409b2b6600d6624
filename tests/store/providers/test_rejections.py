"""Rejections that come as receipts pause a provider, and the probe's receipt ends the pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.rejections import STREAK
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.trio_driver import open_client
from gateway.store.providers import pauses
from gateway.store.providers.pauses import ACCOUNT, OUTAGE, REJECTIONS, Pause
from gateway.store.providers.rejections import RejectionWatch
from providers.contract import About, Fault, Receipt, ReceiptStatus

T0 = 1_000_000


class Watching:
    def __init__(self, redis: RedisClient) -> None:
        self.redis = redis
        self.now_ms = T0
        self.counted: list[str] = []
        self.watch = RejectionWatch(redis, lambda: self.now_ms, self.counted.append)

    async def pause(self) -> Pause | None:
        return (await pauses.read(self.redis)).get("viber")

    async def rejected(self, count: int = STREAK) -> None:
        await self.watch.saw("viber", [rejected(f"r{n}") for n in range(count)])


def rejected(
    ref: str, about: About = "account", status: ReceiptStatus = "rejected", **changes: Any
) -> Receipt:
    fault = Fault("13", "REJECTED_SENDER", True)
    return Receipt(status=status, ref=ref, fault=fault, about=about, **changes)


def watching(redis_url: str, work: Callable[[Watching], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            await work(Watching(redis))

    trio.run(main)


def test_twenty_alike_rejections_pause_the_provider_once(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        await w.rejected(STREAK - 1)
        assert await w.pause() is None
        await w.rejected(1)
        pause = await w.pause()
        assert pause is not None
        assert (pause.kind, pause.code, pause.by_receipt) == (REJECTIONS, "13", True)
        assert pause.until == T0 + pauses.DELAY_MS_MIN
        w.now_ms += 2_000
        await w.rejected()
        assert await w.pause() == pause, "those under way say nothing new"
        assert w.counted == ["viber"]

    watching(redis_url, work)


def test_what_speaks_of_the_person_or_the_message_never_counts(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        await w.watch.saw("viber", [rejected(f"r{n}", "person") for n in range(1_000)])
        await w.watch.saw("viber", [rejected(f"r{n}", "message") for n in range(1_000)])
        await w.watch.saw("viber", [Receipt(status="sent", ref="s")] * 100)
        assert await w.pause() is None
        await w.watch.saw("viber", [Receipt(status="delivered", ref="d")])
        await w.rejected(STREAK - 3)
        await w.watch.saw("viber", [Receipt(status="seen", ref="d")])
        await w.rejected(1)
        assert await w.pause() is None, "two of the last twenty arrived"

    watching(redis_url, work)


def test_a_probe_s_receipt_ends_the_pause_and_no_other_does(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        await w.rejected()
        pause = await w.pause()
        assert pause is not None
        noted = replace(pause, probes=("probe", "P1"))
        await pauses.change(w.redis, "viber", lambda _: noted)
        w.now_ms += 1_000
        for receipt in (
            Receipt(status="delivered", ref="earlier"),
            Receipt(status="sent", ref="probe"),
            rejected("probe"),
            rejected("probe", "message"),
        ):
            await w.watch.saw("viber", [receipt])
            assert await w.pause() == noted
        w.now_ms += 1_000
        await w.watch.saw("viber", [Receipt(status="delivered", provider_id="P1")])
        assert await w.pause() is None
        await w.rejected(STREAK - 1)
        assert await w.pause() is None, "it begins anew"

    watching(redis_url, work)


def test_no_viber_of_a_probe_ends_it_too(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        pause = Pause("13", "", T0, T0, REJECTIONS, True, ("probe",))
        await pauses.change(w.redis, "viber", lambda _: pause)
        await w.watch.saw("viber", [rejected("probe", "person", "undelivered")])
        assert await w.pause() is None

    watching(redis_url, work)


def test_a_receipt_that_comes_at_once_after_its_probe_was_noted_ends_the_pause(
    redis_url: str,
) -> None:
    async def work(w: Watching) -> None:
        await w.rejected()
        await w.watch.saw("viber", [rejected("late")])
        pause = await w.pause()
        assert pause is not None
        await pauses.change(w.redis, "viber", lambda _: replace(pause, probes=("probe",)))
        await w.watch.saw("viber", [Receipt(status="delivered", ref="probe")])
        assert await w.pause() is None

    watching(redis_url, work)


def test_a_pause_that_another_ended_lets_every_watch_count_anew(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        other = Watching(w.redis)
        await w.rejected()
        await other.rejected()  # its watch sees the pause, and not who ends it
        await pauses.delete(w.redis, "viber")
        await other.rejected(1)
        assert await w.pause() is None, "a stray one that was late"
        await other.rejected()
        assert await w.pause() is not None, "not repaired after all"

    watching(redis_url, work)


def test_a_pause_that_another_took_the_place_of_does_so_too(redis_url: str) -> None:
    async def work(w: Watching) -> None:
        await w.rejected()
        outage = Pause("x", "", T0 + 1, T0 + 1, OUTAGE)
        await pauses.change(w.redis, "viber", lambda _: outage)
        await w.rejected(1)
        assert await w.pause() == outage, "a stray one that was late"

    watching(redis_url, work)


def instead(pause: Pause, _: Pause | None) -> Pause | None:
    """Decides for a pause, whatever stands."""
    return pause


def test_rejections_take_the_place_of_an_outage_and_not_of_an_account_fault(
    redis_url: str,
) -> None:
    async def work(w: Watching) -> None:
        for kind, after in ((OUTAGE, REJECTIONS), (ACCOUNT, ACCOUNT)):
            pause = Pause("x", "", T0, T0, kind)
            await pauses.change(w.redis, "viber", partial(instead, pause))
            await w.rejected()
            stands = await w.pause()
            assert stands is not None
            assert stands.kind == after

    watching(redis_url, work)


def test_without_redis_receipts_go_on_and_the_next_ones_tell(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(w: Watching) -> None:
        async def away(*_: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise RedisUnavailable("unavailable")

        monkeypatch.setattr(w.redis, "call", away)
        await w.rejected()
        monkeypatch.undo()
        assert await w.pause() is None
        await w.rejected(1)
        assert await w.pause() is not None

    watching(redis_url, work)
