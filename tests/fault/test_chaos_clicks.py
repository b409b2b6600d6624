"""The fault bench's audit of clicks: it explains what a kill explains, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bench.chaos.clicks import LOST_MS, Followed, Said, judged, said_in

WORKER, OTHER = "0123456789ab", "ba9876543210"
KILLED, WAITED, ENDED = Said(True, False, 0), Said(True, True, 0), Said(False, False, 2)


def link(code: str, *answered_ms: int, unanswered: int = 0, worker: str = WORKER) -> Followed:
    return Followed(code, worker, list(answered_ms), unanswered)


@pytest.mark.parametrize(
    ("followed", "booked", "said", "fault"),
    [
        ([link("a", 1, 2)], {"a": 2}, None, ""),
        ([link("a", 1, 2)], {"a": 3}, KILLED, "a was followed 2 times and counts 3"),
        ([link("a", 1, 2, unanswered=1)], {"a": 3}, None, ""),
        ([link("a", 1, 2)], {"a": 1}, None, "1 clicks are lost of 0123456789ab"),
        ([link("a", 1, 2)], {"a": 1}, KILLED, ""),
        ([link("a", 1, 2), link("b", 3)], {}, KILLED, ""),
        ([link("a", 1, 2), link("b", 3)], {"a": 1, "b": 1}, KILLED, "counted later ones, of b"),
        ([link("a", 1), link("b", 2, worker=OTHER)], {"b": 1}, KILLED, ""),
        ([link("a", 1), link("b", 2, worker=OTHER)], {"a": 1}, KILLED, "lost of ba9876543210"),
        ([link("a", 1, 2 + LOST_MS)], {}, KILLED, "before its last answer"),
        ([link("a", 1, 2 + LOST_MS)], {}, WAITED, ""),
        ([link("a", 1, 2)], {}, ENDED, ""),
        ([link("a", 1, 2, 3)], {}, ENDED, "3 clicks are lost of 0123456789ab, which tells of 2"),
    ],
)
def test_what_a_kill_explains_is_no_fault_and_all_else_is_one(
    followed: Sequence[Followed], booked: dict[str, int], said: Said | None, fault: str
) -> None:
    found = judged(followed, booked, {WORKER: said} if said else {})
    assert len(found.faults) == bool(fault)
    assert fault in "".join(found.faults)


def test_what_was_lost_is_counted_by_what_explains_it() -> None:
    followed = [link("a", 1, 2, 3), link("b", 4, worker=OTHER, unanswered=1)]
    counts = judged(followed, {"a": 1}, {WORKER: KILLED, OTHER: ENDED}).counts
    assert counts == {
        "clicks answered": 4,
        "clicks counted": 1,
        "clicks lost by a kill": 2,
        "clicks told as lost": 1,
        "clicks without an answer": 1,
    }


def test_a_log_says_which_worker_it_was_of_and_what_it_said_of_clicks() -> None:
    lines: list[dict[str, Any]] = [
        {"event": "request", "request_id": f"{WORKER}-1f"},
        {"event": "clicks_wait", "clicks": 7},
        {"event": "clicks_lost", "clicks": 3},
        {"event": "clicks_lost", "clicks": 4},
    ]
    log = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    assert said_in(log, killed=False) == {WORKER: Said(False, True, 7)}
    assert said_in("Redis cannot be reached.\n", killed=True) == {}
