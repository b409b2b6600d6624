"""What the feeder keeps in memory is bounded by the queues that there are."""

from __future__ import annotations

from gateway.dispatch.jobs.feeder import forget_gone


def test_of_queues_that_are_gone_nothing_is_known_any_more() -> None:
    known = {f"campaign:{n}": n for n in range(1_000)}
    forget_gone(["campaign:7", "campaign:999", "zones"], known, {})
    assert known == {"campaign:7": 7, "campaign:999": 999}


def test_what_is_known_of_queues_that_are_there_stays() -> None:
    known = {"campaign:1": 1}
    forget_gone(["campaign:1", "zones"], known)
    assert known == {"campaign:1": 1}
