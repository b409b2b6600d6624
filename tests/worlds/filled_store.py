"""A store with one of everything, and all that can be read of it: for copies of a whole Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.money.days import day_of
from gateway.core.people.opt_outs import Origin
from gateway.core.policy import Policy
from gateway.core.records.entries import unmatched_codec
from gateway.core.records.message_codec import pack_message
from gateway.core.records.person import Person
from gateway.core.records.request import Answer
from gateway.core.records.user import StoredUser
from gateway.finance.reports.verify import compare_books
from gateway.redis.client import RedisClient
from gateway.redis.trio_driver import open_client
from gateway.store import quarantine
from gateway.store.former_shards import shards_ever
from gateway.store.installation import api_keys
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages import reads
from gateway.store.messages import receipts as store_receipts
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import told_id
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import pages_of_totals
from gateway.store.people import address_owners, opt_outs, persons, users
from gateway.store.people.identities import find_home
from gateway.store.people.people import read_others, read_records
from gateway.store.providers import pauses
from gateway.store.requests.idempotency import open_key
from gateway.store.shared_keys import campaigns_of
from gateway.store.store import Store
from providers.contract import Fault, Receipt
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, T0, policy, request

COUNT = 48
PHONES = [f"7916000{n:04}" for n in range(COUNT)]
USERS = [f"u{n}" for n in range(9)]
MAILS = [f"somebody{n}@example.com" for n in range(12)]
CAMPAIGNS = ["c0", "c1:with:colons", "c2}"]
OPTED_OUT = [f"7916999{n:04}" for n in range(20)]
POISON = "0" * 20
RULES: dict[str, Any] = {"caps": (Cap("week", 40, 7 * DAY, "7d", "marketing", None),)}


class Filled(msgspec.Struct):
    """Ids of messages by what they are at, and what was given out with them."""

    by_state: dict[str, list[str]]
    requests: list[Any]  # of each accepted one, with its idempotency key
    opened: Any  # a request whose key is held, and whose message was not made
    their_ids: dict[str, str]  # a provider's id, by message
    position: list[str]  # in the event streams, half way

    @property
    def ids(self) -> list[str]:
        return [id_ for ids in self.by_state.values() for id_ in ids]


def _stored(n: int) -> users.UserChange:
    addresses = Addresses(f"7918000{n:04}", f"stored{n}@example.com" if n % 2 else None)
    kept = StoredUser("shop", T0, addresses, "Europe/Moscow")
    return users.UserChange(f"stored{n}", "", addresses, lambda _: kept)


def rules() -> Policy:
    return policy(**RULES)


async def fill(url: str, shards: int) -> Filled:
    """Messages in every state, people with aliases in any shards, and one of everything else."""
    async with open_client(url) as client:
        store = Store(client, rules(), shards=shards)
        half = await _accept(store, range(COUNT // 2))
        position = await reads.last_event_entry(client, "shop", range(shards))
        requests = half + await _accept(store, range(COUNT // 2, COUNT))
        by_state, their_ids = await _advance(store, [r.id for r in requests])
        opened = request(
            id=store.new_message_id(PHONES[0], T0), to=PHONES[0], campaign="o", idempotency_key="o"
        )
        assert await open_key(store, opened) == opened
        stray = [Receipt("delivered", ref=f"stray{n}", provider_id=f"s{n}") for n in range(9)]
        await store_receipts.take_receipts(store, "viber", stray, T0)
        for n, phone in enumerate(OPTED_OUT):
            origin = Origin("shop", T0, "why")
            await opt_outs.put(client, shards, phone, "marketing" if n % 2 else "all", origin)
        await opt_outs.make_nameless(client, shards, OPTED_OUT[::3])
        await users.change(store, [_stored(n) for n in range(9)], T0)
        await api_keys.create(client, "shop", ("send",), T0)
        pause = pauses.Pause("no_credit", "", T0, T0)
        await pauses.change(client, "off", lambda _: pause)
        lapsing = campaigns_of("2026-10")
        await client.call([("SADD", lapsing, "old"), ("PEXPIRE", lapsing, 60_000)])
        await client.call([("SET", keys_of(0).message(POISON), b"\x03damaged")])
        await quarantine.set_aside(client, shards - 1, {"what": b"raw"}, "why", T0)
        return Filled(by_state, requests, opened, their_ids, position)


async def go_on(url: str, shards: int, filled: Filled, turn: int) -> None:
    """More messages, to people who are new and by users who are not; half of them are sent."""
    async with open_client(url) as client:
        store = Store(client, rules(), shards=shards)
        sends = [
            request(
                id=store.new_message_id(to, T0),
                to=to,
                user=USERS[n % len(USERS)],
                campaign=f"turn {turn} {n}",
            )
            for n, to in enumerate(f"7917{turn:03}{n:04}" for n in range(12))
        ]
        requests = _accepted(sends, await store.admit(sends, T0))
        sent = [r.id for r in requests[::2]]
        await store.apply([Item(id_, ev.Claimed(0)) for id_ in sent], T0)
        await store.apply([Item(id_, ev.Accepted(0)) for id_ in sent], T0)
        filled.requests += requests
        filled.by_state[f"turn {turn}"] = [r.id for r in requests]


async def _accept(store: Store, numbers: range) -> list[Any]:
    """Requests that were accepted: every fourth names a mail address too, and most a user."""
    sends = []
    for n in numbers:
        mail = MAILS[n // 4] if n % 4 == 0 else None
        sends.append(
            request(
                id=store.new_message_id(PHONES[n], T0),
                addresses=Addresses(PHONES[n], mail),
                user=USERS[n % len(USERS)] if n % 5 else None,
                campaign=f"{CAMPAIGNS[n % 3]}{n}",
                idempotency_key=f"k{n}",
            )
        )
    return _accepted(sends, await store.admit(sends, T0))


def _accepted(sends: list[Any], answers: list[Answer]) -> list[Any]:
    """The requests with the ids of their messages."""
    assert {a.outcome for a in answers} == {"accepted"}, answers
    return [
        msgspec.structs.replace(s, id=a.id) for s, a in zip(sends, answers, strict=True) if a.id
    ]


async def _advance(store: Store, ids: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    states = ("queued", "sending", "sent", "retrying", "lost", "delivered", "cancelled", "fallback")
    by_state = {state: ids[n :: len(states)] for n, state in enumerate(states)}
    claimed = [id_ for id_ in ids if id_ not in by_state["queued"] + by_state["cancelled"]]
    await store.apply([Item(id_, ev.Claimed(0)) for id_ in claimed], T0)
    sent = by_state["sent"] + by_state["delivered"]
    their_ids = {id_: f"their-{n}" for n, id_ in enumerate(sent)}
    pairs = [(their, f"{id_}.0") for id_, their in their_ids.items()]
    await store_receipts.note_provider_ids(store, "viber", pairs)
    later = Fault("20", "LATER", False)
    never = Fault("7", "NEVER", True)
    events: Mapping[str, ev.Event] = {
        "sent": ev.Accepted(0),
        "retrying": ev.StepRefused(0, later),
        "lost": ev.LostAnswer(0),
        "delivered": ev.Accepted(0),
        "cancelled": ev.Cancelled(),
        "fallback": ev.StepRefused(0, never),
    }
    await store.apply([Item(i, event) for s, event in events.items() for i in by_state[s]], T0)
    receipts = [Receipt("delivered", ref=f"{id_}.0") for id_ in by_state["delivered"]]
    await store_receipts.take_receipts(store, "viber", receipts, T0)
    return by_state, their_ids


async def read_all(url: str, shards: int, filled: Filled) -> dict[str, Any]:
    """All that can be read of it, whatever the number of shards."""
    async with open_client(url) as client:
        store = Store(client, rules(), shards=shards)
        every = await shards_ever(client, shards)
        return {
            "messages": {id_: await _message(store, id_) for id_ in filled.ids},
            "people": await _people(store, filled),
            "users": await users.read(store, [f"stored{n}" for n in range(9)]),
            "owners": await address_owners.read(store, [f"p:7918000{n:04}" for n in range(9)]),
            "opt-outs": {p: await opt_outs.find(client, shards, p) for p in [*PHONES, *OPTED_OUT]},
            "found": {
                p: sorted((await persons.find(store, f"p:{p}", T0)).messages) for p in PHONES
            },
            "idempotency": await _idempotency(store),
            "provider ids": await _provider_ids(store, filled),
            "lanes": await _lanes(client, shards),
            "timers": await _timers(client, shards),
            "unmatched": await _unmatched(client, shards),
            "money": await _money(client, shards),
            "events": await _told(client, [("0-0", n) for n in every]),
            "events after": await _told(client, _padded(filled.position, len(every))),
            "keys": await client.call([("HGETALL", "{kaskad}keys")]),
            "pauses": await pauses.read(client),
            "quarantine": await quarantine.listed(client, shards),
        }


async def _message(store: Store, id_: str) -> bytes:
    message = await reads.message(store, id_)
    assert message is not None, id_
    return pack_message(message)


async def _people(store: Store, filled: Filled) -> dict[str, Any]:
    """Each identity's record and home, and the claims and slots of that."""
    people = dict.fromkeys(i for request in filled.requests for i in request.identities)
    campaigns = [request.campaign for request in filled.requests]
    records = await read_records(store.redis, store.shards, people)
    found: dict[str, Any] = {}
    for identity in people:
        home = await find_home(store, identity)
        person = await read_others(store.redis, store.shards, "", Person(), campaigns, [home])
        found[identity] = records[identity], home, person[home].claims, person[home].slots
    return found


async def _idempotency(store: Store) -> list[Any]:
    keys = [f"k{n}" for n in range(COUNT)] + ["o"]
    return await store.redis.call(
        [
            ("GET", keys_of(shard_of(f"shop:{key}", store.shards)).idempotency("shop", key))
            for key in keys
        ]
    )


async def _provider_ids(store: Store, filled: Filled) -> list[Any]:
    return await store.redis.call(
        [
            ("GET", keys_of(shard_of(f"viber:{their}", store.shards)).provider_id("viber", their))
            for their in filled.their_ids.values()
        ]
    )


async def _lanes(client: RedisClient, shards: int) -> dict[str, list[bytes]]:
    """By provider, the messages that wait, in the order of their entries."""
    found = {}
    for provider in ("viber", "sms"):
        lanes = [keys_of(n).lane(provider, "marketing") for n in range(shards)]
        replies: Any = await client.call([("XRANGE", lane, "-", "+") for lane in lanes])
        entries = [(id_.partition(b"-")[0], f[1]) for reply in replies for id_, f in reply]
        found[provider] = [message for _, message in sorted(entries)]
    return found


async def _timers(client: RedisClient, shards: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for n in range(shards):
        (reply,) = await client.call([("ZRANGE", keys_of(n).timers, 0, -1, "WITHSCORES")])
        assert isinstance(reply, list)
        there = dict(zip(reply[::2], reply[1::2], strict=True))
        assert not found.keys() & there.keys()
        found |= there
    return found


async def _unmatched(client: RedisClient, shards: int) -> list[bytes]:
    found: list[bytes] = []
    for n in range(shards):
        (reply,) = await client.call([("ZRANGE", keys_of(n).unmatched_receipts, 0, -1)])
        assert isinstance(reply, list)
        for member in reply:
            unmatched = unmatched_codec.decode(member)
            assert shard_of(f"{unmatched.provider}:{told_id(unmatched.receipt)}", shards) == n
        found += reply
    return sorted(found)


async def _money(client: RedisClient, shards: int) -> dict[str, Any]:
    verdict = await compare_books(read_books(client, shards))
    assert verdict.agrees, verdict.differences
    day = day_of(T0)
    totals: Counter[Any] = Counter()
    async for page in pages_of_totals(client, shards, day, day):
        for row in page:
            totals[row.day, row.group, row.measure] += row.amount
    return {"totals": totals, "entries": verdict.entries, "bookings": verdict.posts}


def _padded(position: list[str], length: int) -> list[tuple[str, int]]:
    return [(entry, n) for n, entry in enumerate(position + ["0-0"] * (length - len(position)))]


async def _told(client: RedisClient, positions: list[tuple[str, int]]) -> Counter[Any]:
    """The changes told behind a place in each shard's stream."""
    changes: Counter[Any] = Counter()
    for entry, shard in positions:
        for found in await reads.events_from(client, "shop", shard, entry):
            if found.entry != entry:
                changes.update(msgspec.json.encode(change) for change in found.changes)
    return changes
