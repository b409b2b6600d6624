"""Acceptance against real Redis: what one batch, two processes and a lost connection make of it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, cast

import pytest
import trio

from gateway.core import events as ev
from gateway.core.records.message import StepStatus
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import unpack_person
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.errors import OutcomeUnknown
from gateway.redis.trio_driver import open_client
from gateway.store import transaction
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, MINUTE, T0, policy, request
from tests.worlds.stores import in_store

ONE_A_DAY = Cap("one-a-day", 1, DAY, "1d", "marketing", None)
KEYS = keys_of(0)


def sends(store: Store, count: int, **changes: Any) -> list[MessageRequest]:
    return [
        request(**({"id": store.new_message_id("79161234567", T0)} | changes)) for _ in range(count)
    ]


async def report(store: Store, message_id: str, status: Any, now_ms: int = T0) -> None:
    """Claims and sends the first step, and lets its provider report."""
    await take_and_send(store, message_id, now_ms)
    receipt = Receipt(status=status, ref=message_id + ".0")
    await store.apply([Item(message_id, ev.Reported(0, receipt, "viber"))], now_ms)


async def take_and_send(store: Store, message_id: str, now_ms: int = T0) -> None:
    """Claims the first step, and its provider accepts it."""
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await store.apply([Item(message_id, event)], now_ms)


def test_a_hundred_copies_in_one_batch_are_one_message_and_ninety_nine_duplicates(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        answers = await store.admit(sends(store, 100), T0)
        assert Counter(a.outcome for a in answers) == {"accepted": 1, "duplicate": 99}
        assert {a.id for a in answers} == {answers[0].id}
        assert {a.status for a in answers} == {"queued"}

    in_store(redis_url, work)


@pytest.mark.parametrize("ahead", [400 * DAY, -400 * DAY])
def test_a_redis_whose_clock_is_another_keeps_what_is_held_as_long(
    redis_url: str, ahead: int
) -> None:
    """It is told how long, and not until when."""
    now_ms = time.time_ns() // 1_000_000 - ahead

    async def work(store: Store) -> None:
        async def outcome(to: str, campaign: str) -> str:
            id_ = store.new_message_id(to, now_ms)
            asked = request(id=id_, to=to, user="u-1", campaign=campaign)
            (answer,) = await store.admit([asked], now_ms)
            return answer.outcome

        campaigns = [f"c{number}" for number in range(store.retention.claims_max + 1)]
        first, second = "79161234567", "79161234568"
        assert {await outcome(first, each) for each in campaigns} == {"accepted"}
        # One claim is kept apart from the person, who is found by the user's record.
        assert {await outcome(second, each) for each in campaigns} == {"duplicate"}

    in_store(redis_url, work, shards=4)


def test_two_processes_at_once_accept_one(redis_url: str) -> None:
    async def work(store: Store) -> None:
        async with open_client(redis_url) as second, trio.open_nursery() as nursery:
            answers: list[Answer] = []

            async def post(on: Store) -> None:
                answers.extend(await on.admit(sends(on, 3), T0))

            for on in (store, Store(second, store.policy)):
                for _ in range(8):
                    nursery.start_soon(post, on)
        assert Counter(a.outcome for a in answers) == {"accepted": 1, "duplicate": 47}
        assert len({a.id for a in answers}) == 1

    in_store(redis_url, work)


def test_a_person_is_one_by_phone_and_by_id(redis_url: str) -> None:
    async def work(store: Store) -> None:
        first, other_phone, no_id, stranger = (
            request(id=store.new_message_id(to, T0), to=to, user=user)
            for to, user in (
                ("79160000001", "u1"),
                ("79160000002", "u1"),
                ("79160000001", None),
                ("79160000003", "u2"),
            )
        )
        for send in (first, other_phone, no_id, stranger):
            (answer,) = await store.admit([send], T0)
            if send is not stranger:
                assert answer.id == first.id
            else:
                assert answer.outcome == "accepted"

    in_store(redis_url, work)


def test_a_claim_is_free_again_when_nothing_was_delivered_and_lasts_when_it_was(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        for status, outcome in (("undelivered", "accepted"), ("delivered", "duplicate")):
            (first,) = sends(store, 1, route="viber-only")
            assert (await store.admit([first], T0))[0].outcome == "accepted"
            await report(store, first.id, status)
            (again,) = sends(store, 1, route="viber-only")
            answer = (await store.admit([again], T0 + 1))[0]
            assert answer.outcome == outcome
            if outcome == "accepted":
                await report(store, again.id, "undelivered")
            else:
                assert (answer.id, answer.status) == (first.id, "delivered")
        (later,) = sends(store, 1)
        assert (await store.admit([later], T0 + 30 * DAY))[0].outcome == "accepted"

    in_store(redis_url, work)


def test_a_receipt_needs_no_look_at_a_claim_that_nobody_took(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (first,) = sends(store, 1)
        await store.admit([first], T0)
        await store.apply([Item(first.id, ev.Claimed(0))], T0)
        before = store.redis.statistics().round_trips
        receipt = Receipt("delivered", ref=first.id + ".0", to="79161234567")
        await store.apply([Item(first.id, ev.Reported(0, receipt, "viber"))], T0)
        assert store.redis.statistics().round_trips == before + 2, "a read and a commit"
        (again,) = await store.admit(sends(store, 1), T0 + store.policy.dedupe_ms - 1)
        assert again.id == first.id
        (later,) = await store.admit(sends(store, 1), T0 + store.policy.dedupe_ms)
        assert later.outcome == "accepted"

    in_store(redis_url, work)


def test_a_message_whose_claim_went_to_a_late_delivery_leaves_it_there(redis_url: str) -> None:
    async def work(store: Store) -> None:
        first, newer = (sends(store, 1, route="viber-only")[0] for _ in range(2))
        await store.admit([first], T0)
        await report(store, first.id, "undelivered")
        assert (await store.admit([newer], T0))[0].outcome == "accepted"
        for message, now_ms in ((first, T0 + 1), (newer, T0 + 2)):
            receipt = Receipt("delivered", ref=message.id + ".0", to="79161234567")
            await store.apply([Item(message.id, ev.Claimed(0))], now_ms)
            await store.apply([Item(message.id, ev.Reported(0, receipt, "viber"))], now_ms)
        (again,) = await store.admit(sends(store, 1), T0 + 3)
        assert (again.outcome, again.id) == ("duplicate", first.id)
        (record,) = await store.redis.call([("GET", KEYS.person("p:79161234567"))])
        claim = unpack_person(cast("bytes", record)).claims["autumn"]
        assert claim.until_ms == T0 + 1 + store.policy.dedupe_ms

    in_store(redis_url, work)


def test_a_full_cap_says_which_and_when(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (first,) = sends(store, 1)
        assert (await store.admit([first], T0))[0].outcome == "accepted"
        (answer,) = await store.admit(sends(store, 1, campaign="winter"), T0 + 5)
        assert (answer.outcome, answer.reason) == ("suppressed", "frequency_cap")
        assert answer.cap is not None
        assert answer.cap.name == "one-a-day"
        assert answer.cap.count == 1
        assert answer.cap.retry_at_ms == T0 + DAY
        await take_and_send(store, first.id)
        (later,) = await store.admit(sends(store, 1, campaign="winter"), T0 + DAY)
        assert later.outcome == "accepted"

    in_store(redis_url, work, policy(caps=(ONE_A_DAY,)))


def test_a_message_that_waited_for_hours_counts_from_when_it_reached_the_person(
    redis_url: str,
) -> None:
    """It waited in its lane for 20 hours: the next one was 4 hours behind it."""
    hour = 60 * MINUTE

    async def work(store: Store) -> None:
        (first,) = sends(store, 1)
        assert (await store.admit([first], T0))[0].outcome == "accepted"
        await report(store, first.id, "delivered", T0 + 20 * hour)
        (soon,) = await store.admit(sends(store, 1, campaign="winter"), T0 + 24 * hour)
        assert soon.cap is not None
        assert (soon.cap.name, soon.cap.retry_at_ms) == ("one-a-day", T0 + 44 * hour)
        (later,) = await store.admit(sends(store, 1, campaign="winter"), T0 + 44 * hour)
        assert later.outcome == "accepted"

    in_store(redis_url, work, policy(caps=(ONE_A_DAY,)))


def test_a_message_that_is_not_sent_yet_counts_however_long_it_waits(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (first,) = sends(store, 1)
        assert (await store.admit([first], T0))[0].outcome == "accepted"
        (soon,) = await store.admit(sends(store, 1, campaign="winter"), T0 + 2 * DAY)
        assert soon.cap is not None
        assert (soon.cap.count, soon.cap.retry_at_ms) == (1, T0 + 3 * DAY)
        await take_and_send(store, first.id)
        (later,) = await store.admit(sends(store, 1, campaign="winter"), T0 + 2 * DAY)
        assert later.outcome == "accepted", "what is out counts from when it was accepted"

    in_store(redis_url, work, policy(caps=(ONE_A_DAY,)))


def test_the_next_step_of_a_message_waits_for_no_slot_that_only_a_waiting_message_has(
    redis_url: str,
) -> None:
    """Before the SMS of the second message its cap is asked, and the first one is in its lane
    still, for longer than the cap's window."""
    sms_cap = Cap("one-sms", 1, 10 * MINUTE, "10m", "marketing", "sms")

    async def work(store: Store) -> None:
        (first,) = sends(store, 1, route="sms-only")
        assert (await store.admit([first], T0))[0].outcome == "accepted"
        (second,) = sends(store, 1, campaign="winter")
        assert (await store.admit([second], T0))[0].outcome == "accepted"
        later = T0 + 20 * MINUTE
        await report(store, second.id, "undelivered", later)
        found = await reads.message(store, second.id)
        assert found is not None
        assert (found.reason, found.steps[1].status) == ("frequency_cap", StepStatus.SKIPPED)

    in_store(redis_url, work, policy(caps=(sms_cap,)))


def test_an_idempotency_key_gives_the_first_answer_again_and_refuses_another_body(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        keyed = {"idempotency_key": "k1", "body_hash": b"a", "campaign": None, "category": "otp"}
        first, twin, other = (
            *sends(store, 2, **keyed),
            *sends(store, 1, **(keyed | {"body_hash": b"b"})),
        )
        answers = await store.admit([first, twin, other], T0)
        assert [a.outcome for a in answers] == ["accepted", "accepted", "conflict"]
        assert answers[1].id == first.id
        assert answers[1].replayed
        await report(store, first.id, "delivered")
        (late,) = await store.admit(sends(store, 1, **keyed), T0 + DAY // 2)
        assert (late.id, late.status, late.replayed) == (first.id, "queued", True)
        (stranger,) = await store.admit(sends(store, 1, **(keyed | {"app": "bank"})), T0)
        assert not stranger.replayed

    in_store(redis_url, work)


def test_an_opted_out_person_is_suppressed(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await store.redis.call([("HSET", KEYS.opt_outs, "79161234567", "marketing")])
        (no,) = await store.admit(sends(store, 1), T0)
        assert (no.outcome, no.reason) == ("suppressed", "opted_out")
        (yes,) = await store.admit(sends(store, 1, category="otp", campaign=None), T0)
        assert yes.outcome == "accepted"
        await store.redis.call([("HSET", KEYS.opt_outs, "79161234567", "all")])
        assert yes.id is not None
        (applied,) = await store.apply([Item(yes.id, ev.Claimed(0))], T0)
        assert not applied.effects.submit

    in_store(redis_url, work)


@pytest.mark.parametrize("applied", [True, False])
def test_an_exec_whose_answer_was_lost_is_done_exactly_once(redis_url: str, applied: bool) -> None:
    async def work(store: Store) -> None:
        cutting = CuttingClient(store.redis, applied=applied)
        cut = Store(cast("RedisClient", cutting), store.policy)
        answers = await cut.admit(sends(cut, 3), T0)
        assert cutting.cuts == 1
        assert Counter(a.outcome for a in answers) == {"accepted": 1, "duplicate": 2}
        replies = await store.redis.call(
            [("XLEN", KEYS.lane("viber", "marketing")), ("XLEN", KEYS.ledger), ("DBSIZE",)]
        )
        assert replies[:2] == [1, 1]
        (value,) = await store.redis.call([("GET", KEYS.message(answers[0].id or ""))])
        assert isinstance(value, bytes)
        assert unpack_message(answers[0].id or "", value).campaign == "autumn"

    in_store(redis_url, work)


def test_who_stood_still_longer_than_a_token_stands_accepts_nothing_anew(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped between its EXEC and the answer, and goes on a minute later."""
    began_s = transaction.passing_s()
    went_on: list[float] = []
    monkeypatch.setattr(transaction, "passing_s", lambda: sum(went_on, began_s))

    async def work(store: Store) -> None:
        (code,) = sends(store, 1, category="otp", campaign=None)

        class Stopped(CuttingClient):
            async def stand_still(self) -> None:
                await take_and_send(store, code.id)  # by who runs meanwhile
                await store.redis.call([("DEL", *await tokens(store))])  # as they lapse
                went_on.append(61.0)

        cut = Store(cast("RedisClient", Stopped(store.redis, applied=True)), store.policy)
        with pytest.raises(OutcomeUnknown, match="stood still"):
            await cut.admit([code], T0)
        message = await reads.message(store, code.id)
        assert message is not None
        assert message.step.status == StepStatus.SENT, "else it is sent again"

    in_store(redis_url, work)


async def tokens(store: Store) -> list[bytes]:
    (found,) = await store.redis.call([("KEYS", KEYS.token("*"))])
    assert isinstance(found, list)
    return found


def test_a_persons_record_goes_when_nothing_in_it_counts_any_more(redis_url: str) -> None:
    async def work(store: Store) -> None:
        (send,) = sends(store, 1, route="viber-only")
        await store.admit([send], T0)
        key = KEYS.person("p:" + send.home)
        (value, until) = await store.redis.call([("GET", key), ("PTTL", key)])
        assert isinstance(value, bytes)
        assert unpack_person(value).claims["autumn"].message == send.id
        assert isinstance(until, int)
        last_ms = 3 * DAY + 15 * MINUTE + 30 * DAY
        assert until > last_ms, "a live claim must not lapse"
        assert until < last_ms + 2 * DAY, "nothing is held for ever"
        await report(store, send.id, "undelivered")
        (value,) = await store.redis.call([("GET", key)])
        assert isinstance(value, bytes)
        assert unpack_person(value).claims == {}
        assert await store.redis.call([("ZCARD", KEYS.timers)]) == [0]
        (record, left) = await store.redis.call(
            [("GET", KEYS.message(send.id)), ("PTTL", KEYS.message(send.id))]
        )
        assert isinstance(record, bytes)
        assert unpack_message(send.id, record).content == b"", "the text is kept no longer"
        assert isinstance(left, int)
        assert left > 0

    in_store(redis_url, work)


class CuttingClient:
    """The real Redis client, but the first EXEC's answer is lost, after or before Redis has seen
    it."""

    def __init__(self, redis: RedisClient, *, applied: bool) -> None:
        self._redis = redis
        self._applied = applied
        self.cuts = 0

    async def stand_still(self) -> None:
        """What happens before it is known that the answer is lost."""

    def session(self, key: str) -> Any:
        outer = self

        class Cutting:
            async def __aenter__(self) -> Session:
                self.context = outer._redis.session(key)
                self.inner = await self.context.__aenter__()
                return self  # type: ignore[return-value]

            async def __aexit__(self, *exc: Any) -> None:
                await self.context.__aexit__(*exc)

            async def call(self, commands: list[Command]) -> Any:
                if commands[-1] == ("EXEC",) and not outer.cuts:
                    outer.cuts += 1
                    if outer._applied:
                        await self.inner.call(commands)
                    await outer.stand_still()
                    raise OutcomeUnknown("the connection was lost")
                return await self.inner.call(commands)

        return Cutting()

    async def call(self, commands: Any) -> Any:
        return await self._redis.call(commands)
