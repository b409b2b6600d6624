"""The words of a provider as the core needs them: states, statuses, errors, and their meanings.

A provider's catalogue holds the words themselves, each carried beside its JSON so that a report
costs no second encoding. The core knows what a word means and never what it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from providers.contract import Channel

# Of the address, the body and the key of the API.
SigningHeaders = Callable[[str, bytes, str], dict[str, str]]
Ending = Literal["delivered", "undelivered", "expired", "silent", "rejected"]


class State(enum.IntEnum):
    ACCEPTED = 0
    REJECTED = 1
    DELIVERED = 2
    UNDELIVERED = 3
    EXPIRED = 4


_UNWRITTEN: Final = msgspec.Raw(b"{}")  # of a word that no report carries as an object


class Status(msgspec.Struct, frozen=True):
    """One status: `json` is the object as the provider writes it, if it does."""

    state: State
    id: int
    name: str
    json: msgspec.Raw = _UNWRITTEN

    @property
    def end(self) -> State:
        """The state of a message that a receipt with this status ends: it had been accepted."""
        return State.UNDELIVERED if self.state is State.REJECTED else self.state


class Error(msgspec.Struct, frozen=True):
    """One error of a report; which of them says that there is none, the catalogue knows."""

    id: int
    name: str
    permanent: bool
    json: msgspec.Raw = _UNWRITTEN


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
    headers: SigningHeaders | None = None


_ENDS: Final[dict[Ending, State]] = {
    "delivered": State.DELIVERED,
    "undelivered": State.UNDELIVERED,
    "expired": State.EXPIRED,
    "silent": State.EXPIRED,
    "rejected": State.REJECTED,
}


def state_catalogue(
    provider: str, base: int, names: Sequence[str], unreachable: Status, *more: Status
) -> Catalogue:
    """Of a provider with a status a state, whose id is `base` and the state; `names` are theirs.

    Beside them are `unreachable` and `more`. It has no errors, and tells of no look.
    """
    by_state = [Status(state, base + state, names[state]) for state in State]
    no_error = Error(0, "NO_ERROR", False)
    return Catalogue(
        provider=provider,
        statuses={each.id: each for each in (*by_state, unreachable, *more)},
        errors={no_error.id: no_error},
        accepted=by_state[State.ACCEPTED],
        enroute=by_state[State.ACCEPTED],
        delivered=by_state[State.DELIVERED],
        duplicate=Status(State.ACCEPTED, base + State.ACCEPTED, "TAKEN_AGAIN"),
        no_route=by_state[State.REJECTED],
        unreachable=unreachable,
        no_error=no_error,
        usual=lambda ending, _: (base + _ENDS[ending], no_error.id),
        seen_channels=frozenset(),
    )
