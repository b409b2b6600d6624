"""Addresses: one spelling each, and a sentence for what is none."""

from __future__ import annotations

import time

import pytest

from gateway.core.addresses import (
    Addresses,
    Destination,
    Recipient,
    mailbox_of,
    read,
)
from gateway.core.texts import name_of
from providers.contract import FcmAddress, Subscription, SubscriptionKeys, WebPushAddress

TOKEN = FcmAddress("token-1")
BROWSER = WebPushAddress(Subscription("https://push.example/1", SubscriptionKeys("p", "a")))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Anna@Shop.Example", "anna@shop.example"),
        ("anna.b+x@shop.example", "anna.b+x@shop.example"),
        ("anna@BÜCHER.example", "anna@xn--bcher-kva.example"),
        ("u\u0308ber@shop.example", "\u00fcber@shop.example"),
        ("анна@почта.рф", "анна@xn--80a1acny.xn--p1ai"),
    ],
)
def test_an_e_mail_address_has_one_spelling(written: str, kept: str) -> None:
    assert mailbox_of(written) == kept
    assert mailbox_of(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "anna",
        "@shop.example",
        "anna@",
        "anna@shop",
        "anna@1.2.3.4",
        "anna..b@shop.example",
        ".anna@shop.example",
        "an na@shop.example",
        "anna@shop_1.example",
        "anna@-shop.example",
        '"anna b"@shop.example',
        "anna@shop.example\n",
        " anna@shop.example",
        "a" * 65 + "@shop.example",
        "anna@" + "a" * 64 + ".example",
        "anna@" + "abcdefghi." * 25 + "example",
        "anna@shop.example, bob@shop.example",
        "anna@b@shop.example",
    ],
)
def test_what_cannot_be_an_e_mail_address_is_none(text: str) -> None:
    assert mailbox_of(text) is None


def test_what_is_far_too_long_is_not_spelled_anew() -> None:
    """Of combining marks NFC takes the square: 7.6 s for 80,000."""
    marks = "a" + "\u0301\u0327" * 40_000
    began = time.process_time()
    assert mailbox_of(f"{marks}@shop.example") is None
    assert mailbox_of(f"a@{marks}.example") is None
    assert name_of(f" {marks} ") == marks
    assert time.process_time() - began < 2
    assert name_of(" e\u0308 ") == "\u00eb"


def test_a_text_is_a_phone_and_an_object_is_all_it_names() -> None:
    assert read("+79161234567") == Destination(Addresses("79161234567"), "RU")
    whole = read(Recipient("+79161234567", "Anna@shop.example", [TOKEN, BROWSER]))
    assert isinstance(whole, Destination)
    assert whole.addresses == Addresses("79161234567", "anna@shop.example", (TOKEN, BROWSER))
    assert whole.country == "RU"
    assert read(Recipient(email="anna@shop.example")) == Destination(
        Addresses(email="anna@shop.example"), "ZZ"
    )


def test_every_fault_of_an_address_is_told_at_its_place() -> None:
    found = read(Recipient("+7", "anna"))
    assert isinstance(found, list)
    assert [fault.pointer for fault in found] == ["/phone", "/email"]
    empty = read(Recipient())
    assert isinstance(empty, list)
    assert [fault.pointer for fault in empty] == [""]


def test_a_person_is_recognised_by_phone_e_mail_and_user_in_this_order() -> None:
    whole = Addresses("79161234567", "anna@shop.example", (TOKEN,))
    assert whole.identities("u1") == [
        "p:79161234567",
        "e:anna@shop.example",
        "u:u1",
    ]
    assert whole.home("u1") == "79161234567"
    assert Addresses(email="anna@shop.example").home("u1") == "anna@shop.example"
    assert Addresses(push=(TOKEN,)).home("u1") == "u1"
    assert Addresses(push=(TOKEN,)).identities(None) == []
    for addresses in (whole, Addresses(email=whole.email), Addresses(push=(TOKEN,))):
        for user in ("u1", None):
            first = (addresses.identities(user) or [""])[0]
            assert addresses.first_identity(user) == first, "made without the others, for speed"
    assert Addresses(push=(TOKEN,)).home(None) == "token-1"
    assert Addresses(push=(BROWSER,)).home(None) == "https://push.example/1"


def test_a_phone_alone_is_shown_as_a_text_and_all_else_as_the_object() -> None:
    assert Addresses("79161234567").shown() == "+79161234567"
    assert Addresses(email="anna@shop.example").shown() == Recipient(email="anna@shop.example")
    assert Addresses("79161234567", None, (TOKEN,)).shown() == Recipient(
        "+79161234567", None, [TOKEN]
    )
