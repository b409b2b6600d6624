"""The mail server as a provider: sessions, stages of failure, and what is never sent twice."""

from __future__ import annotations

import base64
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.policy import default
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import (
    AccountFault,
    NotSent,
    Outcome,
    Refused,
    SendFault,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from providers.registry import KINDS
from providers.settings import Configured
from providers.smtp import connection
from providers.smtp.provider import SmtpProvider
from providers.smtp.settings import SmtpSettings, smtp_config
from providers.smtp.wire import Malformed, Reply, ReplyReader, content, extensions
from tests.worlds.mail_server import MailServer, mail_server
from tests.worlds.provider_examples import submission
from tests.worlds.raw_server import TLS

SECRETS = {"SMTP_USER": "kaskad", "SMTP_PASSWORD": "s3cret"}


def settings(**changes: Any) -> SmtpSettings:
    values: dict[str, Any] = {
        "kind": "smtp",
        "host": "localhost",
        "tls": "none",
        "from_": "Магазин <news@shop.example>",
    }
    return SmtpSettings(**(values | changes))


def mail(ref: str = "01J0000000000000000A.1", **changes: Any) -> Submission:
    return submission(ref, to="anna@example.com", **({"from_": None} | changes))


@asynccontextmanager
async def provider(server: MailServer, **changes: Any) -> AsyncIterator[SmtpProvider]:
    configured = Configured(
        name="mail",
        settings=settings(**({"host": "127.0.0.1", "port": server.port} | changes)),
        secret=lambda variable: SECRETS.get(variable or "", ""),
        callback_url="",
    )
    made = SmtpProvider(
        smtp_config(configured), ssl.create_default_context(cafile=TLS / "localhost-cert.pem")
    )
    yield made
    await made.aclose()


async def sent(made: SmtpProvider, one: Submission | None = None) -> Outcome:
    one = one or mail(sender=made.config.sender)
    (outcome,) = await made.deliver([one])
    return outcome


async def test_a_mail_is_taken_as_it_was_written() -> None:
    async with mail_server() as server, provider(server) as made:
        one = mail(
            sender=made.config.sender,
            subject="Скидки ко дню рождения",
            text="Здравствуйте!\n.точка в начале",
            html="<p>Здравствуйте!</p>",
            reply_to="Отдел <help@магазин.example>",
        )
        assert await sent(made, one) == Submitted(one.ref, delivered=True)
        assert server.commands[1].startswith("MAIL FROM:<news@shop.example> SIZE=")
        assert server.commands[2:] == ["RCPT TO:<anna@example.com>", "DATA"]
    (octets,) = server.mails
    assert octets.isascii()
    read = email.message_from_bytes(octets.replace(b"\r\n..", b"\r\n."), policy=default)
    assert read["From"] == "Магазин <news@shop.example>"
    assert read["Subject"] == "Скидки ко дню рождения"
    assert read["Reply-To"] == "Отдел <help@xn--80aairftm.example>"
    assert read["Message-ID"] == "<01J0000000000000000A.1@shop.example>"
    plain, html = read.iter_parts()
    assert plain.get_content().splitlines() == ["Здравствуйте!", ".точка в начале"]
    assert html.get_content().strip() == "<p>Здравствуйте!</p>"


@pytest.mark.parametrize("offers", [("PIPELINING",), ("SIZE 1000",)])
async def test_a_connection_serves_many_mails(offers: tuple[str, ...]) -> None:
    async with mail_server(offers=offers) as server:
        async with provider(server) as made:
            for number in range(5):
                outcome = await sent(made, mail(f"m.{number}", sender="n@s.example"))
                assert isinstance(outcome, Submitted)
        await server.until("QUIT", 1)
    assert (server.connections, len(server.mails)) == (1, 5)


async def test_a_connection_ends_after_as_many_mails_as_relays_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAILS_MAX", 2)
    async with mail_server() as server:
        async with provider(server) as made:
            for number in range(5):
                await sent(made, mail(f"m.{number}", sender="n@s.example"))
        await server.until("QUIT", 3)
    assert server.connections == 3


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls_comes_before_the_login(tls: str) -> None:
    async with (
        mail_server(tls=tls == "implicit") as server,
        provider(
            server, host="localhost", tls=tls, user_env="SMTP_USER", password_env="SMTP_PASSWORD"
        ) as made,
    ):
        assert isinstance(await sent(made), Submitted)
        assert isinstance(await sent(made), Submitted)
        assert server.connections == 1  # a session of TLS is gone on with as well
    secret = base64.b64encode(b"\0kaskad\0s3cret").decode()
    login = server.commands.index(f"AUTH PLAIN {secret}")
    if tls == "starttls":
        assert server.commands[:3] == ["EHLO shop.example", "STARTTLS", "EHLO shop.example"]
        assert login == 3


async def test_a_certificate_of_somebody_else_ends_the_session() -> None:
    async with (
        mail_server(tls=True) as server,
        provider(server, host="127.0.0.1", tls="implicit") as made,
    ):
        with pytest.raises(NotSent):
            await sent(made)
    assert server.mails == []


async def test_without_starttls_nothing_is_said_in_the_clear() -> None:
    async with (
        mail_server(offers=("AUTH PLAIN",)) as server,
        provider(
            server, tls="starttls", user_env="SMTP_USER", password_env="SMTP_PASSWORD"
        ) as made,
    ):
        with pytest.raises(AccountFault) as raised:
            await sent(made)
        assert raised.value.code == "no_starttls"
    assert server.commands == ["EHLO shop.example"]


async def test_what_follows_the_reply_to_starttls_is_not_taken_for_a_reply_under_it() -> None:
    answer = "220 go ahead\r\n250 injected"
    async with (
        mail_server(says={"STARTTLS": [answer]}) as server,
        provider(server, tls="starttls") as made,
    ):
        with pytest.raises(NotSent, match="follows"):
            await sent(made)


async def test_login_is_the_other_way_in() -> None:
    async with (
        mail_server(offers=("AUTH LOGIN",), says={"AUTH": ["334 VXNlcm5hbWU6"]}) as server,
        provider(server, user_env="SMTP_USER", password_env="SMTP_PASSWORD") as made,
    ):
        server.says["a2Fza2Fk"] = []
        server.says["S2FZA2FK"] = ["334 UGFzc3dvcmQ6"]
        server.says["CZNJCMV0"] = ["235 welcome"]
        assert isinstance(await sent(made), Submitted)
    assert server.commands[1:4] == ["AUTH LOGIN", "a2Fza2Fk", "czNjcmV0"]


LOGIN = {"user_env": "SMTP_USER", "password_env": "SMTP_PASSWORD"}


@pytest.mark.parametrize(
    ("says", "kind", "code"),
    [
        ({"HELLO": ["421 4.3.2 busy"]}, Throttled, "4.3.2"),
        ({"HELLO": ["554 5.7.1 go away"]}, AccountFault, "5.7.1"),
        ({"HELLO": [""]}, NotSent, "connection_lost"),
        ({"HELLO": ["HTTP/1.1 400 Bad Request"]}, NotSent, "connection_lost"),
        ({"AUTH": ["535 5.7.8 wrong"]}, AccountFault, "5.7.8"),
        ({"AUTH": ["454 4.7.0 later"]}, Throttled, "4.7.0"),
        ({"AUTH": [""]}, NotSent, "connection_lost"),
        ({"MAIL": ["530 5.7.0 log in first"]}, AccountFault, "5.7.0"),
        ({"MAIL": ["451 4.3.0 later"]}, Throttled, "4.3.0"),
        ({"MAIL": [""]}, NotSent, "connection_lost"),
        ({"RCPT": ["421 4.7.0 too many"]}, Throttled, "4.7.0"),
        ({"RCPT": [""]}, NotSent, "connection_lost"),
        ({"DATA": [""]}, NotSent, "connection_lost"),
        ({"END": ["421 4.3.0 closing"]}, Throttled, "4.3.0"),
        ({"END": [""]}, Unknown, "answer_lost"),
        ({"END": ["what?"]}, Unknown, "answer_lost"),
    ],
)
async def test_a_failure_keeps_its_stage(
    says: dict[str, list[str]], kind: type[SendFault], code: str
) -> None:
    async with mail_server(says=says) as server, provider(server, **LOGIN) as made:
        with pytest.raises(SendFault) as raised:
            await sent(made)
        assert (type(raised.value), raised.value.code) == (kind, code)
        assert isinstance(await sent(made), Submitted)  # and the next one goes


@pytest.mark.parametrize(
    ("stage", "reply", "about", "permanent", "unreachable"),
    [
        ("MAIL", "550 5.7.1 sender not allowed", "account", True, False),
        ("MAIL", "552 5.3.4 too large", "message", True, False),
        ("RCPT", "550 5.1.1 no such user", "person", True, True),
        ("RCPT", "550 no such user", "person", True, True),
        ("RCPT", "550 5.1.10 null mx", "person", True, True),
        ("RCPT", "550 5.2.1 disabled", "person", True, True),
        ("RCPT", "552 5.2.2 mailbox full", "person", False, False),
        ("RCPT", "450 4.2.0 greylisted", "person", False, False),
        ("RCPT", "550 relaying denied", "account", True, False),
        ("RCPT", "554 5.7.1 relay access denied", "account", True, False),
        ("RCPT", "550 5.4.4 no route", "person", True, False),
        ("DATA", "554 5.5.1 no valid recipients", "account", True, False),
        ("END", "451 4.7.1 greylisted", "person", False, False),
        ("END", "554 5.7.1 spam", "account", True, False),
        ("END", "554 no", "account", True, False),
        ("END", "552 too large", "message", True, False),
        ("END", "550 5.6.0 bad mime", "message", True, False),
    ],
)
async def test_a_refusal_says_whom_it_speaks_of(
    stage: str, reply: str, about: str, permanent: bool, unreachable: bool
) -> None:
    async with mail_server(says={stage: [reply]}) as server, provider(server) as made:
        outcome = await sent(made)
        assert isinstance(outcome, Refused)
        assert (outcome.about, outcome.fault.permanent, outcome.unreachable, outcome.account) == (
            *(about, permanent, unreachable, False),
        )
        assert outcome.fault.name == reply
        assert isinstance(await sent(made), Submitted)


async def test_no_address_that_a_server_quotes_is_kept() -> None:
    said = "550 5.1.1 <anna@example.com>: unknown (id=79161234567, mailto:anna@example.com)"
    async with mail_server(says={"RCPT": [said]}) as server, provider(server) as made:
        outcome = await sent(made)
        assert isinstance(outcome, Refused)
        assert outcome.fault.name == "550 5.1.1 <…>: unknown (id=…, mailto:…)"
    says = {"MAIL": ["451 4.3.0 anna@example.com later"]}
    async with mail_server(says=says) as server, provider(server) as made:
        with pytest.raises(Throttled) as raised:
            await sent(made)
        assert "anna" not in raised.value.detail


async def test_a_refused_mail_leaves_the_connection_good() -> None:
    says = {"RCPT": ["550 5.1.1 none"], "DATA": ["503 5.5.1 no recipient"]}
    async with mail_server(says=says) as server, provider(server) as made:
        assert isinstance(await sent(made), Refused)
        assert isinstance(await sent(made), Submitted)
    assert server.connections == 1
    assert "RSET" in server.commands


@pytest.mark.parametrize("offers", [("PIPELINING",), ("SIZE 1000",)])
async def test_a_refusal_counts_though_the_connection_ends_with_it(
    offers: tuple[str, ...],
) -> None:
    says = {"RCPT": ["550 5.1.1 no such user"], "DATA": [""]}
    async with mail_server(offers=offers, says=says) as server, provider(server) as made:
        outcome = await sent(made)
        assert isinstance(outcome, Refused)
        assert (outcome.fault.code, outcome.unreachable) == ("5.1.1", True)
        assert isinstance(await sent(made), Submitted)


async def test_a_busy_server_that_ends_the_connection_is_waited_for() -> None:
    says = {"MAIL": ["421 4.7.0 too many"], "RCPT": [""]}
    async with mail_server(says=says) as server, provider(server) as made:
        with pytest.raises(Throttled):
            await sent(made)
        assert server.connections == 1


async def test_a_server_that_wants_a_mail_for_nobody_gets_none() -> None:
    """It takes DATA although it refused the only recipient."""
    async with mail_server(says={"RCPT": ["550 5.1.1 none"]}) as server, provider(server) as made:
        assert isinstance(await sent(made), Refused)
        assert isinstance(await sent(made), Submitted)
    assert (server.connections, len(server.mails)) == (2, 1)


async def test_a_connection_that_its_server_closed_is_not_an_outage() -> None:
    says = {"MAIL": ["250 ok", "421 4.4.2 idle"]}
    async with mail_server(says=says) as server, provider(server) as made:
        assert isinstance(await sent(made), Submitted)
        assert isinstance(await sent(made), Submitted)
    assert (server.connections, len(server.mails)) == (2, 2)


@pytest.mark.parametrize("offers", [(), ("PIPELINING",)])
async def test_a_reply_that_nobody_asked_for_is_not_taken_for_an_answer(
    offers: tuple[str, ...],
) -> None:
    """It would make each reply the answer to the command after its own."""
    says = {"MAIL": ["250 ok", "250 stray\r\n250 ok"]}
    async with mail_server(offers=offers, says=says) as server, provider(server) as made:
        for number in range(3):
            assert isinstance(await sent(made), Submitted), number
    assert (server.connections, len(server.mails)) == (2, 3)


async def test_a_stray_reply_after_a_mail_ends_its_connection() -> None:
    says = {"END": ["250 ok\r\n250 stray"], "MAIL": ["250 ok", "550 5.7.1 no"]}
    async with mail_server(says=says) as server, provider(server) as made:
        assert isinstance(await sent(made), Submitted)
        assert isinstance(await sent(made), Refused)
    assert (server.connections, len(server.mails)) == (2, 1)


async def test_a_mail_is_not_accepted_by_a_question() -> None:
    async with mail_server(says={"END": ["354 go on"]}) as server, provider(server) as made:
        with pytest.raises(Unknown):
            await sent(made)
    assert len(server.mails) == 1


async def test_a_login_that_does_not_end_is_none() -> None:
    says = {"AUTH": ["334 "]}
    async with mail_server(says=says) as server:
        names = {"user_env": "SMTP_USER", "password_env": "SMTP_PASSWORD"}
        async with provider(server, **names) as made:
            with pytest.raises(NotSent):
                await sent(made)
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_a_host_that_no_name_can_be_is_not_sent_to() -> None:
    async with mail_server() as server, provider(server, host="mail..example") as made:
        with pytest.raises(NotSent):
            await sent(made)


async def test_a_lost_answer_is_never_sent_again() -> None:
    async with mail_server(says={"END": ["250 ok", ""]}) as server, provider(server) as made:
        assert isinstance(await sent(made), Submitted)
        with pytest.raises(Unknown):
            await sent(made)
    assert (server.connections, len(server.mails)) == (1, 2)


@pytest.mark.parametrize(("stage", "kind"), [("RCPT", NotSent), ("END", Unknown)])
async def test_time_that_is_over_keeps_the_stage(
    stage: str, kind: type[SendFault], mock_clock: trio.testing.MockClock
) -> None:
    async def hang() -> None:
        with pytest.raises(kind):
            await sent(made)

    async with (
        mail_server(says={stage: ["hang"]}) as server,
        provider(server) as made,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hang)
        await server.hanging.wait()
        mock_clock.jump(61)


async def test_an_address_of_another_script_needs_a_server_that_takes_it() -> None:
    cyrillic = msgspec.structs.replace(mail(sender="n@s.example"), to="анна@пример.example")
    async with mail_server() as server, provider(server) as made:
        outcome = await sent(made, cyrillic)
        assert isinstance(outcome, Refused)
        assert (outcome.fault.code, outcome.about) == ("5.6.7", "message")
        assert server.mails == []
    async with mail_server(offers=("SMTPUTF8",)) as server, provider(server) as made:
        assert isinstance(await sent(made, cyrillic), Submitted)
    assert server.commands[1].endswith(" SMTPUTF8")
    assert server.commands[2] == "RCPT TO:<анна@xn--e1afmkfd.example>"


async def test_what_cannot_be_written_is_refused_alone() -> None:
    async with mail_server() as server, provider(server) as made:
        outcome = await sent(made, mail(sender="n@s.example", reply_to="nobody"))
        assert isinstance(outcome, Refused)
        assert (outcome.fault.code, outcome.about) == ("unsendable", "message")
    assert server.connections == 0


@pytest.mark.parametrize(
    ("changes", "delivered"),
    [
        ({}, True),
        ({"events": "postmark", "callback_token_env": "T"}, False),
        ({"events": "postmark", "callback_token_env": "T", "delivered_on": "accepted"}, True),
    ],
)
async def test_when_a_mail_counts_as_delivered(changes: dict[str, Any], delivered: bool) -> None:
    async with mail_server() as server, provider(server, **changes) as made:
        assert await sent(made) == Submitted(mail().ref, delivered=delivered)


async def test_connections_that_rest_are_ended(mock_clock: trio.testing.MockClock) -> None:
    async with (
        mail_server() as server,
        provider(server) as made,
        trio.open_nursery() as nursery,
    ):
        await sent(made)
        nursery.start_soon(made.run, _nobody)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(2 * connection.IDLE_S_MAX)
        await server.until("QUIT", 1)
        nursery.cancel_scope.cancel()


async def _nobody(receipts: Any, replies: Any = (), late: Any = ()) -> None:
    raise AssertionError("nothing comes this way")


def test_replies_of_any_cut_are_the_same() -> None:
    octets = b"250-mail\r\n250-SIZE 10\r\n250 AUTH=LOGIN\r\n550 5.1.1 \xff no\r\n"
    for cut in range(len(octets)):
        reader, found = ReplyReader(), []
        for piece in (octets[:cut], octets[cut:]):
            reader.feed(piece)
            while (reply := reader.next()) is not None:
                found.append(reply)
        first, second = found
        assert extensions(first) == {"SIZE": "10", "AUTH": "LOGIN"}
        assert (second.code, second.enhanced, second.good) == (550, "5.1.1", False)
    assert Reply(250, ("",)).enhanced == ""


@pytest.mark.parametrize("octets", [b"no\r\n", b"99 x\r\n", b"2500 x\r\n", b"x" * 70_000])
def test_what_is_no_reply_is_malformed(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    with pytest.raises(Malformed):
        reader.next()


@pytest.mark.parametrize("line", [b"250-" + b"x" * 60_000 + b"\r\n", b"250-\r\n"])
def test_a_reply_is_bounded_whatever_its_lines_are(line: bytes) -> None:
    reader = ReplyReader()
    for _ in range(3):  # each reply on its own
        reader.feed(b"250-" + b"x" * 40_000 + b"\r\n250 ok\r\n")
        assert reader.next() is not None
    for _ in range(65_536 // len(line)):
        reader.feed(line)
        assert reader.next() is None
    reader.feed(line)
    with pytest.raises(Malformed, match="over 65536 bytes"):
        reader.next()


@given(octets=st.binary(max_size=60) | st.binary(max_size=6).map(lambda b: b"250-ok\r\n" + b))
def test_any_bytes_are_replies_or_malformed(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    try:
        while (reply := reader.next()) is not None:
            assert 200 <= reply.code < 600
            assert reply.lines
            extensions(reply)
    except Malformed:
        return


def test_lines_that_begin_with_a_dot_are_stuffed() -> None:
    assert content(b".a\r\n.b\r\nc") == b"..a\r\n..b\r\nc\r\n.\r\n"


def test_its_kind_is_one_of_the_table() -> None:
    assert KINDS["smtp"].channel == "email"
