"""What a send request may look like, and that every fault of one that may not is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.money.prices import Price
from gateway.core.policy import AppRule, CategoryRule, Policy, ProviderRule, RouteStep
from gateway.ingress.api.messages.requests import (
    Faulty,
    Malformed,
    ValidRequest,
    body_hash,
    content_of,
    overrides_of,
    read,
)
from gateway.ingress.api.messages.sayings import WordsUnread

BOTH = (RouteStep(("v",), 1, 1), RouteStep(("s",), 1, 1))
POLICY = Policy(
    routes={"both": BOTH, "viber": BOTH[:1], "sms": BOTH[1:]},
    categories={
        "otp": CategoryRule("sms", 1),
        "transactional": CategoryRule("both", 1),
        "marketing": CategoryRule("viber", 1),
    },
    providers={"v": ProviderRule("viber"), "s": ProviderRule("sms")},
    caps=(),
    dedupe_ms=1,
    slot_ms={},
    currency="EUR",
    quote=lambda *_: Price(1, 1, "EUR"),
)
GOOD: dict[str, Any] = {"to": "+79161234567", "category": "transactional", "text": "Hello"}
BUTTON = {"caption": "Go", "url": "https://shop.example/x"}


def told(request: Any) -> ValidRequest | Malformed | Faulty:
    found = read(json.dumps(request).encode(), POLICY, "shop")
    assert not isinstance(found, WordsUnread)
    return found


def pointers(request: Any) -> list[str]:
    found = told(request)
    assert isinstance(found, Faulty), found
    assert all(fault.detail.endswith(".") for fault in found.faults)
    assert found.total == len(found.faults)
    return [fault.pointer for fault in found.faults]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text": "x" * 1000},
        {"text": "\N{GRINNING FACE}" * 1000},
        {"user": "u" * 128, "campaign": "c" * 128, "route": "sms", "ttl": 1},
        {"user": "e\u0301" * 128, "campaign": f"\u00a0{'c' * 128} "},  # 128 each as they are kept
        {"ttl": 2_592_000},
        {"campaign": None, "user": None, "viber": None, "metadata": None},
        {"viber": {"image_url": "http://shop.example/a b.png".replace(" ", "%20")}},
        {"viber": {"text": "V", "button": BUTTON}, "sms": {"text": "S", "sender": "Shop"}},
        {"metadata": {"a": "x" * 1014}},
        {"metadata": {}},
        {"category": "marketing", "campaign": "c"},
        {"idempotency_key": "k" * 255},
        {"text": "a\tb\r\nc\fd"},
        {"text": "\N{ZERO WIDTH JOINER}\N{FAMILY}"},
        {"to": "+447700900123"},
    ],
)
def test_a_good_request_passes(changes: dict[str, Any]) -> None:
    assert isinstance(told(GOOD | changes), ValidRequest)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"to": "89161234567"}, ["/to"]),
        ({"to": 79161234567}, ["/to"]),
        ({"to": "+7916123456"}, ["/to"]),
        ({"category": "spam"}, ["/category"]),
        ({"category": None}, ["/category"]),
        ({"text": ""}, ["/text"]),
        ({"text": "x" * 1001}, ["/text"]),
        ({"user": ""}, ["/user"]),
        ({"user": "u" * 129}, ["/user"]),
        ({"user": "a\nb"}, ["/user"]),
        ({"user": "a\n"}, ["/user"]),
        ({"campaign": "a\x00"}, ["/campaign"]),
        ({"campaign": "a\x85"}, ["/campaign"]),
        ({"route": "a\tb"}, ["/route"]),
        ({"user": "\u200b"}, ["/user"]),
        ({"user": " \u00a0"}, ["/user"]),
        ({"user": "\u0958" * 65}, ["/user"]),  # as NFC it is two characters each
        ({"campaign": "\u3000"}, ["/campaign"]),
        ({"text": "a\x00b"}, ["/text"]),
        ({"text": "a\x0bb"}, ["/text"]),
        ({"text": "\x1b[31m"}, ["/text"]),
        ({"text": " \t\r\n\f"}, ["/text"]),
        ({"text": "\u200b\u2060\ufe0f"}, ["/text"]),
        ({"text": "\u3164"}, ["/text"]),  # a letter that no font draws
        ({"viber": {"text": "\u2800"}}, ["/viber/text"]),
        ({"sms": {"text": "a\x07"}}, ["/sms/text"]),
        ({"sms": {"sender": " "}}, ["/sms/sender"]),
        ({"email": {"subject": "\u00ad"}}, ["/email/subject"]),
        ({"email": {"html": "<p>\x01</p>"}}, ["/email/html"]),
        ({"viber": {"button": BUTTON | {"caption": "\u200d"}}}, ["/viber/button/caption"]),
        ({"ttl": 0}, ["/ttl"]),
        ({"ttl": 2_592_001}, ["/ttl"]),
        ({"ttl": "60"}, ["/ttl"]),
        ({"ttl": True}, ["/ttl"]),
        ({"ttl": 1.5}, ["/ttl"]),
        ({"idempotency_key": "k" * 256}, ["/idempotency_key"]),
        ({"idempotency_key": "\x7f"}, ["/idempotency_key"]),
        ({"metadata": {"order": 1, "a": "x", "b/c": None}}, ["/metadata/order", "/metadata/b~1c"]),
        ({"metadata": {"a": "x" * 1100}}, ["/metadata"]),
        ({"metadata": []}, ["/metadata"]),
        ({"category": "marketing"}, ["/campaign"]),
        ({"colour": 1}, ["/colour"]),
        ({"a/b~c": 1}, ["/a~1b~0c"]),
        ({"viber": {"colour": 1}}, ["/viber/colour"]),
        ({"viber": []}, ["/viber"]),
        ({"viber": {"text": ""}}, ["/viber/text"]),
        (
            {"viber": {"button": {"caption": "x" * 31, "url": "https://a.b"}}},
            ["/viber/button/caption"],
        ),
        ({"viber": {"button": {"caption": "x"}}}, ["/viber/button/url"]),
        ({"sms": {"sender": "a\x01"}}, ["/sms/sender"]),
        ({"sms": {"sender": "x" * 17}}, ["/sms/sender"]),
        (
            {"text": None, "viber": {"button": BUTTON}, "sms": {"text": "S"}},
            ["/viber/button", "/text"],
        ),
        ({"text": None, "viber": {"text": "V"}}, ["/text"]),
    ],
)
def test_a_fault_is_told_at_its_key(changes: dict[str, Any], wanted: list[str]) -> None:
    assert pointers(GOOD | changes) == wanted


@pytest.mark.parametrize("key", ["user", "campaign"])
def test_names_have_one_spelling(key: str) -> None:
    names = ["caf\u00e9", "cafe\u0301", " caf\u00e9\u00a0"]
    found = [each for name in names if isinstance(each := told(GOOD | {key: name}), ValidRequest)]
    assert len(found) == len(names)
    assert {getattr(each.request, key) for each in found} == {"caf\u00e9"}
    assert len({body_hash(each.request) for each in found}) == 1


def test_an_unpaired_surrogate_is_no_json() -> None:
    for text in (r"\ud800", r"\ud800 and more", r"\udc00", r"\ud800\ud800"):
        raw = b'{"to":"+79161234567","category":"otp","text":"%s"}' % text.encode()
        found = read(raw, POLICY, "shop")
        assert isinstance(found, Malformed)
        assert f"holds {text[:6]}, half of a surrogate pair" in found.detail


@pytest.mark.parametrize("text", [r"\\ud800", r"\ud83d\ude00", r"\\\\udc00 \n"])
def test_a_body_that_is_cut_off_is_told_from_half_a_pair(text: str) -> None:
    raw = b'{"to":"+79161234567","category":"otp","text":"%s' % text.encode()
    found = read(raw, POLICY, "shop")
    assert isinstance(found, Malformed)
    assert found.detail == "This is not JSON in UTF-8: Input data was truncated."


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/a",
        "javascript:alert(1)",
        "https://",
        "https://shop.example/a b",
        "https://shop.example/a\n",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://[::1/",
        "//shop.example/a",
        "https://shop.example/" + "a" * 980,
    ],
)
def test_only_absolute_web_addresses_pass(url: str) -> None:
    assert pointers(GOOD | {"viber": {"image_url": url}}) == ["/viber/image_url"]


def bound(rule: AppRule, **changes: Any) -> list[str]:
    policy = replace(POLICY, apps={"shop": rule})
    found = read(json.dumps(GOOD | changes).encode(), policy, "shop")
    return [fault.pointer for fault in found.faults] if isinstance(found, Faulty) else []


@pytest.mark.parametrize(
    ("number", "tariff"),
    [
        ("+79161234567", ""),
        ("+78091234567", "premium"),
        ("+12125550123", ""),
        ("+19005550123", "premium"),
        ("+449061234567", "premium"),
        ("+979123456789", "premium"),
        ("+881631234567", "satellite"),
        ("+870773111632", "satellite"),
        ("+88213000000", "satellite"),
    ],
)
def test_a_dear_number_is_refused_unless_the_app_may_send_to_it(number: str, tariff: str) -> None:
    assert bound(AppRule(), to=number) == (["/to"] if tariff else [])
    assert bound(AppRule(), to={"phone": number}) == (["/to/phone"] if tariff else [])
    assert bound(AppRule(allows=frozenset([tariff])), to=number) == []


def test_an_app_sends_to_its_countries_and_under_its_senders_alone() -> None:
    rule = AppRule(countries=frozenset(["RU", "KZ"]), senders=frozenset(["Shop", "a@b.example"]))
    assert bound(rule) == bound(rule, to="+77011234567") == []
    assert bound(rule, to="+447700900123") == ["/to"]
    assert bound(rule, to="+447700900123", colour=1) == ["/colour", "/to"]
    assert bound(rule, sms={"sender": "Shop"}) == []
    assert bound(rule, sms={"sender": "Bank"}) == ["/sms/sender"]
    assert bound(rule, email={"from": "c@d.example"}) == ["/email/from"]
    assert bound(rule, email={"from": "Bank <c@d.example>"}) == ["/email/from"]
    assert bound(rule, email={"from": "A@B.example"}) == []
    assert bound(rule, email={"from": "Магазин <a@b.example>"}) == []
    assert bound(rule, to={"email": "anna@shop.example"}, email={"subject": "s"}) == []


def test_all_faults_are_told_at_once() -> None:
    request = {
        "to": "12",
        "category": "marketing",
        "text": "",
        "ttl": 0,
        "viber": {"button": {"caption": "", "url": "x", "more": 1}, "image_url": "ftp://a.b/c"},
        "unknown": 1,
    }
    assert sorted(pointers(request)) == [
        "/campaign",
        "/text",
        "/to",
        "/ttl",
        "/unknown",
        "/viber/button/caption",
        "/viber/button/more",
        "/viber/button/url",
        "/viber/image_url",
    ]


def test_missing_keys_are_told_with_their_rule() -> None:
    found = told({})
    assert isinstance(found, Faulty)
    assert [fault.pointer for fault in found.faults] == ["/to", "/category"]
    assert "E.164" in found.faults[0].detail


@pytest.mark.parametrize("request_", [[], None, 1, "text", True])
def test_a_message_is_an_object(request_: Any) -> None:
    assert pointers(request_) == [""]


@pytest.mark.parametrize("raw", [b"", b"{", b'{"to":}', b"\xff", b'{"to":"\xff"}', b"[" * 10_000])
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    assert isinstance(read(raw, POLICY, "shop"), Malformed)


def test_text_may_be_left_out_where_every_channel_of_the_route_has_its_own() -> None:
    bare = {"to": GOOD["to"], "category": "otp"}
    assert isinstance(told(bare | {"sms": {"text": "S"}}), ValidRequest)
    assert isinstance(told(bare | {"route": "viber", "viber": {"text": "V"}}), ValidRequest)
    assert pointers(bare | {"viber": {"text": "V"}}) == ["/text"]
    found = told(bare | {"route": "both", "viber": {"text": "V"}, "sms": {"text": "S"}})
    assert isinstance(found, ValidRequest)
    content = content_of(found.request, overrides_of(found.request))
    assert (content.text_for("viber"), content.text_for("sms")) == ("V", "S")


def test_the_hash_of_a_body_is_of_what_it_means() -> None:
    def hash_of(raw: str) -> bytes:
        found = read(raw.encode(), POLICY, "shop")
        assert isinstance(found, ValidRequest), found
        return body_hash(found.request)

    meta = '"metadata":{"a":"1","b":"2"}'
    plain = hash_of('{"to":"+79161234567","category":"otp","text":"Hi",' + meta + "}")
    same = (
        '{ "text":"\\u0048i","metadata":{"b":"2","a":"1"},"category":"otp","to":"+79161234567",'
        '"idempotency_key":"k","user":null }'
    )
    assert hash_of(same) == plain
    assert len(plain) == 16
    assert hash_of(same.replace('"2"', '"3"')) != plain
    assert hash_of(same.replace('"user":null', '"user":"u"')) != plain


@pytest.mark.parametrize(
    ("raw", "hashed"),
    [
        (
            '{"to":"+79161234567","category":"otp","text":"1234"}',
            "297b653959ef24ecf812f627e62548b8",
        ),
        (
            (
                '{"to":"+79161234567","user":"u-1","campaign":"autumn","category":"marketing",'
                '"text":"Sale","viber":{"image_url":"https://shop.example/a.png","button":'
                '{"caption":"Shop","url":"https://shop.example/"}},"sms":{"text":"S","sender":"Shop"},'
                '"route":"both","ttl":60,"idempotency_key":"k","metadata":{"b":"2","a":"1"}}'
            ),
            "973a87537e118fc95fdd1fa21cc5e682",
        ),
    ],
)
def test_a_request_of_before_there_were_more_channels_keeps_its_hash(raw: str, hashed: str) -> None:
    found = read(raw.encode(), POLICY, "shop")
    assert isinstance(found, ValidRequest), found
    assert body_hash(found.request).hex() == hashed, "a repetition would be a conflict"


TOKEN = {"kind": "fcm", "token": "t"}
BROWSER = {
    "kind": "webpush",
    "subscription": {"endpoint": "https://push.example/1", "keys": {"p256dh": "p", "auth": "a"}},
}


@pytest.mark.parametrize(
    "to",
    [
        {"phone": "+79161234567"},
        {"phone": "+79161234567", "email": "Anna@Shop.example", "push": [TOKEN, BROWSER]},
        {"email": "anna@shop.example", "phone": None},
        {"push": [TOKEN] * 5},
        {"phone": "+79161234567", "push": []},
    ],
)
def test_a_person_may_have_addresses_of_several_kinds(to: dict[str, Any]) -> None:
    found = told(GOOD | {"to": to})
    assert isinstance(found, ValidRequest), found
    named = found.destination.addresses
    assert (named.phone is None) == (to.get("phone") is None)
    assert named.email == (to.get("email") or "").lower() or named.email is None
    assert len(named.push) == len(to.get("push", []))


@pytest.mark.parametrize(
    ("to", "wrong"),
    [
        ({}, ["/to"]),
        ({"push": []}, ["/to"]),
        ({"phone": "+7", "email": "anna"}, ["/to/phone", "/to/email"]),
        ({"phone": "+79161234567", "mail": "a@b.example"}, ["/to/mail"]),
        ({"push": [TOKEN] * 6}, ["/to/push"]),
        ({"push": [{"kind": "apns", "token": "t"}]}, ["/to/push/0/kind"]),
        ({"push": [TOKEN | {"subscription": {}}]}, ["/to/push/0/subscription"]),
        (7, ["/to"]),
    ],
)
def test_what_is_no_address_is_told_at_its_place(to: Any, wrong: list[str]) -> None:
    assert pointers(GOOD | {"to": to}) == wrong


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"email": {"subject": "s" * 256}}, ["/email/subject"]),
        ({"email": {"subject": "a\nb"}}, ["/email/subject"]),
        ({"email": {"html": "я" * 20_000}}, ["/email/html"]),
        ({"email": {"from": "shop", "reply_to": "a@shop.example"}}, ["/email/from"]),
        ({"email": {"from_": "a@shop.example"}}, ["/email/from_"]),
        ({"email": {"from": "S\r\nBcc: b <a@shop.example>"}}, ["/email/from"]),
        ({"email": {"from": "Shop <a@shop.example"}}, ["/email/from"]),
        ({"email": {"from": "=?utf-8?q?S=0A?= <a@shop.example>"}}, ["/email/from"]),
        ({"email": {"reply_to": "Shop <shop>"}}, ["/email/reply_to"]),
        ({"push": {"title": "t" * 101}}, ["/push/title"]),
        ({"push": {"url": "ftp://shop.example/x"}}, ["/push/url"]),
        ({"push": {"data": {"a": 1}}}, ["/push/data/a"]),
    ],
)
def test_each_channels_own_words_have_their_rules(
    changes: dict[str, Any], wrong: list[str]
) -> None:
    assert pointers(GOOD | changes) == wrong
    whole = {
        "email": {"subject": "S", "html": "<p>", "from": "a@shop.example"},
        "push": {"title": "T", "url": "https://shop.example/", "data": {"a": "1"}},
    }
    assert isinstance(told(GOOD | whole), ValidRequest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [*GOOD, "viber", "sms", "email", "push", "ttl", "metadata", "user", "campaign", "x"]
)


@given(st.dictionaries(keys, json_values))
def test_any_json_is_read_or_told_why_not(changes: dict[str, Any]) -> None:
    found = read(json.dumps(GOOD | changes).encode(), POLICY, "shop")
    if isinstance(found, Faulty):
        assert found.faults
        known = {fault.pointer.split("/")[1] for fault in found.faults if fault.pointer}
        assert known <= {*GOOD, *changes, "campaign", "text"}
    elif isinstance(found, Malformed):
        assert found.detail


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    assert read(raw, POLICY, "shop") is not None
