"""Who asks for one link at the same time shares its reads, and nobody gets an older answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from gateway.core.records.links import OwnLink
from gateway.ingress.link_reads import ANSWERED_A_TURN, LinkReads
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.redis.errors import RedisUnavailable
from gateway.store.reactions import own_links
from gateway.store.reactions.links import Link
from tests.worlds.ingress_world import SwitchedClient, World, with_ingress

OLD, NEW = "https://shop.example/old", "https://shop.example/new"


class HeldClient(SwitchedClient):
    """A Redis whose answers are held back until they may come."""

    def __init__(self, redis: RedisClient) -> None:
        super().__init__(redis)
        self.answered = asyncio.Event()  # one is held
        self.may_come = asyncio.Event()

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        replies = await super().call(commands)
        self.answered.set()
        await self.may_come.wait()
        return replies


async def made(world: World) -> str:
    code = await own_links.make(world.store, OwnLink("shop", OLD, 1), None)
    assert code is not None
    return code


def target(link: Link | None) -> str:
    assert link is not None
    return link.target


@with_ingress()
async def test_a_crowd_at_one_link_is_one_read(world: World) -> None:
    reads, code = LinkReads(world.store), await made(world)
    before = world.redis.calls
    found = await asyncio.gather(*(reads.find(code) for _ in range(50)))
    assert {target(link) for link in found} == {OLD}
    assert world.redis.calls == before + 1


@with_ingress()
async def test_who_asks_after_a_change_sees_it_though_a_read_is_under_way(world: World) -> None:
    code, plain = await made(world), world.store.redis
    world.store.redis = held = HeldClient(plain)
    reads = LinkReads(world.store)
    before = asyncio.ensure_future(reads.find(code))
    await held.answered.wait()
    world.store.redis = plain
    await own_links.change(world.store, code, lambda link: link and replace(link, url=NEW))
    after = asyncio.gather(*(reads.find(code) for _ in range(3)))
    held.may_come.set()
    assert target(await before) == OLD
    assert {target(link) for link in await after} == {NEW}


@with_ingress()
async def test_a_crowd_leaves_others_room_in_each_turn_of_the_loop(world: World) -> None:
    reads, code = LinkReads(world.store), await made(world)
    found: list[Link | None] = []

    async def ask() -> None:
        found.append(await reads.find(code))

    crowd = [asyncio.ensure_future(ask()) for _ in range(5 * ANSWERED_A_TURN)]
    turns: list[int] = []
    while len(found) < len(crowd):
        before = len(found)
        await asyncio.sleep(0)  # a turn of the loop, which is what is counted
        turns.append(len(found) - before)
    assert max(turns) == ANSWERED_A_TURN


@with_ingress()
async def test_a_read_that_fails_fails_for_those_who_share_it_and_no_other(world: World) -> None:
    reads, code = LinkReads(world.store), await made(world)
    world.redis.away = True
    failed = await asyncio.gather(*(reads.find(code) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in failed] == [RedisUnavailable] * 3
    world.redis.away = False
    assert target(await reads.find(code)) == OLD


@with_ingress()
async def test_a_request_that_is_over_takes_the_link_from_nobody(world: World) -> None:
    reads, code = LinkReads(world.store), await made(world)
    one, other = (asyncio.ensure_future(reads.find(code)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    assert target(await other) == OLD
    with pytest.raises(asyncio.CancelledError):
        await one
