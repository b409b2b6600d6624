"""Delays, pauses and the reading of answers, on a virtual clock and without Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway.backoff import Backoff
from gateway.core import events as ev
from gateway.core.channels import Button, ViberContent
from gateway.core.records.message import Content, content_with
from gateway.dispatch.pauses import PAUSE_MAX_MS, PAUSE_MIN_MS, next_delay_ms
from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.worker import breaker as b
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.claim import ClaimedStep, Entry, submission_of
from gateway.dispatch.worker.send import read_fault, read_outcomes
from gateway.redis.errors import RedisUnavailable
from gateway.store.apply import LaneEntry
from gateway.store.pauses import Pause
from providers.contract import (
    AccountFault,
    BadRequest,
    Fault,
    NotSent,
    Refused,
    SendFault,
    Submitted,
    Throttled,
    Unknown,
)
from tests.worlds.cascade_world import ID, T0, World
from tests.worlds.reading import now


def in_virtual_time(work: Callable[[], Awaitable[None]]) -> None:
    trio.run(work, clock=MockClock(autojump_threshold=0))


def claimed(count: int) -> list[ClaimedStep]:
    world = World()
    submission = submission_of(world.message, Content("text"), "Shop", world.now_ms)
    entry = Entry(ID, LaneEntry("lane", b"1-1"), "marketing")
    return [
        ClaimedStep(
            entry, 0, 1, 0.0, type(submission)(**{**_fields(submission), "ref": f"{ID}.{n}"})
        )
        for n in range(count)
    ]


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def test_delays_double_up_to_their_limit_and_begin_anew() -> None:
    backoff = Backoff(0.1, 1.0)
    for full in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert full / 2 <= backoff.next_s() <= full
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_work_is_repeated_until_redis_takes_it() -> None:
    tries = 0
    loops: list[str] = []

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries < 8:
            raise RedisUnavailable("unavailable")
        return "done"

    async def main() -> None:
        assert await RedisRetry("worker", loops.append).until_done(work) == "done"
        assert 1.0 < trio.current_time() < 8.0
        assert loops == ["worker"] * 7

    in_virtual_time(main)


def test_a_bug_is_not_repeated() -> None:
    async def work() -> None:
        raise AssertionError("a bug")

    async def main() -> None:
        with pytest.raises(AssertionError, match="a bug"):
            await RedisRetry("worker", lambda loop: None).until_done(work)

    in_virtual_time(main)


def test_requests_that_fail_together_make_one_rest_and_a_good_one_ends_the_care() -> None:
    async def main() -> None:
        breaker = Breaker()
        assert not now(breaker.careful)
        for _ in range(5):
            breaker.unreachable()
        assert 0 < breaker.rest_s <= b.UNREACHABLE_MIN_S
        assert now(breaker.careful)
        await trio.sleep(breaker.rest_s)
        breaker.unreachable()
        assert 2 * breaker.rest_s >= b.UNREACHABLE_MIN_S
        breaker.went_well()
        assert not now(breaker.careful)

    in_virtual_time(main)


def test_a_provider_is_left_alone_as_long_as_it_wishes_within_reason() -> None:
    async def main() -> None:
        breaker = Breaker()
        assert breaker.slowed_down(3_000) == 3_000
        assert breaker.rest_s == 3.0
        assert breaker.slowed_down(10**9) == b.RETRY_AFTER_MAX_S * 1_000
        silent = Breaker()
        assert silent.slowed_down(None) <= b.THROTTLED_MIN_S * 1_000
        assert silent.rest_s > 0

    in_virtual_time(main)


def test_a_pause_doubles_and_is_bounded() -> None:
    pause = Pause("E402", "", since=1_000, until=6_000)
    assert next_delay_ms(pause, 1_500) == PAUSE_MIN_MS
    assert next_delay_ms(pause, 31_000) == 30_000
    assert next_delay_ms(pause, 10**9) == PAUSE_MAX_MS


@pytest.mark.parametrize(
    ("fault", "event", "halts"),
    [
        (NotSent("connect_failed", ""), ev.NotSent, True),
        (Throttled("429", ""), ev.PutBack, True),
        (AccountFault("E402", ""), ev.PutBack, True),
        (Unknown("answer_timeout", ""), ev.LostAnswer, False),
        (SendFault("new", "of a kind nobody knows"), ev.LostAnswer, False),
    ],
)
def test_a_failed_request_is_judged_by_its_stage(
    fault: SendFault, event: type, halts: bool
) -> None:
    result = read_fault(claimed(3), fault)
    assert [type(item.event) for item in result.items] == [event] * 3
    assert result.halt is halts
    assert {item.claimed_ms for item in result.items} == {1}
    assert all(item.entry is not None for item in result.items)


def test_a_request_refused_as_a_whole_is_split_until_one_is_left() -> None:
    result = read_fault(claimed(2), BadRequest("E400", ""))
    assert result.split
    assert result.items == []
    (item,) = read_fault(claimed(1), BadRequest("E400", "")).items
    assert isinstance(item.event, ev.Refused)
    assert item.event.fault.permanent


def test_each_outcome_finds_its_message_whatever_the_order() -> None:
    batch = claimed(4)
    fault = Fault("6", "rejected", False)
    result = read_outcomes(
        batch,
        [
            Refused(f"{ID}.2", Fault("51", "no_credit", False), account=True),
            Refused(f"{ID}.1", fault),
            Submitted(f"{ID}.0", provider_id="P", parts=2, again=True),
        ],
        T0 + 7,
    )
    assert [item.event for item in result.items] == [
        ev.Accepted(0, "P", 2, again=True, sent_ms=T0 + 7),
        ev.Refused(0, fault),
        ev.PutBack(0, refused=True),
        ev.LostAnswer(0),
    ]
    assert result.provider_ids == [("P", f"{ID}.0")]
    assert result.account == ("51", "no_credit")
    assert result.halt
    # What a provider took is true whoever claimed it since; the rest is of this claim alone.
    assert [item.claimed_ms for item in result.items] == [None, 1, 1, 1]


def test_pictures_and_buttons_are_for_viber_alone() -> None:
    world = World()
    button = Button("Open", "https://example.com")
    content = content_with(
        "text", {"viber": ViberContent(None, "https://example.com/a.png", button)}
    )
    viber = submission_of(world.message, content, "Shop", world.now_ms)
    assert (viber.image_url, viber.button) == ("https://example.com/a.png", button)
    world.message.current = 1
    sms = submission_of(world.message, content, "Shop", world.now_ms)
    assert (sms.image_url, sms.button) == (None, None)
