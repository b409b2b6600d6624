"""A Redis that is nearly full: what is refused, in which form, and what goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from gateway.ingress.intake import server_watch
from gateway.redis.client import RedisClient
from gateway.store.installation.servers import ServerState, server_states
from tests.ingress.callbacks.test_callbacks import BASIC, report
from tests.worlds.ingress_world import OTP, SALE, World, with_ingress


class Servers:
    """Stands for the servers: how full each is, by the first shard it serves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **percents: int) -> None:
        self.percents = {int(name.removeprefix("shard")): p for name, p in percents.items()}
        self.asked: list[list[int]] = []
        monkeypatch.setattr(server_watch, "server_states", self.states)

    async def states(self, _redis: RedisClient, shards: Iterable[int]) -> dict[int, ServerState]:
        self.asked.append(list(shards))
        return {
            shard: ServerState(f"run-{n}", self.percents[n] * 2**20, 100 * 2**20, 1.25, 7)
            for shard in self.asked[-1]
            for n in [shard % len(self.percents)]
        }


@with_ingress()
async def test_at_80_percent_new_marketing_is_refused_with_numbers_and_the_rest_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Servers(monkeypatch, shard0=85)
    await world.app.servers.sample()
    refused = await world.send(SALE)
    assert (refused.status, refused.headers["retry-after"]) == (503, "30")
    assert refused.json["type"] == "/docs#memory"
    assert refused.json["detail"] == (
        "The store uses 85% of its memory (0.08 of 0.10 GiB) and takes no new marketing. "
        "Send it again later."
    )
    assert (await world.send(OTP)).status == 202


@with_ingress()
async def test_at_90_percent_nothing_new_is_taken_and_what_was_accepted_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = (await world.send(OTP)).json["id"]
    Servers(monkeypatch, shard0=90)
    await world.app.servers.sample()
    assert (await world.send(OTP)).status == 503
    await world.hand_over(id_)
    answer = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert answer.json == {"applied": 1, "parked": 0, "faults": 0}
    assert (await world.call("GET", f"/v1/messages/{id_}")).json["status"] == "delivered"
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    assert 'kaskad_ingress_refused_total{problem="memory",process="ingress-test-1"} 1.0' in text


@with_ingress()
async def test_an_array_is_refused_as_a_whole_before_anything_of_it_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Servers(monkeypatch, shard0=80)
    await world.app.servers.sample()
    answer = await world.send([OTP, SALE])
    assert (answer.status, answer.json["type"]) == (503, "/docs#memory")
    total = (await world.call("GET", "/v1/reports/cost")).json["total"]
    assert total["accepted"] == 0
    assert (await world.send([OTP, {"to": "nobody"}])).status == 200


@with_ingress()
async def test_a_stream_waits_until_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(monkeypatch, shard0=95)
    await world.app.servers.sample()
    stream = world.stream()
    stream.feed(json.dumps(SALE).encode() + b"\n", more=False)
    await stream.has_received(1)
    servers.percents[0] = 50
    await world.app.servers.sample()
    assert (await stream.answer()).lines[0]["outcome"] == "accepted"


@with_ingress(shards=4)
async def test_a_message_is_judged_by_the_server_that_would_keep_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(monkeypatch, shard0=95, shard1=10)
    await world.app.servers.sample()  # another server answers for a shard
    await world.app.servers.sample()  # so all shards are asked
    for n in range(12):
        to = f"+7916123456{n % 10}"
        full = world.store.shard_of_home(to[1:]) % 2 == 0
        assert (await world.send(OTP | {"to": to})).status == (503 if full else 202)
    await world.app.servers.sample()
    assert [0, 1, 2, 3] in servers.asked
    assert servers.asked[-1] == [0, 1], "between, each server is asked once"


@with_ingress()
async def test_a_real_server_says_how_full_it_is_in_readyz_and_metrics(world: World) -> None:
    await world.app.servers.sample()
    (server,) = (await world.call("GET", "/readyz", key="")).json["redis_servers"]
    assert server["used_bytes"] > 100_000
    assert server["used_percent"] == server["used_bytes"] * 100 // server["limit_bytes"]
    assert server["fragmentation"] > 0
    assert server["aof_bytes"] >= 0
    assert (server["shard"], server["disk_free_bytes"], server["refuses"]) == (0, None, None)
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    for name in ("memory_bytes", "memory_limit_bytes", "memory_fragmentation", "aof_bytes"):
        assert f'kaskad_redis_{name}{{shard="0"}}' in text, "of Redis, so of no process"


@with_ingress(shards=3)
async def test_every_shard_tells_of_its_server(world: World) -> None:
    states = await server_states(world.redis, range(3))
    assert len({state.run_id for state in states.values()}) == 1
    assert list(states) == [0, 1, 2]
