"""A dry run answers what a real request is answered next, says why, and changes nothing."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.campaigns import HOLDOUT_PARTS, Campaign, State
from gateway.core.opt_outs import EVERY_CHANNEL, OptOut, Origin
from gateway.core.policy import Policy
from gateway.core.prices import Price
from gateway.core.records.content import NO_WORDS, Content
from gateway.core.records.request import Answer, MessageRequest
from gateway.store import declarations, opt_outs
from gateway.store.apply import Item
from gateway.store.audit import Deed
from gateway.store.dry_run import DryAnswer
from gateway.store.store import Store
from providers.contract import Receipt, ReceiptStatus
from ratelimit.caps import Cap
from tests.store.test_contents import with_sayings
from tests.worlds import stores
from tests.worlds.cascade_world import DAY, HOUR, MINUTE, PRICES, T0, policy, request
from tests.worlds.stores import Work

SHARDS = 4
REQUESTS = 1_000
CAPS = (
    Cap("two-marketing", 2, DAY, "1d", "marketing", None),
    Cap("one-sms", 1, DAY, "1d", "transactional", "sms"),
)


def quote(provider: str, digits: str, *_: object) -> Price | None:
    """There is none for the messenger where a number ends in 7."""
    return None if provider == "viber" and digits.endswith("7") else PRICES.get(provider)


def in_store(url: str, work: Work, rules: Policy | None = None) -> None:
    known = rules or msgspec.structs.replace(policy(caps=CAPS), quote=quote)
    stores.in_store(url, work, known, shards=SHARDS)


async def everything(store: Store) -> dict[bytes, Any]:
    """All that Redis holds, in the order of its keys."""
    (names,) = await store.redis.call([("KEYS", "*")])
    assert isinstance(names, list)
    replies = await store.redis.call([("DUMP", name) for name in sorted(names)])
    return dict(zip(sorted(names), replies, strict=True))


WORDS = (
    b'{"content":{"text":"{{name}}"},'
    b'"variants":[{"name":"long","percent":50,"content":{"text":"'
    + "я".encode() * 71
    + b'{{name}}"}}]}'
)


class Callers:
    """Random requests of a few apps to a few people who are known by several identities."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_ms = T0

    def request(self, store: Store) -> MessageRequest:
        draw = self.random
        person = draw.randrange(12)
        phone = f"79160000{draw.choice((person, person + 100)):03}" if draw.random() < 0.8 else None
        email = f"p{person}@shop.example" if phone is None or draw.random() < 0.3 else None
        user = f"u{person}" if draw.random() < 0.4 else None
        addresses = Addresses(phone, email)
        category = draw.choice(("marketing", "marketing", "transactional", "otp"))
        campaign = draw.choice(("autumn", "winter", "spring", "summer", "silent"))
        keyed = draw.random() < 0.15
        return request(
            id=store.new_message_id(addresses.home(user), self.now_ms),
            app=draw.choice(("shop", "bank")),
            addresses=addresses,
            user=user,
            category=category,
            campaign=campaign if category == "marketing" or draw.random() < 0.3 else None,
            route=draw.choice((None, None, None, "fast", "sms-only", "viber-only", "nowhere")),
            content=Content(draw.choice(("Sale!", "я" * 71))),
            idempotency_key=f"key-{draw.randrange(20)}" if keyed else None,
            body_hash=bytes([draw.randrange(2)]) if keyed else b"",
            not_before_ms=self.now_ms + HOUR if draw.random() < 0.1 else 0,
        )


async def live_on(store: Store, id_: str, callers: Callers) -> None:
    """The message is sent, and perhaps arrives, fails or is cancelled."""
    end = callers.random.randrange(4)
    if end == 0:
        await store.apply([Item(id_, ev.Cancelled())], callers.now_ms)
        return
    message = (await store.apply([Item(id_, ev.Claimed(ev.CURRENT))], callers.now_ms))[0].message
    assert message is not None
    step = message.current
    await store.apply([Item(id_, ev.Accepted(step))], callers.now_ms)
    if end > 1:
        seen = callers.random.random() < 0.5
        arrived: ReceiptStatus = "seen" if seen else "delivered"
        receipt = Receipt(arrived if end == 2 else "undelivered", ref=f"{id_}.{step}")
        provider = message.step.candidate.provider
        await store.apply([Item(id_, ev.Reported(step, receipt, provider))], callers.now_ms)


async def react(store: Store, phone: str) -> None:
    """Somebody sees a message."""
    id_ = store.new_message_id(phone, T0)
    await store.admit([request(id=id_, to=phone, category="otp", campaign=None)], T0)
    seen = ev.Reported(0, Receipt("seen", ref=f"{id_}.0"), "viber")
    for event in (ev.Claimed(0), ev.Accepted(0), seen):
        await store.apply([Item(id_, event)], T0)


def same(told: DryAnswer, real: Answer) -> bool:
    """Whether a dry run said what came of the request. What is accepted has the request's own id,
    which differs where the person's home moved."""
    dry = told.answer
    if real.outcome == "accepted" and not real.replayed:
        dry = msgspec.structs.replace(dry, id=real.id)
    return dry == real


def is_explained(told: DryAnswer) -> bool:
    """Whether the verdicts are those of the outcome."""
    gates, outcome = told.explanation.gates, told.answer.outcome
    if told.answer.replayed or outcome == "conflict":
        return not gates
    verdicts = [gate.verdict for gate in gates]
    if outcome == "accepted":
        held = told.answer.held is not None
        return set(verdicts) == ({"pass", "hold"} if held else {"pass"})
    last = {
        "duplicate": ("duplicate",),
        "rejected": ("route", "address", "price"),
        "suppressed": ("opt_out", "campaign", "holdout", "cap"),
    }[outcome]
    return verdicts == ["pass"] * (len(gates) - 1) + ["stop"] and gates[-1].gate in last


def test_a_thousand_requests_are_decided_dry_as_they_are_for_real(redis_url: str) -> None:
    seen: set[str] = set()
    seed = 20261128

    async def work(store: Store) -> None:
        callers = Callers(seed)
        await declare(store, "spring", WORDS, recipients_max=5, holdout=HOLDOUT_PARTS // 4)
        await declare(store, "summer", exclude_campaigns=("autumn",))
        await declare(store, "silent", silent_for="1d", silent_ms=DAY)
        for person in range(6):
            await react(store, f"79160000{person:03}")
        for i in range(REQUESTS):
            asked = callers.request(store)
            if asked.campaign == "spring" and i % 2:
                asked = msgspec.structs.replace(asked, content=NO_WORDS)
            asked = await with_sayings(store, asked, {"name": "Anna"})
            before = await everything(store) if i % 50 == 0 else None
            told = await store.dry_run(asked, callers.now_ms)
            if before is not None:
                assert await everything(store) == before, (seed, i)
            (real,) = await store.admit([asked], callers.now_ms)
            assert same(told, real), (seed, i, told.answer, real)
            assert is_explained(told), (seed, i, told)
            seen.add(told.explanation.gates[-1].gate if told.explanation.gates else "replayed")
            seen.update(gate.detail or "" for gate in told.explanation.gates[-1:])
            if real.outcome == "accepted" and not real.replayed and callers.random.random() < 0.5:
                assert real.id is not None
                await live_on(store, real.id, callers)
            if i % 40 == 0:
                await wish(store, callers)
            if i % 100 == 0:
                state: State = "paused" if i % 200 else "running"
                await declare(store, "winter", state=state, pace_per_min=60)
            callers.now_ms += callers.random.choice((0, MINUTE, 10 * MINUTE))

    in_store(redis_url, work)
    assert seen >= {"route", "price", "opt_out", "campaign", "holdout", "duplicate", "replayed"}
    assert seen >= {"address", "cap", "schedule", "pace"}
    assert seen >= {"excluded: in autumn", "excluded: reacted within 1d"}


async def declare(store: Store, name: str, words: bytes = b"", **said: Any) -> None:
    def decide(_: Campaign | None, _words: bytes) -> tuple[Campaign, bytes]:
        return Campaign(**said), words

    def deed(_: Campaign) -> Deed:
        return Deed(T0, "a test", "campaign.put", name)

    await declarations.change(store.redis, store.shards, name, decide, deed)
    await store.look_at_campaigns()


async def wish(store: Store, callers: Callers) -> None:
    """Somebody opts out of something."""
    draw = callers.random
    channel = draw.choice((EVERY_CHANNEL, "viber", "sms"))
    scope: OptOut = draw.choice(("marketing", "all"))
    address = f"79160000{draw.randrange(12):03}"
    origin = Origin("shop", callers.now_ms)
    await opt_outs.put(store.redis, store.shards, address, scope, origin, channel)
