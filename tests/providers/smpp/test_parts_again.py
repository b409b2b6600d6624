"""Parts that are refused for now, of several messages of one batch."""

from __future__ import annotations

from collections import Counter

import trio
from trio.testing import MockClock

from providers.contract import Submitted
from providers.smpp import pdu
from tests.worlds.smsc import Smsc, session, submission


async def test_messages_that_are_out_in_part_wait_for_their_parts_together(
    autojump_clock: MockClock,
) -> None:
    """Nothing of a batch is recorded before its last message has its outcome: one after the other
    they held those up that were taken at once."""
    smsc = Smsc()
    tries: Counter[bytes] = Counter()

    def decide(message: pdu.Short) -> tuple[int, str]:
        key = message.destination.encode() + message.short_message
        tries[key] += 1
        last = message.short_message[5] == 2
        status = pdu.THROTTLED if last and tries[key] == 1 else pdu.OK
        return status, f"id-{next(smsc.numbers)}"

    smsc.decide = decide
    batch = [submission(f"m-{n}.0", "a" * 200, to=f"+7916000000{n}") for n in range(5)]
    async with session(smsc, window=20) as provider:
        began = trio.current_time()
        outcomes = await provider.deliver(batch)
        assert trio.current_time() - began < 2.0
    assert [type(outcome) for outcome in outcomes] == [Submitted] * 5
    assert Counter(tries.values()) == {1: 5, 2: 5}
