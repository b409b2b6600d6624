"""What operators ask and do over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import telemetry
from gateway.dispatch.metrics import Metrics
from gateway.store import api_keys, pauses, snapshots
from gateway.store.pauses import OPERATOR
from gateway.version import VERSION
from tests.worlds.ingress_world import ENV, OTP, T0, Answer, World, with_ingress

PAUSE, RESUME = "/v1/ops/providers/sms/pause", "/v1/ops/providers/sms/resume"


async def operate(world: World, method: str, path: str, body: Any = b"") -> Answer:
    """The answer to an operator's key."""
    key = await api_keys.create(world.redis, "night", ["operate"], T0, by="ann@here")
    return await world.call(method, path, body, key=key)


async def tell(world: World, process: str, **figures: float) -> None:
    """A dispatcher publishes these figures of the provider sms."""
    registries = telemetry.new_registries()
    metrics = Metrics(registries)
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
    assert set(view) == {"version", "providers", "lanes", "redis"}
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


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/ops"), ("POST", PAUSE), ("POST", RESUME), ("GET", "/v1/ops/audit")],
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
