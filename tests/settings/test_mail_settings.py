"""The tables of the two kinds that send e-mail: what they need, and what is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import bootstrap
from gateway.settings.file import Settings, SettingsError, parse
from providers.smtp.settings import SmtpSettings, smtp_config
from tests.worlds.raw_server import TLS

ENV = {"USER": "u", "PASSWORD": "p", "KEY": "k3y", "TOKEN": "t0k"}
SMTP = 'kind = "smtp"\nhost = "mail.example"\nfrom = "Shop <news@shop.example>"\n'
GO = 'kind = "unisender-go"\nbase_url = "https://go1.unisender.ru"\napi_key_env = "KEY"\n'


def read(table: str, *more: str) -> Settings:
    text = "[providers.mail]\n" + table + "\n".join(more)
    return parse(text, Path("/etc/kaskad/k.toml"), ENV)


def told(table: str, *more: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read(table, *more)
    return {f.key.removeprefix("providers.mail."): f.reason for f in caught.value.faults}


def test_a_mail_server_needs_a_host_and_a_sender() -> None:
    config = smtp_config(read(SMTP).provider("mail"))
    assert (config.host, config.port, config.tls) == ("mail.example", 587, "starttls")
    assert (config.sender, config.greets_as) == ("Shop <news@shop.example>", "shop.example")
    assert config.accepted_is_delivered
    assert set(told('kind = "smtp"')) == {"host", "from"}


@pytest.mark.parametrize("host", ["mail.example", "10.0.0.1", "2001:db8::25", "::1", "relay"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert smtp_config(read(SMTP.replace("mail.example", host)).provider("mail")).host == host


@pytest.mark.parametrize(("tls", "port"), [("implicit", 465), ("none", 25), ("starttls", 587)])
def test_its_port_follows_from_its_tls(tls: str, port: int) -> None:
    assert smtp_config(read(SMTP, f'tls = "{tls}"').provider("mail")).port == port
    own = smtp_config(read(SMTP, f'tls = "{tls}"', "port = 2525").provider("mail"))
    assert own.port == 2525


def test_the_name_that_people_see_may_stand_apart() -> None:
    table = SMTP.replace("Shop <news@shop.example>", "news@shop.example")
    assert smtp_config(read(table, 'sender = "Магазин"').provider("mail")).sender == (
        "Магазин <news@shop.example>"
    )


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('host = "smtp://mail.example"', "host"),
        ('host = "mail.example:25"', "host"),
        ('from = "Shop"', "from"),
        ('user_env = "USER"', "password_env"),
        ('password_env = "PASSWORD"', "user_env"),
        ('user_env = "USER"\npassword_env = "GONE"', "password_env"),
        ('delivered_on = "event"', "delivered_on"),
        ('callback_key_env = "KEY"', "callback_key_env"),
        ('events = "mailgun"', "mail"),
        ('events = "sendgrid"', "mail"),
        ('events = "ses"', "mail"),
        ('events = "postmark"', "mail"),
        (
            'events = "postmark"\ncallback_token_env = "TOKEN"\ncallback_key_env = "KEY"',
            "callback_key_env",
        ),
        ('events = "ses"\ncallback_key_env = "KEY"', "callback_key_env"),
        ('events = "other"', "events"),
        ('callback_basic_user = "a"\nevents = "postmark"', "callback_basic_password_env"),
    ],
)
def test_what_cannot_work_is_told_at_its_key(more: str, key: str) -> None:
    name = more.partition(" =")[0]
    kept = "".join(line + "\n" for line in SMTP.splitlines() if not line.startswith(name + " "))
    faults = told(kept, more)
    assert key in [fault.removeprefix("providers.") for fault in faults]


@pytest.mark.parametrize(
    "more",
    [
        'events = "mailgun"\ncallback_key_env = "KEY"',
        'events = "mailgun"\ncallback_key_env = ["KEY", "TOKEN"]',
        'events = "mailgun"\ncallback_token_env = "TOKEN"',
        'events = "ses"\ncallback_token_env = "TOKEN"',
        'events = "postmark"\ncallback_basic_user = "a"\ncallback_basic_password_env = "KEY"',
        'events = "postmark"\ncallback_token_env = "TOKEN"\ndelivered_on = "accepted"',
    ],
)
def test_events_need_a_proof_and_any_will_do(more: str) -> None:
    settings = read(SMTP, more)
    assert bootstrap.callback_readers_of(settings)["mail"].channel == "email"
    auth = bootstrap.callback_auths_of(settings)["mail"]
    assert (auth.signature is not None) == ("callback_key_env" in more or '"ses"' in more)
    config = smtp_config(settings.provider("mail"))
    assert config.accepted_is_delivered == ("delivered_on" in more)


def test_a_key_that_is_none_is_told_before_anything_starts() -> None:
    faults = told(SMTP, 'events = "sendgrid"\ncallback_key_env = "KEY"')
    assert "verification key" in faults["callback_key_env"]


def test_a_password_in_the_clear_is_warned_of_but_for_this_machine() -> None:
    login = 'tls = "none"\nuser_env = "USER"\npassword_env = "PASSWORD"'
    (warning,) = [w for w in read(SMTP, login).warnings if "mail.tls" in w]
    assert "password" in warning
    local = SMTP.replace("mail.example", "localhost")
    assert not [w for w in read(local, login).warnings if "mail.tls" in w]


@pytest.mark.parametrize(
    "sender",
    [
        'sender = "Shop <news@shop.example>"',
        'from = "Shop <news@shop.example>"',
        'from = "news@shop.example"\nsender = "Shop"',
    ],
)
def test_unisender_needs_a_sender_and_no_proof_but_its_own(sender: str) -> None:
    settings = read(GO, sender)
    kind = bootstrap.callback_auths_of(settings)["mail"]
    assert (kind.only_signed, kind.greeted) == (True, True)
    reader = bootstrap.callback_readers_of(settings)["mail"]
    assert reader.channel == "email"
    from providers.http.settings import http_config

    assert http_config(settings.provider("mail")).sender == "Shop <news@shop.example>"
    assert "from" in told(GO)
    assert "from" in told(GO, 'sender = "Shop"')


def test_the_certificates_to_trust_lie_beside_the_configuration(tmp_path: Path) -> None:
    settings = SmtpSettings(kind="smtp", host="h", from_="n@s.example", ca_file="ca.pem")
    below = settings.below(tmp_path)
    assert below.ca_file == str(tmp_path / "ca.pem")
    assert [fault[0] for fault in below.file_faults()] == ["ca_file"]
    for content in ("", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n", "ж"):
        (tmp_path / "ca.pem").write_text(content)
        ((key, sentence),) = below.file_faults()
        assert (key, sentence.endswith("which holds no certificates (PEM).")) == ("ca_file", True)
    (tmp_path / "ca.pem").write_bytes((TLS / "localhost-cert.pem").read_bytes())
    assert list(below.file_faults()) == []


def test_no_certificate_is_trusted_where_there_is_no_tls() -> None:
    assert "without TLS" in told(SMTP, 'tls = "none"', 'ca_file = "ca.pem"')["ca_file"]
