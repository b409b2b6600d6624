"""Who goes first: a grant of n sends is divided among otp, transactional and marketing, pure.

Urgent before less urgent, so a code never waits behind a campaign; but a lower lane that has
entries is owed a share of every grant, so a campaign never starves. Grants can be as small as one
message: what a lane is owed therefore adds up over grants until it makes a whole message.
"""

from __future__ import annotations

from typing import NamedTuple

Three = tuple[int, int, int]
OWED_MAX = 100  # percent of a message: a debt beyond one message is not remembered
FLOOR_MAX = 33  # percent: two lower lanes with more would leave codes less than their own share


class Allotment(NamedTuple):
    """`counts` of the three lanes; `owed` to each lower lane, in hundredths of a message, for the
    next call."""

    counts: Three
    owed: tuple[int, int]


def allot(n: int, waiting: Three, floor: int, owed: tuple[int, int] = (0, 0)) -> Allotment:
    """Divides n sends. `waiting` is how many entries each lane has, `floor` the percent of a grant
    that each lower lane may count on while it has entries; above FLOOR_MAX it counts as that."""
    otp, *lower = waiting
    floor = min(floor, FLOOR_MAX)
    debts = [due + n * floor if has else 0 for due, has in zip(owed, lower, strict=True)]
    shares = [min(due // 100, has) for due, has in zip(debts, lower, strict=True)]
    # Both floors may have come to a message when only one is granted: the upper lane's is first.
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
    return Allotment((counts[0], counts[1], counts[2]), (rest[0], rest[1]))
