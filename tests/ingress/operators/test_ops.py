"""What operators ask and do over HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from gateway import telemetry
from gateway.dispatch.metrics import DispatchMetrics
from gateway.store import shared_keys
from gateway.store.installation import api_keys, drains, snapshots
from gateway.store.providers import pauses, temporary_rates
from gateway.store.providers.pauses import OPERATOR
from gateway.version import VERSION
from tests.worlds.ingress_world import ENV, OTP, SALE, T0, Answer, World, with_ingress

PAUSE, RESUME = "/v1/ops/providers/sms/pause", "/v1/ops/providers/sms/resume"
RATE, DRAIN = "/v1/ops/providers/sms/rate", "/v1/ops/drain"


async def operate(world: World, method: str, path: str, body: Any = b"") -> Answer:
    """The answer to an operator's key."""
    key = await api_keys.create(world.redis, "night", ["operate"], T0, by="ann@here")
    return await world.call(method, path, body, key=key)


async def tell(world: World, process: str, **figures: float) -> None:
    """A dispatcher publishes these figures of the provider sms."""
    registries = telemetry.new_registries()
    metrics = DispatchMetrics(registries)
    for name, value in figures.items():
        getattr(metrics, name).labels("sms").set(value)
    metrics.limited.labels("sms", "rate").set(1)
    snapshot = telemetry.snapshot(registries, process)
    await snapshots.publish(world.redis, process, snapshot, world.clock.now_ms)


@with_ingress()
async def test_an_operator_sees_how_everything_is(world: World) -> None:
    await tell(world, "dispatch-a-1", rate=500, sent_rate=20.25, claimed=7, failed_recently=2)
    await tell(world, "dispatch-b-1", rate=500, sent_rate=10.0, claimed=1, failed_recently=0)
    assert (await world.send(OTP)).status == 202
    await world.app.backlog.sample()
    await world.app.servers.sample()
    world.clock.now_ms += 1_500
    view = (await operate(world, "GET", "/v1/ops")).json
    assert set(view) == {
        *("version", "providers", "lanes", "redis", "budgets", "webhooks", "archive"),
        "reports",
    }
    assert view["archive"] is None, "there is none"
    assert view["reports"] == []
    assert view["version"] == VERSION
    assert view["providers"]["sms"] == {
        "channel": "sms",
        "state": "up",
        "paused": None,
        "limited_by": "rate",
        "rate": 500,
        "used": 30.2,
        "in_flight": 8,
        "errors": 2,
    }
    assert view["providers"]["viber"]["rate"] is None, "no dispatcher has it"
    (waiting,) = (lane for lane in view["lanes"] if lane["length"])
    assert (waiting["provider"], waiting["category"], waiting["length"]) == ("sms", "otp", 1)
    (server,) = view["redis"]["servers"]
    assert server["used_bytes"] > 0
    await operate(world, "POST", PAUSE, {"reason": "maintenance"})
    sms = (await operate(world, "GET", "/v1/ops")).json["providers"]["sms"]
    assert (sms["state"], sms["limited_by"]) == ("paused", "pause")
    assert sms["paused"]["detail"] == "maintenance"


@with_ingress()
async def test_sessions_of_an_account_are_told_where_there_are_such(world: World) -> None:
    await tell(world, "dispatch-a-1", sessions=2)
    await tell(world, "dispatch-b-1", sessions=1)
    providers = (await operate(world, "GET", "/v1/ops")).json["providers"]
    assert providers["sms"]["sessions"] == 3
    assert "sessions" not in providers["viber"]


SHARED = """[channels.sms]
providers = [
  { name = "sms", weight = 70 }, { name = "sms-2", weight = 20 }, { name = "sms-3", weight = 10 },
]
"""
SHARING = "".join(
    f'[providers.{name}]\nkind = "infobip-sms"\nbase_url = "http://127.0.0.1:1"\n'
    f'api_key_env = "PROVIDER_KEY"\nsender = "Shop"\ncallback_token_env = "CALLBACK_TOKEN"\n{more}'
    for name, more in (("sms-2", ""), ("sms-3", "retired = true\n"), ("sms-4", ""))
)


SHARED_SMS = {
    "[routes.both]": SHARING + SHARED + "[routes.both]",
    'steps = [{ provider = "sms", wait = "5m" }]': 'steps = [{ channel = "sms", wait = "5m" }]',
}


@with_ingress(changed=SHARED_SMS)
async def test_shares_of_a_channel_are_told_as_configured_and_as_they_are(world: World) -> None:
    await tell(world, "dispatch-a-1", handed_over_recently=3)
    await tell(world, "dispatch-b-1", handed_over_recently=1)

    async def shares() -> dict[str, Any]:
        providers = (await operate(world, "GET", "/v1/ops")).json["providers"]
        return {name: each["share"] for name, each in providers.items() if "share" in each}

    def share(weight: int, now: float, left_out: str | None = None, n: int = 0) -> dict[str, Any]:
        told = {"weight": weight, "configured": weight / 100, "now": now}
        return told | {"left_out": left_out, "handed_over": n}

    assert await shares() == {
        "sms": share(70, 0.7778, n=4),
        "sms-2": share(20, 0.2222),
        "sms-3": share(10, 0.0, "retired"),
        "sms-4": share(0, 0.0),
    }
    await operate(world, "POST", PAUSE, {"reason": "maintenance"})
    assert await shares() == {
        "sms": share(70, 0.0, "operator", 4),
        "sms-2": share(20, 1.0),
        "sms-3": share(10, 0.0, "retired"),
        "sms-4": share(0, 0.0),
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/ops"),
        ("POST", PAUSE),
        ("POST", RESUME),
        ("PUT", RATE),
        ("DELETE", RATE),
        ("POST", DRAIN),
        ("GET", DRAIN),
        ("DELETE", DRAIN),
        ("GET", "/v1/ops/audit"),
    ],
)
@with_ingress()
async def test_an_app_operates_nothing(world: World, method: str, path: str) -> None:
    answer = await world.call(method, path, key=ENV["SHOP_KEY"])
    assert answer.status == 403
    assert "`operate`" in answer.json["detail"]
    assert await pauses.read(world.redis) == {}


@with_ingress()
async def test_a_provider_is_paused_and_resumed_by_name_with_who_and_why(world: World) -> None:
    paused = await operate(world, "POST", PAUSE, {"reason": "maintenance"})
    assert paused.status == 200
    view = paused.json["paused"]
    assert (view["kind"], view["detail"], view["until"]) == (OPERATOR, "maintenance", None)
    assert view["by"].startswith("night kk_")
    (ready,) = (await world.call("GET", "/readyz", key="")).json["paused"]
    assert ready == view
    resumed = await operate(world, "POST", RESUME)
    assert resumed.json == {"provider": "sms", "paused": None}
    assert await pauses.read(world.redis) == {}
    told = (await operate(world, "GET", "/v1/ops/audit")).json["items"]
    done = [each for each in told if each["by"] != "ann@here"]  # who made the keys
    assert [(each["action"], each["target"], each["detail"]) for each in done] == [
        ("provider.resume", "sms", ""),
        ("provider.pause", "sms", "maintenance"),
    ]
    assert done[1]["by"] == view["by"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/ops/providers/nobody/pause", {}, 404),
        (PAUSE, {"why": "?"}, 422),
        (PAUSE, {"reason": "x" * 301}, 422),
        (PAUSE, ["?"], 422),
    ],
)
@with_ingress()
async def test_what_cannot_be_done_is_refused(
    world: World, path: str, body: Any, status: int
) -> None:
    assert (await operate(world, "POST", path, body)).status == status
    assert await pauses.read(world.redis) == {}


@with_ingress()
async def test_the_audit_is_read_page_by_page(world: World) -> None:
    for _ in range(3):
        await operate(world, "POST", PAUSE, {"reason": "again"})
    found: list[str] = []
    path = "/v1/ops/audit?limit=2"
    while path:
        page = (await operate(world, "GET", path)).json
        found += [each["id"] for each in page["items"]]
        path = page["next"] and f"/v1/ops/audit?limit=2&cursor={page['next']}"
    assert len(found) == len(set(found)) == 3 + 3 + 1, "pauses, and the keys until the first page"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=0000000011000", "cursor=x", "colour=red"]
)
@with_ingress()
async def test_a_page_that_cannot_be_is_a_400(world: World, query: str) -> None:
    answer = await operate(world, "GET", f"/v1/ops/audit?{query}")
    assert answer.status == 400


async def deeds(world: World) -> list[tuple[str, str, str]]:
    """What operators did, the newest first; who made their keys left out."""
    told = (await operate(world, "GET", "/v1/ops/audit")).json["items"]
    return [(d["action"], d["target"], d["detail"]) for d in told if d["by"] != "ann@here"]


@pytest.mark.parametrize("asked", [{"rate": "50/s", "for": "10m"}, {"rate": 50, "for": 600.0}])
@with_ingress()
async def test_a_provider_has_another_rate_for_a_while(world: World, asked: dict[str, Any]) -> None:
    answer = await operate(world, "PUT", RATE, asked)
    assert answer.status == 200
    rate = answer.json["temporary_rate"]
    assert (rate["rate"], rate["by"].split()[0]) == (50, "night")
    since, until = (datetime.fromisoformat(rate[key]) for key in ("since", "until"))
    assert (until - since).total_seconds() == 600
    providers = (await operate(world, "GET", "/v1/ops")).json["providers"]
    assert providers["sms"]["temporary_rate"] == rate
    assert "temporary_rate" not in providers["viber"]
    (left,) = await world.redis.call([("PTTL", shared_keys.temporary_rate("sms"))])
    assert isinstance(left, int)
    assert 0 < left <= 600_000, "it ends by itself"
    ended = await operate(world, "DELETE", RATE)
    assert ended.json == {"provider": "sms", "temporary_rate": None}
    assert await temporary_rates.read(world.redis, ["sms"], {}) == {}
    assert await deeds(world) == [
        ("provider.rate.end", "sms", ""),
        ("provider.rate", "sms", "50/s for 600 s"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "pointers"),
    [
        ("/v1/ops/providers/nobody/rate", {"rate": "1/s", "for": "1m"}, 404, []),
        (RATE, {}, 422, ["/for", "/rate"]),
        (RATE, {"rate": "fast", "for": "1m"}, 422, ["/rate"]),
        (RATE, {"rate": 0, "for": "1m"}, 422, ["/rate"]),
        (RATE, {"rate": "100001/s", "for": "1m"}, 422, ["/rate"]),
        (RATE, {"rate": "1/s", "for": "8d"}, 422, ["/for"]),
        (RATE, {"rate": "1/s", "for": 0}, 422, ["/for"]),
        (RATE, {"rate": "1/m", "for": "soon"}, 422, ["/for", "/rate"]),
        (RATE, {"rate": True, "for": "1m"}, 422, ["/rate"]),
    ],
)
@with_ingress()
async def test_a_rate_that_cannot_be_is_refused(
    world: World, path: str, body: Any, status: int, pointers: list[str]
) -> None:
    answer = await operate(world, "PUT", path, body)
    assert answer.status == status
    assert sorted(each["pointer"] for each in answer.json.get("errors", [])) == pointers
    assert await temporary_rates.read(world.redis, ["sms", "nobody"], {}) == {}


@with_ingress()
async def test_a_rate_of_an_earlier_name_holds_under_the_present_one(world: World) -> None:
    await temporary_rates.begin(world.redis, "old", 7, 60_000, "ann", T0)
    former = {"old": "sms"}
    assert (await temporary_rates.read(world.redis, ["sms"], former))["sms"].rate_per_s == 7
    await temporary_rates.end(world.redis, "sms", former, "ann", T0)
    assert await temporary_rates.read(world.redis, ["sms"], former) == {}
    await world.redis.call([("SET", shared_keys.temporary_rate("sms"), b"of another version")])
    assert await temporary_rates.read(world.redis, ["sms"], former) == {}


@with_ingress()
async def test_while_it_drains_new_messages_are_refused_and_the_rest_goes_on(world: World) -> None:
    (id_,) = [(await world.send(OTP)).json["id"]]
    open_stream = world.stream()
    open_stream.feed(json.dumps(OTP | {"to": "+79160000001"}).encode() + b"\n")
    assert (await open_stream.line())["outcome"] == "accepted"
    begun = await operate(world, "POST", DRAIN, {"reason": "the store moves"})
    assert begun.status == 200
    assert (begun.json["draining"], begun.json["reason"]) == (True, "the store moves")
    assert (begun.json["waiting"], begun.json["empty"]) == (2, False)
    refused = await world.send(SALE)
    assert (refused.status, refused.json["type"]) == (503, "/docs#draining")
    assert int(refused.headers["retry-after"]) > 0
    assert (await world.send([SALE])).status == 503
    stream = world.stream()
    stream.feed(json.dumps(SALE).encode(), more=False)
    assert (await stream.answer()).status == 503
    open_stream.feed(json.dumps(SALE).encode() + b"\n")
    last = await open_stream.line()
    assert (last["outcome"], last["error"]["status"]) == ("error", 503)
    assert (await open_stream.answer()).status == 200
    # A dry run gets what a send would get; reading goes on, and so do receipts.
    dry = await world.call("POST", "/v1/messages?dry_run=true", SALE)
    assert (dry.status, dry.json["type"]) == (503, "/docs#draining")
    assert (await world.call("GET", f"/v1/messages/{id_}")).status == 200
    receipt = {"results": [{"messageId": "p-1", "status": {"groupId": 3}}]}
    assert (await world.call("POST", "/v1/callbacks/viber?token=tok", receipt)).status == 200
    shown = (await operate(world, "GET", "/v1/ops")).json["drain"]
    assert (shown["draining"], shown["since"]) == (True, begun.json["since"])


@with_ingress()
async def test_a_drain_is_over_when_the_lanes_are_empty_and_everybody_knows(world: World) -> None:
    first = (await operate(world, "POST", DRAIN)).json
    assert (first["waiting"], first["empty"]) == (0, False), "others may not know of it yet"
    world.clock.now_ms += drains.HOLDS_WITHIN_MS
    again = (await operate(world, "POST", DRAIN, {"reason": "another"})).json
    assert again == first | {"empty": True}, "it goes on as it began"
    assert (await operate(world, "GET", DRAIN)).json == again
    ended = (await operate(world, "DELETE", DRAIN)).json
    assert ended == {
        "draining": False,
        "since": None,
        "by": None,
        "reason": None,
        "waiting": 0,
        "empty": False,
    }
    assert (await world.send(OTP)).status == 202
    assert "drain" not in (await operate(world, "GET", "/v1/ops")).json
    assert await deeds(world) == [("drain.end", "", ""), ("drain.begin", "", "")]


@with_ingress()
async def test_a_drain_that_another_version_wrote_is_one(world: World) -> None:
    await world.redis.call([("SET", shared_keys.DRAIN, b"of another version")])
    await world.app.draining.look()
    assert (await world.send(OTP)).status == 503
    world.redis.away = True
    await world.app.draining.try_to_look()
    assert (await world.send(OTP)).json["type"] == "/docs#draining", "what is known stands"
