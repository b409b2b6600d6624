"""The fault bench finds the step of each line of a bill, and what nobody could tell us of."""

from __future__ import annotations

from typing import Any

import pytest

from bench.chaos import billed
from bench.chaos.audit import sent_again_max
from bench.chaos.records import STEP_DELIVERED, STEP_UNKNOWN, Record, Step
from bench.stack import FCM, SMPP, VIBER

PHONE, ID = "79161000001", "4F2A"
ANSWERED = Step(SMPP, "sms", STEP_DELIVERED, 1, 0, 0, 0, 1, ids=(ID,))
LOST = Step(SMPP, "sms", STEP_UNKNOWN, 1, 0, 1, 0, 0)
TWICE = ANSWERED._replace(lost=1, ids=(ID, "m.0", "m.0 2", "m.0 3"))
NEXT = TWICE._replace(ids=(ID, "m.1"))
NOTIFIED = Step(FCM, "push", STEP_DELIVERED, 1, 0, 0, 0, 1)
SHOWN = Step(VIBER, "viber", STEP_DELIVERED, 1, 0, 0, 0, 1)


def messages(*steps: Step) -> dict[str, Record]:
    fields: dict[str, Any] = dict.fromkeys(Record._fields)
    return {"m": Record(**(fields | {"id": "m", "to": PHONE, "steps": list(steps)}))}


def line(*ids: str, to: str = PHONE, outcome: str = "delivered") -> dict[str, Any]:
    return {"to": to, "outcome": outcome, "echo": list(ids)}


@pytest.mark.parametrize(
    ("steps", "lines", "every", "learned", "foreign"),
    [
        ([SHOWN], {"m.0": line()}, 1, 1, 0),
        ([SHOWN, NOTIFIED], {"m/4d2c": line()}, 1, 1, 0),
        ([NOTIFIED._replace(lost=1)], {"m/4d2c": line()}, 1, 1, 0),
        ([NOTIFIED._replace(lost=1, status=STEP_UNKNOWN)], {"m/4d2c": line()}, 1, 0, 0),
        ([ANSWERED], {"nameless-1": line(ID)}, 1, 1, 0),
        ([LOST], {"nameless-1": line(ID)}, 1, 0, 0),
        ([ANSWERED, LOST], {"nameless-1": line("9"), "nameless-2": line(ID)}, 2, 1, 0),
        # One answer was lost, so one line can be unknown.
        ([LOST], {"nameless-1": line("8"), "nameless-2": line("9")}, 1, 0, 1),
        ([LOST], {"nameless-1": line(ID, to="79161000002")}, 0, 0, 1),
        # It was sent once more, and a receipt told of the first sending as well.
        ([TWICE], {"nameless-1": line("9"), "nameless-2": line(ID)}, 2, 2, 0),
        ([LOST, NEXT], {"nameless-1": line("9"), "nameless-2": line(ID)}, 2, 2, 0),
        ([LOST, NEXT], {f"nameless-{n}": line(n) for n in "89"}, 2, 1, 0),
        ([ANSWERED], {"nameless-1": line("9")}, 0, 0, 1),
        ([ANSWERED], {"nameless-1": line("9", outcome="rejected")}, 0, 0, 0),
        # Parts of it were taken, and cost.
        ([ANSWERED], {"nameless-1": line(ID, "9", outcome="rejected")}, 1, 1, 0),
        ([SHOWN], {"nameless-1": line("9", outcome="rejected")}, 0, 0, 1),
        ([SHOWN], {"m/4d2c": line()}, 0, 0, 1),
        ([SHOWN], {"something": line()}, 0, 0, 1),
    ],
)
def test_each_line_is_a_steps_or_nobodys(
    steps: list[Step], lines: dict[str, Any], every: int, learned: int, foreign: int
) -> None:
    found = billed.of(lines, messages(*steps))
    assert [sum(map(len, bill.values())) for bill in (found.every, found.learned)] == [
        every,
        learned,
    ]
    assert len(found.foreign) == foreign


@pytest.mark.parametrize(("category", "again"), [("marketing", 0), ("otp", 2)])
def test_who_cannot_be_asked_gets_nothing_again_but_a_code(category: str, again: int) -> None:
    assert sent_again_max(category, LOST._replace(lost=2)) == again
