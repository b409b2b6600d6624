"""What an HTTP status means for a batch, the same for every adapter that speaks HTTP.

The adapter hands in the code and the sentence it found in the body. An answer that cannot be placed
raises AccountFault for what nobody's message could pass (wrong key, wrong address) and Unknown for
what may have been accepted, so that no message is rejected or sent twice because of a status nobody
thought of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from providers.contract import About, AccountFault, BadRequest, SendFault, Throttled, Unknown
from providers.http.adapter import Reply

RETRY_AFTER_MS_MAX = 3_600_000  # an hour; a longer wish is a mistake or an outage to look at
DETAIL_CHARS_MAX = 300
_MS_MAX = 4_102_444_800_000  # the year 2100

_network = re.compile("[0-9]{5,6}").fullmatch
_REQUEST_REFUSED = frozenset({400, 413, 422})
_LONG_DIGITS = re.compile(r"\d{7,}")


class ErrorDetail(msgspec.Struct, frozen=True):
    """What an error answer's body says: the provider's code and sentence, either may be empty, and
    whom a refused request speaks of."""

    code: str = ""
    detail: str = ""
    about: About = "message"


def raise_unless_ok(reply: Reply, explain: Callable[[bytes], ErrorDetail]) -> None:
    """Returns when the status is 2xx, else raises the SendFault that the status stands for.

    `explain` reads the provider's own error body and must not raise. The sentence is shortened, and
    runs of seven digits or more are blanked in it: providers quote phone numbers, and the fault
    goes to the log.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    said = explain(reply.body)
    code = said.code or f"http_{status}"
    detail = said.detail or f"The answer was HTTP {status}."
    detail = _LONG_DIGITS.sub("…", detail)[:DETAIL_CHARS_MAX]
    if status in _REQUEST_REFUSED:
        # A page that is none of the provider's is about nobody's message, but for the length of it.
        foreign = status != 413 and not (said.code or said.detail)
        raise BadRequest(code, detail, about="account" if foreign else said.about)
    raise _fault(status, code, detail, retry_after_ms(reply.headers))


def _fault(status: int, code: str, detail: str, retry_after: int | None) -> SendFault:
    if status == 429:
        return Throttled(code, detail, retry_after_ms=retry_after)
    # A time-out told by the server or a failure on its side says nothing about what it did before.
    if status == 408 or status >= 500 or status < 200:
        return Unknown(code, detail, retry_after_ms=retry_after)
    if status in (401, 403):
        return AccountFault(
            code, f"{detail} Check the provider's API key, its scopes and IP rules."
        )
    if status == 402:
        return AccountFault(code, f"{detail} Check the account's balance.")
    return AccountFault(code, f"{detail} Check base_url: nothing there takes this request.")


def network_code(code: str | int | None) -> str | None:
    """A network's MCC and MNC in digits; None for anything else."""
    return str(code) if _network(str(code)) else None


def parts_of(count: object) -> int | None:
    """How many parts a message had, where the provider knows."""
    text = str(count or "")
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) < 4 else None


def moment_ms(told: float | None) -> int | None:
    """A moment that a provider tells, in whole milliseconds. None for one before 1970 or after
    2099: it stands for none, and some have no day to be counted on."""
    return round(told) if told is not None and 0 < told < _MS_MAX else None


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """Reads Retry-After (RFC 9110, 10.2.3): milliseconds, 0..RETRY_AFTER_MS_MAX, or None.

    A date is measured against the answer's own Date header: the wish is the provider's, so is the
    clock.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        # Ten digits of seconds are over the maximum already; a longer run is only work for int().
        return min(int(value[:10]) * 1000, RETRY_AFTER_MS_MAX)
    wished, now = _http_date(value), _http_date(headers.get("date", ""))
    if wished is None or now is None:
        return None
    return min(max(int((wished - now).total_seconds()) * 1000, 0), RETRY_AFTER_MS_MAX)


def _http_date(value: str) -> datetime | None:
    """In each of the three forms (RFC 9110, 5.6.7); one without a zone is in UTC."""
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
