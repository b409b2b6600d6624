"""A copy with another number of shards: all is found as before, and what was under way ends."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import redis
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.redis_cluster import RedisCluster
from gateway.core import events as ev
from gateway.core.records.moved import is_moved
from gateway.dispatch.jobs import timers
from gateway.dispatch.worker.claim import Entry, claim, resolve
from gateway.dispatch.worker.submission import content_said
from gateway.redis.address import Address, parse_address
from gateway.redis.trio_driver import open_client
from gateway.store.copies import copying
from gateway.store.copies.sides import CopyFault, Side, StringValue, call
from gateway.store.copies.spreading import SPARE_MS, Spread
from gateway.store.installation import installation
from gateway.store.installation.installation import StoreUnfitError
from gateway.store.keys import keys_of, shard_of_identity
from gateway.store.messages import reads
from gateway.store.messages import receipts as store_receipts
from gateway.store.messages.apply import Item
from gateway.store.requests.contents import Contents
from gateway.store.store import Store
from gateway.store.waiting import lanes
from gateway.store.writes import Retention
from providers.contract import Receipt
from tests.redis.test_cluster import cluster, three_masters
from tests.store.copies.test_copying import everything, nothing, target_url
from tests.store.requests import test_contents as contents
from tests.worlds.cascade_world import DAY, HOUR, T0, policy
from tests.worlds.cascade_world import request as request_to
from tests.worlds.dispatch_world import DispatchWorld, world
from tests.worlds.filled_store import OPTED_OUT, POISON, RULES, Filled, fill, go_on, read_all
from tests.worlds.key_table import NAMES, TABLE

__all__ = ["cluster", "target_url", "three_masters"]  # fixtures

MESSAGE_MS = Retention().message_ms
LOOKS_MAX = 1_000_000
LATE = "9999999999999-0"  # an entry's id
LANE = "{k0}lane:viber:marketing"


def spread(source_url: str, target_url: str, before: int, after: int) -> dict[str, int]:
    """A whole copy."""
    source, target = (Side(parse_address(url)) for url in (source_url, target_url))
    return spread_between(source, target, before, after)


def spread_between(here: Side, there: Side, before: int, after: int) -> dict[str, int]:
    with here as source, there as target:
        copying.begin(target)
        first, second = (Spread(source, before, after, T0, MESSAGE_MS) for _ in range(2))
        written = copying.copy(source, target, first, nothing)
        counts = copying.compare(source, target, second, written, nothing)
        copying.finish(source, target, after)
    return counts


def filled(url: str, shards: int) -> Filled:
    installation.prepare(url, shards, "EUR")
    return trio.run(fill, url, shards)


def all_of(url: str, shards: int, what: Filled) -> dict[str, Any]:
    return trio.run(read_all, url, shards, what)


def emptied(url: str) -> str:
    with redis.Redis(unix_socket_path=url.removeprefix("unix://")) as client:
        client.flushall()
    return url


def test_all_is_read_as_before_after_any_number_of_copies_and_in_a_cluster(
    redis_url: str, target_url: str, cluster: RedisCluster
) -> None:
    what = filled(redis_url, 1)
    before = all_of(redis_url, 1, what)
    counts = spread(redis_url, target_url, 1, 4)
    assert counts["messages"] == len(what.ids) + 1  # one of them cannot be read
    assert all_of(target_url, 4, what) == before
    assert spread(target_url, emptied(redis_url), 4, 16) == counts
    assert all_of(redis_url, 16, what) == before
    assert spread(redis_url, emptied(target_url), 16, 3) == counts
    assert all_of(target_url, 3, what) == before
    assert spread(target_url, cluster.url, 3, 5) == counts
    assert all_of(cluster.url, 5, what) == before
    assert all(node.client.dbsize() > 0 for node in cluster.nodes)
    assert not [f for f in installation.look(cluster.url, 5, "EUR") if f.level == "error"]
    with pytest.raises(StoreUnfitError, match="--shards 16"):
        installation.prepare(cluster.url, 16, "EUR")


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(1, 24), min_size=2, max_size=5))
@example(numbers=[1, 4, 16, 3, 16])
def test_messages_accepted_between_copies_are_found_after_them(
    redis_url: str, target_url: str, numbers: list[int]
) -> None:
    here, there = emptied(redis_url), target_url
    what = filled(here, numbers[0])
    for turn, (before, after) in enumerate(pairwise(numbers)):
        trio.run(go_on, here, before, what, turn)
        read = all_of(here, before, what)
        spread(here, emptied(there), before, after)
        assert all_of(there, after, what) == read
        here, there = there, here


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 16), (16, 3)])
def test_what_was_under_way_ends_as_if_nothing_had_happened(
    redis_url: str, target_url: str, before: int, after: int
) -> None:
    what = filled(redis_url, before)
    spread(redis_url, target_url, before, after)

    async def main() -> None:
        async with world(target_url, shards=after, **RULES) as w:
            await what_is_given_out_is_known(w, what)
            await everything_ends(w, what)

    trio.run(main)


async def what_is_given_out_is_known(w: DispatchWorld, what: Filled) -> None:
    """Repetitions, duplicates, references and cancels by what callers and providers have."""
    store = w.store
    for request, answer in zip(what.requests, await store.admit(what.requests, T0), strict=True):
        assert (answer.id, answer.replayed) == (request.id, True)
    (first,) = await store.admit([what.opened], T0)
    (again,) = await store.admit([what.opened], T0)
    assert (first.outcome, again.id, again.replayed) == ("accepted", first.id, True)
    for request in what.requests:
        fresh = store.new_message_id(request.home, T0)
        asked = replace(request, id=fresh, idempotency_key=None)
        (answer,) = await store.admit([asked], T0)
        if request.id in what.by_state["cancelled"]:
            assert answer.outcome == "accepted"
        else:
            assert (answer.outcome, answer.id) == ("duplicate", request.id)
    to = OPTED_OUT[0]
    (answer,) = await store.admit([request_to(id=store.new_message_id(to, T0), to=to)], T0)
    assert answer.outcome == "suppressed"
    their = [Receipt("delivered", provider_id=what.their_ids[i]) for i in what.by_state["sent"]]
    taken = await store_receipts.take_receipts(store, "viber", their, T0)
    assert (taken.applied, taken.kept) == (len(their), 0)
    late = [Receipt("seen", ref=f"{id_}.0") for id_ in what.by_state["delivered"]]
    taken = await store_receipts.take_receipts(store, "viber", late, T0)
    assert (taken.applied, taken.kept) == (len(late), 0)
    (applied,) = await store.apply([Item(what.by_state["queued"][0], ev.Cancelled())], T0)
    assert applied.effects.changed


async def everything_ends(w: DispatchWorld, what: Filled) -> None:
    """Sent once each, and delivered; a dispatcher's work, done in turn."""
    deps = w.deps()
    sent: Counter[str] = Counter()
    lost: list[str] = []
    for _ in range(30):
        for shard in range(w.store.shards):
            for provider in ("viber", "sms"):
                sent.update(await send_all(w, shard, provider))
            while await timers.fire(deps, shard, lambda m: lost.append(m.id), {}):
                pass
        known = [Receipt("delivered", ref=f"{id_}.0") for id_ in lost]
        await store_receipts.take_receipts(w.store, "viber", known, w.clock())
        lost.clear()
        w.go_ahead(60_000)
    assert {await w.status(id_) for id_ in what.ids} == {"delivered", "seen", "cancelled"}
    assert await w.lane_entries("viber") == await w.lane_entries("sms") == 0
    assert max(sent.values()) == 1
    once = what.by_state["queued"][1:] + what.by_state["retrying"] + what.by_state["fallback"]
    mine = {ref.partition(".")[0] for ref in sent} & {*what.ids}
    assert mine == {*once}


async def send_all(w: DispatchWorld, shard: int, provider: str) -> list[str]:
    """Sends and delivers what waits in a lane; the references."""
    redis, lane = w.store.redis, keys_of(shard).lane(provider, "marketing")
    await lanes.ensure_groups(redis, shard, [(provider, "marketing")])
    waiting = (await lanes.read(redis, "test", [(lane, 500)])).get(lane, [])
    entries = [Entry(each.message_id, each.at, "marketing", shard) for each in waiting]
    made = await claim(w.store, provider, "Shop", entries, w.clock(), 0.0)
    assert not made.broken
    accepted = [step.became(ev.Accepted(step.index)) for step in made.claimed]
    await w.store.apply(accepted, w.clock())
    if made.busy:
        await resolve(w.store, provider, made.busy, w.clock(), dead=True)
    refs = [step.submission.ref for step in made.claimed]
    receipts = [Receipt("delivered", ref=ref) for ref in refs]
    await store_receipts.take_receipts(w.store, provider, receipts, w.clock())
    return refs


class _Dying(Side):
    """The copy is interrupted at so many looks for the master of a key."""

    def __init__(self, address: Address, left: int) -> None:
        super().__init__(address)
        self.left = left

    def of(self, key: bytes | str) -> redis.Redis:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().of(key)


def test_wherever_it_was_interrupted_it_begins_anew(redis_url: str, target_url: str) -> None:
    filled(redis_url, 4)

    def interrupted(point: int) -> int:
        """What is left of the looks of a copy that is interrupted at one of them."""
        target = _Dying(parse_address(target_url), point)
        spread_between(Side(parse_address(redis_url)), target, 4, 3)
        return target.left

    looks = LOOKS_MAX - interrupted(LOOKS_MAX)
    whole = everything(target_url)
    for fifth in range(1, 6):
        emptied(target_url)
        with pytest.raises(KeyboardInterrupt):
            interrupted(looks * fifth // 5)
        with pytest.raises(StoreUnfitError, match="not finished"):
            installation.prepare(target_url, 3, "EUR")
        spread(redis_url, target_url, 4, 3)
        assert everything(target_url) == whole
    installation.prepare(target_url, 3, "EUR")


RESTORED = ()  # as it was: a stream knows the last id that it gave, whatever is deleted
CHANGES: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [  # and what takes each back
    (("XADD", "{k0}ledger", LATE, "d", "more"), RESTORED),
    (("HSET", "{k0}o", "79160000000", "all"), ("HDEL", "{k0}o", "79160000000")),
    (("RENAME", "{k1}o", "{k1}t:o"), ("RENAME", "{k1}t:o", "{k1}o")),
    (("ZADD", "{k0}timers", 1, "someone"), ("ZREM", "{k0}timers", "someone")),
    (("XADD", LANE, LATE, "m", "someone"), RESTORED),
    (("SET", "{k0}u:somebody", "x"), ("DEL", "{k0}u:somebody")),
    (("SET", "{k0}m:" + POISON[1:] + "1", "x"), ("DEL", "{k0}m:" + POISON[1:] + "1")),
]


def test_what_was_written_meanwhile_is_found(redis_url: str, target_url: str) -> None:
    filled(redis_url, 4)
    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:

        def placing() -> Spread:
            return Spread(source, 4, 16, T0, MESSAGE_MS)

        copying.begin(target)
        written = copying.copy(source, target, placing(), nothing)
        for change, undo in CHANGES:
            before = call(source.of(""), "DUMP", change[1])
            call(source.of(""), *change)
            with pytest.raises(CopyFault, match="is not the same in both"):
                copying.compare(source, target, placing(), written, nothing)
            call(source.of(""), *(undo or ("RESTORE", change[1], 0, before, "REPLACE")))
        copying.compare(source, target, placing(), written, nothing)


def test_what_says_where_a_message_is_ends_with_it(redis_url: str, target_url: str) -> None:
    filled(redis_url, 1)
    spread(redis_url, target_url, 1, 4)
    found = everything(target_url)
    moved = [
        key
        for key, value in found.items()
        if b"}m:" in key and isinstance(value, bytes) and is_moved(value)
    ]
    assert moved
    with Side(parse_address(target_url)) as target:
        for key in moved:
            assert MESSAGE_MS - 60_000 < call(target.of(key), "PTTL", key) <= SPARE_MS * 9


def test_the_streams_of_shards_that_are_no_more_end_with_the_messages(
    redis_url: str, target_url: str
) -> None:
    filled(redis_url, 4)
    spread(redis_url, target_url, 4, 2)
    with Side(parse_address(target_url)) as target:
        ends = [call(target.of("x"), "PTTL", "{k%d}events:shop" % n) for n in range(4)]  # noqa: UP031
    assert ends[:2] == [-1, -1]
    assert all(0 < end <= MESSAGE_MS for end in ends[2:])
    # A shard that is there again tells on for ever.
    spread(target_url, emptied(redis_url), 2, 4)
    with Side(parse_address(redis_url)) as source:
        assert call(source.of("x"), "PTTL", "{k3}events:shop") == -1


LAPSING = ("{kN}t:<token>", "{kN}raw:<id>")  # which a copy does not look at


def test_every_key_of_the_table_has_a_place(redis_url: str) -> None:
    with Side(parse_address(redis_url)) as source:
        placing = Spread(source, 4, 3, T0, MESSAGE_MS)
        for row in TABLE:
            key = NAMES.sub("1", row.name.replace("{kN}", "{k3}")).encode()
            if row.name in LAPSING or not placing.takes(key):
                continue
            if row.kind == "string":
                assert placing.strings([StringValue(key, b"x", 0, key)])
            else:
                assert [part for part in placing.parts(key, row.kind) if part.page] == []


def test_a_key_of_somebody_else_is_named(redis_url: str, target_url: str) -> None:
    with Side(parse_address(redis_url)) as source, Side(parse_address(target_url)) as target:
        for command in (("SET", "{k0}z:1", 1), ("HSET", "{k0}zz", "1", "1")):
            call(source.of("x"), *command)
            copying.begin(target)
            with pytest.raises(CopyFault, match="no key of Kaskad"):
                copying.copy(source, target, Spread(source, 1, 4, T0, MESSAGE_MS), nothing)
            call(source.of("x"), "DEL", command[1])


@pytest.mark.parametrize(("before", "after"), [(4, 3), (2, 7), (3, 1)])
def test_what_campaigns_say_is_wherever_messages_of_them_go(
    redis_url: str, target_url: str, before: int, after: int
) -> None:
    installation.prepare(redis_url, before, "EUR")
    said: dict[str, str] = {}

    async def accepted() -> None:
        async with open_client(redis_url) as client:
            store = Store(client, policy(), shards=before)
            for turn, ttl_ms in enumerate((HOUR, 20 * DAY, DAY)):
                await contents.declare(store, content={"text": f"{turn} {{{{name}}}}"})
                for number in range(20):
                    who = 100 * turn + number
                    # Of some of them the copies of the shards stand for longer than of others.
                    ttl = ttl_ms if number else 25 * DAY
                    said[await contents.accept(store, who, ttl_ms=ttl)] = f"{turn} N{who}"

    async def read() -> None:
        async with open_client(target_url) as client:
            store = Store(client, policy(), shards=after)
            assert len(await contents.standing(store)) == 3 * after
            await store.look_at_campaigns(T0)
            for id_, text in said.items():
                found = await reads.message(store, id_)
                assert found is not None
                shard = shard_of_identity(found.holder, after)
                fresh = Contents()
                versions = await fresh.read_versions(client, shard, [found.content_of])
                assert content_said(found, versions).text == text
            await contents.accept(store, 999)

    trio.run(accepted)
    spread(redis_url, target_url, before, after)
    trio.run(read)
