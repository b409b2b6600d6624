"""The keys of a provider that is spoken to by SMPP, and what its sessions are told of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from providers.contract import ProviderConfig
from providers.notation import Duration, Milliseconds, Text
from providers.settings import (
    Configured,
    ProviderSettings,
    TableFault,
    Variables,
    is_local,
    several,
)
from providers.smpp.receipts import IdFormat
from providers.smpp.texts import Encoding, Long

Ton = Annotated[int, msgspec.Meta(ge=0, le=255)]
Bind = Literal["trx", "tx+rx"]

# One that has the window, and one that takes the room that its answers make. A batch may fill the
# window: what is claimed and recorded together is twice as many as with half of it, which took 540
# instead of 660 µs CPU a message (medians of four in turn, window 100, a crowded machine,
# 2026-11-29).
BATCHES_A_BIND: Final = 2
RESPONSE_TIMEOUT_MS_MAX: Final = 40_000
PARTS_MS: Final = 10_000  # for parts that are sent again, and for a session
SYSTEM_ID_CHARS_MAX: Final = 15
SYSTEM_TYPE_CHARS_MAX: Final = 12
PASSWORD_CHARS_MAX: Final = 64

_host = re.compile(r"[A-Za-z0-9.:_-]{1,253}").fullmatch


class SmppSettings(ProviderSettings, frozen=True, kw_only=True):
    """`connections` bounds the messages under way, in batches of `window`; `timeout` is for
    connecting and binding."""

    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 2775
    tls: bool = False
    system_id: Text
    password_env: Variables | None = None
    system_type: str = ""
    bind: Bind = "trx"
    binds: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    window: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    enquire_link_ms: Milliseconds = Duration.parse("30s")
    response_timeout_ms: Milliseconds = Duration.parse("30s")
    source_ton: Ton | None = None  # None: by what the sender looks like
    source_npi: Ton | None = None
    dest_ton: Ton = 1
    dest_npi: Ton = 1
    long: Long = "udh"
    encodings: Annotated[tuple[Encoding, ...], msgspec.Meta(min_length=1)] = ("gsm7", "ucs2")
    id_format_resp: IdFormat = "text"
    id_format_dlr: IdFormat = "text"

    def faults(self) -> Iterator[TableFault]:
        if not _host(self.host):
            yield "host", f"is {self.host!r}: write the name or the address of the host alone."
        for key, text, longest in (
            ("system_id", self.system_id, SYSTEM_ID_CHARS_MAX),
            ("system_type", self.system_type, SYSTEM_TYPE_CHARS_MAX),
        ):
            if len(text) > longest or not text.isascii():
                yield key, f"has more than {longest} ASCII characters, which SMPP cannot carry."
        if not 1_000 <= self.response_timeout_ms <= RESPONSE_TIMEOUT_MS_MAX:
            yield "response_timeout", f"is not from 1s to {RESPONSE_TIMEOUT_MS_MAX // 1000}s."
        if self.enquire_link_ms < 1_000:
            yield "enquire_link", "is less than 1s."
        if len(set(self.encodings)) != len(self.encodings):
            yield "encodings", "names one encoding twice."
        if {"gsm7", "gsm7-packed"} <= set(self.encodings):
            yield "encodings", "has gsm7 and gsm7-packed: the provider reads one of them."

    def warnings(self) -> Iterator[TableFault]:
        if "ucs2" not in self.encodings:
            yield "encodings", "lacks ucs2: texts with other letters are rejected."
        if self.long == "payload":
            yield "long", "is payload: the provider alone knows how many parts a long text has."
        if not self.tls and not is_local(f"smpp://{self.host}"):
            yield "tls", "is off: password and texts can be read on the way, unless by a VPN."


class SmppConfig(ProviderConfig, frozen=True, kw_only=True):
    host: str
    port: int
    tls: bool
    system_id: str
    password: str
    system_type: str
    bind: Bind
    window: int
    enquire_link_s: float
    response_timeout_s: float
    connect_timeout_s: float
    source_ton: int | None
    source_npi: int | None
    dest_ton: int
    dest_npi: int
    long: Long
    encodings: tuple[Encoding, ...]
    id_format_resp: IdFormat
    id_format_dlr: IdFormat


def smpp_config(configured: Configured) -> SmppConfig:
    """What a provider's sessions are told. Raises ValueError with a sentence for a password that
    cannot be sent."""
    settings = configured.settings
    assert isinstance(settings, SmppSettings), "a kind is given its own settings"
    password = configured.secret(next(iter(several(settings.password_env)), None))
    if len(password) > PASSWORD_CHARS_MAX or not password.isascii() or "\0" in password:
        raise ValueError(
            f"The password of provider {configured.name} has more than {PASSWORD_CHARS_MAX} ASCII "
            "characters, which SMPP cannot carry."
        )
    return SmppConfig(
        name=configured.name,
        kind=settings.kind,
        sender=settings.sender,
        rate_per_s=int(settings.rate_per_s),
        # A batch waits for room in the window, and then for its answers.
        timeout_ms=2 * int(settings.response_timeout_ms) + PARTS_MS,
        connections=min(settings.connections, BATCHES_A_BIND * settings.binds),
        places=settings.binds,
        host=settings.host,
        port=settings.port,
        tls=settings.tls,
        system_id=settings.system_id,
        password=password,
        system_type=settings.system_type,
        bind=settings.bind,
        window=settings.window,
        enquire_link_s=settings.enquire_link_ms / 1000,
        response_timeout_s=settings.response_timeout_ms / 1000,
        connect_timeout_s=settings.timeout_ms / 1000,
        source_ton=settings.source_ton,
        source_npi=settings.source_npi,
        dest_ton=settings.dest_ton,
        dest_npi=settings.dest_npi,
        long=settings.long,
        encodings=settings.encodings,
        id_format_resp=settings.id_format_resp,
        id_format_dlr=settings.id_format_dlr,
    )
