"""The words of a provider as the core needs them: states, statuses, errors, and their meanings.

A provider's catalogue holds the words themselves, each carried beside its JSON so that a report
costs no second encoding. The core knows what a word means and never what it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from providers.contract import Channel

Ending = Literal["delivered", "undelivered", "expired", "silent", "rejected"]


class State(enum.IntEnum):
    ACCEPTED = 0
    REJECTED = 1
    DELIVERED = 2
    UNDELIVERED = 3
    EXPIRED = 4


class Status(msgspec.Struct, frozen=True):
    """One status: `json` is the object as the provider writes it."""

    state: State
    id: int
    name: str
    json: msgspec.Raw

    @property
    def end(self) -> State:
        """The state of a message that a receipt with this status ends: it had been accepted."""
        return State.UNDELIVERED if self.state is State.REJECTED else self.state


class Error(msgspec.Struct, frozen=True):
    """One error of a report; which of them says that there is none, the catalogue knows."""

    id: int
    name: str
    permanent: bool
    json: msgspec.Raw


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """All words of a provider, and the ones that stand for what happens by itself.

    `provider` is the name of its twin. `usual` gives the ids of status and error of an ending when
    nobody names others; `unreachable` rejects a number that does not have the channel.
    `seen_channels` tell when a message is seen. `reports`: what becomes of a message is told later;
    else its answer is all that is heard of it. `absent` are status and error of a message to nobody
    that was taken all the same; None: what knobs say. A POST has at most `reports_max` reports, and
    the headers that `headers` makes of its address, its body and the key of the API.
    """

    provider: str
    statuses: Mapping[int, Status]
    errors: Mapping[int, Error]
    accepted: Status
    enroute: Status
    delivered: Status
    duplicate: Status
    no_route: Status
    unreachable: Status
    no_error: Error
    usual: Callable[[Ending, Channel], tuple[int, int]]
    seen_channels: frozenset[Channel]
    reports: bool = True
    absent: tuple[int, int] | None = None
    reports_max: int | None = None
    headers: Callable[[str, bytes, str], dict[str, str]] | None = None
