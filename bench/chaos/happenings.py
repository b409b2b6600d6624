"""What every storm asks of people, apps and wires beside its faults, and whether it came.

A count of an audit, and the words for it. What is 0 over all runs was not proved, however many
assertions hold: it is said, and the bench fails. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.chaos import clicks
from bench.chaos.audience import HELD

PAUSED, PACED = f"{HELD}paused", f"{HELD}pace"
OPENS, LATER = f"{HELD}send_window", f"{HELD}scheduled"
ASKED = (
    (PAUSED, "held when accepted: their campaign was paused"),
    (PACED, "held when accepted: by their campaign's pace"),
    (OPENS, "held when accepted: their send window was not open yet"),
    (LATER, "held when accepted: they were for later"),
    ("cancelled with their campaign", "cancelled with their campaign"),
    ("refused by a full budget", "refused by a full budget"),
    ("people who reacted", "people who reacted"),
    ("reactions told by the app", "reactions told by the app"),
    ("skipped: reacted", "steps skipped: the person had reacted"),
    ("second legs billed", "second legs delivered and billed"),
    ("people who opted out", "people who opted out, by STOP or from e-mail"),
    ("people who turned out to be one", "pairs of people who turned out to be one"),
    (clicks.COUNTED, "links followed that count"),
    ("provider has: sms, over SMPP", "steps sent over SMPP"),
    ("provider has: email", "e-mails sent"),
    ("provider has: push", "notifications sent"),
)


def never(runs: Iterable[Mapping[str, int]]) -> list[str]:
    """In words, what came in none of the runs, by their audits' counts."""
    counts = list(runs)
    return [words for name, words in ASKED if counts and not any(c.get(name, 0) for c in counts)]
