"""Web push: its encryption, its signed claims, and whom a subscription may lead to."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.contract import (
    NotSent,
    Refused,
    Submitted,
    Subscription,
    SubscriptionKeys,
    WebPushAddress,
)
from providers.http.adapter import Reply
from providers.http.public_hosts import is_public, open_public_stream
from providers.webpush import wire
from providers.webpush.encryption import PLAINTEXT_BYTES_MAX, BadKeys, encrypt
from providers.webpush.settings import HOSTS, WebPushSettings
from providers.webpush.vapid import LIFE_S, RENEW_S, Vapid, private_key
from tests.worlds.push_examples import SUBJECT, VAPID_KEY, WEB_PUSH, browser, to_devices
from tests.worlds.raw_server import Peer, serving

NOW_S = 1_764_000_000


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- encryption


def test_the_example_of_rfc_8291_comes_out_to_the_byte() -> None:
    keys = SubscriptionKeys(
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "BTBZMqHH6r4Tts7J_aSIgg",
    )
    private = private_key("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
    salt = decoded("DGv6ra1nlYgDCS1FRnbzlw")
    text = b"When I grow up, I want to be a watermelon"
    assert encrypt(text, keys, private, salt) == decoded(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
        "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [
        ("", "BTBZMqHH6r4Tts7J_aSIgg"),
        ("%%%", "BTBZMqHH6r4Tts7J_aSIgg"),
        ("ключ", "BTBZMqHH6r4Tts7J_aSIgg"),
        ("B" * 87, "BTBZMqHH6r4Tts7J_aSIgg"),  # no point of the curve
        ("BTBZMqHH6r4Tts7J_aSIgg", "BTBZMqHH6r4Tts7J_aSIgg"),
        (browser(1).subscription.keys.p256dh, "c2hvcnQ"),
    ],
)
def test_keys_that_are_none_are_refused(p256dh: str, auth: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadKeys):
        encrypt(b"text", SubscriptionKeys(p256dh, auth), private, bytes(16))


def test_what_no_record_holds_is_refused() -> None:
    keys, private = browser(1).subscription.keys, private_key(VAPID_KEY)
    assert len(encrypt(bytes(PLAINTEXT_BYTES_MAX), keys, private, bytes(16))) == 4096
    with pytest.raises(ValueError, match="3993"):
        encrypt(bytes(PLAINTEXT_BYTES_MAX + 1), keys, private, bytes(16))


# --- who sends


def test_claims_are_signed_for_one_service_and_kept_for_a_while() -> None:
    vapid = Vapid(VAPID_KEY, SUBJECT)
    value = vapid.authorization("https://push.example", NOW_S)
    token, key = (part.partition("=")[2] for part in value.removeprefix("vapid ").split(","))
    assert key == vapid.public_key
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(key))
    claims = jwt.decode(
        token,
        point,
        algorithms=["ES256"],
        audience="https://push.example",
        options={"verify_exp": False},
    )
    assert claims == {"aud": "https://push.example", "exp": NOW_S + LIFE_S, "sub": SUBJECT}
    assert vapid.authorization("https://push.example", NOW_S + RENEW_S - 1) == value
    assert vapid.authorization("https://push.example", NOW_S + RENEW_S) != value
    assert vapid.authorization("https://other.example", NOW_S) != value


def test_a_key_may_be_pem_and_must_be_one_of_the_curve() -> None:
    key = private_key(VAPID_KEY)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert Vapid(pem, SUBJECT).public_key == Vapid(VAPID_KEY, SUBJECT).public_key
    other = ec.generate_private_key(ec.SECP384R1())
    strange = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text in ("", "abc", "%%%", "A" * 43, strange, pem[:80]):
        with pytest.raises(ValueError, match="VAPID key"):
            private_key(text)


# --- requests


def request_of(**changes: object) -> tuple[dict[str, str], bytes]:
    sent, device = to_devices(WEB_PUSH, 1, **changes), browser(1)
    endpoint = wire.endpoint_of(device)
    assert endpoint is not None
    drawn = private_key(VAPID_KEY), bytes(16)
    made = wire.request(sent, device, endpoint, Vapid(VAPID_KEY, SUBJECT), NOW_S, drawn)
    assert not isinstance(made, Refused)
    assert (made.method, made.path) == ("POST", "/sub/1")
    return dict(made.headers), made.body


def test_urgency_life_and_topic_are_the_messages() -> None:
    headers, _ = request_of(category="otp", validity_ms=300_999)
    assert (headers["Urgency"], headers["TTL"], headers["Topic"]) == ("high", "300", "M" * 20)
    assert headers["Content-Encoding"] == "aes128gcm"
    headers, _ = request_of(category="marketing", validity_ms=10**12)
    assert (headers["Urgency"], headers["TTL"]) == ("normal", str(28 * 86_400))
    headers, _ = request_of(message="", validity_ms=-1)
    assert headers["TTL"] == "0"
    assert "Topic" not in headers


def test_the_service_worker_is_given_what_the_message_says() -> None:
    sent = to_devices(
        WEB_PUSH,
        1,
        title="Скидка",
        text="Сегодня",
        image_url="https://shop.example/a.png",
        url="https://shop.example",
        data={"order": "7"},
    )
    assert json.loads(wire.payload(sent)) == {
        "id": "M" * 20,
        "title": "Скидка",
        "body": "Сегодня",
        "image": "https://shop.example/a.png",
        "url": "https://shop.example",
        "data": {"order": "7"},
    }
    assert json.loads(wire.payload(to_devices(WEB_PUSH, 1, text="x", message=""))) == {"body": "x"}


def test_more_than_a_record_is_the_messages_fault() -> None:
    sent, device = to_devices(WEB_PUSH, 1, data={"a": "b" * 4_000}), browser(1)
    endpoint = wire.endpoint_of(device)
    assert endpoint is not None
    drawn = private_key(VAPID_KEY), bytes(16)
    made = wire.request(sent, device, endpoint, Vapid(VAPID_KEY, SUBJECT), NOW_S, drawn)
    assert made == Refused("m-1.0", wire.TOO_LARGE, about="message")


# --- where to


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://push.example/a/b?c=d", "https://push.example", "/a/b?c=d"),
        ("https://push.example:443", "https://push.example", "/"),
        ("https://push.example:8443/a", "https://push.example:8443", "/a"),
    ],
)
def test_a_subscriptions_address_is_its_service_and_a_path(
    url: str, origin: str, path: str
) -> None:
    found = wire.endpoint_of(WebPushAddress(Subscription(url, SubscriptionKeys("", ""))))
    assert found is not None
    assert (found.origin, found.path) == (origin, path)


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example/a",
        "https://user@push.example/a",
        "https:///a",
        "https://push.example/a b",
        "https://push.example/ключ",
        "https://push.example:0/a",
        "https://push.example:port/a",
        "https://[::1/a",
    ],
)
def test_what_is_no_address_is_none(url: str) -> None:
    assert wire.endpoint_of(WebPushAddress(Subscription(url, SubscriptionKeys("", "")))) is None


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 405])
def test_a_refusal_of_one_browsers_address_is_not_yet_the_accounts(status: int) -> None:
    reply = Reply(status, {"location": "https://elsewhere.example"}, b"")
    outcome = wire.outcome(to_devices(WEB_PUSH, 0), browser(0), reply)
    assert isinstance(outcome, Refused), "whoever subscribed chose where it leads"
    assert (outcome.about, outcome.unreachable, outcome.gone) == ("account", False, ())


def test_only_listed_hosts_are_sent_to() -> None:
    for host in (
        "fcm.googleapis.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
        "db5p.notify.windows.com",
    ):
        assert wire.is_allowed(host, HOSTS), host
    for host in ("evil.example", "notify.windows.com.evil.example", "xnotify.windows.com", ""):
        assert not wire.is_allowed(host, HOSTS), host


async def test_a_host_that_is_not_listed_is_asked_for_nothing(tmp_path: Path) -> None:
    provider = WEB_PUSH.provider("http://127.0.0.1:9", tmp_path)
    strange = browser(1, "evil.example")
    (outcome,) = await provider.deliver([to_devices(WEB_PUSH, devices=(strange,))])
    assert outcome == Refused("m-1.0", wire.HOST_REFUSED), "it is allowed as soon as it is listed"
    await provider.aclose()


async def test_a_subscription_that_is_none_is_gone(tmp_path: Path) -> None:
    provider = WEB_PUSH.provider("http://127.0.0.1:9", tmp_path)
    for device in (
        WebPushAddress(Subscription("https://user@push.example/a", SubscriptionKeys("", ""))),
        WebPushAddress(Subscription("https://push.example/a", SubscriptionKeys("x", "y"))),
    ):
        (outcome,) = await provider.deliver([to_devices(WEB_PUSH, devices=(device,))])
        assert isinstance(outcome, Refused)
        assert outcome.gone == (device,)
    await provider.aclose()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.64.0.1"),
        *("::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"),
        *("2002:a00:1::", "224.0.0.1", "ff0e::1", "::7f00:1", "::ffff:0:127.0.0.1"),
        *("64:ff9b:1::a00:1", "fec0::1", "5f00::1"),
        *("172.16.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "240.0.0.1", "255.255.255.255", "::", "100::1", "2001:db8::1", "3fff::1"),
        *("64:ff9b::808:808", "2002:808:808::", "2001:0:808:808::", "::ffff:10.0.0.1"),
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2a00:1450:4010::5f", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


class Resolver(trio.abc.HostnameResolver):
    """Says of every name what a test wants."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]  # noqa: A002
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self._addresses
        ]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


async def test_a_name_that_leads_inside_is_not_connected_to(tmp_path: Path) -> None:
    async def never(peer: Peer) -> None:
        raise AssertionError("somebody connected")

    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1", "10.0.0.1"))
    async with serving(never) as server:
        port = int(server.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="no public address"):
            await open_public_stream("push.example", port)
        provider = WEB_PUSH.provider("", tmp_path, base_url=None)
        device = browser(1, f"push.example:{port}")
        with pytest.raises(NotSent):
            await provider.deliver([to_devices(WEB_PUSH, devices=(device,))])
        await provider.aclose()


async def test_a_name_that_changes_after_it_was_judged_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected = []

    async def connect(address: str, _port: int) -> trio.SocketStream:
        connected.append(address)
        trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
        raise OSError("nobody is there")

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    trio.socket.set_custom_hostname_resolver(Resolver("10.0.0.1", "8.8.8.8"))
    with pytest.raises(OSError, match="nobody is there"):
        await open_public_stream("rebound.example", 443)
    with pytest.raises(OSError, match="no public address"):
        await open_public_stream("rebound.example", 443)
    assert connected == ["8.8.8.8"]


async def test_each_service_has_its_own_connections(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        provider = WEB_PUSH.provider(server.base_url, tmp_path)
        for number in (1, 2, 3):
            (outcome,) = await provider.deliver([to_devices(WEB_PUSH, number)])
            assert isinstance(outcome, Submitted)
        assert server.connections == 1
        await provider.aclose()


# --- settings


def test_settings_are_held_against_what_they_mean() -> None:
    good: dict[str, Any] = {"kind": "webpush", "vapid_key_env": "V", "subject": SUBJECT}
    assert list(WebPushSettings(**good).faults()) == []
    bad = WebPushSettings(
        **(good | {"subject": "ops", "hosts": ("https://a.example",), "base_url": "x"})
    )
    assert [key for key, _ in bad.faults()] == ["subject", "hosts", "base_url"]
    assert [key for key, _ in WebPushSettings(**good, hosts=()).faults()] == ["hosts"]
    assert WebPushSettings(**good).delivered_on == "accepted"


def test_a_key_that_is_none_is_told_when_it_is_connected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="VAPID key"):
        WEB_PUSH.provider("https://push.example", tmp_path, vapid_key_env="")
