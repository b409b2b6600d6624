"""What bounds an app: to which numbers it may send, and under which senders.

A number that costs many times what others do, and a country the app has no business in, are how
toll fraud by a sign-up form pays. Pure; what is refused is a fault at its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.core import addresses
from gateway.core.addresses import NOBODY, TO_OR_USER_RULE, Destination, Recipient
from gateway.core.channels import ChannelContent
from gateway.core.policy import AppRule
from gateway.ingress.http.problems import RequestFault

_SENDER_FIELDS = (("sender", "sender"), ("from", "from_"))


def read_destination(
    to: str | Recipient | None, user: str | None, rule: AppRule, unread: Collection[str]
) -> tuple[Destination | None, list[RequestFault]]:
    """Where a message goes as far as it says so itself; None: that is at fault. What stands at the
    keys in `unread` is so already."""
    if to is None:
        if user is None and not {"to", "user"}.intersection(unread):
            return None, [RequestFault("/to", f"Required: {TO_OR_USER_RULE}")]
        return None if "to" in unread else Destination(NOBODY), []
    found = addresses.read(to)
    if isinstance(found, Destination):
        if not found.tariff and rule.countries is None:  # as almost always
            return found, []
        pointer = "/to" if isinstance(to, str) else "/to/phone"
        return found, list(destination_faults(found, rule, pointer))
    known = [fault for fault in found if fault.pointer or "to" not in unread]
    return None, [RequestFault(f"/to{fault.pointer}", fault.detail) for fault in known]


def destination_faults(
    destination: Destination, rule: AppRule, pointer: str
) -> Iterator[RequestFault]:
    """Why the app may not send to a phone; `pointer` is where that stands."""
    if destination.addresses.phone is None:
        return
    if destination.tariff and destination.tariff not in rule.allows:
        yield RequestFault(
            pointer,
            f"This is a {destination.tariff} number, which this app may not send to.",
        )
    if rule.countries is not None and destination.country not in rule.countries:
        countries = ", ".join(sorted(rule.countries))
        yield RequestFault(
            pointer,
            f"This app may send to {countries}; this number is of {destination.country}.",
        )


def sender_faults(channel: str, said: ChannelContent, rule: AppRule) -> Iterator[RequestFault]:
    """Why the app may not use the sender it names."""
    if rule.senders is None:
        return
    for key, name in _SENDER_FIELDS:
        value = getattr(said, name, None)
        if value is None or value in rule.senders:
            continue
        if addresses.named_mailbox_of(value) not in rule.senders:
            senders = ", ".join(sorted(rule.senders)) or "none"
            yield RequestFault(f"/{channel}/{key}", f"The senders of this app are: {senders}.")
