"""Links as they are kept: there with their message, found by their code, at some bytes each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.links.link_codes import CODE_CHARS, code_of
from gateway.core.links.urls import LinkRules
from gateway.core.reactions.clickers import Visitor
from gateway.core.records.content import Content
from gateway.core.records.links import OwnLink
from gateway.core.records.message import Message
from gateway.core.records.request import MessageRequest
from gateway.dispatch.worker.claim import Entry, claim
from gateway.store import randomness
from gateway.store.installation import installation
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item, LaneEntry
from gateway.store.reactions import clicks, links, own_links
from gateway.store.reactions.clicks import Click
from gateway.store.reactions.links import ALIKE_MIN, Link
from gateway.store.store import Store
from tests.store.copies.test_copying import target_url
from tests.store.copies.test_spreading import spread
from tests.store.test_keys import scan
from tests.worlds.cascade_world import DAY, T0, policy, request
from tests.worlds.key_table import fault_of
from tests.worlds.stores import in_store

__all__ = ["target_url"]  # a fixture

SALE = "https://shop.example/sale"
RULES = replace(policy(), links=LinkRules("https://k.example", ttl_ms=90 * DAY))


def asked(store: Store, number: int, text: str = f"See {SALE}", **changes: Any) -> MessageRequest:
    fields: dict[str, Any] = {"content": Content(text), "tracked": True} | changes
    plain = request(to=f"7916{number:07}", **fields)
    return replace(plain, id=store.new_message_id(plain.home, T0))


async def accept(store: Store, *requests: MessageRequest) -> list[Message]:
    answers = await store.admit(requests, T0)
    assert [answer.outcome for answer in answers] == ["accepted"] * len(requests)
    found = [await reads.message(store, answer.id or "") for answer in answers]
    return [message for message in found if message is not None]


async def codes_of(store: Store, message: Message, step: int) -> list[str]:
    assert message.links is not None
    key = await store.links.key(store.redis)
    return [code_of(number, key) for number in message.links.numbers_of(step)]


async def found(store: Store, code: str) -> Link:
    link = await links.find(store.redis, store.links, store.shards, code)
    assert link is not None
    return link


def test_each_link_of_a_message_is_found_by_its_code(redis_url: str) -> None:
    async def work(store: Store) -> None:
        count = ALIKE_MIN + 300  # more than one range, in more than one shard
        messages = await accept(store, *(asked(store, number) for number in range(count)))
        other = Store(store.redis, RULES, shards=store.shards)
        seen = set()
        for message in messages:
            for step, channel in enumerate(("viber", "sms")):
                (code,) = await codes_of(store, message, step)
                seen.add(code)
                link = await found(other, code)
                assert (link.message, link.step, link.channel) == (message.id, step, channel)
                assert (link.target, link.campaign, link.app) == (SALE, "autumn", "shop")
        assert len(seen) == 2 * count
        faults = [fault_of(*each[:2], lapses=each[2]) for each in await scan(store.redis)]
        assert [fault for fault in faults if fault] == []

    in_store(redis_url, work, RULES, shards=2)


def test_a_message_may_have_more_links_than_a_place(redis_url: str) -> None:
    async def work(store: Store) -> None:
        text = " ".join(f"https://shop.example/{n}" for n in range(20))
        for number in range(ALIKE_MIN + 2):
            (message,) = await accept(store, asked(store, number, text))
            targets = [
                (await found(store, code)).target
                for step in range(2)
                for code in await codes_of(store, message, step)
            ]
            assert " ".join(targets[:20]) == " ".join(targets[20:]) == text

    in_store(redis_url, work, RULES)


def test_what_nobody_else_says_leads_where_its_own_message_says(redis_url: str) -> None:
    async def work(store: Store) -> None:
        texts = [f"Order {SALE}?order={number}" for number in range(40)]
        messages = await accept(store, *(asked(store, n, text) for n, text in enumerate(texts)))
        for number, message in enumerate(messages):
            (code,) = await codes_of(store, message, 1)
            link = await found(store, code)
            assert link.target == f"{SALE}?order={number}"
            assert link.message == message.id

    in_store(redis_url, work, RULES)


def test_a_code_of_no_link_is_none_and_one_that_lapsed_was_one(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (message,) = await accept(store, asked(store, 1))
        (code,) = await codes_of(store, message, 0)
        key = await store.links.key(store.redis)
        assert message.links is not None
        beyond = code_of(message.links.first + 16, key)  # of the next message, which there is not
        for wrong in (beyond, "AAAAAAAA", "slug", "x" * CODE_CHARS):
            assert await links.find(store.redis, store.links, 1, wrong) is None
        assert not await links.was_there(store.redis, store.links, "slug")
        names = [("DEL", name) for name, *_ in await scan(store.redis) if "}l:" in name]
        await store.redis.call(names)
        assert await links.find(store.redis, store.links, 1, code) is None
        assert await links.was_there(store.redis, store.links, code)

    in_store(redis_url, work, RULES)


def test_a_message_that_is_not_accepted_takes_nothing(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await accept(store, asked(store, 1))
        before = await ranges(store)
        (answer,) = await store.admit([asked(store, 1)], T0)
        assert answer.outcome == "duplicate"
        await store.dry_run(asked(store, 2), T0)
        assert await ranges(store) == before

    in_store(redis_url, work, RULES)


async def ranges(store: Store) -> list[object]:
    names = [name for name, *_ in await scan(store.redis) if "}l:" in name or "}li:" in name]
    return await store.redis.call([("DUMP", name) for name in names])


def test_what_is_sent_has_the_links_that_are_found(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (message,) = await accept(store, asked(store, 1))
        entry = Entry(
            message.id, LaneEntry(keys_of(0).lane("viber", "marketing"), b"0-1", 0), "marketing"
        )
        result = await claim(store, "viber", "Shop", [entry], T0, 0.0)
        (code,) = await codes_of(store, message, 0)
        (step,) = result.claimed
        assert step.submission.text == f"See https://k.example/{code}"
        link = await found(store, code)
        done = await store.apply([Item(message.id, ev.Reacted(link.step, "clicked", T0))], T0)
        assert done[0].effects.reaction

    in_store(redis_url, work, RULES)


def test_a_link_of_a_campaign_costs_some_bytes_a_message(redis_url: str) -> None:
    """What docs/links.md says, of five thousand messages of one shard."""

    async def work(store: Store) -> None:
        count = 5_120
        for begin in range(0, count, 256):
            await store.admit([asked(store, n) for n in range(begin, begin + 256)], T0)
        names = [name for name, *_ in await scan(store.redis) if "}l:" in name or "}li:" in name]
        # Of a text what it holds: how much room more it is given depends on Redis' version.
        asked_of = {True: ("STRLEN",), False: ("MEMORY", "USAGE")}
        sizes = await store.redis.call([(*asked_of["}li:" in name], name) for name in names])
        assert sum(size for size in sizes if isinstance(size, int)) / count < 18

    in_store(redis_url, work, RULES)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (2, 5)])
def test_links_and_their_clicks_go_along_with_a_copy(
    redis_url: str, target_url: str, before: int, after: int
) -> None:
    installation.prepare(redis_url, before, "EUR")
    led: dict[str, tuple[str, str | None]] = {}  # by code: where to, and whose message

    async def made(store: Store) -> None:
        for message in await accept(store, *(asked(store, number) for number in range(40))):
            for step in range(2):
                (code,) = await codes_of(store, message, step)
                led[code] = SALE, message.id
        for slug in ("autumn", "winter26"):
            own = OwnLink("shop", f"{SALE}?{slug}", T0)
            assert await own_links.make(store, own, slug) == slug
            led[slug] = own.url, None
        await follow_all(store)

    async def read(store: Store) -> None:
        assert await clicks_of(store) == [1] * len(led)
        await follow_all(store)
        assert await clicks_of(store) == [2] * len(led)
        for code, told in led.items():
            link = await found(store, code)
            assert (link.target, link.message) == told

    async def follow_all(store: Store) -> None:
        by_shard: dict[int, list[tuple[Click, str]]] = {}
        for code in led:
            click = Click(await found(store, code), T0, Visitor(None), "phone")
            by_shard.setdefault(clicks.shard_of_click(store, click), []).append((click, "person"))
        for part in by_shard.values():
            token = randomness.token()
            await clicks.count(store, part, token, T0)
            await clicks.count(store, part, token, T0)  # as when its answer was lost

    async def clicks_of(store: Store) -> list[int]:
        return [(await clicks.counts_of(store, await found(store, code))).clicks for code in led]

    in_store(redis_url, made, RULES, shards=before)
    spread(redis_url, target_url, before, after)
    in_store(target_url, read, RULES, shards=after)


def test_a_counter_that_redis_gives_twice_counts_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again(*_: object) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
        for _number in range(2):  # as while a hash is reordered
            yield [(b"1:phone:person", b"3")]

    async def work(store: Store) -> None:
        link = Link("sale", "shop", SALE, own=OwnLink("shop", SALE, T0))
        assert (await clicks.counts_of(store, link)).clicks == 3

    monkeypatch.setattr("gateway.store.scans.pages", again)
    in_store(redis_url, work)
