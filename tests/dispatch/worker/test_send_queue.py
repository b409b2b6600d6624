"""Where messages and tokens meet: urgency, the age of tokens, and what is kept for otp."""

from __future__ import annotations

from gateway.dispatch.worker.claim import ClaimedStep, Entry
from gateway.dispatch.worker.send_queue import KEPT_S, LATE_S, SendQueue
from gateway.store.messages.apply import LaneEntry
from providers.contract import Category, Submission


def claimed(category: Category, count: int = 1, since: float = 0.0) -> list[ClaimedStep]:
    submission = Submission("ref", "+1", "Shop", category, "text", 60_000)
    entry = Entry("id", LaneEntry("lane", b"1-1", 0), category)
    return [ClaimedStep(entry, 0, 1, since, 0, submission) for _ in range(count)]


def taken(queue: SendQueue, room: int, now: float) -> list[str]:
    return [each.entry.category for each in queue.take(room, now)]


def test_messages_and_tokens_wait_for_each_other() -> None:
    queue = SendQueue(10)
    queue.add(claimed("marketing", 3))
    assert taken(queue, 10, 0.0) == []
    queue.add_tokens(2, 0.0, None)
    assert taken(queue, 10, 0.0) == ["marketing"] * 2
    queue.add_tokens(2, 0.0, None)
    assert taken(queue, 10, 0.0) == ["marketing"]
    assert queue.tokens(0.0) == 1


def test_the_most_urgent_go_first_and_only_as_many_as_there_is_room_for() -> None:
    queue = SendQueue(0)
    queue.add(claimed("marketing", 2))
    queue.add(claimed("otp", 2))
    queue.add_tokens(10, 0.0, None)
    assert taken(queue, 3, 0.0) == ["otp", "otp", "marketing"]


def test_what_was_claimed_late_goes_with_the_next_tokens() -> None:
    queue = SendQueue(10)
    queue.add_tokens(1, 0.0, 0.01)
    queue.add_tokens(1, 0.01, 0.02)
    late = 0.01 + LATE_S / 2
    queue.add(claimed("otp"))
    assert queue.tokens(late) == 1, "the first has lapsed"
    assert taken(queue, 10, late) == ["otp"]
    assert queue.tokens(late) == 0


def test_tokens_lapse() -> None:
    queue = SendQueue(10)
    queue.add_tokens(25, 0.0, 0.01)
    assert queue.tokens(KEPT_S) == 2
    assert queue.tokens(KEPT_S + 0.001) == 0
    queue.add(claimed("otp"))
    assert taken(queue, 10, KEPT_S + 0.001) == []


def test_an_otp_between_two_grants_goes_at_once() -> None:
    queue = SendQueue(10)
    queue.add(claimed("marketing", 25))
    queue.add_tokens(25, 0.0, 0.01)
    assert taken(queue, 100, 0.0) == ["marketing"] * 23
    queue.add(claimed("otp"))
    assert taken(queue, 100, 0.007) == ["otp"]
    queue.add(claimed("marketing", 23))
    queue.add_tokens(25, 0.01, 0.02)
    assert len(taken(queue, 100, 0.01)) == 24, "what was kept is used, what is kept now is not"


def test_without_otp_every_token_is_used() -> None:
    queue = SendQueue(10)
    sent = 0
    for turn in range(100):
        queue.add(claimed("marketing", 25))
        queue.add_tokens(25, turn / 97.5, (turn + 1) / 97.5)
        sent += len(taken(queue, 1_000, turn / 97.5))
    assert sent == 100 * 25 - 2


def test_nothing_is_kept_when_the_next_tokens_are_far_or_few() -> None:
    queue = SendQueue(10)
    for count, next_at in ((25, None), (25, 0.02), (9, 0.01)):
        queue.add(claimed("marketing", count))
        queue.add_tokens(count, 0.0, next_at)
        assert len(taken(queue, 100, 0.0)) == count


def test_what_was_claimed_long_ago_is_dropped() -> None:
    queue = SendQueue(10)
    queue.add(claimed("marketing", 2, since=1.0))
    queue.add(claimed("marketing", 3, since=2.0))
    assert len(queue.drop(2.0)) == 2
    assert len(queue) == 3
