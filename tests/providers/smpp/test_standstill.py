"""A process that stood still reads what came meanwhile before it judges that it did not come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from providers.contract import Submitted
from providers.smpp import pdu
from providers.standstill import READ_ON_S
from tests.worlds.smsc import Desk, Smsc, session, submission

TIMES = 12  # which of two tasks wakes first is drawn


def stand_still(smsc: Smsc, clock: MockClock, seconds: float) -> Callable[[], None]:
    """What the SMSC says from now on comes while this process stands still for so long. Returns
    what ends that."""
    stream = smsc.streams[-1]
    assert isinstance(stream, trio.StapledStream)
    sending = stream.send_stream
    assert isinstance(sending, trio.testing.MemorySendStream)
    usual = sending.send_all_hook
    assert usual is not None

    async def said() -> None:
        await usual()
        clock.jump(seconds)

    sending.send_all_hook = said

    def over() -> None:
        sending.send_all_hook = usual

    return over


@pytest.mark.parametrize("seconds", [40.0, 80.0])  # beyond its own time, and beyond its caller's
@pytest.mark.parametrize("time", range(TIMES))
async def test_an_answer_that_came_during_a_standstill_is_in_time(
    time: int, seconds: float, autojump_clock: MockClock
) -> None:
    smsc, desk = Smsc(), Desk()
    smsc.decide = lambda message: None
    found: list[object] = []
    async with session(smsc, desk) as sms, trio.open_nursery() as nursery:

        async def deliver() -> None:
            with trio.move_on_after(71.0):
                found.extend(await sms.deliver([submission("m0.0"), submission("m1.0")]))

        nursery.start_soon(deliver)
        await smsc.until(lambda: len(smsc.submitted) == 2)
        over = stand_still(smsc, autojump_clock, seconds)
        await smsc.answer(0, id_="a")
        over()
        await smsc.answer(1, id_="b")  # it was on its way
    assert found == [Submitted("m0.0", "a", 1), Submitted("m1.0", "b", 1)]
    assert desk.late == []


async def test_what_did_not_come_during_a_standstill_either_is_lost_soon(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with session(smsc) as sms:
        await smsc.until(lambda: smsc.binds != [])
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sms.deliver, [submission()])
            await smsc.until(lambda: len(smsc.submitted) == 1)
            autojump_clock.jump(40.0)
    assert 40.0 <= trio.current_time() - began <= 40.0 + READ_ON_S + 0.001


@pytest.mark.parametrize("time", range(TIMES))
async def test_a_peer_that_answered_during_a_standstill_is_not_left(
    time: int, autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    smsc.answers_links = False
    async with session(smsc) as sms:
        await sms.deliver([submission()])
        await trio.sleep(30.0 + 1.0)  # it was asked
        over = stand_still(smsc, autojump_clock, 40.0)
        await smsc.streams[-1].send_all(pdu.encode(pdu.ENQUIRE_LINK | pdu.RESPONSE, 3))
        over()
        await trio.sleep(10.0)
        assert len(smsc.binds) == 1


async def test_late_answers_are_brought_though_the_session_ends(
    autojump_clock: MockClock,
) -> None:
    """A dispatcher that stood still for 40 s heard five of them as it left its session, whose place
    another had, and was cancelled 9 ms later while it brought them (2026-11-30)."""
    smsc, desk = Smsc(), Desk()
    smsc.decide = lambda message: None

    async with trio.open_nursery() as nursery:

        async def open_desk() -> None:
            await trio.sleep(1.0)
            desk.opened.set()

        async with session(smsc, desk, response_timeout_s=5.0) as sms:
            assert await sms.deliver([submission("m0.0"), submission("m1.0")]) == []
            desk.opened = trio.Event()
            await smsc.answer(0, id_="a")
            await trio.testing.wait_all_tasks_blocked()
            await smsc.answer(1, id_="b")
            nursery.start_soon(open_desk)
    assert desk.late == [Submitted("m0.0", "a", 1), Submitted("m1.0", "b", 1)]
