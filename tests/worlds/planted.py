"""Invoices with faults planted in them, by a seed: made from our lines, each fault is remembered,
and what reconciling finds is told in the same form.

Every message has a number of its own, so a fault is known by its class and number. Moments are away
from the edges of the days, and two lines to one number only where one repeats the other, or where
the invoice has a line for each part. Of such messages with several parts half have an id a part.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random

from msgspec.structs import replace

from gateway.core.money.reconciliation import (
    CLASSES,
    PICOS_A_MICRO,
    ROUNDING_MAX,
    Class,
    Ours,
    Theirs,
)
from gateway.finance.invoices.reconcile import DaySpan, Question, Reconciled, Reconciliation
from gateway.finance.invoices.sorted_lines import SortedLines

FROM_MS = 1_793_491_200_000  # 2026-11-01T00:00:00Z
NOVEMBER = DaySpan(datetime.date(2026, 11, 1), datetime.date(2026, 11, 30))
QUESTION = Question("sms", "EUR", "UTC", charged_on_delivery=True)
BY_PART = replace(QUESTION, by_part=True)
DAY_MS = 86_400_000
PRICES = (40_000, 41_500, 12_345)  # of a part
NETWORKS = ("25001", "25002", "25099", "40101")
KINDS: tuple[Class, ...] = tuple(kind for kind in CLASSES if kind != "matched")

Faults = Counter[tuple[Class, str]]


def reconcile(
    ours: Iterable[Ours],
    theirs: Iterable[Theirs],
    days: DaySpan = NOVEMBER,
    question: Question = QUESTION,
) -> tuple[Reconciled, Faults]:
    """What comes of it, and the class and number of each line that differs."""
    with SortedLines() as lines:
        work = Reconciliation(question, lines)
        work.take_theirs(theirs, None, None)
        work.take_ours(ours)
        result = work.settle(days)
        found: Faults = Counter()
        for item in work.items():
            side = item.ours or item.theirs
            found[item.kind, (side and side.to) or ""] += 1
    return result, found


def book(random: Random, count: int, from_ms: int, days: int = 30) -> Iterator[Ours]:
    """Lines of ours: of what was not delivered nothing is charged."""
    for number in range(count):
        parts = random.choice((1, 1, 1, 2, 3))
        delivered = random.random() < 0.9
        id_ = f"{random.getrandbits(64):016x}-{number}"
        each_has_one = number % 2 == 0
        at_ms = from_ms + DAY_MS // 4 + random.randrange(days * DAY_MS - DAY_MS // 2)
        yield Ours(
            message=f"{number:020d}",
            step=random.choice((0, 1)),
            id=id_,
            to=str(79_000_000_000 + number),
            at_ms=at_ms,
            until_ms=at_ms + random.randrange(90_000),
            parts=parts,
            cost=random.choice(PRICES) * parts if delivered else 0,
            delivered=delivered,
            network=random.choice(NETWORKS),
            further_ids=tuple(f"{id_}-{n}" for n in range(1, parts)) if each_has_one else (),
        )


class Planter:
    """Makes an invoice. About `share` of its lines differ; `faults` says how, once it was read."""

    def __init__(
        self, random: Random, share: float, *, shift_ms: int = 0, by_part: bool = False
    ) -> None:
        self.faults: Faults = Counter()
        self._random = random
        self._share = share
        self._shift_ms = shift_ms
        self._plant = self._planted_parts if by_part else self._planted
        self._line = 1  # the header

    def lines(self, ours: Iterable[Ours]) -> Iterator[Theirs]:
        """The invoice for these lines of ours."""
        for mine in ours:
            kind = self._random.choice(KINDS) if self._random.random() < self._share else None
            for theirs in self._plant(mine, kind):
                self._line += 1
                yield replace(theirs, line=self._line)

    def _planted(self, mine: Ours, kind: Class | None) -> list[Theirs]:
        plain = Theirs(
            line=0,
            amount=mine.cost * PICOS_A_MICRO,
            id=mine.id,
            to=mine.to,
            at_ms=mine.at_ms + self._shift_ms,
            parts=mine.parts,
            network=mine.network,
        )
        if (untouched := self._untouched(mine, kind, [plain])) is not None:
            return untouched
        assert kind is not None
        whose = f"8{mine.to}" if kind == "unknown_to_us" else mine.to
        self.faults[kind, whose] += 1
        if kind == "missing_on_invoice":
            return []
        if kind == "duplicate_line":
            return [plain, plain]
        if kind == "unknown_to_us":
            stranger = replace(plain, id=f"x{plain.id}", to=whose, amount=PICOS_A_MICRO)
            return [plain, stranger]
        return [self._changed(plain, mine, kind)]

    def _untouched(
        self, mine: Ours, kind: Class | None, plain: list[Theirs]
    ) -> list[Theirs] | None:
        """What stands on the invoice where no fault can be planted; None: one is."""
        if kind is None or (kind == "not_delivered_billed") is mine.delivered:
            return plain if mine.delivered or self._random.random() < 0.5 else []
        if not mine.delivered and kind not in ("not_delivered_billed", "unknown_to_us"):
            return plain
        return None

    def _planted_parts(self, mine: Ours, kind: Class | None) -> list[Theirs]:
        """A fault of a message of several parts is one of them, or is in one of them."""
        ids = (mine.id, *mine.further_ids)
        part = Theirs(
            line=0,
            amount=mine.cost * PICOS_A_MICRO // mine.parts,
            to=mine.to,
            at_ms=mine.at_ms + self._shift_ms,
            parts=1,
            network=mine.network,
        )
        plain = [replace(part, id=ids[n % len(ids)]) for n in range(mine.parts)]
        untouched = self._untouched(mine, kind, plain)
        if untouched is not None or (kind == "parts" and mine.parts == 1):
            return plain if untouched is None else untouched
        assert kind is not None
        whose = f"8{mine.to}" if kind == "unknown_to_us" else mine.to
        self.faults[kind, whose] += 1
        one = plain.pop(self._random.randrange(len(plain)))
        if kind == "missing_on_invoice":
            return []
        if kind == "parts":
            return plain
        if kind == "duplicate_line":
            return [one, *plain, one]
        if kind == "unknown_to_us":
            return [one, replace(one, id=f"x{one.id}", to=whose, amount=PICOS_A_MICRO), *plain]
        return [*plain, self._changed(one, mine, kind)]

    def _changed(self, plain: Theirs, mine: Ours, kind: Class) -> Theirs:
        draw = self._random
        part = draw.choice(PRICES) * PICOS_A_MICRO
        if kind == "not_delivered_billed":
            return replace(plain, amount=part * (plain.parts or 1))
        if kind == "network":
            others = [network for network in NETWORKS if network != mine.network]
            return replace(plain, network=draw.choice(others))
        if kind == "parts":
            return replace(plain, parts=mine.parts + 1, amount=part * (mine.parts + 1))
        rounding = ROUNDING_MAX * (mine.parts // (plain.parts or 1))  # of all its lines
        least, most = (rounding + 1, part) if kind == "price" else (1, rounding)
        return replace(
            plain, amount=plain.amount + draw.choice((-1, 1)) * draw.randint(least, most)
        )
