"""What is told of a batch while answers of it are missing, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from trio.testing import MockClock

from providers.contract import Outcome, Refused, Submission, Submitted
from providers.smpp import pdu
from providers.smpp.provider import TELL_PACE_S
from tests.worlds.smsc import Desk, Smsc, session, submission

LONG = "a" * 200


class Told:
    """What a port told, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.calls: list[list[str]] = []
        self.taken: list[Submitted] = []
        self.began = trio.current_time()

    def __call__(self, taken: Sequence[Submitted]) -> None:
        self.times.append(trio.current_time() - self.began)
        self.calls.append([each.ref for each in taken])
        self.taken += taken


async def delivered(
    smsc: Smsc, *batch: Submission, **changes: Any
) -> tuple[Told, list[Outcome], float]:
    """What was told of a batch, what it came to, and how long that took."""
    async with session(smsc, window=20, **changes) as sms:
        await smsc.until(lambda: smsc.binds != [])
        told = Told()
        outcomes = await sms.deliver(batch, told)
        return told, outcomes, trio.current_time() - told.began


def messages(count: int) -> list[Submission]:
    return [submission(f"m{n}.0", to=f"+7916000000{n}") for n in range(count)]


def silent_to(smsc: Smsc, *numbers: int) -> None:
    taken = smsc.decide
    lost = tuple(map(str, numbers))
    smsc.decide = lambda sent: None if sent.destination.endswith(lost) else taken(sent)


async def test_what_was_taken_is_told_while_an_answer_is_missing(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    silent_to(smsc, 1)
    told, outcomes, took_s = await delivered(smsc, *messages(4))
    assert told.calls == [["m0.0", "m2.0", "m3.0"]]
    assert told.times[0] <= 2 * TELL_PACE_S + 0.001
    assert outcomes == told.taken, "they are returned as well"
    assert took_s >= 30.0


async def test_a_batch_whose_answers_come_together_is_told_of_at_its_end(
    autojump_clock: MockClock,
) -> None:
    """However late that is, so that a slow provider's batch is recorded as one."""
    smsc = Smsc()
    smsc.decide = lambda sent: None

    async def answer() -> None:
        await trio.sleep(1.23)
        for place in range(4):
            await smsc.answer(place, id_=f"id-{place}")
            await trio.sleep(TELL_PACE_S / 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        told, outcomes, took_s = await delivered(smsc, *messages(4))
    assert told.calls == []
    assert len(outcomes) == 4
    assert 1.0 < took_s < 2.0


async def test_answers_that_trickle_in_are_told_of_a_few_at_a_time(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    smsc.decide = lambda sent: None

    async def answer() -> None:
        for place in range(10):
            await trio.sleep(0.04)
            await smsc.answer(place, id_=f"id-{place}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        told, outcomes, took_s = await delivered(smsc, *messages(10))
    refs = [each.ref for each in told.taken]
    assert refs == [f"m{n}.0" for n in range(len(refs))], "each once, in their order"
    assert 4 <= len(refs) < 10
    assert len(told.calls) <= took_s / TELL_PACE_S
    assert len(outcomes) == 10


async def test_the_others_do_not_wait_for_a_part_that_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    """Nor does a text whose part was taken then wait for another text's."""
    smsc = Smsc()
    taken, tries = smsc.decide, dict.fromkeys("12", 0)

    def decide(sent: pdu.Short) -> tuple[int, str] | None:
        key = sent.destination[-1]
        if key in tries and sent.short_message[5] == 2:
            tries[key] += 1
            if tries[key] <= int(key):
                return 0x08, ""
        return taken(sent)

    smsc.decide = decide
    batch = messages(4)
    batch[1], batch[2] = (submission(f"m{n}.0", LONG, to=f"+7916000000{n}") for n in (1, 2))
    told, outcomes, took_s = await delivered(smsc, *batch)
    assert told.calls == [["m0.0", "m3.0"], ["m1.0"]]
    assert told.times[0] <= 2 * TELL_PACE_S + 0.001
    assert told.times[1] <= 1.0 + 2 * TELL_PACE_S + 0.001
    assert [type(each) for each in outcomes] == [Submitted] * 4
    assert 2.0 <= took_s < 2.0 + TELL_PACE_S


async def test_refusals_wait_for_the_end(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    taken = smsc.decide
    smsc.decide = lambda sent: (
        (pdu.INVALID_DESTINATION, "") if sent.destination.endswith("0") else taken(sent)
    )
    silent_to(smsc, 1)
    told, outcomes, _ = await delivered(smsc, *messages(3))
    assert told.calls == [["m2.0"]]
    assert [type(each) for each in outcomes] == [Refused, Submitted]


async def test_an_answer_that_comes_too_late_while_others_are_open_is_brought_as_late_alone(
    autojump_clock: MockClock,
) -> None:
    """Else it would be recorded twice."""
    smsc, desk = Smsc(), Desk()
    taken = smsc.decide

    def decide(sent: pdu.Short) -> tuple[int, str] | None:
        if sent.destination.endswith("0"):
            return None
        return (0x08, "") if sent.esm_class and sent.short_message[5] == 2 else taken(sent)

    smsc.decide = decide
    batch = [messages(1)[0], submission("m1.0", LONG, to="+79160000001")]
    async with session(smsc, desk, window=20, response_timeout_s=2.0) as sms:
        told = Told()
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                await trio.sleep(3.0)
                await smsc.answer(0, id_="late")

            nursery.start_soon(answer)
            outcomes = await sms.deliver(batch, told)
    assert trio.current_time() - told.began > 6.0, "the part was sent again all the while"
    assert (outcomes, told.calls) == ([], [])
    assert desk.late == [Submitted("m0.0", "late", 1)]


async def test_a_session_that_ends_leaves_what_was_told_as_taken(
    autojump_clock: MockClock,
) -> None:
    """And nobody waits for a part that cannot be sent again."""
    smsc = Smsc()
    taken = smsc.decide
    smsc.decide = lambda sent: (
        (0x08, "") if sent.esm_class and sent.short_message[5] == 2 else taken(sent)
    )
    silent_to(smsc, 1)

    async def hang_up() -> None:
        await trio.sleep(1.0)
        await trio.aclose_forcefully(smsc.streams[-1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        batch = [*messages(3), submission("m3.0", LONG, to="+79160000003")]
        told, outcomes, took_s = await delivered(smsc, *batch)
    assert [each.ref for each in told.taken] == ["m0.0", "m2.0"]
    assert outcomes == told.taken
    assert took_s < 2.5
