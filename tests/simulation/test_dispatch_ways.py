"""Two providers of one channel in virtual time: who is sent what, and what happens while one is
away. Real dispatchers, a Redis that takes a millisecond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.policy import Policy, RouteStep
from gateway.store.providers import pauses
from providers.contract import (
    AccountFault,
    Fault,
    NotSent,
    Outcome,
    Refused,
    SendFault,
    Submission,
    Throttled,
    Unknown,
)
from tests.simulation.away import Away
from tests.worlds.cascade_world import policy

NO_CREDIT = AccountFault("E402", "No credit.")
REFUSED = NotSent("connect_failed", "Connection refused.")
BUSY = Unknown("http_503", "Service unavailable.")
SHARED = ("viber", "viber-2")
# The campaign's own record would hold a person's second message.
CODE: dict[str, Any] = {"category": "otp", "campaign": None}
PAYMENT: dict[str, Any] = {"category": "transactional", "campaign": None}
CAMPAIGN: dict[str, Any] = {}


def shared(*weights: int) -> Policy:
    """Viber by two providers, 20 s, then SMS."""
    steps = RouteStep(SHARED, 20_000, 1_000), RouteStep(("sms",), 60_000, 1_000)
    rules = policy(steps=steps)
    known = dict(rules.providers)
    for name, weight in zip(SHARED, weights, strict=False):
        known[name] = replace(known[name], weight=weight)
    return replace(rules, providers=known)


def carried(away: Away, ids: Sequence[str] | None = None) -> Counter[str]:
    """How many messages each provider brought."""
    return Counter(name for id_, (name, _) in away.reached.items() if ids is None or id_ in ids)


@pytest.mark.parametrize("dispatchers", [1, 3])
def test_each_has_its_share_over_all_dispatchers(dispatchers: int) -> None:
    away = Away(shared(70, 30), rate=2_000)

    async def work() -> None:
        for _ in range(4):
            await away.admit(100)
            await trio.sleep(0.3)
        await trio.sleep(2.0)

    away.run(work, dispatchers)
    assert carried(away) == {
        "viber": pytest.approx(280, abs=4),
        "viber-2": pytest.approx(120, abs=4),
    }
    assert away.ends() == {"delivered"}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(CODE, NO_CREDIT), (PAYMENT, REFUSED), (CAMPAIGN, NO_CREDIT)],
    ids=["code", "payment", "campaign"],
)
def test_the_share_of_one_that_is_away_goes_to_the_other_at_once(
    kind: dict[str, Any], fault: SendFault
) -> None:
    away = Away(shared())
    late: list[str] = []

    async def work() -> None:
        away.gone["viber"] = fault
        for _ in range(20):
            await away.admit(2, **kind)
            await trio.sleep(0.2)
        for _ in range(5):
            late.extend(await away.admit(10, **kind))
            await trio.sleep(0.3)
        await trio.sleep(4.0)

    away.run(work)
    assert carried(away) == {"viber-2": 90}
    assert away.ends() == {"delivered"}
    assert away.waits(late)[45] < 0.6, "nine of ten, by the next look at the lane"
    assert away.waits()[-1] < 4.0, "those, too, with which it was found and probed"


@pytest.mark.parametrize(
    ("kind", "wish_ms"),
    [(CODE, None), (PAYMENT, None), (CAMPAIGN, None), (CAMPAIGN, 60_000)],
    ids=["code", "payment", "campaign", "campaign, with a wish"],
)
def test_one_that_takes_nothing_and_only_asks_for_slower_is_away(
    kind: dict[str, Any], wish_ms: int | None
) -> None:
    away = Away(shared())
    late: list[str] = []

    async def work() -> None:
        away.gone["viber"] = Throttled("429", "Slow down.", retry_after_ms=wish_ms)
        early = await away.admit(20, **kind)
        await trio.sleep(15.0 if wish_ms is None else 330.0)
        late.extend(await away.admit(100, **kind))
        await trio.sleep(4.0)
        assert carried(away, late) == {"viber-2": 100}
        assert (await pauses.read(away.store.redis))["viber"].code == "429"
        if wish_ms is None:
            assert carried(away, early) == {"viber-2": 20}
        del away.gone["viber"]
        await trio.sleep(120.0)
        await away.admit(4, **kind)  # one of them finds it
        await trio.sleep(60.0)
        assert await pauses.read(away.store.redis) == {}

    away.run(work, dispatchers=2)
    assert away.ends() == {"delivered"}


def test_one_that_is_back_has_its_share_again() -> None:
    away = Away(shared())
    late: list[str] = []

    async def work() -> None:
        away.gone["viber"] = REFUSED
        for _ in range(20):
            await away.admit(2)
            await trio.sleep(0.2)
        del away.gone["viber"]
        for _ in range(20):  # a probe finds it
            await away.admit(2)
            await trio.sleep(0.5)
        late.extend(await away.admit(100))
        await trio.sleep(3.0)

    away.run(work)
    assert carried(away, late) == {
        "viber": pytest.approx(50, abs=3),
        "viber-2": pytest.approx(50, abs=3),
    }
    assert (len(away.reached), away.ends()) == (180, {"delivered"})


def test_one_that_an_operator_paused_is_sent_nothing_and_loses_nothing() -> None:
    away = Away(shared())

    async def work() -> None:
        await pauses.hold(away.store.redis, "viber-2", "Too dear.", "anna", away.clock())
        await trio.sleep(2.0)
        await away.admit(50, **PAYMENT)
        await away.admit(50, **CAMPAIGN)
        await trio.sleep(3.0)

    away.run(work)
    assert carried(away) == {"viber": 100}
    assert away.waits()[-1] < 1.5


def test_when_both_are_away_a_code_goes_by_the_next_channel() -> None:
    away = Away(shared())

    async def work() -> None:
        away.gone |= {"viber": NO_CREDIT, "viber-2": NO_CREDIT}
        for _ in range(50):
            await away.admit(**CODE)
            await trio.sleep(0.1)
        await trio.sleep(4.0)

    away.run(work)
    assert carried(away) == {"sms": 50}
    assert away.waits()[-1] < 3.0


def test_when_both_are_away_a_campaign_waits_and_goes_by_the_one_that_is_back_first() -> None:
    away = Away(shared())

    async def work() -> None:
        away.gone |= {"viber": NO_CREDIT, "viber-2": NO_CREDIT}
        await away.admit(40)
        await trio.sleep(30.0)
        assert not away.reached
        del away.gone["viber-2"]
        await trio.sleep(40.0)

    away.run(work)
    assert carried(away) == {"viber-2": 40}
    assert away.ends() == {"delivered"}


def test_an_answer_that_was_lost_goes_to_the_other_when_the_first_does_not_know_it() -> None:
    away = Away(shared())  # which sees to it that nobody gets anything twice

    async def work() -> None:
        away.gone["viber"] = BUSY
        lost = await away.admit(3, **PAYMENT)
        await trio.sleep(1.0)
        del away.gone["viber"]
        assert set(lost) - away.reached.keys(), "nobody sends them before it was asked"
        await trio.sleep(18.0)

    away.run(work)
    assert away.ends() == {"delivered"}
    assert set(carried(away)) <= {"viber-2"}


def test_what_one_provider_does_not_want_now_the_other_takes() -> None:
    away = Away(shared())
    full = Fault("20", "QUEUE_FULL", False)

    refused: list[str] = []

    async def refuse(batch: Sequence[Submission]) -> list[Outcome]:
        refused.extend(submission.ref for submission in batch)
        return [Refused(submission.ref, full) for submission in batch]

    async def work() -> None:
        away.providers["viber"].otherwise = refuse
        await away.admit(50)
        await trio.sleep(3.0)

    away.run(work)
    assert carried(away) == {"viber-2": 50}
    assert len(refused) == pytest.approx(25, abs=3)
    assert away.store.handed_over == {"viber": len(refused), "viber-2": 0, "sms": 0}
    assert away.waits()[-1] < 1.0


def test_a_provider_that_is_retired_drops_out_and_what_waits_for_it_goes_to_the_other() -> None:
    away = Away(shared(), rate=5)
    rules = away.store.policy

    async def work() -> None:
        await away.admit(100)
        await trio.sleep(1.0)
        retired = replace(rules.providers["viber"], retired=True)
        away.store.policy = replace(rules, providers=rules.providers | {"viber": retired})
        after = await away.admit(20)
        await trio.sleep(30.0)
        assert carried(away, after) == {"viber-2": 20}

    away.run(work)
    assert (len(away.reached), away.ends()) == (120, {"delivered"})
    assert "sms" not in carried(away)


def test_what_names_the_provider_that_is_away_waits_for_it_while_others_go_by_the_other() -> None:
    rules = shared()
    direct = {"direct": (RouteStep(("viber",), 20_000, 1_000),)}
    away = Away(replace(rules, routes=rules.routes | direct))
    waiting: list[str] = []

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        waiting.extend(await away.admit(10, route="direct"))
        await away.admit(20)
        await trio.sleep(30.0)
        assert carried(away) == {"viber-2": 20}
        del away.gone["viber"]
        await trio.sleep(100.0)

    away.run(work)
    assert carried(away, waiting) == {"viber": 10}
    assert away.ends() == {"delivered"}


def test_changed_weights_hold_for_what_is_accepted_from_then_on() -> None:
    away = Away(shared(90, 10), rate=200)
    late: list[str] = []

    async def work() -> None:
        early = await away.admit(400)  # two seconds' worth: most of it waits
        await trio.sleep(0.2)
        away.store.policy = shared(10, 90)
        late.extend(await away.admit(400))
        await trio.sleep(10.0)
        assert carried(away, early)["viber"] == pytest.approx(360, abs=4)

    away.run(work, dispatchers=2)
    assert carried(away, late)["viber-2"] == pytest.approx(360, abs=4)
    assert away.ends() == {"delivered"}


@pytest.mark.parametrize("gone", [False, True], ids=["well", "away"])
def test_one_that_leaves_its_channel_keeps_what_it_has_and_is_sent_nothing_new(gone: bool) -> None:
    """Its table stays: receipts go on, and so does what waits for it while it is there."""
    away = Away(shared(50, 50), rate=50)
    early: list[str] = []
    late: list[str] = []

    async def work() -> None:
        away.silent["viber-2"] = trio.Event()
        early.extend(await away.admit(200))  # two seconds' worth each
        await trio.sleep(1.0)
        had = carried(away)["viber-2"]
        assert 0 < had < 100
        if gone:
            away.gone["viber-2"] = REFUSED
        away.store.policy = shared(50, 0)
        late.extend(await away.admit(100))
        await trio.sleep(9.0)
        away.silent["viber-2"].set()
        await trio.sleep(5.0)
        expected = had if gone else 100
        assert carried(away, early)["viber-2"] == pytest.approx(expected, abs=10)

    away.run(work, dispatchers=2)
    assert carried(away, late) == {"viber": 100}
    assert len(away.reached) == 300
    assert away.ends() == {"delivered"}
    assert away.providers["sms"].batches == []
