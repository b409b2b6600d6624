"""E-mails as they are written: addresses, alternatives, and headers that hold what they should."""

from __future__ import annotations

import email
import json
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import BadRequest, Refused, Submitted
from providers.mail import mailbox, mime
from providers.mail.mailbox import Mailbox
from providers.unisender_go.adapter import UniSenderGo
from tests.worlds.provider_examples import config, reply, submission

AT = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)
SHOP = Mailbox("news", "shop.example", "Магазин")
ANNA = Mailbox("anna", "example.com")


def written(sender: Mailbox = SHOP, to: Mailbox = ANNA, **changes: Any) -> EmailMessage:
    octets = mime.written(submission("m.1", **changes), sender, to, AT)
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert b"\n" not in octets.replace(b"\r\n", b"")
    return email.message_from_bytes(octets, policy=default)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("news@shop.example", Mailbox("news", "shop.example")),
        ("Shop <news@Shop.Example>", Mailbox("news", "shop.example", "Shop")),
        ('"Shop, the best" <a@b.example>', Mailbox("a", "b.example", "Shop, the best")),
        ("Магазин <почта@пример.рф>", Mailbox("почта", "xn--e1afmkfd.xn--p1ai", "Магазин")),
        ("  a.b+c@d.example ", Mailbox("a.b+c", "d.example")),
        ('ООО "Ромашка" <a@b.example>', Mailbox("a", "b.example", 'ООО "Ромашка"')),
        (r'"ООО \"Ромашка\"" <a@b.example>', Mailbox("a", "b.example", 'ООО "Ромашка"')),
        ('"A" and "B" <a@b.example>', Mailbox("a", "b.example", '"A" and "B"')),
        (r'"back\\slash" <a@b.example>', Mailbox("a", "b.example", r"back\slash")),
    ],
)
def test_a_mailbox_is_read_with_or_without_a_name(text: str, found: Mailbox) -> None:
    assert mailbox.read(text) == found
    assert mailbox.read(str(found.header)) == found, "as a configured one is given to its port"
    if found.local.isascii():
        assert written(sender=found)["From"].addresses[0].display_name == found.name
    named = mailbox.read(text, "Somebody")
    assert named.name == (found.name or "Somebody")


def test_words_of_a_server_are_kept_without_whom_they_quote() -> None:
    told = "<anna@shop.example>: mailto:bob@a.example 79161234567 is 1234567unknown (c@d)"
    assert mailbox.blanked(told) == "<…>: mailto:… … is …unknown (…)"


def test_a_server_that_says_one_long_word_is_read_once() -> None:
    began = time.process_time()
    assert mailbox.blanked("x" * 100_000) == "x" * 100_000
    with pytest.raises(ValueError, match="mailbox"):
        mailbox.read("a@" + "\u0301\u0327" * 40_000)
    # From each letter to the end it took half a minute, and marks took the square of their number.
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "Shop", "@b.example", "a@", "a b@c.example", "a@b@c.example", "<a@b.example"),
        *("a@b.example>", "a..b@c.example", ".a@b.example", "a@-.example", "x" * 65 + "@b.example"),
        *("S\r\nBcc: x@y.example <a@b.example>", "a@b.example\nBcc: x", "a\x00@b.example"),
        *("=?utf-8?q?=22?= <a@b.example>", "=?utf-8?q?a=0ABcc:_x?=@b.example"),
    ],
)
def test_what_is_no_mailbox_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"mailbox|domain|name"):
        mailbox.read(text)


def test_text_and_html_are_alternatives_and_a_text_alone_is_plain() -> None:
    plain = written(text="Здравствуйте!")
    assert plain.get_content_type() == "text/plain"
    assert plain.get_content().strip() == "Здравствуйте!"
    both = written(text="Здравствуйте!", html="<b>Здравствуйте!</b>")
    assert both.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in both.iter_parts()] == ["text/plain", "text/html"]
    alone = written(text="", html="<b>!</b>")
    assert (alone.get_content_type(), alone.get_content().strip()) == ("text/html", "<b>!</b>")


def test_names_and_subjects_may_be_of_any_script() -> None:
    read = written(subject="Скидки!" * 20)
    assert read["Subject"] == "Скидки!" * 20
    assert read["From"] == "Магазин <news@shop.example>"
    assert read["Date"].datetime == AT


def test_a_mail_has_the_same_id_at_every_try() -> None:
    assert mime.message_id("m.1", "s.example") == mime.message_id("m.1.7", "s.example")
    assert mime.message_id("m.1", "s.example") != mime.message_id("m.2", "s.example")


def test_only_what_nobody_ordered_is_generated() -> None:
    assert written(category="otp")["Auto-Submitted"] == "auto-generated"
    assert written(category="marketing")["Auto-Submitted"] is None


def test_one_click_unsubscribes() -> None:
    read = written(unsubscribe_url="https://k.shop.example/u/AbC123")
    assert read["List-Unsubscribe"] == "<https://k.shop.example/u/AbC123>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert written(unsubscribe_url="http://127.0.0.1:8080/u/A")["List-Unsubscribe"] is not None
    assert written()["List-Unsubscribe"] is None


@pytest.mark.parametrize(
    "url", ["http://k.example/u/1", "https://k.example/ 1", "https://k.example/\r\nBcc: a", "/u/1"]
)
def test_one_click_is_offered_at_an_https_address_only(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        written(unsubscribe_url=url)


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?a=0ABcc:_evil@x.example?=",
        "=?utf-8?b?YQ0KQmNjOiB4QHguZXhhbXBsZQ0KDQouDQo=?= and more",
        "=??q?=0Autf-8?=??=",
        "Sale " * 40 + "=?utf-8?q?a?=",
    ],
)
def test_what_is_encoded_in_a_subject_is_text_like_any_other(subject: str) -> None:
    assert written(subject=subject)["Subject"] == subject


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b"])
def test_a_subject_cannot_end_the_headers(end: str) -> None:
    with pytest.raises(ValueError, match="Subject"):
        written(subject=f"Sale{end}")


@given(
    subject=st.text(max_size=80) | st.text(max_size=40).map("a =?utf-8?q?{}=0ABcc:?=".format),
    name=st.text(max_size=80),
    text=st.text(max_size=200),
    html=st.none() | st.text(max_size=200),
)
def test_no_text_makes_a_header_of_its_own(
    subject: str, name: str, text: str, html: str | None
) -> None:
    """Whatever is asked for, there are these headers or there is no mail."""
    try:
        read = written(Mailbox("n", "s.example", name), subject=subject, text=text, html=html)
    except (ValueError, UnicodeEncodeError):
        return
    assert {name.lower() for name in read.keys()} <= {  # noqa: SIM118 - repeated ones count
        *("from", "to", "subject", "date", "message-id", "mime-version"),
        *("content-type", "content-transfer-encoding"),
    }
    assert read["From"].addresses[0].addr_spec == "n@s.example"
    assert len(read.get_all("To", [])) == 1


@pytest.mark.parametrize(
    "changes",
    [{"from_": "nobody"}, {"reply_to": "nobody"}, {"unsubscribe_url": "http://k.example"}],
)
def test_a_batch_that_holds_what_cannot_be_written_is_refused_before_it_is_sent(
    changes: dict[str, Any],
) -> None:
    """So that it is split, and none of the others is taken for lost."""
    adapter = UniSenderGo(config("unisender-go", sender="news@shop.example"))
    with pytest.raises(BadRequest) as refused:
        adapter.submit([submission("m.1", to="anna@example.com", **({"from_": None} | changes))])
    assert refused.value.code == "unsendable"


@pytest.mark.parametrize("why", ["unsubscribed", "complained", "blocked"])
def test_an_address_that_unisender_does_not_send_to_is_a_persons(why: str) -> None:
    adapter = UniSenderGo(config("unisender-go", sender="news@shop.example"))
    sent = submission("m-0.1", to="anna@shop.example")
    body = json.dumps({"status": "success", "failed_emails": {sent.to: why}}).encode()
    (refused,) = adapter.outcomes([sent], reply(200, body))
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable, refused.fault.permanent) == ("person", False, True)
    assert refused.opted_out == (why != "blocked")


@pytest.mark.parametrize("empty", [[], {}, None])
def test_that_no_address_failed_may_be_said_in_any_way(empty: object) -> None:
    adapter = UniSenderGo(config("unisender-go", sender="news@shop.example"))
    sent = submission("m-0.1", to="anna@shop.example")
    body = {"status": "success", "emails": [sent.to], "failed_emails": empty}
    (taken,) = adapter.outcomes([sent], reply(200, json.dumps(body).encode()))
    assert isinstance(taken, Submitted)
    with pytest.raises(BadRequest):
        adapter.outcomes([sent], reply(400, json.dumps(body | {"emails": []}).encode()))
