"""How Infobip's delivery reports, seen reports and log rows become receipts.

Both channels have one shape of item and one envelope around it. An item that cannot be read becomes
a sentence and its neighbours go on; of an item whose details are malformed the status is kept,
because a delivery must not be lost over a date, a price or a damaged text. Prices go from the JSON
text to Decimal without a float in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from providers.contract import Fault, PersonReply, Receipt, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.http.replies import network_code
from providers.infobip.reasons import about, is_unreachable
from providers.infobip.replies import read_reply
from providers.infobip.times import YEARS, at_ms
from providers.infobip.wire import (
    DUPLICATE_ID,
    PARTS_MAX,
    PERMANENT_ERRORS,
    RECEIPT_BY_GROUP,
    RECEIPT_BY_STATUS,
    SIGNALS_BLOCKED_FREE,
    Error,
    GoodResults,
    Report,
    Results,
    Status,
    StatusKey,
    parts_count,
    text_id,
)

PRICE_DIGITS_MAX = 9  # before the decimal point
PRICE_DECIMALS_KEPT = 12  # with the digits and PARTS_MAX still exact in Decimal's 28 digits
PRICE_DECIMALS_MAX = 24  # beyond KEPT it is the noise of a float
PRICE_STEP = Decimal(1).scaleb(-PRICE_DECIMALS_KEPT)
FAILED: tuple[ReceiptStatus, ...] = ("undelivered", "expired", "rejected")

_RESULTS = msgspec.json.Decoder(Results)
_GOOD_RESULTS = msgspec.json.Decoder(GoodResults)
_REPORT = msgspec.json.Decoder(Report)
_REPORT_CORE = ("messageId", "status", "seenAt")  # what of a report cannot be done without
_REF = re.compile(r"[A-Za-z0-9.-]{1,64}")
_NUMBER = re.compile(rb'"?\+?([0-9]{5,15})"?')


def read_envelope(body: bytes) -> Results:
    """Reads the outer object, its items still raw. Raises ValueError with a sentence."""
    try:
        return json_text.decode(_RESULTS, body)
    except RecursionError as error:
        raise ValueError("The body is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"The body is not a JSON report: {error}") from error


def read_good(body: bytes) -> Receipts | None:
    """The receipts of a body whose every item is in order, read at once: 4.4 µs a receipt for 5.4
    (2026-11-22). None where `read_envelope` and `read_reports` must take item by item."""
    try:
        results = _GOOD_RESULTS.decode(body).results
    except (ValueError, RecursionError):
        return None
    faults: list[str] = []
    try:
        return Receipts([_receipt(report, faults) for report in results], faults)
    except ValueError:
        return None


def read_reports(items: Sequence[msgspec.Raw]) -> Receipts:
    """Reads report items one by one; an item that fails leaves a sentence with its place."""
    receipts: list[Receipt] = []
    faults: list[str] = []
    replies: list[PersonReply] = []
    for place, item in enumerate(items):
        try:
            reply = read_reply(item)
            if reply is not None:
                replies.append(reply)
                continue
            report = _report(item, faults, place)
            receipts.append(_receipt(report, faults))
        except ValueError as error:
            faults.append(f"Item {place} was left out: {error}")
    return Receipts(receipts, faults, replies)


def _report(item: msgspec.Raw, faults: list[str], place: int) -> Report:
    try:
        return json_text.decode(_REPORT, item)
    except ValueError as error:
        core = json_text.in_part(_REPORT, item, _REPORT_CORE)
        faults.append(f"Item {place} of message {core.message_id} was read in part: {error}")
        return core


def _receipt(report: Report, faults: list[str]) -> Receipt:
    """Raises ValueError when the item names no message or no known status."""
    message_id = echoed = text_id(report.message_id)
    if report.callback_data != report.message_id:
        echoed = text_id(report.callback_data)
    ref = echoed if echoed is not None and _REF.fullmatch(echoed) else message_id
    if ref is None:
        raise ValueError("it names no message.")
    provider_id = message_id if message_id != ref else None
    if report.status is None:
        if report.seen_at is None:
            raise ValueError(f"message {ref} has neither a status nor seenAt.")
        at_ms = _at_ms(report.seen_at, ref, faults)
        return Receipt("seen", ref, provider_id, at_ms=at_ms, to=_digits(report.to))
    key = report.status.key
    status = _receipt_status(report.status, key, ref)
    cost, part_cost = _costs(report, key, status, ref, faults)
    priced = cost is not None or part_cost is not None
    failed = status in FAILED
    return Receipt(
        status,
        ref,
        provider_id,
        at_ms=_at_ms(report.done_at or report.sent_at, ref, faults),
        parts=parts_count(report.message_count),
        cost=cost,
        currency=report.price.currency if report.price and priced else None,
        fault=_fault(report.error) or _refusal(report.status, status),
        part_cost=part_cost,
        to=_digits(report.to),
        about=about(report.status, report.error) if failed else "person",
        unreachable=failed and is_unreachable(report.status, report.error),
        network=network_code(report.mcc_mnc),
    )


def _digits(to: msgspec.Raw) -> str | None:
    """The number a report repeats, as digits; None for anything else, which harms nothing."""
    found = _NUMBER.fullmatch(to)
    return None if found is None else found[1].decode()


def _receipt_status(status: Status, key: StatusKey, ref: str) -> ReceiptStatus:
    found = RECEIPT_BY_STATUS.get(key) or RECEIPT_BY_GROUP.get(status.group)
    if found is None:
        raise ValueError(
            f"message {ref} has status group {status.group_id}, id {status.id}, which is not known."
        )
    return found


def _at_ms(text: str | None, ref: str, faults: list[str]) -> int | None:
    """Epoch milliseconds of `2026-11-01T12:34:56.789+0000`; without an offset it is UTC."""
    if text is None:
        return None
    found = at_ms(text)
    if found is None:
        years = f"{YEARS[0]} to {YEARS[-1]}"
        faults.append(f"The time of message {ref} was left out: it is no ISO 8601 date of {years}.")
    return found


def _costs(
    report: Report, key: StatusKey, meaning: ReceiptStatus, ref: str, faults: list[str]
) -> tuple[Decimal | None, Decimal | None]:
    """Price of one part times the parts, and without a count of parts the price of one; neither
    without a price, so that the price list decides. A refused duplicate tells its own price, which
    is not that of the message it repeats; a delivery has parts, whatever its count says."""
    if key == SIGNALS_BLOCKED_FREE:
        return Decimal(0), None
    if key == DUPLICATE_ID:
        return None, None
    price = report.price.price_per_message if report.price else None
    count = report.message_count
    if price is None:
        return None, None
    exponent = price.as_tuple().exponent
    if not (_is_price(price, exponent) and (count is None or 0 <= count <= PARTS_MAX)):
        faults.append(f"The price of message {ref} was left out: it cannot be a price.")
        return None, None
    if exponent < -PRICE_DECIMALS_KEPT:  # type: ignore[operator]  # _is_price
        price = price.quantize(PRICE_STEP)
    if count is None or (count == 0 and meaning == "delivered"):
        return None, price
    return price * count, None


def _is_price(price: Decimal, exponent: int | str) -> bool:
    if not isinstance(exponent, int):  # NaN and infinities carry a letter there
        return False
    return price >= 0 and exponent >= -PRICE_DECIMALS_MAX and price.adjusted() < PRICE_DIGITS_MAX


def _refusal(status: Status, meaning: ReceiptStatus) -> Fault | None:
    """What the status itself says, for a failure whose error is NO_ERROR or left out."""
    if meaning not in FAILED:
        return None
    name = status.name or meaning.upper()
    return Fault(str(status.id) if status.id is not None else name, name, meaning != "expired")


def _fault(error: Error | None) -> Fault | None:
    """Infobip sends an error with every report; id 0 is its NO_ERROR."""
    if error is None or not error.id:
        return None
    return Fault(
        code=str(error.id),
        name=error.name or f"ERROR_{error.id}",
        permanent=bool(error.permanent) or error.id in PERMANENT_ERRORS,
    )
