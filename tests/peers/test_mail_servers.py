"""Our SMTP against other people's servers, with TLS and login: aiosmtpd and npm's smtp-server."""

from __future__ import annotations

import base64
import email
import json
import queue
import ssl
import subprocess
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from providers.contract import AccountFault, Outcome, Refused, SendFault, Submission, Submitted
from providers.settings import Configured
from providers.smtp.provider import SmtpProvider
from providers.smtp.settings import SmtpSettings, smtp_config
from tests.worlds.ports import free_port
from tests.worlds.provider_examples import submission
from tests.worlds.raw_server import TLS, server_context
from tests.worlds.simulated import came_to

HERE = Path(__file__).parent
WAIT_S = 30.0
SECRET = "s3cret"
CERTIFICATE, KEY = TLS / "localhost-cert.pem", TLS / "localhost-key.pem"


class Taken:
    """A mail as the server took it."""

    def __init__(self, sender: str, to: list[str], octets: bytes) -> None:
        self.sender = sender
        self.to = to
        self.read: EmailMessage = email.message_from_bytes(octets, policy=default)


class Server(Protocol):
    port: int
    tls: str

    def mail(self) -> Taken:
        """The next one that came."""
        ...


class Handler:
    """What aiosmtpd asks."""

    def __init__(self) -> None:
        self.mails: queue.Queue[Taken] = queue.Queue()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]
    ) -> str:
        if to.startswith("nobody@"):
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(to)
        return "250 2.1.5 Ok"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        octets = envelope.content
        assert isinstance(octets, bytes)
        self.mails.put(Taken(envelope.mail_from or "", envelope.rcpt_tos, octets))
        return "250 2.0.0 queued"


def authenticated(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    good = data == LoginPassword(b"kaskad", b"s3cret")
    return AuthResult(success=good, handled=False)


class Aiosmtpd:
    tls = "starttls"

    def __init__(self) -> None:
        self._handler = Handler()
        self.port = free_port()
        self._controller = Controller(
            self._handler,
            hostname="127.0.0.1",
            port=self.port,
            ready_timeout=WAIT_S,
            tls_context=server_context(),
            require_starttls=True,
            authenticator=authenticated,
            auth_required=True,
            enable_SMTPUTF8=True,
        )

    def __enter__(self) -> Aiosmtpd:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def mail(self) -> Taken:
        return self._handler.mails.get(timeout=WAIT_S)


class SmtpServer:
    """npm's."""

    def __init__(self, tls: str) -> None:
        self.tls = tls
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> SmtpServer:
        command = ["node", *map(str, (HERE / "mail_server.js", CERTIFICATE, KEY)), self.tls]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = json.loads(self._lines.get(timeout=WAIT_S))["port"]
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        self._reader.join()
        self._process.stdout.close()

    def mail(self) -> Taken:
        told = json.loads(self._lines.get(timeout=WAIT_S))
        assert told["secure"]
        return Taken(told["from"], told["to"], base64.b64decode(told["octets"]))


@pytest.fixture(params=["aiosmtpd", "smtp-server-starttls", "smtp-server-implicit"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: str = request.param
    if kind == "aiosmtpd":
        with Aiosmtpd() as started:
            yield started
    else:
        with SmtpServer(kind.rpartition("-")[2]) as npm:
            yield npm


def sent(server: Server, *batch: Submission, secret: str = SECRET) -> list[Outcome | SendFault]:
    """What each came to, over one provider."""
    settings = SmtpSettings(
        kind="smtp",
        host="localhost",
        port=server.port,
        tls=server.tls,  # type: ignore[arg-type] # one of the three
        user_env="USER",
        password_env="PASSWORD",
        from_="Магазин <news@shop.example>",
    )
    secrets = {"USER": "kaskad", "PASSWORD": secret}
    config = smtp_config(
        Configured(name="m", settings=settings, secret=lambda v: secrets[v or ""], callback_url="")
    )
    trusted = ssl.create_default_context(cafile=CERTIFICATE)
    return came_to(lambda: SmtpProvider(config, trusted), *([one] for one in batch))


def mail(ref: str, to: str = "anna@example.com", **changes: Any) -> Submission:
    said = {"sender": "Магазин <news@shop.example>", "from_": None}
    return submission(ref, to=to, **(said | changes))


def test_mails_come_as_they_were_written(server: Server) -> None:
    first = mail("m.1", text="Привет!\n.\n..два", html="<p>Привет!</p>", subject="Скидки")
    assert sent(server, first, mail("m.2")) == [
        Submitted("m.1", delivered=True),
        Submitted("m.2", delivered=True),
    ]
    taken = server.mail()
    assert (taken.sender, taken.to) == ("news@shop.example", ["anna@example.com"])
    assert taken.read["Subject"] == "Скидки"
    assert taken.read["From"] == "Магазин <news@shop.example>"
    assert taken.read["Message-ID"] == "<m.1@shop.example>"
    plain, html = taken.read.iter_parts()
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert plain.get_content().splitlines() == ["Привет!", ".", "..два"]
    assert html.get_content().strip() == "<p>Привет!</p>"
    assert server.mail().read["Message-ID"] == "<m.2@shop.example>"


def test_nobody_is_there_and_the_next_one_goes(server: Server) -> None:
    refused, good = sent(server, mail("m.1", "nobody@example.com"), mail("m.2"))
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable) == ("person", True)
    assert good == Submitted("m.2", delivered=True)
    assert server.mail().read["Message-ID"] == "<m.2@shop.example>"


def test_a_wrong_password_is_a_fault_of_the_account(server: Server) -> None:
    (fault,) = sent(server, mail("m.1"), secret="guess")
    assert isinstance(fault, AccountFault)


def test_a_large_mail_comes_whole(server: Server) -> None:
    html = "<p>Здравствуйте!</p>\r\n" * 900
    sent(server, mail("m.1", text="", html=html))
    assert server.mail().read.get_content().split() == html.split()
