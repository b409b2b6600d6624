"""Who is written to, drawn from a seed: the client sends it, the audit knows it.

A message in 25 repeats another's campaign and person, one in 50 meets a full cap, one in 100 cannot
be accepted; a few numbers lose all their receipts for good, and are named to the simulator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

DUPLICATES = 0.04
CAPPED = 0.02
INVALID = 0.01
BACK = 400  # how far back a duplicate reaches
LOST_EVERY = 300  # numbers between two whose receipts are lost, at least
LOST_MAX = 500  # such numbers: the simulator is told them on its command line
PHONES = 1_000_000
CATEGORIES = ("marketing", "marketing", "marketing", "transactional", "otp")  # of every five people


def bodies(
    messages: int, seed: int, first: int = 0, routes: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Request bodies in the order they are sent, each with an idempotency key of its own; the
    people are numbered from `first`. With `routes` each names one, as "<route>-<category>"."""
    draw = random.Random(f"audience {seed}")
    for number in range(first, first + messages):
        kind = draw.random()
        person = number
        if kind < DUPLICATES + CAPPED and number > first:
            person = number - draw.randint(1, min(BACK, number - first))
        body: dict[str, Any] = {"to": phone(person), "idempotency_key": f"{seed}-{number}"}
        category = category_of(person)
        body |= {"category": category, "text": f"Kaskad {person}"}
        if category == "marketing":
            other = "-again" if DUPLICATES <= kind < DUPLICATES + CAPPED else ""
            body["campaign"] = f"storm{other}"
        if routes:
            body["route"] = f"{routes[person // len(CATEGORIES) % len(routes)]}-{category}"
        if person % 3 == 0:
            body["user"] = f"user {person}"
        if kind > 1 - INVALID:
            body["to"] = "+7916"
        yield body


def category_of(person: int) -> str:
    return CATEGORIES[person % len(CATEGORIES)]


def phone(person: int) -> str:
    return f"+7916{1_000_000 + person % PHONES:07d}"


def lost_phones(messages: int) -> list[str]:
    """The numbers whose receipts never come."""
    every = max(LOST_EVERY, -(-messages // LOST_MAX))
    return [phone(person) for person in range(every // 2, messages, every)]
