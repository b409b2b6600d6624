"""FCM: what a message looks like, and how the access token is had and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
import trio
from trio.testing import MockClock

from providers.contract import (
    AccountFault,
    FcmAddress,
    NotSent,
    Refused,
    SendFault,
    Submitted,
    Throttled,
    Unknown,
)
from providers.fcm import service_account, wire
from providers.fcm.access import Access
from providers.fcm.service_account import AccessToken
from providers.fcm.settings import FcmSettings
from providers.http.adapter import Reply
from tests.worlds.push_examples import FCM, fcm_error, google_key, to_devices
from tests.worlds.push_examples import service_account as written_account
from tests.worlds.raw_server import Peer, serving

NOW_S = 1_764_000_000
TOKEN_URI = "https://oauth2.googleapis.com/token"
DEVICE = FcmAddress("token-1")


# --- messages


def test_a_message_looks_as_fcm_wants_it() -> None:
    sent = to_devices(
        FCM,
        1,
        title="Скидка",
        text="Сегодня",
        image_url="https://shop.example/a.png",
        url="https://shop.example",
        data={"order": "7"},
        category="transactional",
    )
    request = wire.request("shop-1", "at-1", sent, DEVICE, NOW_S)
    assert request.path == "/v1/projects/shop-1/messages:send"
    assert dict(request.headers)["Authorization"] == "Bearer at-1"
    id_ = "M" * 20
    assert json.loads(request.body) == {
        "message": {
            "token": "token-1",
            "notification": {
                "title": "Скидка",
                "body": "Сегодня",
                "image": "https://shop.example/a.png",
            },
            "data": {"kaskad_id": id_, "link": "https://shop.example", "order": "7"},
            "android": {
                "priority": "HIGH",
                "ttl": "900s",
                "collapse_key": id_,
                "notification": {"tag": id_},
            },
            "apns": {
                "headers": {
                    "apns-priority": "10",
                    "apns-expiration": str(NOW_S + 900),
                    "apns-collapse-id": id_,
                },
                "payload": {"aps": {"sound": "default", "mutable-content": 1}},
            },
            "webpush": {
                "headers": {"TTL": "900", "Urgency": "high"},
                "fcm_options": {"link": "https://shop.example"},
            },
        }
    }


def test_a_campaign_wakes_no_phone_and_a_plain_link_stays_out_of_the_browsers() -> None:
    sent = to_devices(FCM, 1, text="x", url="http://shop.example", validity_ms=10**12)
    message = wire.message(sent, DEVICE, NOW_S)
    assert message["android"]["priority"] == "NORMAL"
    assert message["apns"]["headers"]["apns-priority"] == "5"
    assert message["android"]["ttl"] == f"{28 * 86_400}s"
    assert message["webpush"] == {"headers": {"TTL": str(28 * 86_400), "Urgency": "normal"}}
    assert message["data"]["link"] == "http://shop.example"
    assert message["notification"] == {"body": "x"}
    assert message["apns"]["payload"] == {"aps": {"sound": "default"}}


def outcome(answer: tuple[int, bytes, tuple[tuple[str, str], ...]]) -> object:
    status, body, headers = answer
    named = {name.lower(): value for name, value in headers}
    try:
        return wire.outcome(to_devices(FCM, 1), DEVICE, Reply(status, named, body))
    except SendFault as fault:
        return fault


@pytest.mark.parametrize(
    ("answer", "about", "unreachable"),
    [
        (fcm_error(404, "UNREGISTERED"), "person", True),
        (fcm_error(403, "SENDER_ID_MISMATCH"), "account", True),
        (
            fcm_error(
                400,
                "INVALID_ARGUMENT",
                "The registration token is not a valid FCM registration token",
            ),
            "person",
            True,
        ),
        (fcm_error(400, "INVALID_ARGUMENT", "Android message is too big"), "message", False),
        ((400, b'{"error":{"status":"INVALID_ARGUMENT"}}', ()), "message", False),
        ((400, b"<html>Your client has issued a malformed request.</html>", ()), "account", False),
    ],
)
def test_a_refusal_speaks_of_somebody(
    answer: tuple[int, bytes, tuple[tuple[str, str], ...]], about: str, *, unreachable: bool
) -> None:
    refused = outcome(answer)
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable) == (about, unreachable)
    assert refused.gone == ((DEVICE,) if unreachable else ())
    assert refused.fault.permanent


def test_a_violation_may_name_the_token_too() -> None:
    details = [
        {
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
            "errorCode": "INVALID_ARGUMENT",
        },
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "message.token", "description": "Invalid"}],
        },
    ]
    body = json.dumps({"error": {"status": "INVALID_ARGUMENT", "details": details}}).encode()
    refused = outcome((400, body, ()))
    assert isinstance(refused, Refused)
    assert refused.gone == (DEVICE,)


@pytest.mark.parametrize(
    ("answer", "wait_ms"),
    [
        (fcm_error(429, "QUOTA_EXCEEDED"), 60_000),
        (fcm_error(429, "QUOTA_EXCEEDED", retry_after="3"), 3_000),
        ((429, b'{"error":{"status":"RESOURCE_EXHAUSTED"}}', ()), 60_000),
        (fcm_error(503, "UNAVAILABLE"), 10_000),
        (fcm_error(503, "UNAVAILABLE", retry_after="0"), 0),
    ],
)
def test_what_is_full_for_now_says_how_long(
    answer: tuple[int, bytes, tuple[tuple[str, str], ...]], wait_ms: int
) -> None:
    fault = outcome(answer)
    assert isinstance(fault, Throttled)
    assert fault.retry_after_ms == wait_ms


def test_an_answer_of_fcms_own_trouble_may_have_taken_it() -> None:
    assert isinstance(outcome(fcm_error(500, "INTERNAL")), Unknown)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"name":""}', b"<html>maintenance</html>", b"[" * 100_000]
)
def test_a_good_status_whose_answer_names_no_message_delivers_nothing(body: bytes) -> None:
    assert isinstance(outcome((200, body, ())), Unknown)


# --- the service account


def test_a_token_is_asked_for_as_google_wants_it(tmp_path: Path) -> None:
    account, key = service_account.read(written_account(tmp_path, TOKEN_URI).read_bytes())
    request = service_account.token_request(account, key, NOW_S)
    assert request.path == "/token"
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    (assertion,) = form["assertion"]
    assert jwt.get_unverified_header(assertion)["kid"] == "key-1"
    claims = jwt.decode(
        assertion,
        google_key().public_key(),
        algorithms=["RS256"],
        audience=TOKEN_URI,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "kaskad@shop-1.iam.gserviceaccount.com",
        "sub": "kaskad@shop-1.iam.gserviceaccount.com",
        "aud": TOKEN_URI,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "iat": NOW_S,
        "exp": NOW_S + 3600,
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: "", "no service account"),
        (lambda file: "[" * 100_000, "no service account"),
        (lambda file: json.dumps({**json.loads(file), "private_key": "x"}), "private_key"),
        (lambda file: json.dumps({**json.loads(file), "token_uri": "x"}), "token_uri"),
        (lambda file: json.dumps({"type": "authorized_user"}), "no service account"),
    ],
)
def test_a_file_that_is_none_is_told(
    tmp_path: Path, change: Callable[[str], str], reason: str
) -> None:
    file = written_account(tmp_path, TOKEN_URI)
    file.write_text(change(file.read_text()))
    settings = FcmSettings(kind="fcm", service_account_file=file.name).below(tmp_path)
    ((key, sentence),) = settings.file_faults()
    assert key == "service_account_file"
    assert reason in sentence
    assert str(tmp_path) in sentence


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = FcmSettings(kind="fcm", service_account_file="none.json").below(tmp_path)
    ((_, sentence),) = settings.file_faults()
    assert "cannot be read" in sentence
    written_account(tmp_path, TOKEN_URI)
    good = FcmSettings(kind="fcm", service_account_file="service-account.json").below(tmp_path)
    assert list(good.file_faults()) == []
    assert list(good.faults()) == []
    assert [
        key
        for key, _ in FcmSettings(
            kind="fcm", service_account_file="f", base_url="http://fcm.example"
        ).warnings()
    ] == ["base_url"]


# --- the access token


PATIENCE_S = 5.0


class Asked:
    """Whoever gives out tokens: each asking takes a second and is told the next of these."""

    def __init__(self, *told: AccessToken | SendFault) -> None:
        self.told = list(told)
        self.count = 0

    async def __call__(self) -> AccessToken:
        self.count += 1
        await trio.sleep(1)
        told = self.told.pop(0)
        if isinstance(told, SendFault):
            raise told
        return told


def test_one_asks_for_all() -> None:
    async def main() -> None:
        asked = Asked(AccessToken("one", 3600), AccessToken("two", 3600))
        access = Access(asked, PATIENCE_S)
        got: list[str] = []

        async def use() -> None:
            got.append(await access.token())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(use)
        assert (set(got), asked.count) == ({"one"}, 1)
        await trio.sleep(3290)
        assert (await access.token(), asked.count) == ("one", 1)
        await trio.sleep(30)  # it ends in less than five minutes: one renews it
        got.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(use)
        assert (sorted(set(got)), asked.count) == (["one", "two"], 2)
        assert got.count("two") == 1

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_old_token_serves_while_no_new_one_can_be_had() -> None:
    async def main() -> None:
        away = NotSent("connect_failed", "nobody")
        asked = Asked(AccessToken("one", 3600), away, Unknown("http_500", "oops"), away, away)
        access = Access(asked, PATIENCE_S)
        await access.token()
        await trio.sleep(3400)
        assert (await access.token(), asked.count) == ("one", 2)
        assert (await access.token(), asked.count) == ("one", 2)  # not again at once
        await trio.sleep(31)
        assert (await access.token(), asked.count) == ("one", 3)
        await trio.sleep(300)
        with pytest.raises(NotSent, match="no access token"):
            await access.token()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_nobody_waits_for_a_token_longer_than_a_send_may_take() -> None:
    """Else the caller would have to take what was never sent for unknown."""

    async def main() -> None:
        async def never() -> AccessToken:
            await trio.sleep(3600)
            raise AssertionError("it was given up")

        access, waited = Access(never, PATIENCE_S), []

        async def use() -> None:
            with pytest.raises(NotSent, match="in time"):
                await access.token()
            waited.append(trio.current_time())

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(use)
        assert waited == [began + PATIENCE_S] * 20

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_old_token_serves_while_the_new_one_does_not_come() -> None:
    async def main() -> None:
        told = iter((0.0, 3600.0))

        async def ask() -> AccessToken:
            await trio.sleep(next(told))
            return AccessToken("one", 3600)

        access = Access(ask, PATIENCE_S)
        await access.token()
        await trio.sleep(3400)
        assert await access.token() == "one"
        since = trio.current_time()
        assert await access.token() == "one"
        assert trio.current_time() == since  # not again at once

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_token_that_is_short_lived_is_not_asked_for_each_time() -> None:
    async def main() -> None:
        asked = Asked(AccessToken("one", 120), AccessToken("two", 120))
        access = Access(asked, PATIENCE_S)
        for _ in range(3):
            assert await access.token() == "one"
        await trio.sleep(90)
        assert await access.token() == "two"

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_refused_account_is_told_as_one_where_no_token_is_good() -> None:
    """Also a proxy's page in the place of a token is told so."""

    async def main() -> None:
        refused = AccountFault("invalid_grant", "no such account")
        access = Access(Asked(refused, AccessToken("one", 3600), refused, refused), PATIENCE_S)
        with pytest.raises(AccountFault):
            await access.token()
        await access.token()
        await trio.sleep(3400)
        assert await access.token() == "one"
        await trio.sleep(300)
        with pytest.raises(AccountFault):
            await access.token()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_answer_that_refuses_a_token_is_the_accounts() -> None:
    body = b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'
    with pytest.raises(AccountFault, match="Invalid JWT Signature"):
        service_account.token_in(Reply(400, {}, body))
    with pytest.raises(AccountFault):
        service_account.token_in(Reply(401, {}, b"no"))
    with pytest.raises(Unknown):
        service_account.token_in(Reply(200, {}, b"<html>"))


async def test_a_token_that_ended_early_is_renewed_once(tmp_path: Path) -> None:
    tokens = iter(("old", "new"))

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            if request.startswith(b"POST /token "):
                body = json.dumps({"access_token": next(tokens), "expires_in": 3599}).encode()
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            elif b"Bearer new" in request:
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n" + b'{"name":"p/1"}')
            else:
                await peer.say(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(script) as server:
        provider = FCM.provider(server.base_url, tmp_path)
        for _ in range(2):
            (taken,) = await provider.deliver([to_devices(FCM, 1)])
            assert isinstance(taken, Submitted)
        await provider.aclose()
