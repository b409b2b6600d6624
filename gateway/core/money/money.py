"""Money as integers of 1e-6 currency units ("micros"), and its decimal strings at the edges.

One conversion each way and one division. A currency stands beside an amount, never in it. What is
not an exact amount raises `AmountError` with a sentence: nothing is rounded silently except a
provider's own price (`from_decimal`) and a printed ratio.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact

MICROS = 1_000_000  # a currency unit
# A thousand million units; a sum of 9,000 of them still fits 64 bits signed.
AMOUNT_MAX = 10**15 - 1

PLACES = 6
_PLACES_SHOWN_MIN = 4
_AMOUNT_MAX = Decimal(AMOUNT_MAX).scaleb(-PLACES)
_QUANTUM = Decimal("0.000001")
_EXACTLY = Context(traps=[Inexact])
_amount = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?").fullmatch


class AmountError(ValueError):
    """What was given is no amount; the sentence says why."""


def parse_amount(text: str) -> int:
    """ "0.0120" -> 12000 micros. Digits with at most six decimals; no sign, exponent or space.

    Raises AmountError.
    """
    match = _amount(text)
    if match is None:
        raise AmountError(
            f"{text[:40]!r} is not an amount: write it with at most six decimals, such as 0.0120."
        )
    whole, fraction = match.groups("")
    return int(whole) * MICROS + int(fraction.ljust(PLACES, "0"))


def from_decimal(amount: Decimal) -> int:
    """A provider's price in micros, rounded half to even where it has more than six decimals.

    Raises AmountError for what is negative, not finite or beyond AMOUNT_MAX.
    """
    if not amount.is_finite() or amount < 0 or amount > _AMOUNT_MAX:
        raise AmountError(f"{amount} is not an amount between 0 and {AMOUNT_MAX // MICROS}.")
    return int(amount.quantize(_QUANTUM, ROUND_HALF_EVEN).scaleb(PLACES))


def signed(amount: Decimal) -> int:
    """A caller's amount in micros, exactly; less than 0 takes back. Raises AmountError."""
    try:
        # Compared, which rounds nothing, before anything is reckoned: 1e999999 is a Decimal too.
        if amount.is_finite() and -_AMOUNT_MAX <= amount <= _AMOUNT_MAX:
            return int(amount.quantize(_QUANTUM, context=_EXACTLY).scaleb(PLACES))
    except Inexact:
        pass
    raise AmountError(
        f"This is no amount of {AMOUNT_MAX // MICROS} at most with at most six decimals."
    )


def format_amount(micros: int) -> str:
    """12000 -> "0.0120": four decimals at least, six at most. A difference may be negative."""
    whole, fraction = divmod(abs(micros), MICROS)
    digits = f"{fraction:06d}"
    shown = digits[:_PLACES_SHOWN_MIN] + digits[_PLACES_SHOWN_MIN:].rstrip("0")
    return f"{'-' if micros < 0 else ''}{whole}.{shown}"


def ratio(numerator: int, denominator: int, places: int) -> str | None:
    """numerator / denominator with `places` (>= 1) decimals, half to even; None over zero."""
    if denominator == 0:
        return None
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    scale = 10**places
    quotient, rest = divmod(abs(numerator) * scale, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1):
        quotient += 1
    whole, fraction = divmod(quotient, scale)
    sign = "-" if numerator < 0 and quotient > 0 else ""
    return f"{sign}{whole}.{fraction:0{places}d}"


def cost_per(cost: int, count: int) -> str | None:
    """Micros over a number of things, in currency units with six decimals; None when there is
    none."""
    return ratio(cost, count * MICROS, 6)


def saved_pct(saved: int, baseline_cost: int) -> str | None:
    """The share saved against the baseline, in percent with two decimals; None when it costs
    nothing."""
    return ratio(100 * saved, baseline_cost, 2)
