"""Sessions of one account, over dispatchers: who keeps them, who sends, and what receipts do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from gateway.core.records.content import Content
from gateway.dispatch.jobs import places
from gateway.redis.replies import as_list
from gateway.store.keys import GROUP, keys_of
from gateway.store.messages.sent_lines import lines_within
from gateway.store.money.ledger import pages_of_entries
from gateway.store.people import opt_outs, replies
from gateway.store.shared_keys import place
from providers.smpp import pdu
from providers.smpp.provider import SmppProvider
from tests.worlds.cascade_world import PRICES
from tests.worlds.dispatch_world import DispatchWorld, dispatching, under_trio
from tests.worlds.dispatch_world import world as dispatch_world
from tests.worlds.smsc import Smsc, config


@pytest.fixture(autouse=True)
def _quick_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TURN_S", 0.01)
    monkeypatch.setattr(places, "FURTHER_S", 0.05)


def sms(smsc: Smsc, **changes: Any) -> dict[str, SmppProvider]:
    """What a dispatcher is given: one provider of SMS, whose account has `binds` sessions."""
    binds = changes.pop("binds", 1)
    terms = {"name": "sms", "rate_per_s": 1_000, "places": binds, "connections": 5 * binds}
    return {"sms": SmppProvider(config(**(terms | changes)), smsc.connect)}


async def admit(w: DispatchWorld, count: int = 1, text: str = "Hello", **changes: Any) -> list[str]:
    return await w.admit(count, route="sms-only", content=Content(text), **changes)


def receipt(id_: str, stat: str = "DELIVRD") -> pdu.Short:
    return pdu.Short(esm_class=4, short_message=f"id:{id_} stat:{stat}".encode())


@under_trio
async def test_a_long_message_is_delivered_when_each_part_is(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w, text="a" * 400)
        async with dispatching(w, providers=sms(smsc)):
            await w.until([id_], "sent")
            for number, told in ((2, "DELIVRD"), (3, "DELIVRD"), (3, "DELIVRD"), (1, "ENROUTE")):
                await smsc.push(receipt(f"id-{number}", told))
            await smsc.until(lambda: len(smsc.answered) == 4)
            assert await w.steps(id_) == ["sent"]
            await smsc.push(receipt("id-1"))
            await w.until([id_], "delivered")
        message = await w.message(id_)
    attempt = message.steps[0].attempts[0]
    assert attempt.provider_id == "id-1"


@under_trio
async def test_a_part_that_fails_fails_the_message_at_once(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w, text="a" * 400)
        async with dispatching(w, providers=sms(smsc)):
            await w.until([id_], "sent")
            await smsc.push(receipt("id-1"))
            await smsc.push(receipt("id-2", "UNDELIV"))
            await w.until([id_], "undelivered")


async def cost_in(w: DispatchWorld) -> int:
    """What the ledger adds up to."""
    pages = pages_of_entries(w.redis, 0, (0, 0))
    posts = [post async for page in pages for _, entry in page for post in entry.posts]
    return sum(post.measures.get("cost", 0) for post in posts)


@under_trio
async def test_parts_that_arrived_of_a_text_that_failed_are_booked_where_arriving_is_charged(
    redis_url: str,
) -> None:
    smsc = Smsc()
    price = PRICES["sms"].cost
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w, text="a" * 700)
        async with dispatching(w, providers=sms(smsc)):
            await w.until([id_], "sent")
            await smsc.push(receipt("id-1"))
            await smsc.push(receipt("id-4"))
            await smsc.until(lambda: len(smsc.answered) == 2)
            assert await cost_in(w) == 0, "the text may yet arrive"
            await smsc.push(receipt("id-2", "UNDELIV"))
            await w.until([id_], "undelivered")
            assert await cost_in(w) == 2 * price
            for number in (5, 1, 5):
                await smsc.push(receipt(f"id-{number}"))
            await smsc.until(lambda: len(smsc.answered) == 6)
        assert await cost_in(w) == 3 * price
        message = await w.message(id_)
        (line,) = lines_within([message], "sms", 0, w.clock() + 1)
    assert line.further_ids == ("id-2", "id-3", "id-4", "id-5"), "the invoice may name them all"
    assert (line.id, line.parts, line.cost) == ("id-1", 3, 3 * price)


@under_trio
async def test_parts_that_arrive_of_a_refused_text_are_booked_where_arriving_is_charged(
    redis_url: str,
) -> None:
    smsc = Smsc()
    answers = iter([(pdu.OK, "a"), (pdu.INVALID_DESTINATION, ""), (pdu.OK, "c")])
    smsc.decide = lambda message: next(answers)
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w, text="a" * 400)
        async with dispatching(w, providers=sms(smsc)) as deps:
            await w.until([id_], "rejected")
            for stat in ("ENROUTE", "DELIVRD", "DELIVRD"):
                await smsc.push(receipt("c", stat))
            await smsc.push(receipt("a", "UNDELIV"))
            await smsc.until(lambda: len(smsc.answered) == 4)
            assert deps.metrics.receipts.labels("sms", "parked")._value.get() == 0
        assert await w.steps(id_) == ["rejected"]
        assert await cost_in(w) == PRICES["sms"].cost


async def refused_in_part(redis_url: str, *, late: bool) -> None:
    """Of a text of five parts the third is refused: at once, or when nobody waits any more."""
    smsc = Smsc()
    taken = smsc.decide

    def decide(message: pdu.Short) -> tuple[int, str] | None:
        if message.short_message[5] != 3:
            return taken(message)
        return None if late else (pdu.INVALID_DESTINATION, "")

    smsc.decide = decide
    async with dispatch_world(redis_url, charged_on="sent") as w:
        (id_,) = await admit(w, text="a" * 700)
        async with dispatching(w, providers=sms(smsc, response_timeout_s=0.05)):
            if late:
                await w.until([id_], "unknown")
                await smsc.answer(2, pdu.INVALID_DESTINATION)
            await w.until([id_], "rejected")
        message = await w.message(id_)
        (step,) = message.steps
        assert (step.parts, step.charged) == (5, 4 * PRICES["sms"].cost)
        assert await cost_in(w) == step.charged
        (line,) = lines_within([message], "sms", 0, w.clock() + 1)
    assert (line.id, line.further_ids) == ("id-1", ("id-2", "id-3", "id-4"))
    assert (line.parts, line.cost, line.delivered) == (4, step.charged, False)


@under_trio
async def test_the_parts_that_were_taken_of_a_refused_text_are_booked(redis_url: str) -> None:
    await refused_in_part(redis_url, late=False)


@under_trio
async def test_they_are_booked_as_well_where_the_refusal_comes_late(redis_url: str) -> None:
    await refused_in_part(redis_url, late=True)


@under_trio
async def test_receipts_that_outran_the_answers_are_matched_part_by_part(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w, dispatching(w, providers=sms(smsc)) as deps:
        await smsc.until(lambda: smsc.binds == ["transceiver"])
        await smsc.push(receipt("id-1"))
        await smsc.push(receipt("id-2"))
        await smsc.until(lambda: len(smsc.answered) == 2)
        (id_,) = await admit(w, text="a" * 200)
        await w.until([id_], "sent")
        assert deps.metrics.receipts.labels("sms", "parked")._value.get() == 2
        w.go_ahead(2_000)
        await w.until([id_], "delivered")


@under_trio
async def test_an_answer_that_comes_late_is_known_after_all_and_its_receipts_match(
    redis_url: str,
) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w, text="a" * 200)
        async with dispatching(w, providers=sms(smsc, response_timeout_s=0.05)) as deps:
            await w.until([id_], "unknown")
            await smsc.push(receipt("b"))
            await smsc.until(lambda: len(smsc.answered) == 1)
            await smsc.answer(1, id_="b")
            await smsc.answer(0, id_="a")
            await w.until([id_], "sent")
            assert deps.metrics.receipts.labels("sms", "late_answer")._value.get() == 1
            await smsc.push(receipt("a"))
            w.go_ahead(2_000)
            await w.until([id_], "delivered")
        (attempt,) = (await w.message(id_)).steps[0].attempts
    assert (attempt.provider_id, attempt.further_ids) == ("a", ("b",))
    assert attempt.sent_ms == attempt.claimed_ms
    assert len(smsc.submitted) == 2


@under_trio
async def test_a_refusal_that_comes_late_ends_the_step(redis_url: str) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w)
        async with dispatching(w, providers=sms(smsc, response_timeout_s=0.05)):
            await w.until([id_], "unknown")
            await smsc.answer(0, pdu.INVALID_DESTINATION)
            await w.until([id_], "rejected")
        assert (await w.message(id_)).steps[0].attempts[0].sent_ms == 0
    assert len(smsc.submitted) == 1


@under_trio
async def test_how_many_sessions_are_bound_is_told(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w)
        async with dispatching(w, providers=sms(smsc)) as deps:
            await w.until([id_], "sent")
            own = deps.metrics.registries.own
            assert own.get_sample_value("kaskad_dispatch_sessions", {"provider": "sms"}) == 1


@under_trio
async def test_throttled_messages_wait_and_burn_nothing(redis_url: str) -> None:
    smsc = Smsc()
    answers = iter([(pdu.THROTTLED, ""), (pdu.QUEUE_FULL, "")])
    taken = smsc.decide
    smsc.decide = lambda message: next(answers, None) or taken(message)
    async with dispatch_world(redis_url, attempts_max=1) as w:
        ids = await admit(w, 3)
        async with dispatching(w, providers=sms(smsc)) as deps:
            await w.until(ids, "sent")
            assert deps.metrics.outcomes.labels("sms", "throttled")._value.get() == 2
        attempts = [(await w.message(id_)).steps[0].attempts[0] for id_ in ids]
    assert {(attempt.refusals, attempt.lost) for attempt in attempts} == {(0, 0)}
    assert len(smsc.submitted) == 5


@under_trio
async def test_one_session_is_one_dispatchers_and_the_other_takes_it_over(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w, dispatching(w, providers=sms(smsc)) as first:
        await smsc.until(lambda: len(smsc.binds) == 1)
        async with dispatching(w, providers=sms(smsc)) as second:
            ids = await admit(w, 20)
            await w.until(ids, "sent")
            # A dispatcher without a session takes no message either.
            requests = first.metrics.outcomes.labels("sms", "accepted")
            assert requests._value.get() == 20
            assert second.metrics.outcomes.labels("sms", "accepted")._value.get() == 0
            assert len(smsc.binds) == 1
            first.stopping.set()
            await smsc.until(lambda: len(smsc.binds) == 2)
            assert smsc.unbound == 1
            more = await admit(w, 5)
            await w.until(more, "sent")
    assert smsc.unbound == 2


@under_trio
async def test_who_has_no_session_keeps_no_code_waiting(redis_url: str) -> None:
    """It read codes as they came, and had them until their step's time was over."""
    smsc = Smsc()
    async with dispatch_world(redis_url) as w, dispatching(w, providers=sms(smsc)):
        await smsc.until(lambda: len(smsc.binds) == 1)
        async with dispatching(w, providers=sms(smsc)):
            for _ in range(30):
                (id_,) = await admit(w, category="otp", campaign=None)
                await w.until([id_], "sent")


@under_trio
async def test_who_lost_its_session_gives_back_what_it_had_read(redis_url: str) -> None:
    smsc = Smsc()
    lane = keys_of(0).lane("sms", "marketing")

    async def held(w: DispatchWorld) -> int:
        (pending,) = await w.redis.call([("XPENDING", lane, GROUP)])
        return int(as_list(pending)[0])

    async with dispatch_world(redis_url) as w, dispatching(w, providers=sms(smsc, rate_per_s=1)):
        await smsc.until(lambda: len(smsc.binds) == 1)
        await admit(w, 20)

        async def has_read() -> bool:
            return await held(w) > 1

        await w.until_asked(has_read)
        await w.redis.call([("SET", place("sms", "0"), "another", "PX", 60_000)])

        async def gave_back() -> bool:
            return await held(w) == 0

        await w.until_asked(gave_back)
        assert await w.lane_entries("sms") >= 17


@asynccontextmanager
async def sharing(w: DispatchWorld, smsc: Smsc) -> AsyncIterator[None]:
    """Two dispatchers with a session each, of an account that may have two. The first has both
    until the second comes; what it gives up it may have taken again before the second does."""
    first, second = sms(smsc, binds=2), sms(smsc, binds=2)
    async with dispatching(w, providers=first):
        await w.until_true(lambda: first["sms"].sessions == 2)
        async with dispatching(w, providers=second):
            await w.until_true(lambda: first["sms"].sessions == second["sms"].sessions == 1)
            yield


@under_trio
async def test_who_has_two_sessions_gives_one_to_who_has_none(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w, sharing(w, smsc):
        assert smsc.unbound == len(smsc.binds) - 2


@under_trio
async def test_receipts_come_over_any_session_of_the_account(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w, sharing(w, smsc):
        ids = await admit(w, 10)
        await w.until(ids, "sent")
        for number in range(1, 11):
            await smsc.push(receipt(f"id-{number}"), stream=number % 2)
        await w.until(ids, "delivered")


@under_trio
async def test_stop_over_a_session_opts_out(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w:
        (id_,) = await admit(w)
        async with dispatching(w, providers=sms(smsc)):
            await w.until([id_], "sent")
            to = smsc.submitted[0].destination
            await smsc.push(pdu.Short(source=to, destination="1234", short_message=b"STOP"))
            await smsc.until(lambda: len(smsc.answered) == 1)
        assert await opt_outs.find(w.redis, 1, to)
        page, _ = await replies.newest(w.store, {"shop"}, 10, 0)
    assert [(kept.reply.text, kept.reply.message) for kept in page] == [("STOP", id_)]


@under_trio
async def test_a_part_takes_a_token_of_the_rate(redis_url: str) -> None:
    smsc = Smsc()
    async with dispatch_world(redis_url) as w:
        ids = await admit(w, 4, text="a" * 700)  # 5 parts
        began = trio.current_time()
        async with dispatching(w, providers=sms(smsc, rate_per_s=20)):
            await w.until(ids, "sent")
        # 20 parts at 20 a second; one grant is in advance of the schedule.
        assert trio.current_time() - began >= 0.9
        assert len(smsc.submitted) == 20
