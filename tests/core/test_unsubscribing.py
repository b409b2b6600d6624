"""Where a message says how to unsubscribe: texts, the header of marketing mail, its length."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.campaigns.placeholders import as_text, template_of
from gateway.core.channels import EmailContent, SmsContent
from gateway.core.links.tracking import text_to_price
from gateway.core.links.urls import LinkRules
from gateway.core.people.unsubscribing import UnsubscribeWriter, code_for, is_code
from gateway.core.records.message import Message
from gateway.core.records.unsubscriber import Unsubscriber
from tests.worlds.cascade_world import World, request

KEY = b"k" * 32
ROOT = "https://k.shop.example"
MAIL = EmailContent(
    subject="Sale", text="Stop: {{unsubscribe}}", html='<a href="{{unsubscribe}}">x'
)


def message(channel: str = "sms") -> Message:
    made = World(None, request(addresses=Addresses("79161234567", "ann@shop.example"))).message
    made.steps[0].channel = channel
    return made


def test_a_code_is_of_channel_and_address_and_of_the_key() -> None:
    ann = Unsubscriber("email", "ann@shop.example")
    codes = {
        code_for(ann, KEY),
        code_for(replace(ann, channel="sms"), KEY),
        code_for(replace(ann, address="bob@shop.example"), KEY),
        code_for(ann, b"o" * 32),
    }
    assert len(codes) == 4
    assert all(is_code(code) for code in codes)
    assert code_for(ann, KEY) in codes, "every message to her has the same"


def test_marketing_by_mail_has_a_header_and_texts_their_address() -> None:
    writer = UnsubscribeWriter(ROOT, KEY)
    said, url = writer.written(message("email"), MAIL)
    code = code_for(Unsubscriber("email", "ann@shop.example"), KEY)
    assert url == f"{ROOT}/u/{code}"
    assert isinstance(said, EmailContent)
    assert (said.text, said.html) == (f"Stop: {url}", f'<a href="{url}">x')
    assert writer.used == {code: Unsubscriber("email", "ann@shop.example")}


@pytest.mark.parametrize(
    ("root", "channel", "said", "kept"),
    [
        (ROOT, "email", EmailContent(subject="Sale", text="x"), True),
        ("http://k.shop.example", "email", EmailContent(subject="Sale", text="x"), False),
        ("http://localhost:8080", "email", EmailContent(subject="Sale", text="x"), True),
        ("", "email", EmailContent(subject="Sale", text="x"), False),
        (ROOT, "sms", SmsContent(text="x {{name}}"), False),
        (ROOT, "push", SmsContent(text="{{unsubscribe}}"), False),
    ],
)
def test_nothing_is_kept_of_what_says_nothing_of_it(
    root: str, channel: str, said: Any, kept: bool
) -> None:
    writer = UnsubscribeWriter(root, KEY)
    assert writer.written(message(channel), said)[0] == said
    assert bool(writer.used) == kept


def test_a_text_is_priced_as_long_as_it_will_be() -> None:
    text = "Sale! {{ unsubscribe }}"
    asked = request()
    asked = replace(asked, content=replace(asked.content, text=text))
    said, _ = UnsubscribeWriter(ROOT, KEY).written(message(), SmsContent(text=text))
    priced = text_to_price(asked, "sms", LinkRules(f"{ROOT}/l"))
    assert len(priced) == len(said.text or "")
    assert "{{" not in (said.text or "{{")


def test_a_campaign_leaves_the_place_for_when_it_is_sent() -> None:
    template = template_of("Hi {{name}}, {{unsubscribe}} {{unsubscribed}}", as_text)
    assert template is not None
    assert template.names == {"name", "unsubscribed"}
    assert template.fill({"name": "Ann", "unsubscribed": "x"}) == "Hi Ann, {{unsubscribe}} x"
    assert template_of("{{ unsubscribe }}", as_text) is None
