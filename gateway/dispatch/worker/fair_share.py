"""Who goes first: n sends are divided among otp, transactional and marketing, purely.

The urgent go before the less urgent, so an otp never waits behind a campaign; but a lower lane that
has entries is owed its floor of everything that is divided, so a campaign never starves. What is
divided can be a single message: debts therefore add up until they come to a whole one.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.settings.tables import FLOOR_PERCENT_MAX

Three = tuple[int, int, int]
OWED_MAX = 100  # percent of a message: a debt beyond one message is not remembered


class FairShare(NamedTuple):
    """`counts` of the three lanes; `owed` to each lower lane, in hundredths of a message, for the
    next call."""

    counts: Three
    owed: tuple[int, int]


def divide(n: int, waiting: Three, floor: int, owed: tuple[int, int] = (0, 0)) -> FairShare:
    """Divides n sends. `waiting` is how many entries each lane has, `floor` the percent that each
    lower lane may count on while it has entries, at most FLOOR_PERCENT_MAX."""
    assert 0 <= floor <= FLOOR_PERCENT_MAX
    otp, *lower = waiting
    debts = [due + n * floor if has else 0 for due, has in zip(owed, lower, strict=True)]
    shares = [min(due // 100, has) for due, has in zip(debts, lower, strict=True)]
    # Both floors may have come to a message when there is only one send: the upper lane's is first.
    shares[0] = min(shares[0], n)
    shares[1] = min(shares[1], n - shares[0])
    first = min(otp, n - sum(shares))
    left = n - first - sum(shares)
    counts = [first, *shares]
    for lane in (1, 2):
        more = min(left, waiting[lane] - counts[lane])
        counts[lane] += more
        left -= more
    rest = [
        min(max(due - 100 * count, 0), OWED_MAX)
        for due, count in zip(debts, counts[1:], strict=True)
    ]
    return FairShare((counts[0], counts[1], counts[2]), (rest[0], rest[1]))


def least_urgent(waiting: Three) -> Three:
    """One send, of the least urgent lane that has entries: a probe, which may be lost."""
    otp, transactional, marketing = waiting
    if marketing:
        return 0, 0, 1
    return (0, 1, 0) if transactional else (min(otp, 1), 0, 0)
