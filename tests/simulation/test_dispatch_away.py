"""A provider that is away for minutes, in virtual time: how long a code takes to reach its person.

Real dispatchers, two providers, a Redis that takes a millisecond. On 71d19bd, before a step's time
ran whether it was sent or not: of 360 codes 360 expired while Viber had no credit, and 567 of 600
never reached SMS while its connections were refused.
"""

from __future__ import annotations

import pytest
import trio

from gateway.core.policy import RouteStep
from providers.contract import AccountFault, NotSent, SendFault, Unknown
from tests.simulation.away import Away
from tests.worlds.cascade_world import policy

NO_CREDIT = AccountFault("E402", "No credit.")
REFUSED = NotSent("connect_failed", "Connection refused.")
BUSY = Unknown("http_503", "Service unavailable.")


@pytest.mark.parametrize("dispatchers", [1, 2])
def test_no_code_waits_for_a_provider_without_credit(dispatchers: int) -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.codes(360)
        await trio.sleep(30.0)

    away.run(work, dispatchers)
    assert len(away.reached) == 360
    assert {name for name, _ in away.reached.values()} == {"sms"}
    assert away.ends() == {"delivered"}
    waits = away.waits()
    assert waits[324] < 0.1, "nine of ten go on within a few commits"
    assert waits[-1] < 2.0, "those, too, with which the pause was found or probed"


def test_every_code_is_with_sms_in_time_while_connections_are_refused() -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = REFUSED
        await away.codes(100, every_s=1.5)
        await trio.sleep(70.0)

    away.run(work)
    assert len(away.reached) == 100
    assert away.ends() == {"delivered"}
    assert away.waits()[-1] <= 65.0


def test_what_the_last_provider_lost_for_four_minutes_is_sent_when_it_is_back() -> None:
    away = Away()

    async def work() -> None:
        away.gone["sms"] = BUSY
        for _ in range(30):
            await away.admit(category="transactional", campaign=None, route="sms-only")
            await trio.sleep(2.0)
        await trio.sleep(180.0)
        del away.gone["sms"]
        await trio.sleep(330.0)

    away.run(work)
    assert len(away.reached) == 30
    assert away.ends() == {"delivered"}


def test_a_campaign_longer_than_its_wait_is_not_sent_as_sms_at_four_times_the_price() -> None:
    away = Away(policy(steps=STEPS), rate=10)

    async def work() -> None:
        await away.admit(400)
        await trio.sleep(45.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"viber"}
    assert (len(away.reached), away.ends()) == (400, {"delivered"})
    assert away.waits()[-1] > 30.0


STEPS = RouteStep(("viber",), 20_000, 1_000), RouteStep(("sms",), 60_000, 1_000)


def test_a_campaign_is_held_until_its_provider_is_back() -> None:
    away = Away(policy(steps=STEPS))

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20)
        await trio.sleep(60.0)
        del away.gone["viber"]
        await trio.sleep(100.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"viber"}
    assert (len(away.reached), away.ends()) == (20, {"delivered"})


def test_a_payment_waits_for_a_provider_that_is_away_as_long_as_its_step_may() -> None:
    away = Away(policy(steps=STEPS))

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20, category="transactional", campaign=None)
        await trio.sleep(30.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"sms"}
    assert len(away.reached) == 20
    assert 20.0 <= away.waits()[0] <= away.waits()[-1] < 21.0


@pytest.mark.parametrize("fault", [NO_CREDIT, REFUSED])
def test_a_provider_that_is_back_is_found_behind_what_was_over_meanwhile(fault: SendFault) -> None:
    """Steps that fell back leave dead entries at the head of a lane that nobody read."""
    away = Away(policy(steps=STEPS))

    async def work() -> None:
        away.gone["viber"] = fault
        for second in range(0, 400, 2):
            await away.admit(category="transactional", campaign=None)
            await trio.sleep(2.0)
            if second == 100:
                del away.gone["viber"]

    away.run(work)
    back = min(at for name, at in away.reached.values() if name == "viber")
    assert back < 200.0, "by the first probe after its return"
    late = [name for name, at in away.reached.values() if at > back + 30.0]
    assert len(late) > 50
    assert set(late) == {"viber"}


def test_a_code_whose_only_provider_is_away_is_sent_within_seconds_of_its_return() -> None:
    away = Away()

    async def work() -> None:
        away.gone["sms"] = NO_CREDIT
        for _ in range(20):
            await away.admit(category="otp", campaign=None, route="sms-only")
        await trio.sleep(60.0)
        del away.gone["sms"]
        await trio.sleep(100.0)

    away.run(work)
    assert (len(away.reached), away.ends()) == (20, {"delivered"})
    back = min(at for _, at in away.reached.values())  # the probe that found it
    assert max(at for _, at in away.reached.values()) - back < 13.0


def test_a_dispatcher_stops_in_order_while_its_provider_is_away() -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.codes(3)
        away.stopping.set()
        await away.admit(5, category="otp", campaign=None, route="fast")
        with trio.fail_after(10.0):
            await away.stopped.wait()

    away.run(work)
