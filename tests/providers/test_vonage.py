"""What is Vonage's own: its messages, its table of codes, its token and its signature."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest

from providers.contract import (
    About,
    AccountFault,
    LinkButton,
    PersonReply,
    Receipt,
    Refused,
    Submitted,
)
from providers.registry import KINDS
from providers.settings import Configured
from providers.vonage.access import LIFE_S, RENEW_S, Access
from providers.vonage.adapter import VonageSms, VonageViber
from providers.vonage.settings import VonageSettings
from providers.vonage.signature import VonageSignature
from tests.worlds.provider_examples import (
    CALLBACK_URL,
    config,
    reply,
    submission,
    vonage_problem,
)
from tests.worlds.push_examples import google_key, google_key_pem
from tests.worlds.raw_server import Peer, serving

SMS, VIBER = VonageSms(config("vonage-sms")), VonageViber(config("vonage-viber"))
SENT = submission("m-0.1", to="+79161234567")
NOW_S = 1_764_000_000
SECRET = "a-signature-secret-of-some-sixty-four-characters-" + "x" * 20


def body(adapter: VonageSms | VonageViber, **changes: object) -> dict[str, Any]:
    request = adapter.submit([submission("m-0.1", to="+79161234567", **changes)])
    assert (request.method, request.path) == ("POST", "/v1/messages")
    told: dict[str, Any] = json.loads(request.body)
    return told


def test_a_message_looks_as_its_channel_wants_it() -> None:
    common = {
        "to": "79161234567",
        "from": "Shop",
        "client_ref": "m-0.1",
        "webhook_url": CALLBACK_URL,
        "webhook_version": "v1",
    }
    assert body(SMS) == common | {
        "channel": "sms",
        "message_type": "text",
        "text": SENT.text,
        "ttl": 900,
    }
    button = LinkButton("Open", "https://shop.example")
    assert body(VIBER, button=button) == common | {
        "channel": "viber_service",
        "message_type": "text",
        "text": SENT.text,
        "viber_service": {
            "category": "promotion",
            "ttl": 900,
            "action": {"url": "https://shop.example", "text": "Open"},
        },
    }
    image = body(VIBER, image_url="https://shop.example/a.png", category="otp", validity_ms=1)
    assert image["image"] == {"url": "https://shop.example/a.png", "caption": SENT.text}
    assert (image["message_type"], "text" in image) == ("image", False)
    assert image["viber_service"] == {"category": "transaction", "ttl": 30}
    assert body(SMS, validity_ms=10**12)["ttl"] == 604_800


@pytest.mark.parametrize(
    ("code", "about", "permanent", "unreachable"),
    [
        (1300, "person", True, True),
        (1310, "person", True, True),
        (1190, "person", True, True),
        (1240, "person", True, False),
        (1120, "account", True, False),
        (1210, "message", True, False),
        (1241, "person", False, False),
        (9999, "account", True, False),
    ],
)
def test_a_refused_request_speaks_of_somebody(
    code: int, about: About, *, permanent: bool, unreachable: bool
) -> None:
    (refused,) = VIBER.outcomes([SENT], vonage_problem(422, code, "so"))
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable) == (about, unreachable)
    assert (refused.fault.code, refused.fault.permanent) == (str(code), permanent)
    assert refused.opted_out == (code == 1240)


def test_a_message_bears_the_id_that_the_invoice_names() -> None:
    (taken,) = VIBER.outcomes([SENT], reply(202, b'{"message_uuid":"u-1"}'))
    assert taken == Submitted("m-0.1", "u-1")
    told = event(status="delivered")  # of one whose answer was lost, the event is the first to say
    assert (told.ref, told.provider_id) == ("m-0.1", "u-1")


def test_a_message_that_was_sent_already_arrived_before() -> None:
    (taken,) = VIBER.outcomes([SENT], vonage_problem(422, 1320, "again"))
    assert taken == Submitted("m-0.1", again=True)


def test_an_account_without_money_is_told_to_look_there() -> None:
    with pytest.raises(AccountFault, match="balance"):
        VIBER.outcomes([SENT], vonage_problem(402, 0, "Low balance"))


def event(**said: object) -> Receipt:
    told = {"message_uuid": "u-1", "client_ref": "m-0.1", "to": "79161234567", **said}
    (found,) = VIBER.receipts(json.dumps(told).encode(), "").receipts
    return found


def test_prices_times_and_parts_are_read_in_their_spellings() -> None:
    usage = {"currency": "EUR", "price": "0.0333"}
    found = event(status="delivered", usage=usage, timestamp="2026-11-01 10:00:00 +0000")
    assert (found.cost, found.currency, found.at_ms) == (
        Decimal("0.0333"),
        "EUR",
        1_793_527_200_000,
    )
    assert event(status="delivered", timestamp="2026-11-01T10:00:00Z").at_ms == 1_793_527_200_000
    far = "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"
    for odd in ("2026-11-01T10:00:00", "soon", None, *far):
        assert event(status="delivered", timestamp=odd).at_ms is None
    assert event(status="delivered", sms={"count_total": "3"}).parts == 3
    plain = event(status="delivered", usage={"currency": "EUR"})
    assert (plain.cost, plain.currency) == (None, None)
    own = VIBER.receipts(b'{"message_uuid":"u-1","status":"delivered"}', "").receipts[0]
    assert (own.ref, own.provider_id) == (None, "u-1")


def test_a_failure_speaks_of_somebody_and_a_passed_time_is_one() -> None:
    gone = event(status="rejected", error={"type": "https://x#1300", "title": 1300})
    assert (gone.status, gone.about, gone.unreachable) == ("rejected", "person", True)
    late = event(status="rejected", error={"title": "1360"})
    assert (late.status, late.about) == ("expired", "person")
    silent = event(status="undeliverable")
    assert (silent.status, silent.about) == ("undelivered", "person")
    assert silent.fault is not None
    sms = SMS.receipts(b'{"client_ref":"m-0.1","status":"read"}', "").receipts[0]
    assert (sms.status, event(status="read").status) == ("delivered", "seen")
    odd = VIBER.receipts(b'{"client_ref":"m-0.1","status":"odd"}', "")
    assert "unknown status odd" in odd.faults[0]


def test_a_failure_may_tell_that_somebody_said_stop() -> None:
    def told(code: int) -> list[tuple[str, str]]:
        problem = {"type": f"https://x#{code}", "title": code}
        said = {"message_uuid": "u-1", "to": "79161234567", "status": "rejected", "error": problem}
        read = SMS.receipts(json.dumps(said).encode(), "application/json")
        assert [receipt.status for receipt in read.receipts] == ["rejected"]
        return [(reply.kind, reply.sender) for reply in read.replies]

    assert told(1240) == [("block", "79161234567")]
    assert told(1300) == []


def test_a_message_that_was_sent_already_is_not_refused_by_an_event_either() -> None:
    again = event(status="rejected", error={"type": "https://x#1320", "title": 1320})
    assert (again.status, again.fault) == ("sent", None)


def test_a_delivery_is_not_lost_over_what_else_its_event_says() -> None:
    odds: list[dict[str, object]] = [
        {"usage": {"price": ""}},
        {"usage": 7},
        {"sms": "2"},
        {"error": []},
        {"to": {}},
    ]
    for odd in odds:
        told = {"message_uuid": "u-1", "client_ref": "m-0.1", "status": "delivered"} | odd
        read = VIBER.receipts(json.dumps(told).encode(), "")
        assert read.receipts == [Receipt("delivered", "m-0.1", "u-1")]
        assert "read in part" in read.faults[0]
    for nothing in (b"[]", b'{"status": 7}', b'{"to": {}, "client_ref": "m-0.1"}'):
        with pytest.raises(ValueError, match="JSON report"):
            VIBER.receipts(nothing, "")


def test_what_somebody_wrote_is_a_reply() -> None:
    told = {"message_uuid": "u-2", "from": "79161234567", "to": "Shop", "text": "STOP"}
    read = VIBER.receipts(json.dumps(told | {"message_type": "text"}).encode(), "")
    assert read.replies == [PersonReply("u-2", "79161234567", "Shop", "STOP")]
    picture = {"message_uuid": "u-3", "from": "79161234567", "to": "Shop", "message_type": "image"}
    shown = json.dumps(picture | {"image": {"url": "https://x/a.png"}}).encode()
    assert VIBER.receipts(shown, "").replies == [PersonReply("u-3", "79161234567", "Shop")]
    with pytest.raises(ValueError, match="report"):
        VIBER.receipts(json.dumps(told | {"from": "Shop"}).encode(), "")
    odd = VIBER.receipts(json.dumps(told | {"usage": {"price": ""}}).encode(), "")
    assert (odd.replies, len(odd.faults)) == (read.replies, 1)


# --- who we are, and who they are


def test_a_token_is_signed_once_for_a_while() -> None:
    access = Access("app-1", google_key())
    value = access.authorization(NOW_S, "n-1")
    claims = jwt.decode(
        value.removeprefix("Bearer "),
        google_key().public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "application_id": "app-1",
        "iat": NOW_S,
        "exp": NOW_S + LIFE_S,
        "jti": "n-1",
    }
    assert access.authorization(NOW_S + RENEW_S - 1, "n-2") == value
    assert access.authorization(NOW_S + RENEW_S, "n-3") != value


def test_a_callback_is_held_to_its_hash_and_secret() -> None:
    told = b'{"status":"delivered"}'
    hashed = hashlib.sha256(told).hexdigest()

    def carried(secret: str = SECRET, algorithm: str = "HS256", **claims: object) -> dict[str, str]:
        token = jwt.encode({"payload_hash": hashed} | claims, secret, algorithm=algorithm)
        return {"authorization": f"Bearer {token}"}

    signature = VonageSignature(SECRET)
    assert signature.holds(carried(), told, b"")
    assert signature.holds(carried(iat=5, exp=6), told, b""), "when it was signed is no matter"
    assert not signature.holds(carried(), told + b" ", b"")
    assert not signature.holds(carried(secret="another-secret-of-thirty-two-characters"), told, b"")
    assert not signature.holds(carried(algorithm="HS512"), told, b"")
    assert not signature.holds(carried(secret="", algorithm="none"), told, b"")
    for odd in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}):
        assert not signature.holds(odd, told, b"")
    assert signature.certificate_url(told) is None


def settings(folder: Path, **changes: object) -> VonageSettings:
    keys: dict[str, object] = {
        "kind": "vonage-viber",
        "application_id": "app-1",
        "private_key_file": "private.key",
        "api_key_env": "V",
        "sender": "16273",
    }
    return VonageSettings(**(keys | changes)).below(folder)  # type: ignore[arg-type]


def test_a_key_file_is_looked_at(tmp_path: Path) -> None:
    ((_, missing),) = settings(tmp_path).file_faults()
    assert "cannot be read" in missing
    file = tmp_path / "private.key"
    file.write_text("no key")
    ((_, none),) = settings(tmp_path).file_faults()
    assert "RSA private key" in none
    key = google_key_pem()
    file.write_bytes(key)
    assert list(settings(tmp_path).file_faults()) == []
    assert list(settings(tmp_path).faults()) == []


async def test_every_request_carries_the_token(tmp_path: Path) -> None:
    key = google_key_pem()
    (tmp_path / "private.key").write_bytes(key)
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            heads.append(request)
            await peer.say(
                b"HTTP/1.1 202 Accepted\r\nContent-Length: 22\r\n\r\n" + b'{"message_uuid":"u-1"}'
            )

    async with serving(script) as server:
        provider = KINDS["vonage-viber"].connect(
            Configured(
                name="v",
                settings=settings(tmp_path, base_url=server.base_url),
                secret=lambda variable: SECRET if variable else "",
                callback_url="https://gateway.example.com/v1/callbacks/v",
            )
        )
        assert await provider.deliver([SENT]) == [Submitted("m-0.1", "u-1")]
        await provider.aclose()
    (head,) = heads
    token = head.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0]
    assert jwt.decode(token, options={"verify_signature": False})["application_id"] == "app-1"
