"""A twin whose provider reports nothing: what it says of a message stands in the answer.

Its words have no wire format of their own, because no report carries them. Ids start where no other
provider has any, so that a knob which names one means one of these.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from msgspec.structs import replace

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.callbacks_only import CallbacksOnly
from providers.simulator.twin import Destination, Order, Sending
from providers.simulator.vocabulary import Catalogue, State, Status, state_catalogue

_WORDS: Final = ("TAKEN", "REFUSED", "DELIVERED", "UNDELIVERED", "EXPIRED")
_BASE: Final = 9_000
GONE: Final = Status(State.REJECTED, 9_404, "GONE")


def catalogue(provider: str) -> Catalogue:
    return replace(state_catalogue(provider, _BASE, _WORDS, GONE), reports=False)


class Silent(CallbacksOnly):
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
