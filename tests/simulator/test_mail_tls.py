"""The mail twin's TLS: our port sends through it with a login, and what comes in the clear is
refused as a mail service refuses it."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.contract import AccountFault, NotSent, Submitted
from providers.registry import KINDS
from providers.settings import Configured
from providers.simulator import CertificateFault, Settings, child
from providers.simulator.mail import certificate
from providers.smtp.settings import SmtpSettings
from tests.worlds import template
from tests.worlds.ports import free_port
from tests.worlds.provider_examples import submission
from tests.worlds.simulated import KNOBS, came_to

FROM = "Магазин <news@shop.example>"
SECRETS = {"U": "kaskad", "P": "simulator", "GUESS": "guess"}


class Simulated:
    def __init__(self, started: child.Child, folder: Path, ports: dict[str, int]) -> None:
        self.child = started
        self.ca_file = str(folder / certificate.CERTIFICATE)
        self.ports = ports

    def sends(self, text: str = "Привет", **changes: Any) -> object:
        """What one mail comes to by the settings of a configuration."""
        keys: dict[str, Any] = {"tls": "starttls", "ca_file": self.ca_file} | changes
        settings = SmtpSettings(
            kind="smtp",
            host="localhost",
            port=self.ports[keys["tls"]],
            user_env="U",
            from_=FROM,
            **({"password_env": "P"} | keys),
        )
        configured = Configured(
            name="m", settings=settings, secret=lambda v: SECRETS[v or ""], callback_url=""
        )
        mail = submission("m.1", to="anna@example.com", from_=None, sender=FROM, text=text)
        (met,) = came_to(lambda: KINDS["smtp"].connect(configured), [mail])
        return met


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    folder = tmp_path_factory.mktemp("tls") / "made"
    ports = {"starttls": free_port(), "implicit": free_port()}
    settings = Settings(
        knobs=KNOBS,
        smtp_port=ports["starttls"],
        smtps_port=ports["implicit"],
        smtp_tls=str(folder),
    )
    with template.simulation(settings) as started:
        yield Simulated(started, folder, ports)


@pytest.fixture
def simulator(running: Simulated) -> Simulated:
    running.child.reset()
    running.child.turn(email_share=1.0)
    return running


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_mail_is_taken_under_tls_with_a_login(simulator: Simulated, tls: str, size: int) -> None:
    assert simulator.sends("я " * (size // 2), tls=tls) == Submitted("m.1", delivered=True)
    assert list(simulator.child.bill().messages) == ["m.1"]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_another_password_is_a_fault_of_the_account(simulator: Simulated, tls: str) -> None:
    assert isinstance(simulator.sends(tls=tls, password_env="GUESS"), AccountFault)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_who_does_not_trust_the_certificate_sends_nothing(simulator: Simulated, tls: str) -> None:
    assert isinstance(simulator.sends(tls=tls, ca_file=None), NotSent)
    assert simulator.child.bill().messages == {}


def test_nothing_is_taken_in_the_clear(simulator: Simulated) -> None:
    with smtplib.SMTP("localhost", simulator.ports["starttls"], timeout=10) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        secret = base64.b64encode(b"\0kaskad\0simulator").decode()
        assert client.docmd("AUTH", f"PLAIN {secret}")[0] == 538
        assert client.docmd("MAIL", "FROM:<news@shop.example>")[0] == 530
        client.starttls(context=ssl.create_default_context(cafile=simulator.ca_file))
        client.ehlo()
        assert client.has_extn("auth")
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 500
        client.login("kaskad", "simulator")


def test_what_follows_starttls_in_the_clear_ends_the_connection(simulator: Simulated) -> None:
    with socket.create_connection(("localhost", simulator.ports["starttls"]), 10) as plain:
        stream = plain.makefile("rwb")
        assert stream.readline().startswith(b"220 ")
        stream.write(b"STARTTLS\r\nMAIL FROM:<news@shop.example>\r\n")
        stream.flush()
        assert stream.read() == b""


def test_a_certificate_is_kept_and_one_that_is_brought_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert certificate.of_folder(str(folder), 0, "mail.example") is not None
    names = ("smtp-cert.pem", "smtp-key.pem")
    made = [(folder / name).read_bytes() for name in names]
    assert (folder / "smtp-key.pem").stat().st_mode & 0o777 == 0o600
    assert certificate.of_folder(str(folder), 0, "mail.example") is not None
    assert [(folder / name).read_bytes() for name in names] == made
    (folder / "smtp-key.pem").unlink()
    with pytest.raises(CertificateFault, match="bring both"):
        certificate.of_folder(str(folder), 0, "mail.example")
    assert not (folder / "smtp-key.pem").exists()


def test_a_port_for_tls_needs_a_folder() -> None:
    assert certificate.of_folder("", 0, "127.0.0.1") is None
    with pytest.raises(CertificateFault, match="folder"):
        certificate.of_folder("", 465, "127.0.0.1")
