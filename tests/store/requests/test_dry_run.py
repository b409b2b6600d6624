"""A dry run answers what a real request is answered next, says why, and changes nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.addresses import NOBODY, Addresses
from gateway.core.campaigns.campaigns import HOLDOUT_PARTS, NO_WINDOW, Campaign, CampaignState
from gateway.core.campaigns.send_windows import Hours, SendWindow
from gateway.core.channels import EmailContent
from gateway.core.explain import explain_message
from gateway.core.money.budgets import Budget
from gateway.core.money.prices import Price
from gateway.core.people.opt_outs import EVERY_CHANNEL, OptOut, Origin
from gateway.core.policy import Policy, ProviderRule, RouteStep
from gateway.core.records.content import NO_WORDS, Content, content_with
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.records.user import Consent, StoredUser
from gateway.core.records.words import Importance
from gateway.ingress.intake.known_users import KnownUsers
from gateway.store.campaigns import declarations
from gateway.store.installation.audit import Deed
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs, users
from gateway.store.people.users import UserChange
from gateway.store.requests.dry_run import DryAnswer
from gateway.store.shared_keys import CAMPAIGNS_META
from gateway.store.store import Store
from providers.contract import Fault, Receipt, ReceiptStatus
from ratelimit.caps import Cap
from tests.store.requests.test_contents import with_sayings
from tests.worlds.cascade_world import DAY, HOUR, MINUTE, PRICES, T0, policy, request
from tests.worlds.stores import in_store

SHARDS = 4
REQUESTS = 1_000
PEOPLE = 24
DRAWN_BY = b"k" * 32  # an installation's own would keep other people back in each run
CAPS = (
    Cap("two-marketing", 2, DAY, "1d", "marketing", None),
    Cap("one-sms", 1, DAY, "1d", "transactional", "sms"),
)
BY_DAY = Hours(9 * HOUR, 21 * HOUR, frozenset(range(7)))
# A Russian mobile number may be in sixteen zones, which are open together for two hours.
SURELY_BY_DAY = SendWindow(BY_DAY, unknown_zone="intersect")
BY_DAY_IF_KNOWN = SendWindow(BY_DAY, unknown_zone="hold")
BEST = (RouteStep(("viber",), 15 * MINUTE, 10_000, "seen", HOUR), RouteStep(("sms",), DAY, 10_000))
MAIL = (RouteStep(("email",), HOUR, 10_000), RouteStep(("sms",), DAY, 10_000))
IMPORTANT = (BEST[0], RouteStep(("sms",), DAY, 10_000, importance=Importance.HIGH))
# Of a campaign it holds, and of the bank's codes it refuses: room for so many messages an hour.
BOTH = PRICES["viber"].cost + PRICES["sms"].cost
BUDGETS = (
    Budget("autumn", BOTH, HOUR, "1h", "hold", campaign="autumn"),
    Budget("codes", 3 * PRICES["sms"].cost, HOUR, "1h", "refuse", app="bank", category="otp"),
)


def quote(provider: str, digits: str, *_: object) -> Price | None:
    """There is none for the messenger where a number ends in 7."""
    if provider == "viber" and digits.endswith("7"):
        return None
    return PRICES["viber" if provider == "email" else provider]


def rules() -> Policy:
    """Each gate has something to ask of some requests."""
    plain = policy(caps=CAPS)
    windows = {"marketing": SURELY_BY_DAY, "transactional": BY_DAY_IF_KNOWN, "otp": None}
    return replace(
        plain,
        quote=quote,
        routes=plain.routes | {"best": BEST, "important": IMPORTANT, "mail": MAIL},
        providers=plain.providers | {"email": ProviderRule("email", can_look_up=True)},
        best={"best": "rate"},
        categories={
            name: replace(rule, send_window=windows[name])
            for name, rule in plain.categories.items()
        },
        consent=frozenset({"transactional"}),
        budgets=BUDGETS,
    )


async def everything(store: Store) -> dict[bytes, Any]:
    """All that Redis holds, in the order of its keys."""
    (names,) = await store.redis.call([("KEYS", "*")])
    assert isinstance(names, list)
    replies = await store.redis.call([("DUMP", name) for name in sorted(names)])
    return dict(zip(sorted(names), replies, strict=True))


# What must have decided some of the requests, or steps of them, or the test proves little.
MET = (
    "route stop", "address stop", "price stop", "opt_out stop", "consent stop", "campaign stop",
    "campaign hold", "holdout stop", "duplicate stop", "cap stop", "budget stop", "budget hold",
    "send_window hold", "schedule hold", "pace hold", "recipients_max", "replayed",
    "excluded: in autumn", "excluded: reacted within 1d", "no_address", "no_content",
    "not_reachable", "opted_out", "importance", "no_price", "in its person's order",
)  # fmt: skip

WORDS = (
    b'{"content":{"text":"{{name}}"},'
    b'"variants":[{"name":"long","percent":50,"content":{"text":"'
    + "я".encode() * 71
    + b'{{name}}"}}]}'
)


NAMED = ("fast", "sms-only", "viber-only", "nowhere", "mail", "important")
ROUTES = (None, None, None, "best", "best", "best", *NAMED)
MAILED = content_with("Sale!", {"email": EmailContent(subject="Sale")})
CONTENTS = (Content("Sale!"), MAILED, Content("я" * 71))
ZONES = (None, None, "Asia/Vladivostok", "Europe/Moscow", "America/New_York")


class Callers:
    """Random requests of a few apps to a few people who are known by several identities."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_ms = T0

    def request(self, store: Store) -> MessageRequest:
        draw = self.random
        person = draw.randrange(PEOPLE)
        phone = f"79160000{draw.choice((person, person + 100)):03}" if draw.random() < 0.8 else None
        email = f"p{person}@shop.example" if phone is None or draw.random() < 0.3 else None
        user = f"u{person}" if draw.random() < 0.4 else None
        addresses = Addresses(phone, email)
        if user is not None and draw.random() < 0.2:
            addresses = NOBODY  # those of the stored user
        category = draw.choice(("marketing", "marketing", "transactional", "otp"))
        campaign = draw.choice(("autumn", *3 * ("winter",), "spring", "summer", "silent"))
        keyed = draw.random() < 0.15
        return request(
            id=store.new_message_id(addresses.home(user), self.now_ms),
            app=draw.choice(("shop", "bank")),
            addresses=addresses,
            user=user,
            category=category,
            campaign=campaign if category == "marketing" or draw.random() < 0.3 else None,
            route=draw.choice(ROUTES),
            importance=draw.choice((Importance.NORMAL, Importance.HIGH)),
            tz=draw.choice(ZONES),
            content=draw.choice(CONTENTS),
            idempotency_key=f"key-{draw.randrange(20)}" if keyed else None,
            body_hash=bytes([draw.randrange(2)]) if keyed else b"",
            not_before_ms=self.now_ms + HOUR if draw.random() < 0.1 else 0,
        )

    def stranger(self, store: Store, number: int) -> MessageRequest:
        """Of somebody new, whom little keeps from being sent a campaign."""
        addresses = Addresses(f"7916001{number:03}7")
        return request(
            id=store.new_message_id(addresses.home(None), self.now_ms),
            addresses=addresses,
            campaign="winter",
            route=self.random.choice((None, None, "viber-only")),
        )


async def live_on(store: Store, id_: str, callers: Callers) -> None:
    """The message is sent, and perhaps arrives, fails, reaches nobody or is cancelled."""
    end = callers.random.randrange(8)
    if end == 0:
        await store.apply([Item(id_, ev.Cancelled())], callers.now_ms)
        return
    message = (await store.apply([Item(id_, ev.Claimed(ev.CURRENT))], callers.now_ms))[0].message
    assert message is not None
    step = message.current
    if end == 4:
        nobody = ev.StepRefused(step, Fault("9", "unknown subscriber", True), unreachable=True)
        await store.apply([Item(id_, nobody)], callers.now_ms)
        return
    await store.apply([Item(id_, ev.Accepted(step))], callers.now_ms)
    if end > 1:
        seen = callers.random.random() < 0.5
        arrived: ReceiptStatus = "seen" if seen else "delivered"
        receipt = Receipt("undelivered" if end == 3 else arrived, ref=f"{id_}.{step}")
        provider = message.step.candidate.provider
        await store.apply([Item(id_, ev.Reported(step, receipt, provider))], callers.now_ms)


HAD: tuple[tuple[str, ReceiptStatus], ...] = (("viber", "seen"), ("sms", "delivered"))


async def sent(store: Store, phone: str, channel: str, *then: ev.Event) -> None:
    """Somebody was sent a code by one channel; what came of it."""
    id_ = store.new_message_id(phone, T0)
    code = request(id=id_, to=phone, category="otp", campaign=None, route=f"{channel}-only")
    await store.admit([code], T0)
    await store.apply([Item(id_, event) for event in (ev.Claimed(0), *then)], T0)


async def known(store: Store, number: int) -> None:
    """The first had some codes on both channels, and saw those of the messenger; the others do not
    have that."""
    phone = f"79160000{number:03}"
    if number >= PEOPLE // 2:
        nobody = ev.StepRefused(0, Fault("9", "unknown subscriber", True), unreachable=True)
        await sent(store, phone, "viber", nobody)
        return
    for _ in range(4):
        for channel, arrived in HAD:
            had = ev.Reported(0, Receipt(arrived), channel)
            await sent(store, phone, channel, ev.Accepted(0), had)


def same(told: DryAnswer, real: Answer) -> bool:
    """Whether a dry run said what came of the request. What is accepted has the request's own id,
    which differs where the person's home moved."""
    dry = told.answer
    if real.outcome == "accepted" and not real.replayed:
        dry = replace(dry, id=real.id)
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
        "suppressed": ("opt_out", "consent", "campaign", "holdout", "cap", "budget"),
    }[outcome]
    return verdicts == ["pass"] * (len(gates) - 1) + ["stop"] and gates[-1].gate in last


async def planned(store: Store, told: DryAnswer, id_: str, now_ms: int) -> bool:
    """Whether the message has the steps that the dry run foresaw, each with its verdict."""
    message = (await reads.messages(store, store.shard_of_message(id_), [id_]))[id_]
    assert message is not None
    plan = explain_message(message, store.policy, now_ms).plan
    return told.explanation.plan[: len(plan)] == plan


def test_a_thousand_requests_are_decided_dry_as_they_are_for_real(redis_url: str) -> None:
    seen: Counter[str] = Counter()
    seed = 20261128

    async def work(store: Store) -> None:
        callers = Callers(seed)
        edge = KnownUsers(store, lambda: callers.now_ms)
        await store.redis.call([("HSET", CAMPAIGNS_META, declarations.HOLDOUT_FIELD, DRAWN_BY)])
        await declare(store, "spring", WORDS, recipients_max=5, holdout=HOLDOUT_PARTS // 2)
        await declare(store, "summer", exclude_campaigns=("autumn",))
        await declare(store, "silent", silent_for="1d", silent_ms=DAY)
        for person in range(PEOPLE):
            await known(store, person)
        await store_users(store)
        for i in range(REQUESTS):
            asked = callers.stranger(store, i) if i % 12 == 5 else callers.request(store)
            if asked.campaign == "spring" and i % 2:
                asked = replace(asked, content=NO_WORDS)
            (asked, *_), _ = await edge.complete([asked])
            asked = await with_sayings(store, asked, {"name": "Anna"})
            before = await everything(store) if i % 50 == 0 else None
            told = await store.dry_run(asked, callers.now_ms)
            if before is not None:
                assert await everything(store) == before, (seed, i)
            (real,) = await store.admit([asked], callers.now_ms)
            assert same(told, real), (seed, i, told.answer, real)
            assert is_explained(told), (seed, i, told)
            seen.update(met(told))
            if real.outcome == "accepted" and not real.replayed:
                assert real.id is not None
                assert await planned(store, told, real.id, callers.now_ms), (seed, i, told)
                if callers.random.random() < 0.7:
                    await live_on(store, real.id, callers)
            if i % 120 == 0:
                await wish(store, callers)
            if i % 25 == 0:
                state: CampaignState = "paused" if i % 50 else "running"
                await declare(store, "winter", state=state, pace_per_min=60, send_window=NO_WINDOW)
            callers.now_ms += callers.random.choice((0, MINUTE, 10 * MINUTE))
            await store.give_back_leases(callers.now_ms)  # as each process does all the time

    in_store(redis_url, work, rules(), shards=SHARDS)
    assert not [what for what in MET if not seen[what]], seen


def met(told: DryAnswer) -> Iterator[str]:
    """What decided: each verdict that is no plain pass, and why steps are passed over."""
    gates = told.explanation.gates
    if not gates:
        yield "replayed"
    for gate in gates:
        if gate.verdict != "pass":
            yield f"{gate.gate} {gate.verdict}"
            yield gate.detail or ""
    for step in told.explanation.plan:
        if step.verdict == "skip":
            yield (step.detail or "").partition(":")[0]
        elif "reaction" in (step.detail or ""):
            yield "in its person's order"


def test_a_full_budget_is_told_to_who_is_known_by_another_address(redis_url: str) -> None:
    """The request goes to the person's home and is decided there, by the budget as well."""
    little = Budget("little", PRICES["sms"].cost, HOUR, "1h", "refuse")

    def asked(store: Store, campaign: str, phone: str) -> MessageRequest:
        addresses = Addresses(phone)
        id_ = store.new_message_id(addresses.home("u1"), T0)
        return request(id=id_, addresses=addresses, user="u1", campaign=campaign, route="sms-only")

    async def work(store: Store) -> None:
        await store.admit([asked(store, "autumn", "79160000001")], T0)
        another = asked(store, "winter", "79160000099")
        told = await store.dry_run(another, T0)
        (real,) = await store.admit([another], T0)
        assert told.answer == real
        assert (real.outcome, real.reason) == ("suppressed", "budget")

    in_store(redis_url, work, replace(policy(), budgets=(little,)), shards=SHARDS)


async def store_users(store: Store) -> None:
    """Each has an address and a zone, and half of them said yes to what needs that."""
    yes = Consent("transactional", T0, "a form")
    for person in range(PEOPLE):
        kept = StoredUser(
            app="shop",
            stored_ms=T0,
            addresses=Addresses(f"79160000{person:03}"),
            tz=ZONES[person % len(ZONES)],
            consent=(yes,) if person % 3 else (),
        )
        await users.change(store, [storing(f"u{person}", kept)], T0)


def storing(user: str, kept: StoredUser) -> UserChange:
    return UserChange(user, "", kept.addresses, lambda _: kept)


async def declare(store: Store, name: str, words: bytes = b"", **said: Any) -> None:
    def decide(_: Campaign | None, _words: bytes) -> tuple[Campaign, bytes]:
        return Campaign(**said), words

    def deed(_: Campaign) -> Deed:
        return Deed(T0, "a test", "campaign.put", name)

    await declarations.change(store.redis, store.shards, name, decide, deed)
    await store.look_at_campaigns(T0)


async def wish(store: Store, callers: Callers) -> None:
    """Somebody opts out of something."""
    draw = callers.random
    channel = draw.choice((EVERY_CHANNEL, "viber", "sms"))
    scope: OptOut = draw.choice(("marketing", "all"))
    address = f"79160000{draw.randrange(PEOPLE):03}"
    origin = Origin("shop", callers.now_ms)
    await opt_outs.put(store.redis, store.shards, address, scope, origin, channel)
