"""How a session hands over what comes: together where more is likely, and never slower for that."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from providers.smpp import pdu
from providers.smpp.session import HAND_OVER_PACE_S
from tests.worlds.smsc import Desk, Smsc, session

RECEIPT = pdu.Short(esm_class=4, short_message=b"id:id-1 stat:DELIVRD")


async def bound(smsc: Smsc) -> None:
    await smsc.until(lambda: smsc.binds == ["transceiver"])
    await wait_all_tasks_blocked()


async def thanked(smsc: Smsc, count: int) -> None:
    await smsc.until(lambda: len(smsc.answered) == count)


async def two_together(smsc: Smsc, desk: Desk) -> None:
    """Two come while one is being stored."""
    desk.opened = trio.Event()
    for _ in range(3):
        await smsc.push(RECEIPT)
        await wait_all_tasks_blocked()
    desk.opened.set()
    await thanked(smsc, 3)
    assert desk.together == [1, 2]


async def test_receipts_of_a_busy_peer_are_taken_together(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk):
        await bound(smsc)
        await two_together(smsc, desk)
        for _ in range(2):
            await smsc.push(RECEIPT)
            await trio.sleep(HAND_OVER_PACE_S / 4)
        await thanked(smsc, 5)
        assert desk.together == [1, 2, 2]


async def test_a_receipt_waits_for_others_as_long_as_the_pace_and_not_after_silence(
    autojump_clock: MockClock,
) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk):
        await bound(smsc)
        await two_together(smsc, desk)
        await smsc.push(RECEIPT)
        await thanked(smsc, 4)
        assert desk.at[-1] - desk.at[-2] == HAND_OVER_PACE_S
        await trio.sleep(1)
        asked = trio.current_time()
        await smsc.push(RECEIPT)
        await thanked(smsc, 5)
        assert desk.at[-1] == asked


async def test_a_peer_that_waits_for_each_answer_is_not_held_up(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk):
        await bound(smsc)
        began = trio.current_time()
        for count in range(1, 21):
            await smsc.push(RECEIPT)
            await thanked(smsc, count)
        assert trio.current_time() == began
        assert desk.together == [1] * 20
