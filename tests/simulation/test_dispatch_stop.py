"""A dispatcher that stops in order beside another one: not a death, in virtual time."""

from __future__ import annotations

import pytest
import trio

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.store.keys import GROUP, keys_of
from tests.simulation.pace import Pace

RATE = 2  # so that what waits is read and not claimed
CODES = 6


def taken_over(pace: Pace) -> float:
    """How much was taken over from the dead."""
    return sum(
        sample.value
        for metric in pace.metrics.recovered.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


async def held_by(pace: Pace, consumer: str) -> int:
    lanes = [keys_of(0).lane("viber", category) for category in ("otp", "marketing")]
    replies = await pace.store.redis.call([("XINFO", "CONSUMERS", lane, GROUP) for lane in lanes])
    found = (dict(zip(c[::2], c[1::2], strict=True)) for reply in replies for c in reply)
    return sum(each[b"pending"] for each in found if each[b"name"] == consumer.encode())


@pytest.mark.parametrize("answer_s", [0.005, 4.0])
def test_what_it_held_goes_out_by_another_at_once_and_nobody_counts_a_death(
    answer_s: float,
) -> None:
    """It was taken over some seconds later, and told as a death: 6 messages, and an alert."""
    pace = Pace(answer_s, rate=RATE, batch=1)
    stopped_at: list[float] = []

    async def leaves(deps: DispatchDeps, *, task_status: trio.TaskStatus[None]) -> None:
        await dispatch(deps, task_status=task_status)
        stopped_at.append(trio.current_time())

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            first = pace.deps("first")
            await nursery.start(leaves, first)
            offers = await pace.admit(10)
            codes = await pace.admit(CODES, category="otp", campaign=None)
            await trio.sleep(0.3)
            assert await held_by(pace, "first") >= CODES
            await nursery.start(pace.dispatch, "second")
            went = len(pace.arrived)
            first.stopping.set()
            began = trio.current_time()
            await trio.sleep(0.05)
            assert await held_by(pace, "first") <= went, "only what is being sent"
            await trio.sleep(12.0)
            assert await held_by(pace, "first") == 0
            nursery.cancel_scope.cancel()
        assert stopped_at[0] - began < answer_s + 0.1
        assert sorted(id_ for _, _, id_ in pace.arrived) == sorted(codes + offers)
        later = [at for at, category, _ in pace.arrived if category == "otp" and at > began]
        assert later[0] - began < 1.1 / RATE, "the next token is a code's"
        assert later[-1] - began < (CODES + 1) / RATE

    pace.run(work, dispatchers=0)
    assert taken_over(pace) == 0


def test_what_has_no_answer_at_the_deadline_stays_for_others_to_ask_about() -> None:
    pace = Pace(60.0, rate=RATE, batch=1, timeout_ms=60_000)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            first = pace.deps("first")
            await nursery.start(dispatch, first)
            await pace.admit(10)
            await trio.sleep(2.0)
            sent = len(pace.arrived)
            first.stopping.set()
            await trio.sleep(first.terms.stop_within_ms / 1000 + 0.5)
            assert await held_by(pace, "first") == sent > 0
            pace.answer_s = 0.005
            await nursery.start(pace.dispatch, "second")
            await trio.sleep(10.0)
            assert taken_over(pace) == sent
            assert len({id_ for _, _, id_ in pace.arrived}) == 10
            nursery.cancel_scope.cancel()

    pace.run(work, dispatchers=0)
