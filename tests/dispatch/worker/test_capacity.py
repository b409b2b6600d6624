"""How much more a worker may take on: read from what is in flight, in the queue and unavailable."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.worker.capacity import Capacity
from gateway.dispatch.worker.claim import ClaimedStep, Entry
from gateway.dispatch.worker.in_flight import InFlight
from gateway.dispatch.worker.send_queue import SendQueue
from gateway.dispatch.worker.shards import Shards
from gateway.store.messages.apply import LaneEntry
from providers.contract import Category, Submission


class Books(NamedTuple):
    """A worker's account, and what is read from it."""

    in_flight: InFlight
    queue: SendQueue
    shards: Shards
    capacity: Capacity

    def claim(self, category: Category, count: int, shard: int = 0) -> None:
        """So many messages are claimed and wait for tokens."""
        with self.in_flight.claim(shard, count) as claim:
            claim.succeed(count)
        submission = Submission("ref", "+1", "Shop", category, "text", 60_000)
        entry = Entry("id", LaneEntry("lane", b"1-1", shard), category, shard)
        self.queue.add([ClaimedStep(entry, 0, 1, 0.0, 0, submission)] * count)

    def send(self, requests: int) -> None:
        """So many requests of one message each are on their way."""
        for _ in range(requests):
            self.claim("marketing", 1)
            self.queue.drop(1.0)
            self.in_flight.request([0])


def books(shards: int = 1, **changes: int) -> Books:
    in_flight, queue = InFlight(shards), SendQueue(10)
    known = Shards(shards, lambda: RedisRetry("worker", lambda loop: None))
    terms = {"batch": 1, "connections": 50, "claim_max": 500} | changes
    return Books(in_flight, queue, known, Capacity(in_flight, queue, known, **terms))


def test_so_many_are_claimed_ahead_as_end_while_a_claim_is_made() -> None:
    worker = books()
    worker.send(50)
    assert worker.capacity.room(0.0, alone=False) == 0, "nothing is known of its speed"
    worker.capacity.request_took(0.04)
    for _ in range(100):
        worker.capacity.claim_took(0.0035)
    assert worker.capacity.room(0.0, alone=False) == 15  # 12 ms of 40 ms
    worker.in_flight.grant(15)
    assert worker.capacity.room(0.0, alone=False) == 0
    assert worker.capacity.room(0.0, alone=True) < 0


def test_a_window_is_filled_by_requests_of_any_size() -> None:
    worker = books(batch=100, connections=2, places=1)
    worker.capacity.hold_places(1)
    worker.send(50)
    assert worker.capacity.free(alone=False) == 150
    assert worker.capacity.room(0.0, alone=False) == 150
    assert worker.capacity.free(alone=True) < 0, "one request means one"
    assert worker.capacity.limited_by() is None
    worker.send(150)
    assert worker.capacity.room(0.0, alone=False) == 0
    assert worker.capacity.limited_by() == "connections"


def test_never_more_are_granted_for_than_may_be_claimed() -> None:
    worker = books(batch=100, claim_max=120)
    with worker.in_flight.claim(0, 70) as claim:
        claim.succeed(70)
    worker.in_flight.grant(30)
    assert worker.capacity.room(0.0, alone=False) == 20


def test_claimed_messages_whose_tokens_lapsed_get_new_ones() -> None:
    worker = books(connections=2)
    worker.send(1)
    worker.claim("marketing", 3)
    assert worker.capacity.tokenless(0.0, alone=False) == 1
    assert worker.capacity.room(0.0, alone=False) == 1
    worker.in_flight.grant(1).become_imminent()
    assert worker.capacity.tokenless(0.0, alone=False) == 0


def test_otp_are_express_only_where_they_can_go() -> None:
    worker = books()
    assert worker.capacity.express_room(0.0, 25) == 25, "nothing else goes"
    worker.in_flight.grant(25).become_imminent()
    assert worker.capacity.express_room(0.0, 25) == 2
    worker.claim("otp", 1)
    assert worker.capacity.express_room(0.0, 25) == 1
    assert worker.capacity.express_room(0.0, 9) < 0
    worker.in_flight.claim(0, 1, express=True)
    assert worker.capacity.express_room(0.0, 25) == 0


def test_what_an_unavailable_shard_holds_up_takes_no_room_from_the_others() -> None:
    worker = books(shards=2, batch=10, claim_max=20)
    with ExitStack() as stack:
        silent, claim = (stack.enter_context(worker.in_flight.claim(1, 9)) for _ in range(2))
        stack.enter_context(claim.fall_into_doubt())
        assert worker.capacity.room(0.0, alone=False) == 2
        assert worker.capacity.coming() == 9
        worker.shards.suspect([1])
        assert worker.capacity.room(0.0, alone=False) == 20
        assert worker.capacity.unserved(5, 0.0) == 5, "no tokens are to wait for them"
        assert (worker.capacity.coming(), worker.in_flight.messages) == (0, 18)
        silent.succeed(9)
        assert worker.in_flight.messages == 18
    worker.in_flight.put_back(1, 9).leave()
    assert worker.in_flight.messages == 0


def test_who_keeps_no_session_takes_nothing_and_who_keeps_one_has_its_share() -> None:
    worker = books(connections=10, places=4)
    rooms = []
    for held in (0, 1, 4, 0):
        worker.capacity.hold_places(held)
        rooms.append(worker.capacity.room(0.0, alone=False))
        assert (worker.capacity.express_room(0.0, 10) > 0) == (held > 0)
        assert worker.capacity.room(0.0, alone=True) == min(held, 1)
    assert rooms == [0, 2, 10, 0]
    few = books(connections=1, places=4)
    few.capacity.hold_places(1)
    assert few.capacity.room(0.0, alone=False) == 1
