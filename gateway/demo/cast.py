"""Who plays in the acts after the campaign: people who got nothing else, chosen by their habits.

Pure. The simulator draws the same habits from the same seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from providers.simulator import People, person_at

REMINDED, PAUSED, REACHED = 40, 30, 36


class Cast(msgspec.Struct, frozen=True):
    """Phones: `known` reacts on the last channel of the campaign's route far more than on the
    first; the others are as they come."""

    known: str
    reminded: list[str]
    two_zones: list[str]
    paused: list[str]
    reached: list[str]


def choose(
    phones: Sequence[str], people: Sequence[People], seed: int, channels: Sequence[str]
) -> Cast | None:
    """The cast among these phones; None where nobody has two channels."""
    first, last = channels[0], channels[-1]

    def preference(phone: str) -> float:
        on = person_at(seed, people, phone.removeprefix("+")).kind.on
        return on[last].clicks - on[first].clicks if first in on and last in on else -1

    known = max(phones, key=preference)
    if first == last or preference(known) <= 0:
        return None
    others = (phone for phone in phones if phone != known)
    return Cast(
        known=known,
        reminded=[next(others) for _ in range(REMINDED)],
        two_zones=[next(others) for _ in range(2)],
        paused=[next(others) for _ in range(PAUSED)],
        reached=[next(others) for _ in range(REACHED)],
    )
