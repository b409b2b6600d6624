"""Writes reports and log lines about book entries, exactly as Infobip does.

Pure: an entry in, JSON bytes or a wire Struct out. What a report repeats of its request
stands in `Entry.hooks` as an `Echo`.
"""

from __future__ import annotations

import time
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Raw

from providers.simulator.book import Entry
from providers.simulator.infobip.catalogue import CATALOGUE, OPERATOR
from providers.simulator.infobip.wire import (
    ENCODER,
    DeliveryReport,
    LogItem,
    Platform,
    SeenReport,
    SmsReply,
    ViberReply,
)
from providers.simulator.prices import Tag
from providers.simulator.vocabulary import Error, Status

# Network codes of countries a demo is likely to name; a report about any other number has none.
_NETWORKS: Final = {
    "1": "310260",
    "33": "20801",
    "34": "21407",
    "36": "21630",
    "370": "24601",
    "371": "24701",
    "372": "24801",
    "374": "28301",
    "375": "25701",
    "380": "25501",
    "381": "22001",
    "39": "22201",
    "40": "22601",
    "43": "23201",
    "44": "23410",
    "46": "24001",
    "48": "26001",
    "49": "26201",
    "7": "25001",
    "77": "40101",
    "90": "28601",
    "972": "42501",
    "994": "40001",
    "995": "28201",
    "996": "43701",
    "998": "43404",
}
_NETWORK_DIGITS_MAX: Final = 3


class Echo(NamedTuple):
    """What a report repeats of its request; stands in `Hooks.echo`. Empty: nothing."""

    callback_data: str
    campaign: str
    entity_id: str
    application_id: str

    @property
    def platform(self) -> Platform | None:
        if not (self.entity_id or self.application_id):
            return None
        return Platform(self.entity_id or None, self.application_id or None)


def stamp(at_ms: int) -> str:
    """Epoch milliseconds as the provider writes them: an offset without a colon."""
    second, milli = divmod(at_ms, 1000)
    return f"{_second(second)}.{milli:03d}+0000"


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def network(to: str) -> str | None:
    for digits in range(_NETWORK_DIGITS_MAX, 0, -1):
        code = _NETWORKS.get(to[:digits])
        if code is not None:
            return code
    return None


def final_report(entry: Entry, *, price_when_free: bool) -> bytes:
    """The report of the message's fated end, whatever has happened to it since."""
    # A message charged after this end, because it was delivered all the same, was free at this end.
    charged = 0 < entry.charged_ms <= entry.done_ms
    price = _price(entry, charged or price_when_free)
    return _report(entry, entry.status, entry.error, entry.done_ms, price)


def revived_report(entry: Entry, *, price_when_free: bool) -> bytes:
    """The report of a delivery that came after another end."""
    price = _price(entry, entry.charged_ms > 0 or price_when_free)
    return _report(entry, CATALOGUE.delivered, CATALOGUE.no_error, entry.revived_ms, price)


def intermediate_report(entry: Entry, now_ms: int) -> bytes:
    """A step on the way: an SMS is at the operator, in group DELIVERED though nobody has it yet."""
    status = OPERATOR if entry.channel == "sms" else CATALOGUE.enroute
    return _report(entry, status, CATALOGUE.no_error, now_ms, _price(entry, True))


def pulled_report(entry: Entry, *, price_when_free: bool) -> Raw:
    """The newest report."""
    make = revived_report if entry.revived_ms else final_report
    return Raw(make(entry, price_when_free=price_when_free))


def seen_report(entry: Entry) -> bytes:
    echoed = Echo(*entry.hooks.echo)
    return ENCODER.encode(
        SeenReport(
            messageId=entry.message_id,
            from_=entry.sender,
            to=entry.to,
            sentAt=stamp(entry.accepted_ms),
            seenAt=stamp(entry.seen_ms),
            applicationId=echoed.application_id or None,
            entityId=echoed.entity_id or None,
            campaignReferenceId=echoed.campaign or None,
        )
    )


def reply(entry: Entry, text: str, now_ms: int) -> bytes:
    """What the person wrote back: an inbound message, each channel in its own shape."""
    own_id, when = f"{entry.message_id}-reply", stamp(now_ms)
    if entry.channel == "viber":
        return ENCODER.encode(
            ViberReply(
                sender=entry.to,
                to=entry.sender,
                received_at=when,
                message_id=own_id,
                message={"type": "TEXT", "text": text},
            )
        )
    keyword, _, rest = text.partition(" ")
    return ENCODER.encode(
        SmsReply(
            messageId=own_id,
            from_=entry.to,
            to=entry.sender,
            text=text,
            cleanText=rest,
            keyword=keyword,
            receivedAt=when,
        )
    )


def log_item(entry: Entry, *, price_when_free: bool) -> LogItem:
    status, error = entry.status_now()
    echoed = Echo(*entry.hooks.echo)
    ended_ms = entry.revived_ms or entry.done_ms
    return LogItem(
        sender=entry.sender,
        destination=entry.to,
        bulk_id=entry.bulk_id,
        message_id=entry.message_id,
        sent_at=stamp(entry.accepted_ms),
        message_count=entry.parts,
        price=_price(entry, entry.charged_ms > 0 or price_when_free),
        status=status.json,
        error=error.json,
        done_at=stamp(ended_ms) if ended_ms else None,
        platform=echoed.platform,
        campaign_reference_id=echoed.campaign or None,
        mcc_mnc=network(entry.to),
    )


def _price(entry: Entry, priced: bool) -> Raw:
    return _price_json(entry.tag, priced)


@lru_cache(maxsize=4096)
def _price_json(tag: Tag, priced: bool) -> Raw:
    # Written by hand: the provider sends a JSON number, and an encoder would need a float for that.
    amount = tag.amount if priced else Decimal(0)
    return Raw(f'{{"pricePerMessage":{amount:f},"currency":"{tag.currency}"}}'.encode())


def _report(entry: Entry, status: Status, error: Error, done_ms: int, price: Raw) -> bytes:
    echoed = Echo(*entry.hooks.echo)
    return ENCODER.encode(
        DeliveryReport(
            bulk_id=entry.bulk_id,
            price=price,
            status=status.json,
            error=error.json,
            message_id=entry.message_id,
            to=entry.to,
            sender=entry.sender,
            sent_at=stamp(entry.accepted_ms),
            done_at=stamp(done_ms),
            message_count=entry.parts,
            mcc_mnc=network(entry.to),
            callback_data=echoed.callback_data or None,
            platform=echoed.platform,
            campaign_reference_id=echoed.campaign or None,
        )
    )
