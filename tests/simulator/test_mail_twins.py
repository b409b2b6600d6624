"""Our ports of e-mail against their twins: the same people, faults and book, and events we take."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from providers.contract import (
    AccountFault,
    Outcome,
    Receipt,
    Refused,
    SendFault,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from providers.http.adapter import Receipts
from providers.http.client import HttpProvider
from providers.mail.events.table import EVENTS
from providers.settings import Configured
from providers.simulator import Settings, child
from providers.simulator.mail.sendgrid import verification_key
from providers.smtp.provider import SmtpProvider
from providers.smtp.settings import SmtpSettings, smtp_config
from providers.unisender_go.adapter import UniSenderGo
from providers.unisender_go.events import UniSenderSignature
from tests.worlds import template
from tests.worlds.ports import free_port
from tests.worlds.provider_examples import config, submission
from tests.worlds.simulated import KNOBS, came_to
from tests.worlds.simulator_webhook import Post, Webhook, call

KINDS = ("smtp postmark", "smtp mailgun", "smtp sendgrid", "unisender-go")
every_kind = pytest.mark.parametrize("kind", KINDS)
FROM = "Магазин <news@shop.example>"


class Simulated:
    def __init__(self, started: child.Child, smtp_port: int, webhook: Webhook) -> None:
        self.child = started
        self.smtp_port = smtp_port
        self.webhook = webhook


@pytest.fixture(scope="module")
def running() -> Iterator[Simulated]:
    port, webhook = free_port(), Webhook()
    with template.simulation(Settings(knobs=KNOBS, smtp_port=port)) as started:
        yield Simulated(started, port, webhook)
    webhook.close()


@pytest.fixture
def simulator(running: Simulated) -> Simulated:
    running.child.reset()
    running.webhook.forget()
    hooks = {kind: f"{running.webhook.url}/{kind}" for kind in ("smtp", "unisender-go")}
    running.child.turn(email_share=1.0, hooks=hooks)
    return running


def mail(ref: str, to: str = "anna@example.com") -> Submission:
    return submission(ref, to=to, from_=None, sender=FROM)


def sent(
    kind: str, simulator: Simulated, *batch: Submission, key: str = "simulator"
) -> list[Outcome | SendFault]:
    """What each mail came to."""
    return came_to(lambda: provider(kind, simulator, key), *([one] for one in batch))


def provider(kind: str, simulator: Simulated, key: str) -> SmtpProvider | HttpProvider:
    if kind == "unisender-go":
        settings = config(kind, base_url=simulator.child.base_url, api_key=key)
        return HttpProvider(settings, UniSenderGo(settings))
    events: Any = kind.partition(" ")[2]
    keys = SmtpSettings(
        kind="smtp",
        host="127.0.0.1",
        port=simulator.smtp_port,
        tls="none",
        user_env="U",
        password_env="P",
        from_=FROM,
        events=events,
        callback_token_env="T",
    )
    secrets = {"U": "kaskad", "P": key}
    return SmtpProvider(
        smtp_config(
            Configured(name="m", settings=keys, secret=lambda v: secrets[v or ""], callback_url="")
        )
    )


def told(kind: str, simulator: Simulated) -> list[Receipt]:
    """All receipts that were pushed, as ingress reads them."""
    simulator.child.flush(everything=True)
    receipts: list[Receipt] = []
    for post in simulator.webhook.posts:
        assert post.path == f"/{kind.partition(' ')[0]}"
        read = understood(kind, post)
        assert read.faults == []
        receipts += read.receipts
    return receipts


def understood(kind: str, post: Post) -> Receipts:
    """What a post says to ingress, and that whom we trust has signed it."""
    service = kind.partition(" ")[2]
    if service:
        source = EVENTS[service]
        if source.signature is not None:
            key, another = signing_keys(service)
            assert source.signature((key,)).holds(post.headers, post.body, b"")
            assert not source.signature((another,)).holds(post.headers, post.body, b"")
        return source.reader.receipts(post.body, "application/json")
    assert UniSenderSignature("simulator").holds({}, post.body, b"")
    return UniSenderGo(config(kind)).receipts(post.body, "application/json")


def signing_keys(service: str) -> tuple[str, str]:
    """Of the simulator, and of another one."""
    keys = ("simulator", "another")
    return keys if service == "mailgun" else (verification_key(keys[0]), verification_key(keys[1]))


@every_kind
def test_a_mail_arrives_and_is_opened_and_stands_in_the_book(
    kind: str, simulator: Simulated
) -> None:
    simulator.child.turn(email_delivered=1.0, email_undelivered=0.0, seen_share=1.0)
    assert sent(kind, simulator, mail("m.1"), mail("m.2", "boris@example.com")) == [
        Submitted("m.1"),
        Submitted("m.2"),
    ]
    found = [(receipt.ref, receipt.status) for receipt in told(kind, simulator)]
    assert sorted(found) == sorted((r, s) for r in ("m.1", "m.2") for s in ("delivered", "seen"))
    bill = simulator.child.bill()
    assert bill.charge == {"EUR": "0.0040"}
    assert bill.messages["m.1"].to == "anna@example.com"


@every_kind
def test_nobody_is_at_some_addresses(kind: str, simulator: Simulated) -> None:
    simulator.child.turn(email_share=0.0)
    assert sent(kind, simulator, mail("m.1")) == [Submitted("m.1")]
    (receipt,) = told(kind, simulator)
    assert (receipt.status, receipt.unreachable) == ("undelivered", True)
    simulator.child.turn(non_viber="reject")
    (refused,) = sent(kind, simulator, mail("m.2"))
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable) == ("person", True)


@every_kind
def test_a_mailbox_may_be_full(kind: str, simulator: Simulated) -> None:
    simulator.child.turn(email_delivered=0.0, email_undelivered=1.0)
    assert sent(kind, simulator, mail("m.1")) == [Submitted("m.1")]
    (receipt,) = told(kind, simulator)
    assert (receipt.status, receipt.unreachable) == ("undelivered", False)


@every_kind
def test_a_mail_that_comes_again_is_one(kind: str, simulator: Simulated) -> None:
    assert sent(kind, simulator, mail("m.1"), mail("m.1")) == [Submitted("m.1")] * 2
    bill = simulator.child.bill()
    assert (len(bill.messages), bill.messages["m.1"].requests) == (1, 2)


@every_kind
def test_who_writes_back_unsubscribes(kind: str, simulator: Simulated) -> None:
    stop = {"ending": "delivered", "seen": False, "reply": "STOP"}
    simulator.child.turn(by_phone={"anna@example.com": {"email": stop}})
    sent(kind, simulator, mail("m.1"))
    simulator.child.flush(everything=True)
    wishes = [reply for post in simulator.webhook.posts for reply in understood(kind, post).replies]
    assert [(reply.kind, reply.sender) for reply in wishes] == [("block", "anna@example.com")]


@every_kind
def test_who_reports_a_mail_as_spam_blocks_its_sender(kind: str, simulator: Simulated) -> None:
    arrive = {"email_delivered": 1.0, "email_undelivered": 0.0, "seen_share": 0.0}
    simulator.child.turn(**arrive, email_complained=1.0)
    knobs = simulator.child.knobs()
    wishes = []
    for ref, to in (("m.1", "anna@example.com"), ("m.2", "boris@example.com")):
        assert sent(kind, simulator, mail(ref, to)) == [Submitted(ref)]
        simulator.child.flush(everything=True)
        heard = [understood(kind, post) for post in simulator.webhook.posts]
        assert [each.faults for each in heard] == [[], []]
        (delivered,) = [receipt for each in heard for receipt in each.receipts]
        assert (delivered.ref, delivered.status) == (ref, "delivered")
        wishes += [reply for each in heard for reply in each.replies]
        simulator.child.reset()  # of which a new mail's complaint is not the repetition
        simulator.webhook.forget()
        simulator.child.turn(**knobs)
    told = [(reply.kind, reply.sender) for reply in wishes]
    assert told == [("block", "anna@example.com"), ("block", "boris@example.com")]
    assert len({reply.id for reply in wishes}) == 2


@every_kind
def test_another_key_is_a_fault_of_the_account(kind: str, simulator: Simulated) -> None:
    (fault,) = sent(kind, simulator, mail("m.1"), key="guess")
    assert isinstance(fault, AccountFault)
    assert simulator.child.bill().messages == {}


@every_kind
@pytest.mark.parametrize(
    ("knobs", "taken"),
    [
        ({"answer_lost_share": 1.0}, 1),
        ({"garbage_share": 1.0}, 1),
        ({"server_error_share": 1.0, "server_error_accepts": True}, 1),
        ({"lost_share": 1.0}, 0),
    ],
)
def test_what_became_of_a_mail_without_an_answer_is_unknown(
    kind: str, simulator: Simulated, knobs: dict[str, object], taken: int
) -> None:
    simulator.child.turn(**knobs)
    (fault,) = sent(kind, simulator, mail("m.1"))
    assert isinstance(fault, Unknown)
    assert len(simulator.child.bill().messages) == taken


def test_a_server_that_is_busy_takes_nothing(simulator: Simulated) -> None:
    simulator.child.turn(throttle_share=1.0)
    (refused,) = sent("smtp postmark", simulator, mail("m.1"))
    assert isinstance(refused, Refused)
    assert not refused.fault.permanent
    (fault,) = sent("unisender-go", simulator, mail("m.1"))
    assert isinstance(fault, Throttled)
    assert simulator.child.bill().messages == {}


def test_a_service_that_is_away_says_so(simulator: Simulated) -> None:
    simulator.child.turn(outage="unavailable")
    (fault,) = sent("smtp postmark", simulator, mail("m.1"))
    assert isinstance(fault, Throttled)
    simulator.child.turn(outage="refuse")
    (fault,) = sent("smtp postmark", simulator, mail("m.1"))
    assert isinstance(fault, SendFault)


def test_five_hundred_mails_are_one_request(simulator: Simulated) -> None:
    batch = [mail(f"m.{n}", f"p{n}@example.com") for n in range(500)]
    met = came_to(lambda: provider("unisender-go", simulator, "simulator"), batch)
    assert met == [Submitted(f"m.{n}") for n in range(500)]
    (sends,) = simulator.child.stats().requests.values()
    assert sends == {"200": 1}


def test_the_key_that_verifies_is_told_and_is_the_same_after_every_start(
    simulator: Simulated,
) -> None:
    told = call(simulator.child.port, "GET", "/_sim/keys").json
    assert told == {"sendgrid": verification_key("simulator")}
    with template.simulation(Settings(knobs=KNOBS)) as another:
        assert call(another.port, "GET", "/_sim/keys").json == told


def test_a_mail_that_asks_in_no_way_we_know_is_a_relays(simulator: Simulated) -> None:
    deep = "[" * 5_000
    asks = ('X-SMTPAPI: {"unique_args": 1}', "X-SMTPAPI: []", f"X-SMTPAPI: {deep}")
    for number, asked in enumerate((*asks, f"X-Mailgun-Variables: {deep}")):
        with smtplib.SMTP("127.0.0.1", simulator.smtp_port, timeout=10) as client:
            mail = f"From: a@b.example\r\nDate: now\r\nMessage-ID: <m.{number}@b.example>\r\n"
            text = f"{mail}{asked}\r\n\r\nHello"
            client.sendmail("a@b.example", ["anna@example.com"], text)
    simulator.child.flush(everything=True)
    assert simulator.webhook.posts == []
    assert len(simulator.child.bill().messages) == 4
