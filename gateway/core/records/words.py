"""Words that records keep as numbers: what a message is worth, and what people do with it."""

from __future__ import annotations

import enum
from typing import Literal

ReactionName = Literal["seen", "replied", "clicked"]
# By rank: what the person did last is not what counts, but the most that they did.
REACTION_NAMES: tuple[ReactionName | None, ...] = (None, "seen", "replied", "clicked")


ImportanceName = Literal["low", "normal", "high"]
IMPORTANCE_NAMES: tuple[ImportanceName, ...] = ("low", "normal", "high")


LinksWord = Literal["track", "off"]  # whether URLs of a message become links


class Importance(enum.IntEnum):
    """How much a message is worth."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


def importance_named(name: ImportanceName | None) -> Importance:
    """By its name in the API and the configuration; None: as nothing was said."""
    return Importance(IMPORTANCE_NAMES.index(name)) if name is not None else Importance.NORMAL
