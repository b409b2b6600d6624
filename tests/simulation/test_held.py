"""A provider that an operator pauses and resumes, in virtual time, with real dispatchers."""

from __future__ import annotations

import pytest
import trio

from gateway.store.installation import audit
from gateway.store.providers import pauses
from gateway.store.providers.pauses import ACCOUNT, OPERATOR
from tests.simulation.away import Away
from tests.simulation.test_dispatch_away import NO_CREDIT, STEPS
from tests.worlds.cascade_world import policy

SEEN_WITHIN_S = 2.0


async def hold(away: Away) -> None:
    await pauses.hold(away.store.redis, "viber", "maintenance", "ann@here", away.clock())


async def resume(away: Away) -> None:
    await pauses.resume(away.store.redis, "viber", "", "bob@here", away.clock())


@pytest.mark.parametrize("dispatchers", [1, 3])
def test_a_campaign_stops_within_2_seconds_and_goes_on_when_it_is_resumed(dispatchers: int) -> None:
    away = Away(policy(steps=STEPS), rate=10)

    async def work() -> None:
        await away.admit(100)
        await trio.sleep(1.0)
        await hold(away)
        await trio.sleep(30.0)
        assert 5 <= len(away.reached) < 35, "by one dispatcher or all"
        await resume(away)
        await trio.sleep(20.0)

    away.run(work, dispatchers)
    assert (len(away.reached), away.ends()) == (100, {"delivered"})
    times = [at for _, at in away.reached.values()]
    assert {name for name, _ in away.reached.values()} == {"viber"}
    assert not [at for at in times if 1.0 + SEEN_WITHIN_S < at < 31.0]
    assert min(at for at in times if at > 25.0) < 31.0 + SEEN_WITHIN_S


def test_a_code_goes_on_at_once_while_its_provider_is_held_and_comes_back_to_it_after() -> None:
    away = Away()

    async def work() -> None:
        await hold(away)
        await trio.sleep(SEEN_WITHIN_S)
        await away.codes(50)
        await resume(away)
        await trio.sleep(SEEN_WITHIN_S)
        await away.codes(10)
        await trio.sleep(5.0)

    away.run(work)
    names = [name for name, _ in away.reached.values()]
    assert names == ["sms"] * 50 + ["viber"] * 10
    assert away.waits()[-1] < 1.5


def test_codes_that_wait_when_the_provider_is_held_go_on_within_seconds() -> None:
    away = Away(rate=5)

    async def work() -> None:
        await away.admit(100, category="otp", campaign=None, route="fast")
        await hold(away)
        await trio.sleep(30.0)

    away.run(work)
    late = [name for name, at in away.reached.values() if at > SEEN_WITHIN_S]
    assert set(late) == {"sms"}
    assert len(away.reached) == 100
    assert away.waits()[-1] < 100 / 5 + 2 * SEEN_WITHIN_S, "as fast as the other's rate allows"


def test_a_hold_takes_the_place_of_another_pause_and_no_probe_ends_it() -> None:
    away = Away(policy(steps=STEPS))

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20)
        await trio.sleep(2.0)
        assert (await pauses.read(away.store.redis))["viber"].kind == ACCOUNT
        await hold(away)
        del away.gone["viber"]
        await trio.sleep(40.0)
        held = (await pauses.read(away.store.redis))["viber"]
        assert (held.kind, held.by, held.detail) == (OPERATOR, "ann@here", "maintenance")
        assert away.reached == {}

    away.run(work)


def test_an_operator_ends_a_pause_that_began_by_itself_before_its_probe_is_due() -> None:
    away = Away(policy(steps=STEPS))

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20)
        await trio.sleep(100.0)
        del away.gone["viber"]
        pause = (await pauses.read(away.store.redis))["viber"]
        assert pause.until > away.clock() + 30_000
        await resume(away)
        await trio.sleep(SEEN_WITHIN_S + 1.0)
        assert len(away.reached) == 20
        assert await pauses.read(away.store.redis) == {}

    away.run(work)


def test_who_paused_and_who_resumed_is_kept() -> None:
    away = Away()

    async def work() -> None:
        await resume(away)  # nothing is paused: nothing is done
        await hold(away)
        await trio.sleep(1.0)
        await resume(away)
        deeds = [kept.deed for kept in (await audit.read(away.store.redis, 10)).deeds]
        assert [(deed.by, deed.action, deed.target, deed.detail) for deed in deeds] == [
            ("bob@here", "provider.resume", "viber", ""),
            ("ann@here", "provider.pause", "viber", "maintenance"),
        ]

    away.run(work)
