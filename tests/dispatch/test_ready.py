"""Where messages and tokens meet: urgency, the age of tokens, and what is kept for codes."""

from __future__ import annotations

from gateway.dispatch.worker.claim import Entry, Held
from gateway.dispatch.worker.flow import Flow
from gateway.dispatch.worker.ready import KEPT_S, LATE_S, Ready
from gateway.store.apply import LaneEntry
from providers.contract import Category, Submission


def held(category: Category, count: int = 1, since: float = 0.0) -> list[Held]:
    submission = Submission("ref", "+1", "Shop", category, "text", 60_000)
    entry = Entry("id", LaneEntry("lane", b"1-1"), category)
    return [Held(entry, 0, 1, since, submission) for _ in range(count)]


def taken(ready: Ready, room: int, now: float) -> list[str]:
    return [each.entry.category for each in ready.take(room, now)]


def test_messages_and_tokens_wait_for_each_other() -> None:
    ready = Ready(10)
    ready.add(held("marketing", 3))
    assert taken(ready, 10, 0.0) == []
    ready.grant(2, 0.0, None)
    assert taken(ready, 10, 0.0) == ["marketing"] * 2
    ready.grant(2, 0.0, None)
    assert taken(ready, 10, 0.0) == ["marketing"]
    assert ready.tokens(0.0) == 1


def test_the_most_urgent_go_first_and_only_as_many_as_there_is_room_for() -> None:
    ready = Ready(0)
    ready.add(held("marketing", 2))
    ready.add(held("otp", 2))
    ready.grant(10, 0.0, None)
    assert taken(ready, 3, 0.0) == ["otp", "otp", "marketing"]


def test_what_was_claimed_late_goes_with_the_next_tokens() -> None:
    ready = Ready(10)
    ready.grant(1, 0.0, 0.01)
    ready.grant(1, 0.01, 0.02)
    late = 0.01 + LATE_S / 2
    ready.add(held("otp"))
    assert ready.tokens(late) == 1, "the first has lapsed"
    assert taken(ready, 10, late) == ["otp"]
    assert ready.tokens(late) == 0


def test_tokens_lapse() -> None:
    ready = Ready(10)
    ready.grant(25, 0.0, 0.01)
    assert ready.tokens(KEPT_S) == 2
    assert ready.tokens(KEPT_S + 0.001) == 0
    ready.add(held("otp"))
    assert taken(ready, 10, KEPT_S + 0.001) == []


def test_a_code_between_two_grants_goes_at_once() -> None:
    ready = Ready(10)
    ready.add(held("marketing", 25))
    ready.grant(25, 0.0, 0.01)
    assert taken(ready, 100, 0.0) == ["marketing"] * 23
    ready.add(held("otp"))
    assert taken(ready, 100, 0.007) == ["otp"]
    ready.add(held("marketing", 23))
    ready.grant(25, 0.01, 0.02)
    assert len(taken(ready, 100, 0.01)) == 24, "what was kept is used, what is kept now is not"


def test_without_codes_every_token_is_used() -> None:
    ready = Ready(10)
    sent = 0
    for turn in range(100):
        ready.add(held("marketing", 25))
        ready.grant(25, turn / 97.5, (turn + 1) / 97.5)
        sent += len(taken(ready, 1_000, turn / 97.5))
    assert sent == 100 * 25 - 2


def test_nothing_is_kept_when_the_next_tokens_are_far_or_few() -> None:
    ready = Ready(10)
    for count, next_at in ((25, None), (25, 0.02), (9, 0.01)):
        ready.add(held("marketing", count))
        ready.grant(count, 0.0, next_at)
        assert len(taken(ready, 100, 0.0)) == count


def test_what_was_claimed_long_ago_is_dropped() -> None:
    ready = Ready(10)
    ready.add(held("marketing", 2, since=1.0))
    ready.add(held("marketing", 3, since=2.0))
    assert len(ready.drop(2.0)) == 2
    assert len(ready) == 3


def flow(ready: Ready, **changes: int) -> Flow:
    return Flow(ready, **({"batch": 1, "connections": 50, "claim_max": 500} | changes))


def test_so_many_are_claimed_ahead_as_end_while_a_claim_is_made() -> None:
    counts = flow(Ready(10))
    counts.requests = 50
    assert counts.room(0.0, alone=False) == 0, "nothing is known of its speed"
    counts.request_took(0.04)
    for _ in range(100):
        counts.claim_took(0.0035)
    assert counts.room(0.0, alone=False) == 15  # 12 ms of 40 ms
    counts.ahead = 15
    assert counts.room(0.0, alone=False) == 0
    assert counts.room(0.0, alone=True) < 0


def test_never_more_are_leased_for_than_may_be_claimed() -> None:
    counts = flow(Ready(10), batch=100, claim_max=120)
    counts.messages, counts.ahead = 70, 30
    assert counts.room(0.0, alone=False) == 20


def test_claimed_messages_whose_tokens_lapsed_get_new_ones() -> None:
    ready = Ready(10)
    counts = flow(ready, connections=2)
    ready.add(held("marketing", 3))
    counts.messages, counts.requests = 3, 1
    assert counts.tokenless(0.0, alone=False) == 1
    assert counts.room(0.0, alone=False) == 1
    counts.near = 1
    assert counts.tokenless(0.0, alone=False) == 0


def test_codes_hurry_only_where_they_can_go() -> None:
    ready = Ready(10)
    counts = flow(ready)
    assert counts.hurrying_room(0.0, 25) == 25, "nothing else goes"
    counts.near = 25
    assert counts.hurrying_room(0.0, 25) == 2
    ready.add(held("otp"))
    assert counts.hurrying_room(0.0, 25) == 1
    assert counts.hurrying_room(0.0, 9) < 0
