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
from decimal import Decimal
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import pytest
import redis
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.core import admission, cascade
from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.ids import new_id, shard_of_id
from gateway.core.people.persons import note_sent_here, prune
from gateway.core.plan import Rejection
from gateway.core.policy import RouteStep
from gateway.core.records.entries import (
    LedgerEntry,
    Post,
    ledger_codec,
)
from gateway.core.records.message import Message
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import Person, claim_codec, pack_person, unpack_person
from gateway.core.records.request import MessageRequest
from gateway.finance.lines.lines import LedgerLine, lines_of
from gateway.redis.client import Session
from gateway.redis.trio_driver import open_client
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of, shard_of, shard_of_identity
from gateway.store.messages.apply import Application, Item
from gateway.store.money.sums import add_up
from gateway.store.randomness import LOT_STRIDE
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Receipt
from ratelimit.caps import Cap
from tests.core.test_cascade_properties import EVENTS, RECEIPTS, STAND_IN
from tests.worlds.cascade_world import DAY, MINUTE, T0, policy, request
from tests.worlds.watched_link import Killed, WatchedLink

HOME = keys_of(0)
DECLARED = policy(
    caps=(Cap("two", 2, DAY, "1d", "marketing", None), Cap("sms", 1, DAY, "1d", None, "sms")),
    steps=(
        RouteStep(("viber", STAND_IN), 15 * MINUTE, 10_000),
        RouteStep(("sms",), DAY, 10_000),
    ),
)
# The first step's charge what they are sent, so that they have charges to take back.
AT_ONCE = {"viber", STAND_IN}
RULES = msgspec.structs.replace(
    DECLARED,
    providers={
        name: msgspec.structs.replace(rule, charged_on="sent") if name in AT_ONCE else rule
        for name, rule in DECLARED.providers.items()
    },
)
FEW_CLAIMS = Retention(claims_max=1)  # in a person's record: the second is a record of its own
PHONES = st.sampled_from(["79160000001", "79160000002", "79160000003"])
EMAILS = st.sampled_from([None, None, "anna@shop.example"])
USERS = st.sampled_from([None, "u1", "u2", "u3"])
ONE = st.tuples(
    st.builds(Addresses, PHONES, EMAILS),
    USERS,
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["otp", "marketing"]),
)
Wish = tuple[Addresses, str | None, str | None, str]
REQUESTS = st.lists(ONE, min_size=1, max_size=4)
# Few messages, so that committers meet on them.
HAPPENED = st.lists(st.tuples(st.integers(0, 1), EVENTS), min_size=1, max_size=2)
# The first thing of the first one is done by another one too, so that they meet.
TOGETHER = st.lists(
    st.one_of(st.lists(ONE, min_size=1, max_size=2), HAPPENED), min_size=1, max_size=2
).map(lambda jobs: [*jobs, [jobs[0][0]]])
Told = str | None  # the outcome of a request


class Model:
    """The same rules over dictionaries, one request or event at a time.

    Who is one person is a partition of the identities. What a person holds stands in the records of
    its identities, under whichever the store chose when it accepted the message."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.records: dict[str, Person] = {}
        self.groups: dict[str, frozenset[str]] = {}
        self.lanes: Counter[tuple[str, str, str]] = Counter()
        self.posts: list[Post] = []

    def join(self, identities: Sequence[str]) -> None:
        joined = frozenset().union(*(self.group(i) for i in identities))
        self.groups |= dict.fromkeys(joined, joined)

    def group(self, identity: str) -> frozenset[str]:
        return self.groups.get(identity, frozenset([identity]))

    def people(self, holder: str) -> list[Person]:
        others = sorted(self.group(holder) - {holder})
        people = [self.records.setdefault(i, Person()) for i in (holder, *others)]
        note_sent_here(people, self.messages)
        return people

    def admit(self, send: MessageRequest, holder: str | None, now_ms: int) -> str:
        self.join(send.identities)
        people = self.people(holder or send.identities[0])
        decision = admission.admit(send, people, {}, RULES, now_ms)
        assert not isinstance(decision, Rejection | admission.OverQuota | admission.Unfunded)
        self.posts.append(decision.post)
        if isinstance(decision, admission.Admitted):
            decision.message.person = holder or ""
            self.messages[send.id] = decision.message
            assert decision.lane is not None
            self.lanes[(*decision.lane, send.id)] += 1
            return "accepted"
        return type(decision).__name__.lower()

    def apply(self, message_id: str, event: ev.Event, now_ms: int) -> None:
        message = self.messages[message_id]
        people = self.people(message.holder)
        effects = cascade.advance(message, event, people, RULES, now_ms)
        self.posts += effects.posts
        if effects.lane:
            self.lanes[(*effects.lane, message_id)] += 1

    def do(self, job: Done, now_ms: int) -> bool:
        """Whether it comes out as the store said."""
        if isinstance(job.what, MessageRequest):
            told = self.admit(job.what, job.holder, now_ms)
            at_home = not job.holder or job.holder in self.group(job.what.identities[0])
            return at_home and told == job.told
        self.apply(job.what.message_id, job.what.event, now_ms)
        return True


class Done(NamedTuple):
    """What the store did, and what it told: a request with the id it got, and under whom."""

    what: MessageRequest | Item
    told: Told = None
    holder: str | None = None


class StoreAgainstModel(RuleBasedStateMachine):
    url = ""
    shards = 1
    conflicts = 0  # commits that another one of the same moment made void
    deaths = 0  # processes that died in the middle of a request

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now_ms = T0
        self.noise = itertools.count(step=LOT_STRIDE)  # the same in every run
        # Its stubs cannot say that it answers in bytes.
        self.client: Any = redis.Redis(unix_socket_path=self.url.removeprefix("unix://"))
        self.client.flushall()

    def teardown(self) -> None:
        self.client.close()

    def run(self, work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with open_client(self.url) as redis_client:
                return await work(
                    Store(redis_client, RULES, shards=self.shards, retention=FEW_CLAIMS)
                )

        return trio.run(main)

    @rule(people=REQUESTS, wait_ms=st.sampled_from([0, 1, DAY // 2]))
    def post(self, people: list[Wish], wait_ms: int) -> None:
        self.now_ms += wait_ms
        self.explain(self.run(lambda store: self._admit(store, self._sends(people))))

    @rule()
    def an_earlier_kaskad_writes(self) -> None:
        """To it every claim was a record of its own."""
        for identity, person in self._held().items():
            keys = keys_of(shard_of_identity(identity, self.shards))
            for campaign, claim in person.claims.items():
                key = keys.claim(identity, campaign)
                self.client.set(
                    key, claim_codec.encode(claim), pxat=claim.until_ms or person.keep_ms
                )
            person.claims, person.apart_ms = {}, None
            self.client.set(keys.person(identity), pack_person(person), pxat=person.until_ms)

    def _sends(self, people: Sequence[Wish]) -> list[MessageRequest]:
        return [
            request(
                id=new_id(self.now_ms, shard_of(to.home(user), self.shards), next(self.noise)),
                addresses=to,
                user=user,
                campaign=campaign,
                category=category,
            )
            for to, user, campaign, category in people
        ]

    async def _admit(self, store: Store, sends: list[MessageRequest]) -> list[Done]:
        answers = await store.admit(sends, self.now_ms)
        return [self._done(s, a.outcome, a.id) for s, a in zip(sends, answers, strict=True)]

    def _done(self, send: MessageRequest, outcome: str, id_: str | None) -> Done:
        if outcome != "accepted" or id_ is None:
            return Done(send, outcome)
        message = self._stored(id_)
        return Done(msgspec.structs.replace(send, id=id_), outcome, message.person)

    def _stored(self, id_: str) -> Message:
        value = self.client.get(keys_of(shard_of_id(id_) or 0).message(id_))
        assert value is not None
        return unpack_message(id_, value)

    @rule(wish=ONE, at=st.integers(0, 14))
    def die(self, wish: Wish, at: int) -> None:
        """A process dies in the middle of a request, and its caller asks again."""
        (send,) = self._sends([wish])

        async def work(store: Store) -> list[Done]:
            dying = WatchedLink(store.redis, dies_at=at)
            try:
                return await self._admit(
                    Store(dying, RULES, shards=self.shards, retention=FEW_CLAIMS), [send]
                )
            except Killed:
                type(self).deaths += 1
            names = [k.decode().rpartition("m:")[2] for k in self.client.keys("{k*}m:*")]
            made = [self._done(send, "accepted", n) for n in names if n not in self.model.messages]
            assert not made, "it died before it was done"
            return await self._admit(store, [send])

        self.explain(self.run(work))

    @rule(
        events=st.lists(st.tuples(st.integers(0, 50), EVENTS), min_size=1, max_size=8),
        wait_ms=st.sampled_from([0, 1, 20_000, 16 * 60_000, DAY]),
    )
    def happen(self, events: list[tuple[int, ev.Event]], wait_ms: int) -> None:
        ids = list(self.model.messages)
        if not ids:
            return
        self.now_ms += wait_ms
        self._apply(
            [
                Item(ids[i % len(ids)], h)
                for i, h in events
                if not (isinstance(h, ev.Claimed) and h.opt_outs)
            ]
        )

    @rule(
        which=st.integers(0, 50),
        receipts=st.lists(RECEIPTS, max_size=2),
        invoiced=st.sampled_from([None, 0, 30_000]),
    )
    def go_on(self, which: int, receipts: list[Receipt], invoiced: int | None) -> None:
        """A step is sent, and what is said of it then, and on an invoice."""
        ids = list(self.model.messages)
        if not ids:
            return
        id_ = ids[which % len(ids)]
        message = self.model.messages[id_]
        step, provider = message.current, message.steps[message.current].provider or STAND_IN
        told: list[ev.Event] = [ev.Claimed(step), ev.Accepted(step)]
        told += [ev.Reported(step, receipt, provider) for receipt in receipts]
        if invoiced is not None:
            told.append(
                ev.Invoiced(step, 0, provider, invoiced, "november.csv", "2026-11-01 2026-11-30")
            )
        self._apply([Item(id_, event) for event in told])

    def _apply(self, items: list[Item]) -> None:
        async def work(store: Store) -> None:
            await store.apply(items, self.now_ms)

        self.run(work)
        for item in items:
            self.model.apply(item.message_id, item.event, self.now_ms)

    @rule(jobs=TOGETHER, wait_ms=st.sampled_from([0, 1, 20_000, DAY]))
    def at_once(self, jobs: list[list[Any]], wait_ms: int) -> None:
        self.now_ms += wait_ms
        ids = list(self.model.messages)
        batches = [batch for job in jobs if (batch := self._batch(job, ids))]
        done: list[Done] = []

        async def commit(store: Store, batch: list[Any]) -> None:
            if isinstance(batch[0], Item):
                await store.apply(batch, self.now_ms)
                done.extend(map(Done, batch))
            else:
                done.extend(await self._admit(store, batch))

        async def work(store: Store) -> None:
            async with trio.open_nursery() as committers:
                for batch in batches:
                    committers.start_soon(commit, store, batch)
            type(self).conflicts += store.counts.conflicts

        self.run(work)
        self.explain(done)

    def explain(self, done: list[Done]) -> None:
        """Finds an order in which the model does and tells the same, and goes on from there.

        Requests of one moment may see each other's identities joined before either is decided."""
        orders = [(self.model, done, False)]
        while orders:
            model, left, joined = orders.pop()
            self.model = model
            if not left:
                try:
                    self.redis_is_as_the_model()
                except AssertionError:
                    continue
                return
            if len(left) > 1 and not joined:
                after = copy.deepcopy(model)
                for job in left:
                    if isinstance(job.what, MessageRequest):
                        after.join(job.what.identities)
                orders.append((after, left, True))
            for job in reversed(left):
                after = copy.deepcopy(model)
                if after.do(job, self.now_ms):
                    orders.append((after, [one for one in left if one is not job], joined))
        pytest.fail(f"no order explains {done} and what is in Redis")

    def _batch(self, job: list[Any], ids: list[str]) -> list[Any]:
        if isinstance(job[0][1], str | None):
            return self._sends(job)
        return [
            Item(ids[i % len(ids)], event)
            for i, event in job
            if ids and not (isinstance(event, ev.Claimed) and event.opt_outs)
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
        names = {k.decode().rpartition("m:")[2] for k in client.keys("{k*}m:*")}
        assert names == set(self.model.messages)

    def _persons(self) -> None:
        held = self._held()
        for identity, person in self.model.records.items():
            stored = held.get(identity, Person())
            # Whether a slot's message waits still is asked when that counts, and noted then.
            note_sent_here([stored, person], self.model.messages)
            for record in (stored, person):
                prune(record, RULES, self.now_ms)
                record.slots.sort(key=lambda slot: slot.message)
            assert (stored.claims, stored.slots) == (person.claims, person.slots)
        for group in {self.model.group(identity) for identity in self.model.groups}:
            (home,) = {_root(held, identity) for identity in group}
            listed = held.get(home, Person())
            assert {home, *listed.aliases} == group
            holding = {i for i in group - {home} if held[i].claims or held[i].slots}
            assert holding <= set(listed.former), "what an alias holds is forgotten"

    def _held(self) -> dict[str, Person]:
        """What stands under each identity."""
        found: dict[str, Person] = {}
        names = [key.decode() for key in self.client.keys("{k*}[peu]:*")]
        for name, value in zip(names, self.client.mget(names) if names else [], strict=True):
            found[name.partition("}")[2]] = unpack_person(value)
        names = [key.decode() for key in self.client.keys("{k*}c:*")]
        for name, value in zip(names, self.client.mget(names) if names else [], strict=True):
            length, _, rest = name.partition("}c:")[2].partition(":")
            identity, campaign = rest[: int(length)], rest[int(length) + 1 :]
            found[identity].claims[campaign] = claim_codec.decode(value)
        return found

    def _lanes(self) -> None:
        lanes: Counter[tuple[str, str, str]] = Counter()
        for keys in self._every():
            for provider in RULES.providers:
                for category in ("otp", "marketing"):
                    for _, fields in self.client.xrange(keys.lane(provider, category)):
                        lanes[provider, category, fields[b"m"].decode()] += 1
        assert lanes == self.model.lanes

    def _money(self) -> None:
        booked: Counter[bytes] = Counter()
        totals: Counter[bytes] = Counter()
        posts: list[Post] = []
        for keys in self._every():
            for _, fields in self.client.xrange(keys.ledger):
                posts += ledger_codec.decode(unpack(fields[b"d"])).posts
            for day in self.client.smembers(keys.days):
                hash_ = self.client.hgetall(keys.totals(day.decode()))
                totals.update({field: int(amount) for field, amount in hash_.items()})
        booked.update(add_up(posts))
        assert +booked == +totals == +Counter(add_up(self.model.posts))
        assert -booked == -totals
        assert Counter(told_apart(posts)) == Counter(told_apart(self.model.posts))
        spent: Counter[str | None] = Counter()
        billed: Counter[str | None] = Counter()
        for line in told_apart(posts):
            (billed if line.kind == "bill" else spent)[line.message] += line.amount
        for id_, message in self.model.messages.items():
            assert spent[id_] == sum(step.charged or 0 for step in message.steps)
            assert billed[id_] == (message.billed or 0)


def told_apart(posts: list[Post]) -> list[LedgerLine]:
    """The ledger's lines of these bookings, as if of one entry."""
    lines = lines_of(0, (0, 0), LedgerEntry(0, posts), "EUR")
    return [msgspec.structs.replace(line, id="") for _, line in lines]


def _root(held: dict[str, Person], identity: str) -> str:
    while identity in held and held[identity].home:
        identity = held[identity].home
    return identity


@pytest.mark.parametrize("shards", [1, 5])
def test_the_store_is_as_its_model(redis_url: str, shards: int) -> None:
    class Machine(StoreAgainstModel):
        url = redis_url

    Machine.shards = shards
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.conflicts > 0, "no two committers ever met"
    assert Machine.deaths > 0


def test_the_model_notices_a_difference(redis_url: str) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url})()
    machine.post([(Addresses("79160000001"), None, "a", "marketing")], 0)
    machine.redis_is_as_the_model()
    machine.client.zadd(HOME.timers, {"somebody": 1})
    with pytest.raises(AssertionError):
        machine.redis_is_as_the_model()
    machine.teardown()


def test_its_money_rule_looks_at_every_kind_of_line(redis_url: str) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url})()
    people = [Addresses(f"7916000000{n}") for n in range(3)]
    machine.post([(to, None, None, "otp") for to in people], 0)
    machine.go_on(0, [Receipt("delivered")], None)
    machine.go_on(1, [Receipt("undelivered", cost=Decimal(0))], None)
    machine.go_on(2, [], 30_000)
    machine.redis_is_as_the_model()
    kinds = {line.kind for line in told_apart(machine.model.posts)}
    assert kinds == {"cost", "bill", "reverse", "adjust"}
    machine.teardown()


def test_two_that_commit_on_one_message_do_it_one_after_the_other(redis_url: str) -> None:
    machine = type("Machine", (StoreAgainstModel,), {"url": redis_url})()
    machine.post([(Addresses("79160000001"), None, "a", "marketing")], 0)
    machine.happen([(0, ev.Claimed(0))], 0)
    attempt, read, both = Application.attempt, itertools.count(1), trio.Event()

    async def beside_another(self: Application, session: Session) -> Any:
        decided = await attempt(self, session)
        if next(read) == 2:
            both.set()
        await both.wait()  # neither commits before both have read
        return decided

    with mock.patch.object(Application, "attempt", beside_another):
        machine.at_once([[(0, ev.Accepted(0))], [(0, ev.LostAnswer(0))]], 0)
    assert machine.conflicts == 1
    machine.teardown()
