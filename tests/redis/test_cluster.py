"""The client over a real cluster of three masters: each command goes to its node, once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.redis_cluster import RedisCluster
from bench.waiting import until
from gateway.redis import cluster as cluster_module
from gateway.redis import cluster_slots
from gateway.redis.address import Endpoint
from gateway.redis.asyncio_driver import run
from gateway.redis.client import (
    Command,
    CommandRefused,
    Limits,
    OutcomeUnknown,
    RedisClient,
    RedisReply,
    RedisUnavailable,
    Session,
)
from gateway.redis.cluster_slots import masters_of, slot_of
from gateway.redis.script import Script
from gateway.redis.server.checks import examine
from gateway.store import transaction
from gateway.store.installation import installation
from gateway.store.keys import keys_of
from gateway.store.transaction import CommitCounts, commit
from tests.worlds.loops import Loop

pytestmark = pytest.mark.redis
SHARDS = 16
COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
HERE = "{k1}"
QUICK = Limits(down_wait_s=0.2, reconnect_delay_max_s=0.2)


@pytest.fixture(scope="module")
def three_masters() -> Iterator[RedisCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        # With "everysec" what was answered may be unwritten still when a node is killed.
        RedisCluster(Path(folder) / "cluster", settings={"appendfsync": "always"}) as made,
    ):
        yield made


@pytest.fixture
def cluster(three_masters: RedisCluster) -> RedisCluster:
    three_masters.flush()
    return three_masters


def counting(shard: int) -> Command:
    return ("HINCRBY", keys_of(shard).tag + "counts", "n", 1)


async def counts(client: RedisClient) -> set[int]:
    replies = await client.call([("HGET", keys_of(s).tag + "counts", "n") for s in range(SHARDS)])
    return {int(reply) for reply in replies}


async def booked(client: RedisClient, counter: CommitCounts) -> None:
    """A transaction as the store makes them: reads, then writes what follows from that."""
    key, token = HERE + "sum", HERE + "t:1"

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        return [("SET", key, int(value or 0) + 1), ("HINCRBY", HERE + "h", "n", 1)], None

    await commit(client, token, attempt, counter)


def test_a_call_over_all_shards_is_answered_in_order_in_one_round_trip_a_node(
    loop: Loop, cluster: RedisCluster
) -> None:
    async def main() -> None:
        async with loop.open_client(cluster.url) as redis_client:
            keys = [keys_of(shard).tag + "a" for shard in range(SHARDS)]
            await redis_client.call([("SET", key, n) for n, key in enumerate(keys)])
            before = redis_client.statistics().round_trips
            assert await redis_client.call([("GET", key) for key in keys]) == [
                b"%d" % n for n in range(16)
            ]
            assert redis_client.statistics().round_trips == before + 3
            assert redis_client.statistics().connected
            assert await redis_client.call([]) == []

    loop.run(main)
    assert all(node.client.dbsize() > 0 for node in cluster.nodes)


def test_transactions_of_several_nodes_in_one_call_stay_whole(
    loop: Loop, cluster: RedisCluster
) -> None:
    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            call: list[Command] = []
            for shard in range(SHARDS):
                call += [("MULTI",), counting(shard), counting(shard), ("EXEC",)]
            assert await client.call(call) == [b"OK", b"QUEUED", b"QUEUED", [1, 2]] * SHARDS

    loop.run(main)


def test_a_refused_command_is_named_by_its_place_and_the_others_are_done(
    loop: Loop, cluster: RedisCluster
) -> None:
    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            await client.call([("SET", keys_of(7).tag + "counts", "x")])
            with pytest.raises(CommandRefused, match="Redis refused HINCRBY: WRONGTYPE") as caught:
                await client.call([counting(shard) for shard in range(SHARDS)])
            assert caught.value.index == 7
            others = caught.value.replies[:7] + caught.value.replies[8:]
            assert others == [1] * (SHARDS - 1)
            with pytest.raises(ValueError, match="larger than the client allows"):
                await client.call([counting(0)] * 20_001)

    loop.run(main)


def test_each_node_learns_a_script_and_runs_it_once(loop: Loop, cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.client.script_flush()

    async def main() -> None:
        async with loop.open_client(cluster.url) as redis_client:
            runs = [([keys_of(shard).tag + "n"], [1]) for shard in range(SHARDS)]
            assert await COUNT.call_many(redis_client, runs) == [1] * SHARDS
            assert await COUNT.call_many(redis_client, runs) == [2] * SHARDS

    loop.run(main)


def test_a_session_is_to_the_node_of_its_key(loop: Loop, cluster: RedisCluster) -> None:
    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            for shard in range(SHARDS):
                key = keys_of(shard).tag + "a"
                async with client.session(key) as loser:
                    await loser.call([("WATCH", key), ("GET", key)])
                    await client.call([("SET", key, 1)])
                    assert (await loser.call([("MULTI",), ("DEL", key), ("EXEC",)]))[-1] is None
            assert 3 <= client.statistics().sessions_idle <= SHARDS

    loop.run(main)


def test_a_slot_that_has_moved_is_followed_and_nothing_is_done_twice(
    loop: Loop, cluster: RedisCluster
) -> None:
    counter = CommitCounts()

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            await client.call([counting(shard) for shard in range(SHARDS)])
            await booked(client, counter)
            cluster.move(HERE, cluster.other_master(cluster.master_of(HERE)))
            await client.call([counting(shard) for shard in range(SHARDS)])
            assert await counts(client) == {2}
            cluster.move(HERE, cluster.other_master(cluster.master_of(HERE)))
            await booked(client, counter)
            assert await client.call([("GET", HERE + "sum")]) == [b"2"]
            await client.call([counting(shard) for shard in range(SHARDS)])
            assert await counts(client) == {3}

    loop.run(main)
    assert (counter.commits, counter.unknown) == (2, 0)


def place_of(client: cluster_module.ClusterClient, slot: int) -> Endpoint:
    node = client._map[slot]
    assert node is not None
    return node.place


def test_what_is_said_of_a_moved_slot_holds_for_a_while_against_a_map_that_is_older(
    loop: Loop, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_of(HERE + "sum")

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            assert isinstance(client, cluster_module.ClusterClient)
            await client.call([("SET", HERE + "sum", 1)])
            place = place_of(client, slot)
            old = masters_of(await client._connector.ask_node(place, ("CLUSTER", "SLOTS")), place)
            cluster.move(HERE, cluster.other_master(cluster.master_of(HERE)))
            assert await client.call([("GET", HERE + "sum")]) == [b"1"]
            now_at = place_of(client, slot)
            assert now_at != place
            client._take(old)
            assert place_of(client, slot) == now_at
            monkeypatch.setattr(cluster_module, "HINT_HOLDS_S", 0.0)
            client._take(old)
            assert place_of(client, slot) == place
            assert await client.call([("GET", HERE + "sum")]) == [b"1"], "it is told again"

    loop.run(main)


def test_a_key_is_found_where_it_is_while_its_slot_moves(loop: Loop, cluster: RedisCluster) -> None:
    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            await client.call([("SET", HERE + "old", 1)])
            target = cluster.other_master(cluster.master_of(HERE))
            with cluster.half_moved(HERE, target) as move_keys:
                call: list[Command] = [("GET", HERE + "old"), counting(1), counting(2)]
                assert await client.call(call) == [b"1", 1, 1]
                move_keys()
                assert await client.call(call) == [b"1", 2, 2]
                whole: list[Command] = [("MULTI",), counting(1), ("EXEC",)]
                assert await client.call(whole) == [b"OK", b"QUEUED", [3]]
            assert await client.call(call) == [b"1", 4, 3]

    loop.run(main)


def test_a_transaction_waits_until_its_slot_has_moved(loop: Loop, cluster: RedisCluster) -> None:
    counter = CommitCounts()

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            await client.call([("SET", HERE + "a", 1), ("SET", HERE + "b", 2)])
            target = cluster.other_master(cluster.master_of(HERE))
            moving = cluster.half_moved(HERE, target)
            move_keys = moving.__enter__()

            async def finish() -> None:
                # Both are refused once at least: the slot is half moved when they begin.
                before = client.statistics().commands
                while client.statistics().commands < before + 8:
                    await loop.turn()
                move_keys()
                moving.__exit__(None, None, None)

            works = (
                lambda: booked(client, counter),
                lambda: client.call([("MGET", HERE + "a", HERE + "b", HERE + "c")]),
                finish,
            )
            assert await loop.together(*works) == [None, [[b"1", b"2", None]], None]
            assert (
                await client.call([("GET", HERE + "sum"), ("HGET", HERE + "h", "n")]) == [b"1"] * 2
            )

    loop.run(main)
    assert (counter.commits, counter.unknown) == (1, 0)


def test_a_transaction_on_a_slot_that_stays_half_moved_is_given_up_and_nothing_is_applied(
    loop: Loop, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cluster_slots, transaction):
        monkeypatch.setattr(module, "MOVES_MAX", 3)

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            await client.call([("SET", HERE + "a", 1), ("SET", HERE + "b", 2)])
            with cluster.half_moved(HERE, cluster.other_master(cluster.master_of(HERE))):
                with pytest.raises(RedisUnavailable) as raised:
                    await booked(client, CommitCounts())
                assert type(raised.value) is not OutcomeUnknown
                with pytest.raises(RedisUnavailable) as raised:
                    await client.call([("MGET", HERE + "a", HERE + "c")])
                assert type(raised.value) is not OutcomeUnknown
                with pytest.raises(OutcomeUnknown):
                    await client.call([counting(2), ("MGET", HERE + "a", HERE + "c")])
            assert (
                await client.call([("GET", HERE + "sum"), ("HGET", HERE + "h", "n")]) == [None] * 2
            )

    loop.run(main)


class LosesAnAnswer:
    """The real client, but the first EXEC's answer is lost; then something happens."""

    def __init__(self, client: RedisClient, then: Callable[[], None]) -> None:
        self._redis = client
        self._then = then
        self.lost = 0
        self.wait_for_move = client.wait_for_move

    @asynccontextmanager
    async def session(self, key: str) -> AsyncIterator[Session]:
        async with self._redis.session(key) as inner:
            outer = self

            class Losing:
                async def call(self, commands: list[Command]) -> list[RedisReply]:
                    replies = await inner.call(commands)
                    if commands[-1] == ("EXEC",) and not outer.lost:
                        outer.lost += 1
                        outer._then()
                        raise OutcomeUnknown("The connection was lost.")
                    return replies

            yield Losing()  # type: ignore[misc]


def test_what_was_applied_unheard_is_found_by_its_token_where_the_slot_has_moved(
    loop: Loop, cluster: RedisCluster
) -> None:
    counter = CommitCounts()

    def move() -> None:
        cluster.move(HERE, cluster.other_master(cluster.master_of(HERE)))

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            losing: Any = LosesAnAnswer(client, move)
            await booked(losing, counter)
            assert (
                await client.call([("GET", HERE + "sum"), ("HGET", HERE + "h", "n")]) == [b"1"] * 2
            )

    loop.run(main)
    assert (counter.commits, counter.unknown) == (1, 1)


def test_what_was_applied_unheard_stays_unknown_while_its_slot_is_half_moved(
    loop: Loop, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "MOVES_MAX", 3)
    target = cluster.other_master(cluster.master_of(HERE))
    moving = cluster.half_moved(HERE, target)

    def move_all_keys() -> None:
        moving.__enter__()()

    async def main() -> None:
        async with loop.open_client(cluster.url) as client:
            losing: Any = LosesAnAnswer(client, move_all_keys)
            with pytest.raises(OutcomeUnknown):
                await booked(losing, CommitCounts())
            moving.__exit__(None, None, None)
            assert (
                await client.call([("GET", HERE + "sum"), ("HGET", HERE + "h", "n")]) == [b"1"] * 2
            )

    loop.run(main)


def test_a_slot_that_nobody_serves_is_told_and_the_others_are_served(
    loop: Loop, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_slots, "MOVES_MAX", 3)
    slot, node = slot_of(HERE), cluster.master_of(HERE)

    async def main() -> None:
        async with loop.open_client(cluster.url) as redis_client:
            node.client.cluster("DELSLOTS", slot)
            try:
                with pytest.raises(RedisUnavailable, match=r"CLUSTERDOWN|serves slot"):
                    await redis_client.call([counting(1)])
                assert await redis_client.call([counting(2)]) == [1]
            finally:
                node.client.cluster("ADDSLOTS", slot)
            monkeypatch.undo()
            assert await redis_client.call([counting(1)]) == [1]

    loop.run(main)
    cluster.await_well()


def test_a_cluster_that_is_away_is_told_without_a_password_and_found_when_it_comes(
    loop: Loop, cluster: RedisCluster
) -> None:
    async def main() -> None:
        url = "redis+cluster://u:hidden@127.0.0.1:1,127.0.0.1:2"
        async with loop.open_client(url, QUICK) as client:
            with pytest.raises(RedisUnavailable, match=r"The cluster at .* is away") as raised:
                await client.call([counting(1)])
            assert "hidden" not in str(raised.value)
            with pytest.raises(RedisUnavailable):
                async with client.session(HERE):
                    pass
            assert not client.statistics().connected
        seeds = cluster.url.replace("://", "://127.0.0.1:1,")
        async with loop.open_client(seeds) as client:
            assert await client.call([counting(1)]) == [1]
        with pytest.raises(RedisUnavailable, match="closed"):
            await client.call([counting(1)])

    loop.run(main)


def test_the_client_of_commands_finds_keys_wherever_their_slots_are(
    cluster: RedisCluster,
) -> None:
    keys = [keys_of(shard).tag + "a" for shard in range(SHARDS)]
    target = cluster.other_master(cluster.master_of(HERE))

    async def work(client: RedisClient) -> None:
        assert await client.call([("SET", key, 1) for key in keys]) == [b"OK"] * SHARDS
        with cluster.half_moved(HERE, target) as move_keys:
            move_keys()
            assert await client.call([("GET", key) for key in keys]) == [b"1"] * SHARDS
        assert await client.call([("SET", key, 2) for key in keys]) == [b"OK"] * SHARDS
        whole: list[Command] = [("MULTI",), ("GET", keys[1]), ("EXEC",), ("GET", keys[2])]
        assert await client.call(whole) == [b"OK", b"QUEUED", [b"2"], b"2"]
        with pytest.raises(CommandRefused, match="Redis refused HGET") as caught:
            await client.call([("GET", keys[0]), ("HGET", keys[1], "x"), ("GET", keys[2])])
        assert (caught.value.code, caught.value.index) == ("WRONGTYPE", 1)
        assert caught.value.replies[::2] == [b"2", b"2"]
        assert client.statistics().commands > 3 * SHARDS

    run(cluster.url, work)


def test_an_installation_agrees_with_its_record_on_a_cluster(cluster: RedisCluster) -> None:
    of_the_nodes = {"redis_fsync", "redis_memory_unlimited"}
    found = installation.prepare(cluster.url, SHARDS, "EUR")
    assert {f.code for f in found} <= of_the_nodes
    assert {
        f.code for f in installation.look(cluster.url, SHARDS, "EUR") if f.level == "error"
    } == set()
    with pytest.raises(installation.StoreUnfitError, match=r"set redis\.shards = 16"):
        installation.prepare(cluster.url, 1, "EUR")


def test_fewer_shards_than_masters_are_told_before_they_are_fixed(cluster: RedisCluster) -> None:
    assert "shards_few" not in {
        finding.code for finding in installation.look(cluster.url, 3, "EUR")
    }
    (finding,) = [f for f in installation.look(cluster.url, 2, "EUR") if f.code == "shards_few"]
    assert "3 masters and redis.shards is 2" in finding.sentence
    assert finding.level == "warning"


def test_every_master_is_examined_and_a_wrong_kind_of_url_is_told(
    cluster: RedisCluster,
) -> None:
    node = cluster.nodes[1]
    node.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (finding,) = [f for f in examine(cluster.url) if f.level == "error"]
        assert finding.code == "redis_eviction"
        assert f"127.0.0.1:{node.port} " in finding.sentence
    finally:
        node.client.config_set("maxmemory-policy", "noeviction")
    (finding,) = [f for f in examine(f"redis://127.0.0.1:{node.port}") if f.level == "error"]
    assert finding.code == "redis_cluster"
    assert f"redis+cluster://127.0.0.1:{node.port}" in finding.sentence
    (finding,) = examine("redis+cluster://:hidden@127.0.0.1:1")
    assert finding.code == "redis_unreachable"
    assert "hidden" not in finding.sentence


def test_a_dead_node_stops_its_shards_only_and_serves_again_when_it_is_back(
    loop: Loop, cluster: RedisCluster
) -> None:
    dead = cluster.master_of(HERE)

    async def main() -> None:
        async with loop.open_client(cluster.url, QUICK) as redis_client:
            before = await redis_client.call([counting(shard) for shard in range(SHARDS)])
            assert before == [1] * SHARDS
            dead.kill()
            with pytest.raises(OutcomeUnknown, match=r"away|lost"):
                await redis_client.call([counting(shard) for shard in range(SHARDS)])
            with pytest.raises(RedisUnavailable, match=r"away|lost|CLUSTERDOWN"):
                await redis_client.call([counting(1)])
            alive = [s for s in range(SHARDS) if cluster.master_of(keys_of(s).tag) is not dead]
            assert await redis_client.call([counting(shard) for shard in alive]) == [3] * len(alive)
            dead.revive()
            await loop.in_thread(cluster.await_well)
            await loop.in_thread(
                lambda: until("it is found", lambda: redis_client.statistics().connected)
            )
            assert await redis_client.call([counting(1)]) == [2]

    loop.run(main)
    with redis.Redis(port=dead.port) as client:
        assert client.hget(HERE + "counts", "n") == b"2"
