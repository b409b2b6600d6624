"""One person, one record: identities in any shards are joined once and then cost nothing more."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.ids import shard_of_id
from gateway.core.people.identities import IDENTITIES_MAX
from gateway.core.people.opt_outs import Origin
from gateway.core.records import schema2
from gateway.core.records.message import StepStatus
from gateway.core.records.person import DedupeClaim, Person, claim_codec, pack_person, unpack_person
from gateway.core.records.request import MessageRequest
from gateway.store.keys import Keys, keys_of, shard_of, shard_of_identity
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Receipt
from ratelimit.caps import Cap
from tests.worlds import stores
from tests.worlds.cascade_world import DAY, MINUTE, T0, policy, request
from tests.worlds.watched_link import Killed, WatchedLink

SHARDS = 5
PHONE = "79161234567"
ELSEWHERE = [
    name
    for name in (f"u{i}" for i in range(99))
    if shard_of(name, SHARDS) != shard_of(PHONE, SHARDS)
]
USER = ELSEWHERE[0]
OTHER = next(
    to
    for to in (f"7916000{i:04}" for i in range(99))
    if shard_of(to, SHARDS) not in (shard_of(PHONE, SHARDS), shard_of(USER, SHARDS))
)
HOME = min(f"p:{PHONE}", f"p:{OTHER}")  # of two persons with phones
TWO_A_DAY = Cap("two-a-day", 2, DAY, "1d", "marketing", None)
ONE_SMS = Cap("one-sms", 1, DAY, "1d", None, "sms")
encode = msgspec.msgpack.encode


def keys_for(identity: str) -> Keys:
    return keys_of(shard_of_identity(identity, SHARDS))


in_store = partial(stores.in_store, shards=SHARDS)


def send(store: Store, to: str = PHONE, now_ms: int = T0, **changes: Any) -> MessageRequest:
    return request(**({"id": store.new_message_id(to, now_ms), "to": to, "user": USER} | changes))


async def outcome(store: Store, wanted: MessageRequest, now_ms: int = T0) -> tuple[str, str | None]:
    (answer,) = await store.admit([wanted], now_ms)
    return answer.outcome, answer.id


async def accept(store: Store, to: str = PHONE, now_ms: int = T0, **changes: Any) -> str:
    told, id_ = await outcome(store, send(store, to, now_ms, **changes), now_ms)
    assert told == "accepted"
    assert id_ is not None
    return id_


async def record(store: Store, identity: str) -> Person:
    (value,) = await store.redis.call([("GET", keys_for(identity).person(identity))])
    assert value is None or isinstance(value, bytes)
    return unpack_person(value)


def test_a_duplicate_by_phone_joins_the_user_and_takes_nothing_under_it(redis_url: str) -> None:
    async def work(store: Store) -> None:
        first = await accept(store, user=None)
        assert await outcome(store, send(store)) == ("duplicate", first)
        alias = await record(store, f"u:{USER}")
        assert (alias.home, alias.slots, alias.keep_ms) == (f"p:{PHONE}", [], 0)
        assert await outcome(store, send(store, OTHER)) == ("duplicate", first)

    in_store(redis_url, work)


def test_a_message_that_holds_nothing_joins_whom_it_names(redis_url: str) -> None:
    """Neither campaign nor cap: it has nothing to ask of the person, and the next one may."""

    async def work(store: Store) -> None:
        first = await accept(store, user=None)
        await accept(store, category="transactional", campaign=None)
        assert await outcome(store, send(store, OTHER)) == ("duplicate", first)
        await opt_outs.put(store.redis, store.shards, PHONE, "marketing", Origin())
        (answer,) = await store.admit([send(store, OTHER, campaign="may")], T0)
        assert (answer.outcome, answer.reason) == ("suppressed", "opted_out")

    in_store(redis_url, work)


def test_from_the_second_message_on_one_transaction_in_the_phones_shard_does(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        await accept(store)
        for number in range(3):
            await accept(store, OTHER, user=None, campaign=f"c{number}")
        client = WatchedLink(store.redis)
        counting = Store(client, store.policy, shards=SHARDS)
        counting.campaigns = store.campaigns  # known by name, as after the first of each
        counting.lines, counting.declarations = store.lines, store.declarations
        for number in range(3):
            await accept(counting, campaign=f"c{number}")
        home = f"k{shard_of(PHONE, SHARDS)}"
        assert client.commits == {home: 3}
        assert client.calls == {home: 6}, "one read and one commit each, and no other shard"

    in_store(redis_url, work, policy(caps=(Cap("ten", 10, DAY, "1d", None, None),)))


def test_ten_thousand_claims_cost_what_ten_do(redis_url: str) -> None:
    async def cost(store: Store, campaign: str) -> tuple[int, int]:
        before = store.redis.statistics()
        id_ = await accept(store, campaign=campaign, route="viber-only")
        receipt = Receipt("delivered", ref=f"{id_}.0")
        for happening in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
            await store.apply([Item(id_, happening)], T0)
        after = store.redis.statistics()
        return (
            after.bytes_sent - before.bytes_sent,
            after.bytes_received - before.bytes_received,
        )

    async def work(store: Store) -> None:
        for number in range(Retention().claims_max + 10):
            await cost(store, f"c{number:05}")
        with_ten = await cost(store, "x00001")
        keys, holder = keys_for(f"p:{PHONE}"), f"p:{PHONE}"
        claim = claim_codec.encode(DedupeClaim("1M7Q5CQG0000000000AB", T0 + DAY))
        await store.redis.call(
            [
                ("SET", keys.claim(holder, f"c{number:05}"), claim, "PX", DAY)
                for number in range(Retention().claims_max + 10, 10_000)
            ]
        )
        assert (await outcome(store, send(store, campaign="c09999")))[0] == "duplicate"
        assert await cost(store, "x00002") == with_ten

    in_store(redis_url, work)


def test_a_claim_that_changes_hands_and_is_moved_out_in_one_batch_stays(redis_url: str) -> None:
    async def work(store: Store) -> None:
        store.retention = Retention(claims_max=1)
        await accept(store, campaign="a", user=None)
        await accept(store, campaign="b", user=None)
        newer = send(store, campaign="a", user=None)
        keys, holder = keys_for(f"p:{PHONE}"), f"p:{PHONE}"
        over = claim_codec.encode(DedupeClaim("1M7Q5CQG0000000000AB", T0 - 1))
        await store.redis.call([("SET", keys.claim(holder, "a"), over)])
        answers = await store.admit([newer, send(store, campaign="c", user=None)], T0)
        assert [answer.outcome for answer in answers] == ["accepted", "accepted"]
        assert await outcome(store, send(store, campaign="a")) == ("duplicate", newer.id)

    in_store(redis_url, work)


@pytest.mark.parametrize("ending", ["cancelled", "undelivered"])
def test_what_a_message_gives_back_is_free_under_every_identity(
    redis_url: str, ending: str
) -> None:
    async def work(store: Store) -> None:
        id_ = await accept(store, route="viber-only")
        if ending == "cancelled":
            await store.apply([Item(id_, ev.Cancelled())], T0)
        else:
            receipt = Receipt("undelivered", ref=f"{id_}.0")
            for happening in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
                await store.apply([Item(id_, happening)], T0)
        await accept(store, OTHER)

    in_store(redis_url, work)


def test_a_second_phone_is_served_where_the_person_is_at_home(redis_url: str) -> None:
    async def work(store: Store) -> None:
        first = await accept(store)
        second = await accept(store, OTHER, campaign="winter")
        assert shard_of_id(second) == shard_of_id(first) == shard_of(PHONE, SHARDS)
        assert await outcome(store, send(store, OTHER, user=None)) == ("duplicate", first)
        assert await outcome(store, send(store, user=None, campaign="winter")) == (
            "duplicate",
            second,
        )
        assert (await record(store, f"p:{PHONE}")).aliases == [f"u:{USER}", f"p:{OTHER}"]

    in_store(redis_url, work)


def test_caps_and_opt_outs_count_under_every_identity(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await accept(store, user=None)
        await accept(store, OTHER, user="u-other", campaign="winter")
        await accept(store, OTHER, campaign="otp-like", category="otp")
        assert await outcome(store, send(store, campaign="spring")) == ("suppressed", None)
        (answer,) = await store.admit([send(store, OTHER, user=None, campaign="spring")], T0)
        assert (answer.cap is not None and answer.cap.count) == 2
        await opt_outs.put(store.redis, store.shards, OTHER, "marketing", Origin())
        (answer,) = await store.admit([send(store, campaign="may")], T0 + 2 * DAY)
        assert (answer.outcome, answer.reason) == ("suppressed", "opted_out")

    in_store(redis_url, work, policy(caps=(TWO_A_DAY,)))


@pytest.mark.parametrize("address", [PHONE, OTHER, "anna@shop.example"])
@pytest.mark.parametrize("named", [True, False])
def test_a_claim_asks_for_the_opt_outs_of_every_identity(
    redis_url: str, address: str, named: bool
) -> None:
    """As an acceptance does, whether the message names the address or only its person has it."""
    mailbox = Addresses(PHONE, "anna@shop.example")

    async def work(store: Store) -> None:
        await accept(store, OTHER, campaign="winter")
        await accept(store, addresses=mailbox, campaign="spring")
        id_ = await accept(store, addresses=mailbox if named else Addresses(PHONE))
        await opt_outs.put(store.redis, store.shards, address, "marketing", Origin())
        (applied,) = await store.apply([Item(id_, ev.Claimed(0))], T0)
        assert applied.message is not None
        assert (applied.message.reason, applied.effects.submit) == ("opted_out", False)

    in_store(redis_url, work)


def test_a_next_step_counts_what_came_under_an_identity_that_was_joined_later(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        late = await accept(store, HOME_OTHER, user=None)
        for happening in (ev.Claimed(0), ev.Accepted(0)):
            await store.apply([Item(late, happening)], T0)
        await accept(store, HOME[2:], campaign="winter", route="sms-only")
        assert (await outcome(store, send(store, HOME_OTHER, campaign="winter")))[0] == "duplicate"
        receipt = Receipt("undelivered", ref=f"{late}.0")
        (applied,) = await store.apply([Item(late, ev.Reported(0, receipt, "viber"))], T0)
        assert applied.message is not None
        assert applied.message.reason == "frequency_cap"
        assert applied.message.steps[1].status == StepStatus.SKIPPED

    in_store(redis_url, work, policy(caps=(ONE_SMS,)))


HOME_OTHER = ({PHONE, OTHER} - {HOME[2:]}).pop()


def test_a_merge_that_a_dead_process_left_is_finished_by_the_next_message(redis_url: str) -> None:
    """Two persons become one, and a home moves: a process dies at each of its calls in turn."""
    old_user = encode((2, {"summer": schema2.Claim("1M7Q5CQG0000000000AB", T0 + DAY)}, []))

    async def work(store: Store, at: int) -> bool:
        died = False
        await accept(store, user=None, campaign="spring")
        await accept(store, OTHER, user=None, campaign="autumn")
        await store.redis.call([("SET", keys_for(f"u:{USER}").person(f"u:{USER}"), old_user)])
        joined = await outcome(store, send(store, OTHER, user="anna", campaign="may"))
        assert joined[0] == "accepted"
        dying = WatchedLink(store.redis, dies_at=at)
        mortal = Store(dying, store.policy, shards=SHARDS)
        try:
            await outcome(mortal, send(store, user="anna", campaign="june"))
        except Killed:
            died = True
        for number, (to, user) in enumerate([(PHONE, "anna"), (OTHER, USER), (PHONE, None)]):
            await outcome(store, send(store, to, user=user, campaign=f"again{number}"))
        for to, user in ((PHONE, None), (OTHER, None), ("79160009999", "anna")):
            for campaign in ("spring", "autumn", "summer", "may"):
                told = await outcome(store, send(store, to, user=user, campaign=campaign))
                assert told[0] == "duplicate", (to, user, campaign)
        home = await record(store, HOME)
        everybody = {f"p:{PHONE}", f"p:{OTHER}", "u:anna", f"u:{USER}", "p:79160009999"}
        assert {HOME, *home.aliases} == everybody
        return died

    died = stores.at_each_call(redis_url, work, shards=SHARDS)
    assert 8 < len(died) < 60, "it died at every call, until it came through"


def test_what_records_of_schema_2_hold_is_honoured_and_written_as_new_ones(redis_url: str) -> None:
    old = encode((2, {"autumn": schema2.Claim("1M7Q5CQG0000000000AB", T0 + DAY)}, []))
    slots = encode((2, {}, [schema2.Slot("1M7Q5CQG0000000000AB", T0, "marketing", "viber")]))
    phone, user = f"p:{PHONE}", f"u:{USER}"

    async def work(store: Store) -> None:
        await store.redis.call(
            [
                ("SET", keys_for(phone).person(phone), old),
                ("SET", keys_for(user).person(user), slots),
            ]
        )
        assert (await outcome(store, send(store)))[0] == "duplicate"
        assert (await record(store, phone)).former == [user]
        assert (await record(store, user)).home == phone
        claims = (await record(store, phone)).claims
        assert claims == {"autumn": DedupeClaim("1M7Q5CQG0000000000AB", T0 + DAY)}
        await accept(store, campaign="winter")
        assert (await outcome(store, send(store, campaign="spring")))[0] == "suppressed"
        later = T0 + 80 * DAY
        await accept(store, now_ms=later, campaign="spring")
        assert (await record(store, phone)).former == [], "what lapsed is read no more"

    in_store(redis_url, work, policy(caps=(TWO_A_DAY,)))


def test_a_live_claim_of_schema_2_goes_with_its_message(redis_url: str) -> None:
    """It stood under both identities; the phone's is the one that counts."""
    phone, user = f"p:{PHONE}", f"u:{USER}"

    async def work(store: Store) -> None:
        id_ = await accept(store, user=None, route="viber-only")
        copy = encode(
            (2, {"autumn": schema2.Claim(id_, 0), "gone": schema2.Claim(id_[:-1] + "0", 0)}, [])
        )
        await store.redis.call([("SET", keys_for(user).person(user), copy)])
        assert await outcome(store, send(store)) == ("duplicate", id_)
        await store.apply([Item(id_, ev.Cancelled())], T0)
        await accept(store, campaign="autumn")
        await accept(store, campaign="gone")
        assert (await record(store, phone)).former == []

    in_store(redis_url, work)


def test_a_seventeenth_identity_is_not_joined_and_counted(redis_url: str) -> None:
    async def work(store: Store) -> None:
        for number in range(IDENTITIES_MAX - 1):
            await accept(store, user=f"v{number}", campaign=f"c{number}")
        stranger = await accept(store, OTHER)
        assert store.counts.unjoined == 0
        assert await outcome(store, send(store)) == ("duplicate", stranger), "read, not joined"
        assert (await outcome(store, send(store, OTHER, campaign="c3")))[0] == "accepted"
        assert store.counts.unjoined == 1
        assert len((await record(store, f"p:{PHONE}")).aliases) == IDENTITIES_MAX - 1

    in_store(redis_url, work)


def test_an_alias_stands_as_long_as_anything_is_held_at_its_home(redis_url: str) -> None:
    async def work(store: Store) -> None:
        alias = keys_for(f"u:{USER}").person(f"u:{USER}")
        now_ms = T0
        for number in range(8):
            now_ms += 20 * DAY
            await accept(store, now_ms=now_ms, campaign=f"c{number}")
            (until,) = await store.redis.call([("PTTL", alias)])
            kept = (await record(store, f"p:{PHONE}")).keep_ms
            (home_until,) = await store.redis.call(
                [("PTTL", keys_for(f"p:{PHONE}").person(f"p:{PHONE}"))]
            )
            assert isinstance(until, int)
            assert isinstance(home_until, int)
            assert until >= home_until - MINUTE
            (left_ms,) = [until - home_until]
            assert left_ms >= -MINUTE
            assert kept <= (await record(store, f"u:{USER}")).linked_ms

    in_store(redis_url, work)


@pytest.mark.parametrize("to", [PHONE, "79000000000", None])
def test_a_receipt_settles_a_message_whose_user_lives_elsewhere_whatever_number_it_names(
    redis_url: str, to: str | None
) -> None:
    async def work(store: Store) -> None:
        id_ = await accept(store, route="viber-only")
        receipt = Receipt("delivered", ref=f"{id_}.0", to=to)
        for happening in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
            await store.apply([Item(id_, happening)], T0)
        claim = (await record(store, f"p:{PHONE}")).claims["autumn"]
        assert (claim.message, claim.until_ms > T0) == (id_, True)
        for other in (send(store, user=None), send(store, OTHER)):
            assert await outcome(store, other) == ("duplicate", id_)
        keys = keys_for(f"p:{PHONE}")
        assert await store.redis.call([("EXISTS", keys.person("p:79000000000"))]) == [0]

    in_store(redis_url, work)


def test_a_records_bytes_say_nothing_that_is_not_so() -> None:
    assert len(pack_person(Person(keep_ms=T0))) < 20
    assert unpack_person(None) == Person()
