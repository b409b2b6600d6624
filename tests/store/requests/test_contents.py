"""What campaigns say, as it is kept: once a version and shard, as long as a message needs it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.campaigns.campaign_words import pack_words, unpack_words
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.money.budgets import NO_FUNDS
from gateway.core.records.content import NO_WORDS, Content
from gateway.core.records.request import MessageRequest
from gateway.dispatch.worker.claim import NO_CONTENT, Entry, claim
from gateway.dispatch.worker.submission import content_said
from gateway.ingress.api.messages.sayings import sayings_of
from gateway.redis.client import Command, Session
from gateway.store import shared_keys
from gateway.store.base import Once
from gateway.store.campaigns import declarations
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item, LaneEntry
from gateway.store.requests.admit import Admission
from gateway.store.requests.asks import ask_of
from gateway.store.requests.contents import SPARE_MS, TIMES, Cache, Contents
from gateway.store.store import Store
from gateway.store.transaction import commit
from tests.store.test_keys import scan
from tests.worlds.cascade_world import DAY, HOUR, T0, policy, request
from tests.worlds.key_table import fault_of
from tests.worlds.stores import in_store

NAME = "autumn"


def another(store: Store) -> Store:
    """Another process on the same Redis."""
    return Store(store.redis, policy(), shards=store.shards)


async def declare(store: Store, name: str = NAME, **said: Any) -> None:
    packed = pack_words(unpack_words(msgspec.json.encode(said)))

    def decide(before: Campaign | None, _: bytes) -> tuple[Campaign, bytes]:
        return replace(before or Campaign(), updated_ms=T0), packed

    deed = Deed(T0, "a test", "campaign.put", name)
    await declarations.change(store.redis, store.shards, name, decide, lambda _: deed)
    await store.look_at_campaigns(T0)


async def asked(store: Store, number: int, now_ms: int = T0, **changes: Any) -> MessageRequest:
    """A request of a person by number."""
    fields: dict[str, Any] = {"campaign": NAME, "content": NO_WORDS} | changes
    plain = request(to=f"7916{number:07}", **fields)
    plain = replace(plain, id=store.new_message_id(plain.home, now_ms))
    return await with_sayings(store, plain, {"name": f"N{number}"})


async def with_sayings(
    store: Store, plain: MessageRequest, given: dict[str, str]
) -> MessageRequest:
    """The request as ingress makes it, with what its campaign says."""
    campaign = store.policy.declared.of(plain.campaign)
    if campaign is None or not campaign.words:
        return plain
    drafts = store.contents.drafts(campaign.words)
    if drafts is None:
        assert await store.read_words(plain.campaign or "", campaign.words)
        drafts = store.contents.drafts(campaign.words)
    assert drafts is not None
    sayings, _, faults = sayings_of(plain.content, given, drafts, store.policy.app("shop"))
    assert not faults
    return replace(plain, sayings=sayings)


async def accept(store: Store, number: int, now_ms: int = T0, **changes: Any) -> str:
    wanted = await asked(store, number, now_ms, **changes)
    (answer,) = await store.admit([wanted], now_ms)
    assert answer.outcome == "accepted", answer
    return wanted.id


async def text_sent(store: Store, id_: str, now_ms: int = T0) -> str:
    """The text that its provider is sent, once its first step is claimed."""
    shard = store.shard_of_message(id_)
    at = LaneEntry(keys_of(shard).lane("viber", "marketing"), b"0-1", shard)
    entry = Entry(id_, at, "marketing", shard)
    result = await claim(store, "viber", "Shop", [entry], now_ms, 0.0)
    assert not result.broken
    return result.claimed[0].submission.text


async def standing(store: Store) -> dict[str, int]:
    """The keys of versions, and how long they stand."""
    (names,) = await store.redis.call([("KEYS", "{k*}said:*")])
    assert isinstance(names, list)
    lives = await store.redis.call([("PTTL", name) for name in names])
    return {n.decode(): ms for n, ms in zip(names, lives, strict=True) if isinstance(ms, int)}


def test_a_version_is_put_into_a_shard_once(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store, content={"text": "Hello {{name}}" + "!" * 900})
        costs = []
        for number in range(3):
            before = store.redis.statistics()
            id_ = await accept(store, number, ttl_ms=HOUR)
            after = store.redis.statistics()
            costs.append(after.bytes_sent - before.bytes_sent)
            assert await text_sent(store, id_) == f"Hello N{number}" + "!" * 900
        assert costs[1] < costs[0] - 900
        assert costs[2] == costs[1], "nothing of it goes along again"
        assert len(await standing(store)) == 1

    in_store(redis_url, work)


def test_a_version_stands_longer_than_the_last_message_that_may_need_it(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store, content={"text": "{{name}}"})

        async def until_ms() -> int:
            ((key, _),) = (await standing(store)).items()
            (value,) = await store.redis.call([("GETRANGE", key, 0, 7)])
            assert isinstance(value, bytes)
            return int.from_bytes(value)

        await accept(store, 1, ttl_ms=HOUR)
        short_ms = await until_ms()
        await accept(store, 2, ttl_ms=30 * DAY)
        long_ms = await until_ms()
        await accept(store, 3, ttl_ms=HOUR)
        assert await until_ms() == long_ms, "never shorter"
        for ttl_ms, until in ((HOUR, short_ms), (30 * DAY, long_ms)):
            assert T0 + ttl_ms + SPARE_MS < until < T0 + ttl_ms + SPARE_MS + 3 * DAY

    in_store(redis_url, work)


def test_of_two_processes_the_one_that_needs_it_for_longer_wins(redis_url: str) -> None:
    """Both find that there is none; whoever comes second has to look again."""

    async def work(store: Store) -> None:
        await declare(store, content={"text": "{{name}}"})
        other = another(store)
        await other.look_at_campaigns(T0)
        wanted = await asked(store, 1, ttl_ms=HOUR)
        once = Once(keys_of(0).token("mine"), NO_FUNDS)
        tried = 0

        async def attempt(session: Session) -> tuple[list[Command], list[Any]]:
            nonlocal tried
            tried += 1
            mine = Admission(store, keys_of(0), [ask_of(wanted)], T0, once)
            commands, answers = await mine.attempt(session)
            if tried == 1:
                await accept(other, 2, ttl_ms=30 * DAY)
            return commands, answers

        await commit(store.redis, once.token, attempt, store.counts)
        assert tried == 2
        (key,) = await standing(store)
        (value,) = await store.redis.call([("GETRANGE", key, 0, 7)])
        assert isinstance(value, bytes)
        assert int.from_bytes(value) > T0 + 30 * DAY

    in_store(redis_url, work)


def test_content_that_changes_a_thousand_times_leaves_nothing_for_good(redis_url: str) -> None:
    """What was said then goes by itself, and messages that wait have theirs."""

    async def work(store: Store) -> None:
        for change in range(1_000):
            await declare(store, content={"text": f"{change} {{{{name}}}}"})
            await accept(store, change, ttl_ms=HOUR)
        lives = (await standing(store)).values()
        assert len(lives) == 1_000
        assert all(0 < ms < HOUR + SPARE_MS + 3 * DAY for ms in lives)
        (said,) = await store.redis.call([("HLEN", shared_keys.CAMPAIGN_WORDS)])
        assert said == 1
        id_ = await accept(store, 1_000)
        await declare(store)
        assert all(ms > 0 for ms in (await standing(store)).values())
        found = await reads.message(store, id_)
        assert found is not None
        fresh = another(store)
        versions = await fresh.contents.read_versions(store.redis, 0, [found.content_of])
        assert content_said(found, versions).text == "999 N1000"

    in_store(redis_url, work)


def test_a_version_is_read_once_by_whoever_sends(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store, content={"text": "Hello {{name}}"})
        ids = [await accept(store, number) for number in range(4)]
        sender = another(store)
        trips = []
        for number, id_ in enumerate(ids):
            before = store.redis.statistics().round_trips
            assert await text_sent(sender, id_) == f"Hello N{number}"
            trips.append(store.redis.statistics().round_trips - before)
        assert trips[1:] == [trips[1]] * 3
        assert trips[0] > trips[1]

    in_store(redis_url, work)


def test_a_batch_of_more_versions_than_the_cache_holds_is_sent(redis_url: str) -> None:
    async def work(store: Store) -> None:
        entries = []
        for number in range(3):
            name = f"{NAME} {number}"
            await declare(store, name, content={"text": f"{number} {{{{name}}}}"})
            id_ = await accept(store, number, campaign=name)
            at = LaneEntry(keys_of(0).lane("viber", "marketing"), b"0-%d" % (number + 1), 0)
            entries.append(Entry(id_, at, "marketing"))
        sender = another(store)
        sender.contents = Contents(bytes_max=1)
        result = await claim(sender, "viber", "Shop", entries, T0, 0.0)
        assert not result.broken
        texts = [step.submission.text for step in result.claimed]
        assert texts == ["0 N0", "1 N1", "2 N2"]

    in_store(redis_url, work)


def test_a_message_whose_version_is_lost_is_refused_and_not_sent_empty(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store, content={"text": "Hello {{name}}"})
        id_ = await accept(store, 1)
        await store.redis.call([("DEL", *(await standing(store)))])
        at = LaneEntry(keys_of(0).lane("viber", "marketing"), b"0-1", 0)
        entry = Entry(id_, at, "marketing")
        result = await claim(another(store), "viber", "Shop", [entry], T0, 0.0)
        assert not result.claimed
        (item,) = result.broken
        assert item.event == ev.StepRefused(0, NO_CONTENT)

    in_store(redis_url, work)


def test_what_a_message_said_goes_when_no_step_can_need_it(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store, content={"text": "Hello {{name}}"})
        ids = [await accept(store, number) for number in range(3)]
        await store.apply(
            [Item(ids[0], ev.Cancelled()), Item(ids[1], ev.Cancelled(erase=True))], T0
        )
        for id_ in ids[:2]:
            found = await reads.message(store, id_)
            assert found is not None
            assert (found.content_of, found.vars, found.content) == (b"", None, b"")
        kept = await reads.message(store, ids[2])
        assert kept is not None
        assert kept.content_of
        (record,) = await store.redis.call([("GET", keys_of(0).message(ids[0]))])
        assert isinstance(record, bytes)
        assert b"N0" not in record

    in_store(redis_url, work)


def test_a_cache_keeps_what_was_used_last_within_its_bytes() -> None:
    cache: Cache[str] = Cache(100)
    for name in (b"a", b"b"):
        cache.put(name, name.decode(), 40)
    assert cache.get(b"a") == "a"
    cache.put(b"c", "c", 40)
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == ["a", None, "c"]
    cache.put(b"c", "c", 60)
    assert cache.bytes == 100
    cache.put(b"d", "d", 1_000)
    assert [cache.get(name) for name in (b"a", b"c", b"d")] == [None, None, "d"]


def test_a_process_keeps_no_more_of_contents_than_it_may(redis_url: str) -> None:
    async def work(store: Store) -> None:
        store.contents = Contents(20_000 * TIMES)
        html = "x" * 9_000
        for number in range(5):
            name = f"c{number}"
            body = {"text": "{{name}}", "email": {"subject": name, "html": html + name}}
            await declare(store, name, content=body)
            await accept(store, number, campaign=name)
        words = [c.words for c in store.policy.declared.campaigns.values()]
        assert sum(store.contents.drafts(each) is not None for each in words) == 1

    in_store(redis_url, work)


def test_messages_say_what_held_when_they_were_accepted_whatever_changes(redis_url: str) -> None:
    """Contents change, processes come and go, messages wait and are sent, cancelled or expire."""
    draw = random.Random(20261128)

    async def work(store: Store) -> None:
        said: dict[str, tuple[str, ...]] = {}  # by campaign; the first of it, then its variants
        waiting: dict[str, str] = {}  # what each is to say
        for turn in range(400):
            name = draw.choice(("autumn", "winter", "spring"))
            what = draw.random()
            if name not in said or what < 0.15:
                said[name] = tuple(f"{turn}.{n} {{{{name}}}}" for n in range(draw.randint(1, 3)))
                first, *others = ({"text": text} for text in said[name])
                variants = [
                    {"name": f"v{n}", "percent": 30, "content": body}
                    for n, body in enumerate(others, 1)
                ]
                await declare(store, name, content=first, variants=variants)
            elif what < 0.6:
                own = draw.random() < 0.1
                content = Content("mine {{name}}") if own else NO_WORDS
                id_ = await accept(store, turn, campaign=name, content=content)
                found = await reads.message(store, id_)
                assert found is not None
                text = said[name][int(found.variant[1:] or 0) if found.variant else 0]
                waiting[id_] = "mine {{name}}" if own else text.replace("{{name}}", f"N{turn}")
            elif what < 0.9 and waiting:
                id_ = draw.choice(list(waiting))
                assert await text_sent(store, id_) == waiting.pop(id_), turn
            elif what < 0.93 and waiting:
                await store.apply([Item(waiting.popitem()[0], ev.Cancelled())], T0)
            elif what < 0.97:
                store = another(store)
                await store.look_at_campaigns(T0)
        for id_, text in waiting.items():
            assert await text_sent(store, id_) == text
        assert all(ms > 0 for ms in (await standing(store)).values())
        stands = await scan(store.redis)
        faults = [fault_of(name, kind, lapses=lapses) for name, kind, lapses in stands]
        assert [fault for fault in faults if fault is not None] == []

    in_store(redis_url, work, shards=3)
