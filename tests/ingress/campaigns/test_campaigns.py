"""`/v1/campaigns`: what is declared, what is refused, and what its messages are told."""

from __future__ import annotations

import datetime
import json
from typing import Any
from urllib.parse import quote

import pytest

from gateway.core.events import Accepted, Cancelled, Claimed, Reported
from gateway.core.records.message import Message
from gateway.ingress.api.bodies.decoder import MOMENT_RULE
from gateway.ingress.api.campaigns import campaigns
from gateway.redis.errors import OutcomeUnknown, RedisUnavailable
from gateway.store.campaigns import lapsing
from gateway.store.campaigns.recipients import DOUBT_MS
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.shared_keys import CAMPAIGNS, RECIPIENTS
from providers.contract import Receipt, ReceiptStatus
from tests.worlds.ingress_world import SALE, World, with_ingress

MANAGED = {
    'name = "finance"\nkey_env = "FINANCE_KEY"\nscopes = ["report-all"]': (
        'name = "finance"\nkey_env = "FINANCE_KEY"\nscopes = ["report-all", "manage", "read"]'
    )
}
PATH = "/v1/campaigns/autumn"
NOTHING = {
    "accepted": 0,
    "duplicates": 0,
    "suppressed": 0,
    "held": 0,
    "queued": 0,
    "sent": 0,
    "delivered": 0,
    "seen": 0,
    "clicked": 0,
    "undelivered": 0,
    "expired": 0,
    "cancelled": 0,
}


async def declare(world: World, **said: Any) -> Any:
    answer = await world.call("PUT", PATH, said, key="finance-key")
    assert answer.status == 200, answer.json
    return answer.json


async def put(world: World, name: str, **said: Any) -> int:
    path = f"/v1/campaigns/{quote(name)}"
    return (await world.call("PUT", path, said, key="finance-key")).status


async def counts(world: World) -> dict[str, int]:
    found: dict[str, int] = (await world.call("GET", PATH, key="finance-key")).json["counts"]
    return {name: count for name, count in found.items() if count}


@with_ingress(changed=MANAGED)
async def test_keys_that_are_left_out_stay_and_null_resets_one(world: World) -> None:
    first = await declare(world, pace="600/m", ttl=3600, holdout_percent=12.5)
    assert first == {
        "name": "autumn",
        "state": "running",
        "category": None,
        "importance": None,
        "route": None,
        "ttl": 3600,
        "links": None,
        "start_at": None,
        "end_at": None,
        "pace": "600/m",
        "send_window": None,
        "recipients_max": None,
        "holdout_percent": 12.5,
        "content": None,
        "variants": None,
        "exclude_campaigns": [],
        "silent_for": None,
        "cancelling": False,
        "counts": NOTHING,
        "updated_at": first["updated_at"],
        "updated_by": first["updated_by"],
        "budgets": [],
        "cost": "0.0000",
        "billed": "0.0000",
    }
    assert first["updated_by"].startswith("finance")
    second = await declare(world, ttl=None, route="sms-only")
    assert (second["pace"], second["ttl"], second["route"]) == ("600/m", None, "sms-only")
    listed = (await world.call("GET", "/v1/campaigns", key="finance-key")).json
    assert listed == {"items": [second], "next": None}
    shown = (await world.call("GET", PATH)).json
    assert shown == {key: second[key] for key in second if key not in ("cost", "billed")}


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"route": "pigeon"}, "/route"),
        ({"send_window": "never"}, "/send_window"),
        ({"pace": "600"}, "/pace"),
        ({"pace": "0/m"}, "/pace"),
        ({"state": "asleep"}, "/state"),
        ({"holdout_percent": 101}, "/holdout_percent"),
        ({"holdout_percent": 0.001}, "/holdout_percent"),
        ({"colour": "red"}, "/colour"),
        ({"exclude_campaigns": ["autumn"]}, "/exclude_campaigns/0"),
        ({"exclude_campaigns": ["winter", "\u200b"]}, "/exclude_campaigns/1"),
        ({"exclude_campaigns": ["winter"] * 101}, "/exclude_campaigns"),
        ({"silent_for": "long"}, "/silent_for"),
        ({"silent_for": "0d"}, "/silent_for"),
        ({"silent_for": "366d"}, "/silent_for"),
        ({"start_at": "2026-12-02T00:00:00Z", "end_at": "2026-12-01T00:00:00Z"}, "/end_at"),
    ],
)
def test_what_cannot_be_declared_is_a_422(
    said: dict[str, Any], pointer: str, redis_url: str
) -> None:
    @with_ingress(changed=MANAGED)
    async def ask(world: World) -> None:
        answer = await world.call("PUT", PATH, said, key="finance-key")
        assert answer.status == 422
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert (await world.call("GET", PATH, key="finance-key")).status == 404

    ask(redis_url)


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-12:00"])
@with_ingress(changed=MANAGED)
async def test_an_end_that_never_comes_is_told_as_the_last_moment_there_is(
    world: World, moment: str
) -> None:
    said = await declare(world, end_at=moment)
    assert said["end_at"] == "9999-12-31T23:59:59.999Z"
    assert (await world.call("GET", PATH, key="finance-key")).json == said
    assert (await world.send(SALE)).status == 202


@with_ingress(changed=MANAGED)
async def test_what_waits_for_a_start_that_never_comes_expires(world: World) -> None:
    await declare(world, start_at="9999-12-31T23:59:59.999999Z", end_at=None)
    answer = await world.send(SALE)
    assert answer.status == 202
    assert answer.json["held"]["until"] == "9999-12-31T23:59:59.999Z"
    assert (await world.call("GET", f"/v1/messages/{answer.json['id']}")).status == 200


@with_ingress(changed=MANAGED)
async def test_what_is_no_moment_is_told_by_what_one_is(world: World) -> None:
    """And not in the words of who read it."""
    for said in ("2026-12-01", "2026-12-01T00:00:00", "tomorrow", 1):
        answer = await world.call("PUT", PATH, {"start_at": said}, key="finance-key")
        assert [error["detail"] for error in answer.json["errors"]] == [MOMENT_RULE]


@with_ingress(changed=MANAGED)
async def test_declaring_needs_the_scope_manage(world: World) -> None:
    assert (await world.call("PUT", PATH, {"state": "paused"})).status == 403


@with_ingress(changed=MANAGED)
async def test_a_campaign_that_is_cancelled_stays_so_and_takes_no_more(world: World) -> None:
    await declare(world, state="cancelled")
    answer = await world.call("PUT", PATH, {"state": "running"}, key="finance-key")
    assert answer.status == 409
    answer = await world.send(SALE)
    assert (answer.status, answer.json) == (
        200,
        {"outcome": "suppressed", "reason": "campaign_cancelled"},
    )
    assert await counts(world) == {"suppressed": 1}


@with_ingress(changed=MANAGED)
async def test_saying_of_a_cancelled_campaign_what_it_is_changes_nothing(world: World) -> None:
    first = await declare(world, state="cancelled", ttl=60)
    world.clock.now_ms += 60_000
    assert await declare(world, state="cancelled") == first
    assert await declare(world, ttl=60, route=None) == first
    answer = await world.call("PUT", PATH, {"state": "cancelled", "ttl": 61}, key="finance-key")
    assert (answer.status, answer.json["type"]) == (409, "/docs#final")
    assert "message" not in answer.json["title"], "it is a campaign"


@with_ingress(changed=MANAGED)
async def test_a_campaign_ends_after_it_starts_however_it_is_said(world: World) -> None:
    await declare(world, start_at="2026-12-02T00:00:00Z")
    early = {"end_at": "2026-12-01T00:00:00Z"}
    answer = await world.call("PUT", PATH, early, key="finance-key")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/end_at")
    await declare(world, end_at="2026-12-03T00:00:00Z")
    late = {"start_at": "2026-12-03T00:00:00Z"}
    answer = await world.call("PUT", PATH, late, key="finance-key")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/start_at")
    await declare(world, **late, end_at=None)


@pytest.mark.parametrize("moved", ["start_at", "end_at", "send_window", "pace"])
@with_ingress(changed=MANAGED)
async def test_what_waits_is_asked_again_when_a_moment_is_moved(world: World, moved: str) -> None:
    await declare(world, ttl=60)
    await declare(world, **{moved: None})
    campaign = world.store.policy.declared.of("autumn")
    assert campaign is not None
    assert (campaign.moved_ms > 0) == (moved != "pace")


@with_ingress(changed=MANAGED)
async def test_what_a_newer_kaskad_declared_is_kept(world: World) -> None:
    async def kept() -> Any:
        (found,) = await world.store.redis.call([("HGET", CAMPAIGNS, "autumn")])
        return found

    newer = b'{"state":"paused","route":"both","ttl_ms":60000,"budget":{"max":5}}'
    await world.store.redis.call([("HSET", CAMPAIGNS, "autumn", newer)])
    await declare(world, route=None, pace="60/m")
    told = json.loads(await kept())
    del told["updated_ms"], told["updated_by"]
    paced = {"pace": "60/m", "pace_per_min": 60}
    assert told == {"state": "paused", "ttl_ms": 60_000, "budget": {"max": 5}} | paced
    for unreadable in (b'{"state":"asleep"}', b"[]", b"\xff", b'{"pace":"\xff"}'):
        await world.store.redis.call([("HSET", CAMPAIGNS, "autumn", unreadable)])
        answer = await world.call("PUT", PATH, {"state": "running"}, key="finance-key")
        assert answer.status == 503
        assert "newer Kaskad" in answer.json["detail"]
        assert await kept() == unreadable


@with_ingress(changed=MANAGED)
async def test_a_message_of_a_paused_campaign_is_held_and_counted(world: World) -> None:
    await declare(world, state="paused")
    answer = await world.send(SALE)
    assert answer.status == 202
    assert answer.json["held"] == {"until": None, "reason": "paused"}
    assert (await world.send(SALE)).json["outcome"] == "duplicate"
    assert await counts(world) == {"accepted": 1, "duplicates": 1, "held": 1}
    await world.call("DELETE", f"/v1/messages/{answer.json['id']}")
    assert await counts(world) == {"accepted": 1, "duplicates": 1, "cancelled": 1}


@with_ingress(changed=MANAGED)
async def test_a_campaign_gives_its_messages_what_they_do_not_name(world: World) -> None:
    bare = {key: value for key, value in SALE.items() if key != "category"}
    answer = await world.send(bare)
    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/category"]
    await declare(world, category="transactional", route="sms-only", importance="high")
    answer = await world.send(bare)
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert (shown["category"], shown["route"]) == ("transactional", "sms-only")
    assert shown["importance"] == "high"
    own = await world.send(SALE | {"to": "+79161234568", "route": "both", "importance": "low"})
    shown = (await world.call("GET", f"/v1/messages/{own.json['id']}")).json
    assert (shown["category"], shown["route"]) == ("marketing", "both")
    assert shown["importance"] == "low"


@with_ingress(shards=3, changed=MANAGED)
async def test_no_more_than_so_many_recipients_are_accepted(world: World) -> None:
    await declare(world, recipients_max=3)
    sends = [SALE | {"to": f"+7916123456{n}"} for n in (0, 0, 1, 2, 3, 4)]
    answer = await world.call("POST", "/v1/messages", sends)
    outcomes = [(item["outcome"], item.get("reason")) for item in answer.json]
    full = ("suppressed", "recipients_max")
    assert sorted(outcomes, key=str) == sorted(
        [*[("accepted", None)] * 3, ("duplicate", None), full, full], key=str
    )
    assert (await world.send(SALE | {"to": "+79161234569"})).json["reason"] == "recipients_max"
    await declare(world, recipients_max=4)
    assert (await world.send(SALE | {"to": "+79161234569"})).status == 202
    assert (await counts(world))["accepted"] == 4


@with_ingress(shards=3, changed=MANAGED)
async def test_a_bound_of_recipients_counts_those_there_were_when_it_was_set(world: World) -> None:
    await declare(world)
    sends = [SALE | {"to": f"+7916123456{n}"} for n in range(6)]
    await world.call("POST", "/v1/messages", sends[:3])
    await declare(world, recipients_max=4)
    await declare(world, recipients_max=4)
    answer = await world.call("POST", "/v1/messages", sends[3:])
    assert [item["outcome"] for item in answer.json].count("accepted") == 1
    await declare(world, recipients_max=None)
    assert (await world.send(SALE | {"to": "+79161234567"})).status == 202
    await declare(world, recipients_max=5)
    assert (await world.send(SALE | {"to": "+79161234568"})).json["reason"] == "recipients_max"
    assert (await counts(world))["accepted"] == 5


@with_ingress(changed=MANAGED)
async def test_a_dry_run_names_the_campaigns_gate(world: World) -> None:
    await declare(world, state="paused")
    told = (await world.call("POST", "/v1/messages?dry_run=true", SALE)).json
    gates = {gate["gate"]: gate["verdict"] for gate in told["explain"]["gates"]}
    assert gates["campaign"] == "hold"
    await declare(world, end_at="2026-01-01T00:00:00Z")
    told = (await world.call("POST", "/v1/messages?dry_run=true", SALE)).json
    assert told["reason"] == "campaign_ended"
    assert told["explain"]["gates"][-1]["verdict"] == "stop"


@with_ingress()
async def test_a_worker_knows_what_is_declared_before_it_serves(world: World) -> None:
    assert world.store.declarations.loaded


def test_a_worker_starts_while_redis_is_away() -> None:
    @with_ingress()
    async def ask(world: World) -> None:
        assert (await world.send(SALE)).status == 503

    ask("unix:///nowhere/redis.sock")


@with_ingress(shards=3, changed=MANAGED)
async def test_each_wave_leaves_out_who_was_in_those_before(world: World) -> None:
    waves = "/v1/campaigns/wave-2"
    said = {"exclude_campaigns": ["wave-1", " wave-1 ", "wave-0"], "silent_for": "90d"}
    answer = await world.call("PUT", waves, said, key="finance-key")
    assert answer.json["exclude_campaigns"] == ["wave-1", "wave-0"]
    assert answer.json["silent_for"] == "90d"
    first = SALE | {"campaign": "wave-1", "user": "u1"}
    assert (await world.send(first)).status == 202
    second = SALE | {"campaign": "wave-2"}
    refused = {"outcome": "suppressed", "reason": "excluded"}
    assert (await world.send(second)).json == refused
    dry = (await world.call("POST", "/v1/messages?dry_run=true", second)).json
    assert dry["explain"]["gates"][-1] == {
        "gate": "campaign",
        "verdict": "stop",
        "detail": "excluded: in wave-1",
    }
    assert (await world.send(second | {"to": "+79161234568"})).status == 202
    reset = dict.fromkeys(said)
    answer = await world.call("PUT", waves, reset, key="finance-key")
    assert (answer.json["exclude_campaigns"], answer.json["silent_for"]) == ([], None)
    assert (await world.send(second)).status == 202


@with_ingress(shards=2, changed=MANAGED)
async def test_what_a_campaign_cost_and_billed_is_told_exactly(world: World) -> None:
    await declare(world)
    now_ms = world.clock.now_ms
    statuses: tuple[ReceiptStatus, ...] = ("delivered", "undelivered")
    for to, status in zip(("+79161234567", "+79161234568"), statuses, strict=True):
        id_ = (await world.send(SALE | {"to": to, "route": "sms-only"})).json["id"]
        await world.store.apply([Item(id_, Claimed(0))], now_ms)
        await world.store.apply([Item(id_, Accepted(0))], now_ms)
        reported = Reported(0, Receipt(status, ref=f"{id_}.0"), "sms")
        await world.store.apply([Item(id_, reported)], now_ms)
        await world.store.apply([Item(id_, reported)], now_ms)
    shown = (await world.call("GET", PATH, key="finance-key")).json
    assert (shown["cost"], shown["billed"]) == ("0.0050", "0.0080")
    day = f"{datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC):%Y-%m-%d}"
    path = f"/v1/reports/cost?from={day}&to={day}&group_by=campaign"
    (row,) = (await world.call("GET", path, key="finance-key")).json["rows"]
    assert (row["cost"], row["billed"]) == (shown["cost"], shown["billed"])


@with_ingress(changed=MANAGED)
async def test_a_name_that_no_message_can_have_is_not_declared(world: World) -> None:
    for name in ("a\tb", "a\x85b"):
        declared = await world.call("PUT", f"/v1/campaigns/{quote(name)}", {}, key="finance-key")
        assert (declared.status, declared.json["errors"][0]["pointer"]) == (422, "/name")
        sent = await world.send(SALE | {"campaign": name})
        assert (sent.status, sent.json["errors"][0]["pointer"]) == (422, "/campaign")


@with_ingress(changed=MANAGED)
async def test_campaigns_are_listed_in_pages_by_name(world: World) -> None:
    names = ["spring", "Осень", "autumn", "winter", "a b"]
    for name in names:
        assert await put(world, name) == 200
    found: list[str] = []
    path = "/v1/campaigns?limit=2"
    while path:
        page = (await world.call("GET", path)).json
        assert len(page["items"]) <= 2
        found += [item["name"] for item in page["items"]]
        path = page["next"] and f"/v1/campaigns?limit=2&cursor={page['next']}"
    assert found == sorted(names)
    for query in ("limit=0", "limit=0000000011000", "cursor=x", "cursor=ff"):
        assert (await world.call("GET", f"/v1/campaigns?{query}")).status == 400


@with_ingress(shards=2, changed=MANAGED)
async def test_a_declaration_that_is_long_over_makes_room_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "CAMPAIGNS_MAX", 3)

    async def listed() -> list[str]:
        items = (await world.call("GET", "/v1/campaigns")).json["items"]
        return [item["name"] for item in items]

    assert await put(world, "autumn", recipients_max=5) == 200
    assert (await world.send(SALE)).status == 202
    assert await put(world, "live") == 200
    assert (await world.send(SALE | {"campaign": "live"})).status == 202
    assert await put(world, "open") == 200
    assert await put(world, "more") == 409
    end = datetime.datetime.fromtimestamp(world.clock.now_ms // 1000, datetime.UTC)
    assert await put(world, "live", end_at=end.isoformat()) == 200
    assert await put(world, "autumn", end_at=end.isoformat()) == 200
    await drop_all(world, "autumn")
    world.clock.now_ms += lapsing.LAPSE_MS - 1000
    assert await put(world, "more") == 409, "it is not over for long"
    world.clock.now_ms += 1000
    assert await put(world, "more") == 200
    assert await listed() == ["live", "more", "open"], "a message of one is under way"
    assert await put(world, "another") == 409
    names = [keys_of(shard).campaign_counts("autumn") for shard in range(2)]
    assert await world.store.redis.call([("EXISTS", *names[:1])]) == [0]
    assert await world.store.redis.call([("HEXISTS", RECIPIENTS, "autumn")]) == [0]
    assert (await world.call("GET", PATH)).status == 404


@with_ingress(changed=MANAGED)
async def test_a_cancelled_campaign_stays_so_while_others_make_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "CAMPAIGNS_MAX", 2)

    assert await put(world, "autumn", state="cancelled") == 200
    world.clock.now_ms += 1000
    end = datetime.datetime.fromtimestamp(world.clock.now_ms // 1000, datetime.UTC).isoformat()
    assert await put(world, "spring", end_at=end) == 200
    world.clock.now_ms += lapsing.CANCELLED_LAPSE_MS - 1001
    assert await put(world, "summer", end_at=end) == 200, "the one that ended makes room"
    assert (await world.send(SALE)).json["reason"] == "campaign_cancelled"
    world.clock.now_ms += 1
    assert await put(world, "winter") == 200
    assert (await world.send(SALE)).status == 202, "nothing of it is left"


async def drop_all(world: World, name: str) -> None:
    """Cancels what there is of a campaign, as the dispatchers do."""
    (entries,) = await world.store.redis.call([("ZRANGE", keys_of(0).timers, 0, -1)])
    (more,) = await world.store.redis.call([("ZRANGE", keys_of(1).timers, 0, -1)])
    assert isinstance(entries, list)
    assert isinstance(more, list)
    found = await reads.messages_anywhere(world.store, [id_.decode() for id_ in entries + more])
    event = Cancelled(reason="campaign_cancelled")
    items = [
        Item(id_, event)
        for id_, m in found.items()
        if isinstance(m, Message) and m.campaign == name
    ]
    await world.store.apply(items, world.clock.now_ms)


@with_ingress(shards=2, changed=MANAGED)
async def test_the_place_of_a_post_that_failed_is_free_again_unless_it_was_taken_after_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(world, recipients_max=2)
    commit = world.store.in_pieces

    async def fails(*about: Any) -> Any:
        raise RedisUnavailable("Redis went away.")

    async def is_not_heard_of(*about: Any) -> Any:
        await commit(*about)
        raise OutcomeUnknown("Redis went away.")

    def sale(number: int) -> dict[str, Any]:
        return SALE | {"to": f"+7916123456{number}"}

    for number, failing in enumerate((fails, is_not_heard_of)):
        monkeypatch.setattr(world.store, "in_pieces", failing)
        assert (await world.send(sale(number))).status == 503
    monkeypatch.setattr(world.store, "in_pieces", commit)
    assert (await world.send(sale(2))).json["reason"] == "recipients_max", "nobody knows yet"
    world.clock.now_ms += DOUBT_MS
    assert (await world.send(sale(3))).status == 202
    assert (await world.send(sale(4))).json["reason"] == "recipients_max"
    assert (await world.send(sale(1))).json["outcome"] == "duplicate"
    assert (await counts(world))["accepted"] == 2
