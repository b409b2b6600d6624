"""Which fault comes when: drawn from the seed, and so that all of them come.

Every name comes once before anything is drawn freely. The names are cut into as many parts as there
are usual seeds, the same parts for every seed; a seed begins with its own part and goes on with the
others, so that several seeds one after another have had all names even when each is short. A run of
four minutes has them all by itself. Knows no stage.
"""

from __future__ import annotations

import random

from bench.chaos.faults import Fault

PARTS = 3


class Script:
    """The faults to come of one run."""

    def __init__(self, faults: list[Fault], seed: int, draw: random.Random) -> None:
        self._faults = faults
        self._draw = draw
        self._deck = self._first_deck(seed)

    def next(self, taken: set[str]) -> Fault | None:
        """The next fault whose place is free; a dead Redis cannot be turned, nor a process
        twice."""
        if not self._deck:
            self._deck = self._draw.sample(self._faults, len(self._faults))
        for fault in self._deck:
            if fault.place not in taken:
                self._deck.remove(fault)
                return fault
        return None

    def again(self, fault: Fault) -> None:
        """Nothing came of it: it is the next one."""
        self._deck.insert(0, fault)

    def _first_deck(self, seed: int) -> list[Fault]:
        names = sorted({fault.name for fault in self._faults})
        random.Random("parts").shuffle(names)
        deck: list[Fault] = []
        for number in range(PARTS):
            part = names[(seed + number) % PARTS :: PARTS]
            deck += [
                self._draw.choice([fault for fault in self._faults if fault.name == name])
                for name in self._draw.sample(part, len(part))
            ]
        return deck
