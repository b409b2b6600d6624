"""The keys of a provider's table: the ones every kind has. A kind adds its own in a subclass.

`ProviderSettings` is what stands in the file, `Configured` is that with its name and the values of
its secrets. A kind's checks are returned, not raised, so that all faults of a file are told at
once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import msgspec

from providers.notation import Duration, Milliseconds, Rate, Table, Text

# One environment variable or several: the first is used, all are taken.
Variables = Text | Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
TableFault = tuple[str, str]  # a key, empty for the table as a whole, and a sentence


class ProviderSettings(Table, frozen=True, kw_only=True):
    """What Kaskad needs to know of any provider."""

    kind: Text
    sender: Text
    rate_per_s: Rate = Rate.parse("100/s")
    timeout_ms: Milliseconds = Duration.parse("10s")
    connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 64
    charged_on: Literal["delivered", "sent"] = "delivered"
    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    retry_delay_ms: Milliseconds = Duration.parse("1s")
    was: tuple[Text, ...] = ()  # earlier names
    retired: bool = False  # nothing new is sent; receipts and look-ups go on

    def faults(self) -> Iterator[TableFault]:
        """What cannot work although each key by itself is well-formed."""
        return iter(())

    def warnings(self) -> Iterator[TableFault]:
        """What works, but perhaps not as it was meant."""
        return iter(())

    def below(self, folder: Path) -> Self:  # noqa: ARG002 - a kind's own
        """With the relative paths among the keys read from that folder."""
        return self

    def file_faults(self) -> Iterator[TableFault]:
        """What is wrong with the files that are named; reads them."""
        return iter(())

    def secret_faults(
        self,
        secret: Callable[[str | None], str],  # noqa: ARG002 - for the kinds that can tell
    ) -> Iterator[TableFault]:
        """What cannot be right of the values of its secrets; one that is not set is none's fault
        here."""
        return iter(())

    @property
    def key_variable(self) -> str | None:
        """The variable with the key or the password that it sends with its requests."""
        named = [getattr(self, key, None) for key in ("api_key_env", "password_env")]
        return next((name for names in named for name in several(names)), None)

    def variables(self) -> Iterator[tuple[str, str]]:
        """The environment variables that are named: (key, variable)."""
        for key in self.__struct_fields__:
            if key.endswith("_env"):
                for variable in several(getattr(self, key)):
                    yield key, variable


def several(variables: Variables | None) -> tuple[str, ...]:
    """The names, the first in use first."""
    if variables is None:
        return ()
    return (variables,) if isinstance(variables, str) else variables


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of the configuration. `secret` gives the value of a variable that a key names, or
    an empty text; `callback_url` is the address its callbacks would have."""

    name: str
    settings: ProviderSettings
    secret: Callable[[str | None], str]
    callback_url: str


def address_faults(key: str, url: str) -> Iterator[TableFault]:
    """A fault when a text is no http or https address without query, fragment and user."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    else:
        usable = usable and not (parts.query or parts.fragment or parts.username)
    if not usable:
        yield key, f'is {url!r}: write an address such as "https://gateway.example.com".'


def reading_faults(key: str, name: str, read: Callable[[bytes], object]) -> Iterator[TableFault]:
    """A fault when a file cannot be read; of what it holds `read` raises ValueError with the rest
    of a sentence."""
    try:
        read(Path(name).read_bytes())
    except OSError as error:
        yield key, f"names {name}, which cannot be read: {error.strerror}."
    except ValueError as error:
        yield key, f"names {name}, which {error}"


def is_local(url: str) -> bool:
    """Whether an address is this machine or its own network."""
    return is_local_host(urlsplit(url).hostname or "")


def is_local_host(host: str) -> bool:
    """Whether it is a loopback or private IP, or a name without a dot."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(".localhost")
