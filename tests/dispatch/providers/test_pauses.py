"""What one dispatcher knows of pauses, while others write them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from gateway.core.rejections import STREAK
from gateway.dispatch.pauses import Pauses
from gateway.redis.client import RedisClient
from gateway.store.providers import pauses as stored
from gateway.store.providers.pauses import OUTAGE, REJECTIONS, Pause, Trouble
from gateway.store.providers.rejections import RejectionWatch
from providers.contract import Fault, Receipt
from tests.worlds.dispatch_world import DispatchWorld, under_trio, world

AWAY = Trouble(OUTAGE, "timeout", "")


async def in_outage(w: DispatchWorld) -> Pauses:
    """What a dispatcher knows that has found one."""
    known = Pauses(w.deps())
    await known.begin("viber", AWAY, probe=False)
    return known


async def reject(w: DispatchWorld) -> Pause:
    """Ingress takes receipts that are all alike rejections."""
    fault = Fault("13", "REJECTED_SENDER", True)
    receipt = Receipt(status="rejected", ref="r", fault=fault, about="account")
    await RejectionWatch(w.redis, w.clock, lambda _: None).saw("viber", [receipt] * STREAK)
    return (await stored.read(w.redis))["viber"]


@under_trio
async def test_an_outage_s_probe_does_not_end_the_rejections_found_meanwhile(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        known = await in_outage(w)
        rejections = await reject(w)
        await known.probed("viber", ["probe"])
        pause = (await stored.read(w.redis))["viber"]
        assert (pause.kind, pause.since) == (REJECTIONS, rejections.since)
        assert pause.probes == ("probe",)
        assert known.of("viber") == pause


@under_trio
async def test_an_outage_s_failed_probe_prolongs_the_rejections_found_meanwhile(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        known = await in_outage(w)
        rejections = await reject(w)
        await known.begin("viber", AWAY, probe=True)
        pause = (await stored.read(w.redis))["viber"]
        assert (pause.kind, pause.code, pause.by_receipt) == (REJECTIONS, "13", True)
        assert pause.since == rejections.since


@under_trio
async def test_what_takes_an_outage_s_place_leaves_an_account_s_fault_found_meanwhile(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        known = await in_outage(w)
        account = Pause("E402", "No credit.", w.clock(), w.clock() + 5_000)
        await stored.change(w.redis, "viber", lambda _: account)
        await known.begin("viber", Trouble(REJECTIONS, "13", ""), probe=False)
        assert (await stored.read(w.redis))["viber"] == account


@under_trio
async def test_what_was_read_before_a_pause_began_does_not_end_it(redis_url: str) -> None:
    async with world(redis_url) as w:
        known = Pauses(w.deps())
        with read_before(lambda: known.begin("viber", AWAY, probe=False)):
            await known.refresh()
        assert known.of("viber") == (await stored.read(w.redis))["viber"]


@under_trio
async def test_what_was_read_before_a_pause_ended_does_not_begin_it(redis_url: str) -> None:
    async with world(redis_url) as w:
        known = await in_outage(w)
        with read_before(lambda: known.probed("viber", ["probe"])):
            await known.refresh()
        assert await stored.read(w.redis) == {}
        assert known.of("viber") is None


@contextmanager
def read_before(change: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """What is read first is what was there before the change, and comes after it."""
    read = stored.read

    async def early(redis: RedisClient, former: Mapping[str, str]) -> dict[str, Pause]:
        patch.undo()
        found = await read(redis, former)
        await change()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "read", early)
        yield
