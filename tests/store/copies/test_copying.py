"""`kaskad copy`: one Redis becomes another, to the byte, and a half-made copy serves nobody."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trio

from bench.redis_cluster import RedisCluster
from gateway.core import events as ev
from gateway.core.people.opt_outs import Origin
from gateway.core.records.webhook import Secret, Webhook, WebhookEvent
from gateway.core.webhooks import Webhooks
from gateway.redis.address import parse_address
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.trio_driver import open_client
from gateway.store import keys, shared_keys
from gateway.store.campaigns import cancelling
from gateway.store.copies import copying
from gateway.store.copies.copying import Unchanged
from gateway.store.copies.sides import CopyFault, Side, call
from gateway.store.copies.spreading import Spread
from gateway.store.events import outbox, sharing, webhook_queues, webhooks
from gateway.store.installation import api_keys, installation
from gateway.store.installation.audit import Deed
from gateway.store.installation.installation import Copied, StoreUnfitError
from gateway.store.messages import receipts as store_receipts
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs
from gateway.store.providers import pauses
from gateway.store.store import Store
from gateway.store.waiting import lanes
from providers.contract import Receipt
from tests.redis.test_cluster import cluster, three_masters
from tests.worlds.cascade_world import T0, policy, request
from tests.worlds.dispatch_world import dispatching, world

__all__ = ["cluster", "three_masters"]  # fixtures

SHARDS = 4
COPIED = shared_keys.COPIED.encode()


@pytest.fixture
def target_url(short_dir: Path) -> Iterator[str]:
    with EmbeddedRedis(short_dir, "everysec") as server:
        yield server.url


def nothing(_: int) -> None: ...


def whole_copy(source_url: str, target_url: str) -> dict[str, int]:
    with Side(parse_address(source_url)) as source, Side(parse_address(target_url)) as target:
        copying.begin(target)
        written = copying.copy(source, target, Unchanged(source), nothing)
        counts = copying.compare(source, target, Unchanged(source), written, nothing)
        copying.mark(source, Copied(target.label, SHARDS, T0))
        copying.finish(source, target, SHARDS)
    return counts


async def fill(url: str, count: int = 40) -> list[str]:
    """Messages in every state, people with aliases, and one of everything else."""
    async with open_client(url) as client:
        store = Store(client, policy(), shards=SHARDS)
        people: list[tuple[str, str | None, str]] = [
            (f"7916000{n:04}", f"u{n % 7}", f"c{n % 3}") for n in range(count)
        ]
        # One with more claims than a record has.
        people += [("79169999990", None, f"d{n}") for n in range(store.retention.claims_max + 1)]
        sends = [
            request(
                id=store.new_message_id(to, T0),
                to=to,
                user=user,
                campaign=campaign,
                idempotency_key=f"k{n}",
            )
            for n, (to, user, campaign) in enumerate(people)
        ]
        answers = await store.admit(sends, T0)
        ids = [a.id for a in answers if a.outcome == "accepted" and a.id is not None]
        await store.apply([Item(id_, ev.Claimed(0)) for id_ in ids[::2]], T0)
        await store.apply([Item(id_, ev.Accepted(0)) for id_ in ids[::2]], T0)
        delivered = [Receipt("delivered", ref=f"{id_}.0") for id_ in ids[::4]]
        await store_receipts.take_receipts(store, "viber", delivered, T0)
        stray = [Receipt("delivered", ref="stray", provider_id="stray")]
        await store_receipts.take_receipts(store, "viber", stray, T0)
        await store_receipts.note_provider_ids(store, "viber", [("their-id", f"{ids[0]}.0")])
        await opt_outs.put(client, store.shards, "79169999999", "all", Origin("shop", T0))
        await api_keys.create(client, "shop", ("send",), T0)
        await pauses.change(client, "sms", lambda _: pauses.Pause("no_credit", "", T0, T0))
        lapsing = shared_keys.campaigns_of("2026-10")
        await client.call([("SADD", lapsing, "old"), ("PEXPIRE", lapsing, 60_000)])
        return ids


def everything(url: str) -> dict[bytes, Any]:
    """Every key that is copied, with what it holds."""
    found: dict[bytes, Any] = {}
    with Side(parse_address(url)) as side:
        for client, names in side.pages():
            for name in (n for n in names if b"}t:" not in n and n != COPIED):
                kind = call(client, "TYPE", name)
                ask = {
                    b"string": ("GET", name),
                    b"hash": ("HGETALL", name),
                    b"set": ("SMEMBERS", name),
                    b"zset": ("ZRANGE", name, 0, -1, "WITHSCORES"),
                    b"stream": ("XRANGE", name, "-", "+"),
                }[kind]
                found[name] = call(client, *ask)
    return found


def test_a_copy_holds_the_same_and_goes_on_where_the_source_stopped(
    redis_url: str, target_url: str
) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    ids = trio.run(fill, redis_url)
    counts = whole_copy(redis_url, target_url)
    there, here = everything(target_url), everything(redis_url)
    assert there == here
    assert counts["messages"] == len(ids)
    assert {"people by phone", "people by user", "claims", "idempotency keys"} <= counts.keys()
    assert {"opt-outs", "ledger entries", "totals", "unmatched receipts"} <= counts.keys()
    assert not [f for f in installation.look(target_url, SHARDS, "EUR") if f.level == "error"]

    async def goes_on() -> None:
        async with world(target_url, shards=SHARDS) as w, dispatching(w):
            await w.until(ids[1::2], "sent", "planned")

    trio.run(goes_on)


def test_what_lapses_lapses_in_the_copy_too(redis_url: str, target_url: str) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    trio.run(fill, redis_url)
    whole_copy(redis_url, target_url)
    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:
        for client, names in source.pages():
            for name in names:
                if b"}t:" not in name and name != COPIED:
                    lapses = call(client, "PTTL", name) > 0
                    assert (call(target.of(name), "PTTL", name) > 0) == lapses


def test_an_interrupted_copy_serves_nobody_and_begins_anew(redis_url: str, target_url: str) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    trio.run(fill, redis_url)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:
        copying.begin(target)
        with pytest.raises(KeyboardInterrupt):
            copying.copy(source, target, Unchanged(source), interrupt)
        call(target.of("{k0}ledger"), "XADD", "{k0}ledger", "*", "d", "left over")
    with pytest.raises(StoreUnfitError, match="not finished"):
        installation.prepare(target_url, SHARDS, "EUR")
    whole_copy(redis_url, target_url)
    there, here = everything(target_url), everything(redis_url)
    assert there == here
    installation.prepare(target_url, SHARDS, "EUR")


def test_a_target_that_holds_something_is_refused(redis_url: str, target_url: str) -> None:
    with Side(parse_address(target_url)) as target:
        call(target.of("x"), "SET", "x", 1)
        with pytest.raises(CopyFault, match="not empty"):
            copying.begin(target)
        assert call(target.of("x"), "GET", "x") == b"1"


@pytest.mark.parametrize(
    "change",
    [
        ("XADD", "{k0}ledger", "*", "d", "more"),
        ("HSET", "{k0}o", "79160000000", "all"),
        ("ZADD", "{k0}timers", 1, "someone"),
        ("SADD", "{k0}days", "2026-01-01"),
        ("SET", "{k0}m:someone", "x"),
    ],
)
def test_what_was_written_meanwhile_is_found(
    redis_url: str, target_url: str, change: tuple[Any, ...]
) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    trio.run(fill, redis_url)
    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:
        copying.begin(target)
        written = copying.copy(source, target, Unchanged(source), nothing)
        with redis.Redis(unix_socket_path=redis_url.removeprefix("unix://")) as client:
            call(client, *change)
        with pytest.raises(CopyFault, match="is not the same in both"):
            copying.compare(source, target, Unchanged(source), written, nothing)


def test_nothing_starts_where_all_was_copied_away_until_that_is_taken_back(
    redis_url: str, target_url: str
) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    whole_copy(redis_url, target_url)
    with Side(parse_address(target_url)) as there:
        told = rf"copied to {there.label} at 2100-.*redis.shards = {SHARDS}.*--take-back"
        with pytest.raises(StoreUnfitError, match=told):
            installation.prepare(redis_url, SHARDS, "EUR")
        with pytest.raises(CopyFault, match="nothing to take back"):
            copying.take_back(there)
    with Side(parse_address(redis_url)) as source:
        copying.take_back(source)
    installation.prepare(redis_url, SHARDS, "EUR")
    installation.prepare(target_url, SHARDS, "EUR")


@pytest.mark.parametrize("entries", [0, 2, 3])
@pytest.mark.parametrize("after", [SHARDS, 2])
def test_a_stream_goes_on_behind_the_last_id_it_gave(
    redis_url: str, target_url: str, entries: int, after: int
) -> None:
    """Or a place in it that a client has would be passed over."""
    installation.prepare(redis_url, SHARDS, "EUR")
    names = [keys.keys_of(n).events("shop").encode() for n in range(SHARDS)]
    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:
        for name in names:
            for id_ in range(1, 4):
                call(source.of(name), "XADD", name, f"{id_}-7", "d", "x")
            gone = [f"{id_}-7" for id_ in range(entries + 1, 4)]
            if gone:
                call(source.of(name), "XDEL", name, *gone)
        copying.begin(target)

        def placing() -> copying.Placing:
            return (
                Unchanged(source) if after == SHARDS else Spread(source, SHARDS, after, T0, 60_000)
            )

        written = copying.copy(source, target, placing(), nothing)
        copying.compare(source, target, placing(), written, nothing)
        for name in names:
            assert (target.last_id(name), target.length(name, "stream")) == (b"3-7", entries)


def test_a_lane_that_nothing_went_through_yet_stops_no_copy(
    redis_url: str, target_url: str
) -> None:
    """A dispatcher makes each provider's lane of each category; no stream can begin at 0-0."""
    installation.prepare(redis_url, SHARDS, "EUR")
    shards = range(SHARDS)

    async def begin(url: str) -> None:
        async with open_client(url) as client:
            for shard in shards:
                await lanes.ensure_groups(client, shard, [("viber", "otp")])

    trio.run(begin, redis_url)
    assert whole_copy(redis_url, target_url) == {"lines": 1}, "that there are such"
    trio.run(begin, target_url)


def test_it_goes_from_one_redis_to_a_cluster(redis_url: str, cluster: RedisCluster) -> None:
    installation.prepare(redis_url, SHARDS, "EUR")
    trio.run(fill, redis_url)
    whole_copy(redis_url, cluster.url)
    assert everything(cluster.url) == everything(redis_url)
    assert all(node.client.dbsize() > 0 for node in cluster.nodes)


def test_the_shards_of_a_copy_look_again_for_what_is_to_be_cancelled(
    redis_url: str, target_url: str
) -> None:
    async def cancelling_of(url: str, shards: int, *, first: bool) -> int:
        async with open_client(url) as client:
            if first:
                await cancelling.finish(client, 0, ["autumn"])
            return (await cancelling.left(client, shards, ["autumn"]))["autumn"]

    assert trio.run(partial(cancelling_of, redis_url, SHARDS, first=True)) == SHARDS - 1
    whole_copy(redis_url, target_url)
    assert trio.run(partial(cancelling_of, target_url, SHARDS, first=False)) == SHARDS


def test_webhooks_go_along_with_their_secrets_and_with_what_waits(
    redis_url: str, target_url: str
) -> None:
    event = WebhookEvent("evt_1", "webhook.test", T0, data=b"{}")
    made = Webhook("w1", "https://a.example", ("message.sent",), (Secret("whsec_AAAA"),))

    async def declare() -> None:
        async with open_client(redis_url) as client:
            deed = Deed(T0, "test", "webhook.put")
            await webhooks.change(client, "shop", "hook", lambda _before, _count: made, deed)
            await outbox.give(client, [("w1", [event])])
            await client.call(outbox.commands(keys.keys_of(1).outbox, [event]))
            await sharing.announce(client, "d1", T0)

    async def found() -> tuple[object, int, int]:
        async with open_client(target_url) as client:
            known = webhooks.KnownWebhooks()
            await known.look(client)
            (state,) = await webhook_queues.states(client, ["w1"])

            async def looked() -> Webhooks:
                return known.now

            moved, _ = await outbox.move(client, keys.keys_of(1).outbox, looked)
            return known.now.every["shop", "hook"], state.waiting, moved

    trio.run(declare)
    whole_copy(redis_url, target_url)
    assert trio.run(found) == (made, 1, 1)
    assert shared_keys.SENDERS.encode() not in everything(target_url)
