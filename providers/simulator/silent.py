"""A twin whose provider reports nothing: what it says of a message stands in the answer.

Its words have no wire format of their own, because no report carries them. Ids start where no other
provider has any, so that a knob which names one means one of these.
"""

# ruff: noqa: ARG001, ARG002 - the arguments are the port's

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.pushing import Pushing
from providers.simulator.twin import Destination, Order, Sending, Taken
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

_NOTHING: Final = msgspec.Raw(b"{}")
_WORDS: Final = ("TAKEN", "REFUSED", "DELIVERED", "UNDELIVERED", "EXPIRED")
_BASE: Final = 9_000
GONE: Final = Status(State.REJECTED, 9_404, "GONE", _NOTHING)
_STATUSES: Final = {
    each.id: each
    for each in (
        *(Status(state, _BASE + state, _WORDS[state], _NOTHING) for state in State),
        GONE,
    )
}
REFUSED: Final = _STATUSES[_BASE + State.REJECTED]
_NO_ERROR: Final = Error(0, "NO_ERROR", False, _NOTHING)
_ENDS: Final[dict[Ending, State]] = {
    "delivered": State.DELIVERED,
    "undelivered": State.UNDELIVERED,
    "expired": State.EXPIRED,
    "silent": State.EXPIRED,
    "rejected": State.REJECTED,
}


def _usual(ending: Ending, channel: Channel) -> tuple[int, int]:
    return _BASE + _ENDS[ending], 0


def catalogue(provider: str) -> Catalogue:
    return Catalogue(
        provider=provider,
        statuses=_STATUSES,
        errors={0: _NO_ERROR},
        accepted=_STATUSES[_BASE + State.ACCEPTED],
        enroute=_STATUSES[_BASE + State.ACCEPTED],
        delivered=_STATUSES[_BASE + State.DELIVERED],
        duplicate=Status(State.ACCEPTED, _BASE + State.ACCEPTED, "TAKEN_AGAIN", _NOTHING),
        no_route=REFUSED,
        unreachable=GONE,
        no_error=_NO_ERROR,
        usual=_usual,
        seen_channels=frozenset(),
        reports=False,
    )


class Silent(Pushing):
    """The half of a twin that says nothing."""

    def refusal(self, order: Order, to: str) -> Status | None:
        return None

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return b""

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return b""

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return b""

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        return b""

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        return b""


def sending_of(
    message_id: str, device: str, channel: Channel, sender: str, validity_ms: int
) -> Sending:
    """One message to one device. Its provider knows no message twice; the book tells a repetition
    by the message and its device."""
    mark = blake2b(device.encode(), digest_size=4).hexdigest()
    order = Order(
        channel=channel,
        sender=sender,
        parts=1,
        category="",
        validity_ms=validity_ms,
        hooks=Hooks("", ""),
        intermediate=False,
        destinations=[Destination(f"{message_id}/{mark}" if message_id else "", device)],
    )
    return Sending(bulk_id="", orders=[order], counted=False)


def is_taken(taken: Taken) -> bool:
    """Also again: it takes the place of the first on the device."""
    return taken.accepted or taken.status.state is State.ACCEPTED
