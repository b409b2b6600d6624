"""Writes reports and log lines about book entries, exactly as the provider does.

Pure: an entry in, JSON bytes or a wire Struct out. Knows neither where a report goes nor when.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

from msgspec import Raw

from providers.simulator.book import Entry
from providers.simulator.catalogue import (
    DELIVERED,
    ENROUTE,
    NO_ERROR,
    OPERATOR,
    Error,
    Status,
)
from providers.simulator.wire import ENCODER, DeliveryReport, LogItem, Platform, SeenReport

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
_NO_PLATFORM: Final = Platform()


def stamp(at_ms: int) -> str:
    """Epoch milliseconds as the provider writes them: an offset without a colon."""
    second, milli = divmod(at_ms, 1000)
    return f"{_second(second)}.{milli:03d}+0000"


def day(at_ms: int) -> str:
    """The UTC date of `at_ms`, YYYY-MM-DD."""
    return _second(at_ms // 1000)[:10]


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
    return _report(entry, DELIVERED, NO_ERROR, entry.revived_ms, price)


def intermediate_report(entry: Entry, now_ms: int) -> bytes:
    """A step on the way: an SMS is at the operator, in group DELIVERED though nobody has it yet."""
    status = OPERATOR if entry.channel == "sms" else ENROUTE
    return _report(entry, status, NO_ERROR, now_ms, entry.tag.json)


def pulled_report(entry: Entry, *, price_when_free: bool) -> Raw:
    """The newest report, for the pull endpoints."""
    make = revived_report if entry.revived_ms else final_report
    return Raw(make(entry, price_when_free=price_when_free))


def seen_report(entry: Entry) -> bytes:
    hooks = entry.hooks
    return ENCODER.encode(
        SeenReport(
            messageId=entry.message_id,
            from_=entry.sender,
            to=entry.to,
            sentAt=stamp(entry.accepted_ms),
            seenAt=stamp(entry.seen_ms),
            applicationId=hooks.platform.application_id,
            entityId=hooks.platform.entity_id,
            campaignReferenceId=hooks.campaign or None,
        )
    )


def log_item(entry: Entry, *, price_when_free: bool) -> LogItem:
    status, error = entry.status_now()
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
        platform=_platform(entry),
        campaign_reference_id=entry.hooks.campaign or None,
        mcc_mnc=network(entry.to),
    )


def _price(entry: Entry, priced: bool) -> Raw:
    return entry.tag.json if priced else entry.tag.free_json


def _platform(entry: Entry) -> Platform | None:
    platform = entry.hooks.platform
    return None if platform == _NO_PLATFORM else platform


def _report(entry: Entry, status: Status, error: Error, done_ms: int, price: Raw) -> bytes:
    hooks = entry.hooks
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
            callback_data=hooks.callback_data or None,
            platform=_platform(entry),
            campaign_reference_id=hooks.campaign or None,
        )
    )
