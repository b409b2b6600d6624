"""What is open under a key ends once the key opens nothing any more."""

from __future__ import annotations

import json

from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import REVOKED_WITHIN_S
from tests.worlds.ingress_world import OTP, Exchange, World, settings, with_ingress

LINE = json.dumps(OTP).encode() + b"\n"


async def opened(world: World, key: str) -> tuple[Exchange, Exchange]:
    """An event stream and a stream of messages, each of which has begun."""
    events = world.begin("GET", "/v1/events", key=key)
    await events.until(b"follow\n\n")
    kind = {"content-type": "application/x-ndjson"}
    stream = world.begin("POST", "/v1/messages", kind, key=key)
    stream.feed(LINE)
    assert (await stream.line())["outcome"] == "accepted"
    return events, stream


async def look(world: World) -> None:
    world.clock.now_ms += REVOKED_WITHIN_S * 1_000
    await world.app.keys.look()


async def revoke(world: World) -> None:
    for listed in await api_keys.listed(world.redis):
        await api_keys.revoke(world.redis, listed, world.clock(), "")


@with_ingress()
async def test_streams_of_a_key_that_was_revoked_end(world: World) -> None:
    key = await api_keys.create(world.redis, "shop", ("send", "read"), world.clock())
    events, stream = await opened(world, key)
    others = await opened(world, "shop-key")
    await look(world)
    stream.feed(LINE)
    assert (await stream.line())["outcome"] == "accepted"
    await revoke(world)
    await look(world)
    # Three messages were accepted before, of which it may have told, and it tells no more.
    assert (await events.answer()).body.count(b"event: ") <= 3
    (told,) = (await stream.answer()).lines
    assert (told["line"], told["outcome"], told["error"]["status"]) == (3, "error", 401)
    assert not events.connection.aborted
    assert not stream.connection.aborted
    # What another key opened goes on.
    others[1].feed(LINE, more=False)
    assert [r["outcome"] for r in (await others[1].answer()).lines] == ["accepted"]
    others[0].hang_up()
    await others[0].answer()


@with_ingress()
async def test_streams_of_a_key_that_expires_end(world: World) -> None:
    until = world.clock() + 60_000
    key = await api_keys.create(
        world.redis, "shop", ("send", "read"), world.clock(), expires_ms=until
    )
    events, stream = await opened(world, key)
    world.clock.now_ms = until + 1
    await world.app.keys.look()
    await events.answer()
    assert (await stream.answer()).lines[0]["error"]["status"] == 401


@with_ingress()
async def test_streams_of_a_key_that_left_the_configuration_end(world: World) -> None:
    events, stream = await opened(world, "shop-key")
    lost = settings(changed={'name = "shop"': 'name = "shop"\nscopes = ["send"]'})
    world.app.take_over(lost, world.store.policy)
    await world.app.keys.look()
    await events.answer()  # it needs the scope read
    stream.feed(LINE, more=False)
    assert [r["outcome"] for r in (await stream.answer()).lines] == ["accepted"]


@with_ingress()
async def test_while_redis_is_away_nothing_is_ended(world: World) -> None:
    key = await api_keys.create(world.redis, "shop", ("send", "read"), world.clock())
    events, stream = await opened(world, key)
    world.redis.away = True
    await look(world)
    world.redis.away = False
    stream.feed(LINE, more=False)
    assert [r["outcome"] for r in (await stream.answer()).lines] == ["accepted"]
    events.hang_up()
    await events.answer()
    assert world.app.keys._open == {}
