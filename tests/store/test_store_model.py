"""The real store against a plain model of it.

Any sequence of requests and events leaves Redis as the pure rules say, and ledger, totals,
timers, lanes and persons' records agree with the messages. Of batches that are committed at the
same time there is an order which explains all answers and all that is in Redis.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import redis
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core import admission, cascade
from gateway.core import events as ev
from gateway.core.ids import new_id, shard_of_id
from gateway.core.persons import prune
from gateway.core.plan import Refusal
from gateway.core.records.entries import Post, ledger_codec
from gateway.core.records.message import Message, unpack_message
from gateway.core.records.person import Person, person_codec
from gateway.core.records.request import MessageRequest
from gateway.redis.trio_driver import open_link
from gateway.store import cross_shard as reserve
from gateway.store import randomness as noise
from gateway.store.apply import Item
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.store import Store
from gateway.store.writes import add_up
from ratelimit.caps import Cap
from tests.core.test_cascade_properties import EVENTS
from tests.worlds.cascade_world import DAY, T0, policy, request

HOME = keys_of(0)
RULES = policy(
    caps=(Cap("two", 2, DAY, "1d", "marketing", None), Cap("sms", 1, DAY, "1d", None, "sms"))
)
PHONES = st.sampled_from(["79160000001", "79160000002"])
USERS = st.sampled_from([None, "u1", "u2"])
REQUESTS = st.lists(
    st.tuples(
        PHONES, USERS, st.sampled_from(["a", "b", None]), st.sampled_from(["otp", "marketing"])
    ),
    min_size=1,
    max_size=4,
)
# Few messages, so that committers meet on them.
HAPPENED = st.lists(st.tuples(st.integers(0, 1), EVENTS), min_size=1, max_size=4)
TOGETHER = st.lists(st.one_of(REQUESTS, HAPPENED), min_size=2, max_size=3)


class Model:
    """The same rules over dictionaries, one request or event at a time."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.persons: dict[tuple[str, str], Person] = {}
        self.lanes: Counter[tuple[str, str, str]] = Counter()
        self.posts: list[Post] = []

    def people(self, whose: MessageRequest | Message) -> list[Person]:
        keys = [(kind[0], value) for kind, value in whose.identities]
        return [self.persons.setdefault(key, Person()) for key in keys]

    def admit(self, send: Any, now_ms: int) -> str:
        persons = self.people(send)
        decision = admission.admit(send, persons, None, RULES, now_ms)
        assert not isinstance(decision, Refusal)
        self.posts.append(decision.post)
        if isinstance(decision, admission.Accepted):
            self.messages[send.id] = decision.message
            self.lanes[(*decision.lane, send.id)] += 1
        return type(decision).__name__.lower()

    def apply(self, message_id: str, event: ev.Event, now_ms: int) -> None:
        message = self.messages[message_id]
        persons = self.people(message)
        effects = cascade.advance(message, event, persons, RULES, now_ms)
        self.posts += effects.posts
        if effects.lane:
            self.lanes[(*effects.lane, message_id)] += 1

    def do(self, batch: Sequence[MessageRequest | Item], now_ms: int) -> list[str]:
        """One batch; the outcomes of its requests."""
        told = []
        for one in batch:
            if isinstance(one, Item):
                self.apply(one.message_id, one.event, now_ms)
            else:
                told.append(self.admit(one, now_ms))
        return told


class StoreAgainstModel(RuleBasedStateMachine):
    url = ""
    shards = 1
    conflicts = 0  # commits that another one of the same moment made void

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now_ms = T0
        self.client = redis.Redis(unix_socket_path=self.url.removeprefix("unix://"))
        self.client.flushall()

    def teardown(self) -> None:
        self.client.close()

    def run(self, work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with open_link(self.url) as link:
                return await work(Store(link, RULES, shards=self.shards))

        return trio.run(main)

    @rule(people=REQUESTS, wait_ms=st.sampled_from([0, 1, DAY // 2]))
    def post(self, people: list[tuple[str, str | None, str | None, str]], wait_ms: int) -> None:
        self.now_ms += wait_ms

        async def work(store: Store) -> None:
            sends = [
                request(
                    id=store.new_message_id(to, self.now_ms),
                    to=to,
                    user=user,
                    campaign=campaign,
                    category=category,
                )
                for to, user, campaign, category in people
            ]
            # A batch goes shard by shard, and its requests meet in that order.
            by_shard: dict[int, list[MessageRequest]] = {}
            for send in sends:
                by_shard.setdefault(store.shard_of_home(send.home), []).append(send)
            for shard, members in by_shard.items():
                if self.shards > 1:
                    members.sort(key=lambda s: not reserve.foreign_identities(store, s))
                answers = await store.admit(shard, members, self.now_ms)
                expected = [self.model.admit(send, self.now_ms) for send in members]
                assert [a.outcome for a in answers] == expected

        self.run(work)

    @rule(
        happened=st.lists(st.tuples(st.integers(0, 50), EVENTS), min_size=1, max_size=8),
        wait_ms=st.sampled_from([0, 1, 20_000, 16 * 60_000, DAY]),
    )
    def happen(self, happened: list[tuple[int, ev.Event]], wait_ms: int) -> None:
        ids = list(self.model.messages)
        if not ids:
            return
        self.now_ms += wait_ms
        items = [
            Item(ids[i % len(ids)], event)
            for i, event in happened
            if not (isinstance(event, ev.Claimed) and event.opt_out)
        ]

        async def work(store: Store) -> None:
            await store.apply(items, self.now_ms)

        self.run(work)
        for item in items:
            self.model.apply(item.message_id, item.event, self.now_ms)

    @precondition(lambda self: self.shards == 1)  # a request may be several commits with more
    @rule(jobs=TOGETHER, wait_ms=st.sampled_from([0, 1, 20_000, DAY]))
    def at_once(self, jobs: list[list[Any]], wait_ms: int) -> None:
        self.now_ms += wait_ms
        ids = list(self.model.messages)
        batches = [batch for job in jobs if (batch := self._batch(job, ids))]
        told: list[list[str]] = [[] for _ in batches]

        async def commit(store: Store, number: int) -> None:
            batch = batches[number]
            if isinstance(batch[0], Item):
                await store.apply(batch, self.now_ms)
            else:
                answers = await store.admit(0, batch, self.now_ms)
                told[number] = [answer.outcome for answer in answers]

        async def work(store: Store) -> None:
            async with trio.open_nursery() as committers:
                for number in range(len(batches)):
                    committers.start_soon(commit, store, number)
            type(self).conflicts += store.counts.conflicts

        self.run(work)
        before = self.model
        for order in itertools.permutations(range(len(batches))):
            self.model = copy.deepcopy(before)
            if all(self.model.do(batches[n], self.now_ms) == told[n] for n in order):
                try:
                    self.redis_is_as_the_model()
                except AssertionError:
                    continue
                return
        pytest.fail(f"no order explains {told} and what is in Redis after {batches}")

    def _batch(self, job: list[Any], ids: list[str]) -> list[Any]:
        if isinstance(job[0][1], str | None):
            return [
                request(
                    id=new_id(self.now_ms, 0, noise.bits(45)),
                    to=to,
                    user=user,
                    campaign=campaign,
                    category=category,
                )
                for to, user, campaign, category in job
            ]
        return [
            Item(ids[i % len(ids)], event)
            for i, event in job
            if ids and not (isinstance(event, ev.Claimed) and event.opt_out)
        ]

    @invariant()
    def redis_is_as_the_model(self) -> None:
        self._messages()
        self._persons()
        self._lanes()
        self._money()

    def _every(self) -> list[Keys]:
        return [keys_of(shard) for shard in range(self.shards)]

    def _messages(self) -> None:
        client = self.client
        timers: dict[bytes, float] = {}
        for keys in self._every():
            timers |= dict(client.zrange(keys.timers, 0, -1, withscores=True))
        expected = {id_.encode(): m.due_ms for id_, m in self.model.messages.items() if m.due_ms}
        assert timers == expected
        for id_, message in self.model.messages.items():
            keys = keys_of(shard_of_id(id_) or 0)
            value = client.get(keys.message(id_))
            assert value is not None
            assert unpack_message(id_, value) == message

    def _persons(self) -> None:
        for (kind, identity), person in self.model.persons.items():
            keys = keys_of(shard_of(identity, self.shards))
            value = self.client.get(keys.phone(identity) if kind == "p" else keys.user(identity))
            stored = person_codec.decode(value) if value else Person()
            for record in (stored, person):
                prune(record, RULES, self.now_ms)
                record.slots.sort(key=lambda slot: slot.message)
            assert stored == person
        assert not any(self.client.exists(keys.sync) for keys in self._every())

    def _lanes(self) -> None:
        lanes: Counter[tuple[str, str, str]] = Counter()
        for keys in self._every():
            for provider in ("viber", "sms"):
                for category in ("otp", "marketing"):
                    for _, fields in self.client.xrange(keys.lane(provider, category)):
                        lanes[provider, category, fields[b"m"].decode()] += 1
        assert lanes == self.model.lanes

    def _money(self) -> None:
        booked: Counter[bytes] = Counter()
        totals: Counter[bytes] = Counter()
        for keys in self._every():
            for _, fields in self.client.xrange(keys.ledger):
                booked.update(add_up(ledger_codec.decode(unpack(fields[b"d"])).posts))
            for day in self.client.smembers(keys.days):
                hash_ = self.client.hgetall(keys.totals(day.decode()))
                totals.update({field: int(amount) for field, amount in hash_.items()})
        assert +booked == +totals == +Counter(add_up(self.model.posts))
        assert -booked == -totals


@pytest.mark.parametrize("shards", [1, 5])
def test_the_store_is_as_its_model(redis_url: str, shards: int) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url, "shards": shards})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.conflicts > 0 or shards > 1, "no two committers ever met"


def test_the_model_notices_a_difference(redis_url: str) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url})()
    machine.post([("79160000001", None, "a", "marketing")], 0)
    machine.redis_is_as_the_model()
    machine.client.zadd(HOME.timers, {"somebody": 1})
    with pytest.raises(AssertionError):
        machine.redis_is_as_the_model()
    machine.teardown()


def test_two_that_commit_on_one_message_do_it_one_after_the_other(redis_url: str) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url})()
    machine.post([("79160000001", None, "a", "marketing")], 0)
    machine.happen([(0, ev.Claimed(0))], 0)
    machine.at_once([[(0, ev.Accepted(0))], [(0, ev.LostAnswer(0))]], 0)
    assert machine.conflicts == 1
    machine.teardown()
