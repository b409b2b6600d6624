"""Phone numbers that belong to nobody, by country, in an order that a seed decides.

Pure. These are the ranges that regulators keep free for films, books and tests:

    US  NPA 555-0100 to 0199    NANPA
    GB  07700 900000 to 900999  Ofcom
    FR  06 39 98 00 00 to 99 99 ARCEP
    DE  030 23125-000 to 999    Bundesnetzagentur
    SE  070-1740605 to 1740699  PTS

Russia has no such range: +7 944 is used, a code that its numbering plan gives to no operator. It is
also where more people are found once the other countries have no numbers left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import MappingProxyType

_AREA_CODES = (
    "202", "206", "212", "213", "215", "303", "305", "310", "312", "404",
    "415", "503", "512", "602", "612", "615", "617", "702", "713", "808",
)  # fmt: skip
COMMON = "RU"

Number = Callable[[int], str]


def _us(n: int) -> str:
    return f"+1{_AREA_CODES[n // 100]}55501{n % 100:02d}"


# Country: how many numbers there are, and the n-th of them.
RANGES: Mapping[str, tuple[int, Number]] = MappingProxyType(
    {
        "RU": (10_000_000, lambda n: f"+7944{n:07d}"),
        "US": (100 * len(_AREA_CODES), _us),
        "GB": (1_000, lambda n: f"+447700900{n:03d}"),
        "FR": (10_000, lambda n: f"+3363998{n:04d}"),
        "DE": (1_000, lambda n: f"+493023125{n:03d}"),
        "SE": (95, lambda n: f"+46701740{n + 605:03d}"),
    }
)
# How many of a hundred people live where.
SHARES: Mapping[str, int] = MappingProxyType(
    {"RU": 52, "GB": 16, "US": 12, "FR": 10, "DE": 8, "SE": 2}
)


class Numbers:
    """Gives out every number once."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._left = {country: _shuffled(random, size) for country, (size, _) in RANGES.items()}

    def country(self) -> str:
        """Draws where the next person lives."""
        return self._random.choices(list(SHARES), list(SHARES.values()))[0]

    def take(self, country: str) -> str:
        """A number nobody got before, from elsewhere when the country has none left."""
        n = next(self._left[country], None)
        if n is None:
            return self.take(COMMON)
        return RANGES[country][1](n)


def _shuffled(random: Random, size: int) -> Iterator[int]:
    """Every number below `size` once, in an order that needs no list of them all."""
    # A step that has no divisor in common with the size walks through all of them.
    step = random.randrange(1, size)
    while not _coprime(step, size):
        step = random.randrange(1, size)
    start = random.randrange(size)
    return ((start + n * step) % size for n in range(size))


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
