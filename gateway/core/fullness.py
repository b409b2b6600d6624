"""What a Redis that is nearly full still takes. Pure.

Receipts, timers and sends must go on, since they end what is under way: so new marketing is refused
first, then everything new, and the rest of the limit is for what was accepted.
"""

from __future__ import annotations

from typing import Literal

from providers.contract import Category

MARKETING_PERCENT = 80  # of the limit: from here on no new marketing
EVERYTHING_PERCENT = 90  # from here on nothing new

RefusedTraffic = Literal["marketing", "everything"]


def refused(used: int, limit: int) -> RefusedTraffic | None:
    """What is not taken any more with `used` of `limit` bytes; without a limit (0) all is."""
    if limit and used * 100 >= limit * EVERYTHING_PERCENT:
        return "everything"
    if limit and used * 100 >= limit * MARKETING_PERCENT:
        return "marketing"
    return None


def takes(category: Category, what_is_refused: RefusedTraffic | None) -> bool:
    return what_is_refused is None or (what_is_refused == "marketing" and category != "marketing")
