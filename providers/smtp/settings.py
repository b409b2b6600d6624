"""The keys of a mail server, and those of the events that its owner reports of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec.structs import replace

from providers.contract import ProviderConfig
from providers.http.adapter import CallbackReader
from providers.http.callback_proofs import Signature
from providers.http.callback_settings import CallbackSettings
from providers.mail import mailbox
from providers.mail.events.table import EVENTS, EventSource
from providers.notation import Duration, Milliseconds, Text
from providers.settings import (
    Configured,
    TableFault,
    Variables,
    is_local_host,
    reading_faults,
    several,
)

Tls = Literal["starttls", "implicit", "none"]

PORTS: dict[Tls, int] = {"starttls": 587, "implicit": 465, "none": 25}


class SmtpSettings(CallbackSettings, frozen=True, kw_only=True):
    """`sender` is the name that people see where `from` has none; `ca_file` are the certificates
    that are trusted instead of the system's."""

    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    tls: Tls = "starttls"
    ca_file: Text | None = None
    user_env: Text | None = None
    password_env: Text | None = None
    from_: Text = msgspec.field(name="from")
    sender: Text = ""
    delivered_on: Literal["accepted", "event"] | None = None
    events: Literal["ses", "sendgrid", "mailgun", "postmark"] | None = None
    callback_key_env: Variables | None = None
    connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20
    timeout_ms: Milliseconds = Duration.parse("60s")
    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    retry_delay_ms: Milliseconds = Duration.parse("30s")

    @property
    def source(self) -> EventSource | None:
        return EVENTS[self.events] if self.events is not None else None

    def faults(self) -> Iterator[TableFault]:
        if not _is_host(self.host):
            yield "host", "is an address: write the name of the host alone, and `port`."
        try:
            mailbox.read(self.from_, self.sender)
        except ValueError as error:
            yield "from", f"cannot be used: {error}"
        for key, value, needs, other in (
            ("user_env", self.user_env, "password_env", self.password_env),
            ("password_env", self.password_env, "user_env", self.user_env),
        ):
            if value is not None and other is None:
                yield needs, f"is missing: {key} needs it."
        if self.ca_file is not None and self.tls == "none":
            yield "ca_file", "says nothing without TLS: leave it out."
        source = self.source
        if source is None:
            if self.delivered_on == "event":
                yield "delivered_on", 'is "event", which needs `events`: say who reports them.'
            if self.callback_key_env is not None:
                yield "callback_key_env", "says nothing without `events`: leave it out."
            return
        takes_key = source.signature is not None and source.needs_key
        if self.callback_key_env is not None and not takes_key:
            yield (
                "callback_key_env",
                f"is not used: {self.events} signs nothing with a key of yours.",
            )
        yield from self.proof_faults(signed=takes_key and self.callback_key_env is not None)

    def warnings(self) -> Iterator[TableFault]:
        if self.tls == "none" and not is_local_host(self.host):
            reason = (
                "is off to a server that is not local: its password and the mails can be read on "
                "the way."
            )
            yield "tls", reason

    def below(self, folder: Path) -> Self:
        return self if self.ca_file is None else replace(self, ca_file=str(folder / self.ca_file))

    def file_faults(self) -> Iterator[TableFault]:
        if self.ca_file is not None:
            yield from reading_faults("ca_file", self.ca_file, _trust)

    def secret_faults(self, secret: Callable[[str | None], str]) -> Iterator[TableFault]:
        if all(secret(variable) for variable in several(self.callback_key_env)):
            try:
                self.signature(secret, ())
            except ValueError as error:
                yield "callback_key_env", f"cannot be used: {error}"

    def signature(
        self,
        secret: Callable[[str | None], str],
        urls: tuple[str, ...],  # noqa: ARG002 - it is not signed
    ) -> Signature | None:
        source = self.source
        if source is None or source.signature is None:
            return None
        keys = tuple(secret(variable) for variable in several(self.callback_key_env))
        return source.signature(keys) if keys or not source.needs_key else None


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "/" not in text and ":" not in text
    return True


def _trust(octets: bytes) -> None:
    """Raises ValueError with the rest of a sentence."""
    import ssl  # a process that sends nothing needs it for this alone

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=octets.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("holds no certificates (PEM).") from error


class SmtpConfig(ProviderConfig, frozen=True, kw_only=True):
    """What the port is told. `accepted_is_delivered`: what the server took counts as delivered."""

    host: str
    port: int
    tls: Tls
    ca_file: str | None
    user: str
    password: str
    greets_as: str
    accepted_is_delivered: bool
    source: EventSource | None

    def tagged(self, ref: str) -> tuple[tuple[str, str], ...]:
        """The headers that come back in events."""
        return self.source.tags(ref) if self.source is not None else ()


def smtp_config(configured: Configured) -> SmtpConfig:
    """Raises ValueError with a sentence."""
    settings = configured.settings
    assert isinstance(settings, SmtpSettings), "a kind is given its own settings"
    sender = mailbox.read(settings.from_, settings.sender)
    delivered_on = settings.delivered_on or ("event" if settings.events else "accepted")
    return SmtpConfig(
        name=configured.name,
        kind=settings.kind,
        sender=str(sender.header),
        rate_per_s=int(settings.rate_per_s),
        timeout_ms=int(settings.timeout_ms),
        connections=settings.connections,
        host=settings.host,
        port=settings.port or PORTS[settings.tls],
        tls=settings.tls,
        ca_file=settings.ca_file,
        user=configured.secret(settings.user_env),
        password=configured.secret(settings.password_env),
        greets_as=sender.domain,
        accepted_is_delivered=delivered_on == "accepted",
        source=settings.source,
    )


def smtp_events(configured: Configured) -> CallbackReader | None:
    """What reads the events, where they are reported."""
    settings = configured.settings
    assert isinstance(settings, SmtpSettings), "a kind is given its own settings"
    return settings.source.reader if settings.source is not None else None
