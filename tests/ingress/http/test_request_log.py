"""One line for each request that is refused or changes something: whose, from where, what came."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.ingress.http.auth import Principal
from gateway.ingress.http.request import Request
from gateway.ingress.http.request_ids import RequestIds
from gateway.ingress.http.request_log import LINES_MAX, RequestLog, RequestOutcome
from gateway.ingress.http.waiting import WaitingBytes
from gateway.store.installation import api_keys, audit
from tests.worlds.ingress_world import ENV, OTP, PHONE, T0, World, with_ingress

OPT_OUT = f"/v1/optouts/{PHONE}"
RECEIPT = {
    "messageId": "stray",
    "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED"},
    "error": {"groupId": 0, "id": 0, "name": "NO_ERROR", "permanent": False},
    "doneAt": "2026-11-18T10:00:01.000+0000",
}


async def lines_of(world: World, *call: Any, **more: Any) -> list[Any]:
    """What a call writes to the log for an operator."""
    with capture_logs() as lines:
        await world.call(*call, **more)
    told = [line for line in lines if line["event"] == "request"]
    return [line for line in told if line["log_level"] != "debug"]


@with_ingress()
async def test_what_is_refused_and_what_changes_something_is_one_line(world: World) -> None:
    key = await api_keys.create(world.redis, "kiosk", ["send"], T0)
    changes = await lines_of(world, "PUT", OPT_OUT, {"scope": "marketing"}, key=key)
    lacks = await lines_of(world, "GET", "/v1/events", headers={"x-request-id": "r-7"}, key=key)
    unknown = await lines_of(world, "POST", "/v1/messages", OTP, key="kk_nobody")
    malformed = await lines_of(world, "POST", "/v1/messages", b"{", key=key)
    nowhere = await lines_of(world, "GET", "/v1/nowhere", key="")
    told = [line for lines in (changes, lacks, unknown, malformed, nowhere) for line in lines]
    assert [(t["endpoint"], t["status"], t["outcome"], t["app"], t["key"]) for t in told] == [
        ("putOptOut", 200, "done", "kiosk", key[:8]),
        ("followEvents", 403, "forbidden", "kiosk", key[:8]),
        ("send", 401, "unauthorized", "", ""),
        ("send", 415, "media-type", "kiosk", key[:8]),
        ("none", 404, "not-found", "", ""),
    ]
    assert lacks[0]["request_id"] == "r-7"
    assert not [line for line in told if PHONE[1:] in repr(line) or key in repr(line)]


@with_ingress()
async def test_what_is_only_read_and_what_is_sent_has_no_line(world: World) -> None:
    sent = await lines_of(world, "POST", "/v1/messages", OTP)
    assert sent == []
    for path in ("/v1/reports/cost", "/healthz", "/metrics", "/docs"):
        assert await lines_of(world, "GET", path) == []
    world.redis.away = True
    assert await lines_of(world, "GET", "/readyz") == []


@with_ingress()
async def test_a_callback_that_brings_something_has_a_line(world: World) -> None:
    path = "/v1/callbacks/viber?token=tok"
    told = await lines_of(world, "POST", path, {"results": [RECEIPT]}, key="")
    assert [(t["endpoint"], t["status"], t["app"]) for t in told] == [("callback", 200, "")]
    assert not [line for line in told if "tok" in repr(line)]
    assert await lines_of(world, "POST", path, {"results": []}, key="") == []


@with_ingress()
async def test_what_is_done_is_answered_though_it_cannot_be_noted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send(OTP | {"user": "u1"})
    monkeypatch.setattr(audit, "command", lambda *_, **__: ("XADD",))
    with capture_logs() as told:
        assert (await world.call("PUT", OPT_OUT, {"scope": "marketing"})).status == 200
        assert (await world.call("DELETE", OPT_OUT)).status == 204
        assert (await world.call("DELETE", "/v1/users/u1")).status == 200
    assert [line["event"] for line in told].count("deed not noted") == 3


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", b"198.51.100.7", "203.0.113.9"),  # no proxy of ours
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", b"1.2.3.4, 198.51.100.7, 10.9.9.9", "198.51.100.7"),  # the first is made up
        ("10.0.0.1", b"198.51.100.7:4711", "198.51.100.7"),
        ("::1", b"[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:10.0.0.1", b"::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", b"unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", b"\xff\n" + b"," * 10_000, "10.0.0.1"),
        ("", b"198.51.100.7", ""),
    ],
)
def test_behind_trusted_proxies_the_peer_is_who_the_last_of_them_names(
    peer: str, forwarded: bytes | None, found: str
) -> None:
    assert RequestLog(["10.0.0.0/8", "::1"]).peer_of(peer, forwarded) == found


def test_a_proxys_own_line_counts_beside_the_callers() -> None:
    hops = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"9.9.9.9")]
    scope: Any = {"method": "GET", "path": "/", "headers": hops}
    request = Request(scope, _never, _never, RequestIds(), WaitingBytes(0))
    assert request.lines(b"x-forwarded-for") == b"6.6.6.6,9.9.9.9"


def test_of_requests_refused_alike_some_a_second_have_a_line_and_the_rest_are_counted() -> None:
    now = 7.0
    log = RequestLog([], clock=lambda: now)

    def refused(kind: str, app: str = "", times: int = 1) -> list[int]:
        """What each line says of those before it."""
        scope: Any = {"method": "GET", "path": "/", "headers": []}
        request = Request(scope, _never, _never, RequestIds(), WaitingBytes(0))
        request.principal = Principal(app, frozenset(), b"")
        with capture_logs() as lines:
            for _ in range(times):
                log.tell(request, "send", RequestOutcome(kind, 401), 0.1)
        return [line.get("untold", 0) for line in lines]

    assert refused("unauthorized", times=LINES_MAX + 250) == [0] * LINES_MAX
    assert refused("unauthorized", "shop") == refused("unavailable") == [0]
    now = 7.99
    assert refused("unauthorized") == []
    now = 9.0
    assert refused("unauthorized", times=2) == [251, 0]
    now = 10.0
    assert refused("unauthorized", times=LINES_MAX) == [0] * LINES_MAX


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is read or sent")


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert RequestLog([]).peer_of("10.0.0.1", b"198.51.100.7") == "10.0.0.1"


@with_ingress()
async def test_opt_outs_and_cancels_are_in_the_audit_without_a_number(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    assert (await world.call("PUT", OPT_OUT, {"scope": "all"})).status == 200
    assert (await world.call("DELETE", OPT_OUT)).status == 204
    assert (await world.call("DELETE", f"/v1/messages/{id_}")).status == 200
    assert (await world.call("DELETE", f"/v1/messages/{id_}")).status == 409
    deeds = [kept.deed for kept in (await audit.read(world.redis, 10)).deeds]
    assert sorted((deed.action, deed.target, deed.detail) for deed in deeds) == [
        ("message.cancel", id_, ""),
        ("optout.drop", "", "all"),
        ("optout.set", "", "all"),
    ]
    assert {deed.by for deed in deeds} == {"shop"}, "a short key shows nothing of itself"
    assert len(ENV["SHOP_KEY"]) < 20
