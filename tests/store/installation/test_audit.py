"""Who did what: the two lists of deeds as one, page by page."""

from __future__ import annotations

import pytest

from gateway.redis.asyncio_driver import run
from gateway.redis.client import Command, RedisClient
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.shared_keys import AUDIT, AUDIT_APPS

T0 = 1_795_262_400_000


def at(ms: int, action: str, *, of_app: bool) -> Command:
    """A deed noted at a moment of Redis."""
    *words, _now, field, deed = audit.command(Deed(ms, "ann@here", action), of_app=of_app)
    return (*words, f"{ms}-0", field, deed)


def test_deeds_of_operators_and_apps_are_one_list_the_newest_first(redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[str]:
        for n in range(6):
            await redis.call([at(T0 + n, f"deed.{n}", of_app=n % 3 == 0)])
        return [kept.deed.action for kept in (await audit.read(redis, 10)).deeds]

    assert run(redis_url, main) == [f"deed.{n}" for n in reversed(range(6))]


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_pages_leave_nothing_out_although_ids_of_the_two_may_be_the_same(
    redis_url: str, count: int
) -> None:
    async def main(redis: RedisClient) -> list[str]:
        for n in range(4):
            both = [at(T0 + n, f"{n} {of_app}", of_app=of_app) for of_app in (False, True)]
            await redis.call(both)
        found, before = [], ""
        while page := (await audit.read(redis, count, before)).deeds:
            found += [kept.deed.action for kept in page]
            before = page[-1].id
        return found

    found = run(redis_url, main)
    assert sorted(found) == sorted(f"{n} {of_app}" for n in range(4) for of_app in (False, True))


def test_a_deed_of_another_version_hides_no_other(redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[str]:
        await redis.call([audit.command(Deed(T0, "", "first"))])
        await redis.call([("XADD", AUDIT, "*", "d", b"\xff")])
        await redis.call([("XADD", AUDIT, "*", "other", "fields", "than", "ours")])
        await redis.call([audit.command(Deed(T0, "", "last"))])
        return [kept.deed.action for kept in (await audit.read(redis, 10)).deeds]

    assert run(redis_url, main) == ["last", "first"]


def test_pages_go_on_behind_deeds_that_cannot_be_read(redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[str]:
        await redis.call([audit.command(Deed(T0, "", "first"))])
        await redis.call([("XADD", AUDIT, "*", "d", b"\xff")] * 5)
        await redis.call([audit.command(Deed(T0, "", "last"))])
        found, page = [], await audit.read(redis, 2)
        while page.next is not None:
            found += page.deeds
            page = await audit.read(redis, 2, page.next)
        return [kept.deed.action for kept in [*found, *page.deeds]]

    assert run(redis_url, main) == ["last", "first"]


def test_apps_push_out_none_of_the_operators_deeds(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "DEEDS_MAX", 100)

    async def main(redis: RedisClient) -> tuple[int, list[str]]:
        await redis.call([audit.command(Deed(T0, "", "key.revoke"))])
        opt_out = audit.command(Deed(T0, "", "optout.set"), of_app=True)
        await redis.call([opt_out] * 1_000)
        (kept,) = await redis.call([("XLEN", AUDIT_APPS)])
        assert isinstance(kept, int)
        return kept, [each.deed.action for each in (await audit.read(redis, 1_000)).deeds]

    kept, actions = run(redis_url, main)
    assert kept < 1_000
    assert actions[-1] == "key.revoke"
