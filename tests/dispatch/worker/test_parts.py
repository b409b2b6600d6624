"""Delays, pauses and the reading of answers, on a virtual clock and without Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from gateway.backoff import Backoff
from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.channels import Button, PushContent, ViberContent
from gateway.core.records.content import Content, content_codec, content_with
from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.worker import breaker as b
from gateway.dispatch.worker.answers import read_fault, read_outcomes
from gateway.dispatch.worker.breaker import FAILURES_IN_A_ROW, WINDOW_S, Breaker, OutageRule
from gateway.dispatch.worker.claim import ClaimedStep, Entry
from gateway.dispatch.worker.submission import SubmissionWriter
from gateway.redis.errors import RedisUnavailable
from gateway.store.messages.apply import LaneEntry
from gateway.store.providers.pauses import (
    ACCOUNT,
    DELAY_MS_MAX,
    DELAY_MS_MIN,
    OUTAGE,
    OUTAGE_MS_MAX,
    OUTAGE_MS_MIN,
    Pause,
    Trouble,
    begun,
    next_delay_ms,
    outranks,
)
from providers.contract import (
    AccountFault,
    BadRequest,
    Fault,
    FcmAddress,
    NotSent,
    Refused,
    SendFault,
    Submission,
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
    submission = submission_of(world, Content("text"))
    entry = Entry(ID, LaneEntry("lane", b"1-1", 0), "marketing")
    return [
        ClaimedStep(
            entry, 0, 1, 0.0, 0, type(submission)(**{**_fields(submission), "ref": f"{ID}.{n}"})
        )
        for n in range(count)
    ]


def submission_of(world: World, content: Content, sender: str = "Shop") -> Submission:
    world.message.content = content_codec.encode(content)
    return SubmissionWriter(sender).write(world.message, world.now_ms)


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
    assert next_delay_ms(pause, 1_500) == DELAY_MS_MIN
    assert next_delay_ms(pause, 31_000) == 30_000
    assert next_delay_ms(pause, 10**9) == DELAY_MS_MAX
    outage = Pause("http_503", "", since=1_000, until=2_000, kind=OUTAGE)
    assert next_delay_ms(outage, 1_500) == OUTAGE_MS_MIN
    assert next_delay_ms(outage, 9_000) == 8_000
    assert next_delay_ms(outage, 10**9) == OUTAGE_MS_MAX


def test_failures_in_a_row_are_an_outage_however_slowly_they_come() -> None:
    rule = OutageRule()
    times = [60.0 * n for n in range(FAILURES_IN_A_ROW)]
    went = [rule.failed(True, began=at, now=at + 1, since=-1.0) for at in times]
    assert went == [False] * (FAILURES_IN_A_ROW - 1) + [True]


def test_a_request_that_goes_well_ends_the_row() -> None:
    rule = OutageRule()
    for n in range(100):
        bad = n % FAILURES_IN_A_ROW != 0
        assert not rule.failed(bad, began=60.0 * n, now=60.0 * n, since=-1.0)


@pytest.mark.parametrize(("requests", "out"), [(b.REQUESTS_MIN, True), (18, False)])
def test_half_of_enough_requests_failing_is_an_outage(requests: int, out: bool) -> None:
    rule = OutageRule()
    step = WINDOW_S / 2 / requests
    went = [
        rule.failed(n % 2 == 1, began=n * step, now=n * step, since=-1.0) for n in range(requests)
    ]
    assert went == [False] * (requests - 1) + [out]


def test_fewer_than_half_or_what_lies_too_far_back_is_no_outage() -> None:
    rule = OutageRule()
    for n in range(300):  # a third, ten a second
        assert not rule.failed(n % 3 == 0, began=n / 10, now=n / 10, since=-1.0)
    sparse = OutageRule()
    for n in range(300):  # half, one a second
        assert not sparse.failed(n % 2 == 0, began=float(n), now=float(n), since=-1.0)


def test_what_began_before_a_pause_began_or_ended_says_nothing_after_it() -> None:
    rule = OutageRule()
    for n in range(FAILURES_IN_A_ROW - 1):
        assert not rule.failed(True, began=n, now=n, since=-1.0)
    for _ in range(50):
        assert not rule.failed(True, began=9.0, now=20.0, since=10.0)
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert not rule.failed(True, began=11.0, now=21.0, since=10.0)
    assert rule.failed(True, began=11.0, now=21.0, since=10.0)


def test_a_wish_to_be_left_alone_with_a_failure_is_an_outage_for_as_long() -> None:
    result = read_fault(claimed(2), Unknown("http_503", "Maintenance.", retry_after_ms=90_000))
    assert result.trouble == Trouble(OUTAGE, "http_503", "Maintenance.", 90_000)
    assert begun(result.trouble, T0).until == T0 + 90_000
    endless = read_fault(claimed(2), Unknown("http_503", "", retry_after_ms=10**9)).trouble
    assert endless is not None
    assert endless.rest_ms == b.RETRY_AFTER_MAX_S * 1_000
    assert read_fault(claimed(2), Unknown("http_503", "")).trouble is None


def test_an_account_fault_takes_the_place_of_an_outage_and_not_the_other_way_round() -> None:
    account, outage = Trouble(ACCOUNT, "E402", ""), Trouble(OUTAGE, "http_503", "")
    assert outranks(account, begun(outage, T0))
    assert not outranks(outage, begun(account, T0))
    assert not outranks(account, begun(account, T0))
    assert not outranks(account, Pause("held", "", T0, T0, kind="of a newer version"))


@pytest.mark.parametrize(
    ("fault", "event", "halts"),
    [
        (NotSent("connect_failed", ""), ev.StepNotSent, True),
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
    assert isinstance(item.event, ev.StepRefused)
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
        ev.Accepted(0, "P", 2, again=True, sent_ms=T0 + 7, series=0),
        ev.StepRefused(0, fault),
        ev.PutBack(0, refused=True),
        ev.LostAnswer(0),
    ]
    assert result.provider_ids == [("P", f"{ID}.0")]
    assert result.trouble == Trouble(ACCOUNT, "51", "no_credit")
    assert result.halt
    # What a provider took is true whoever claimed it since; the rest is of this claim alone.
    assert [item.claimed_ms for item in result.items] == [None, 1, 1, 1]


def test_of_several_parts_every_id_is_kept() -> None:
    told = [Submitted(f"{ID}.0", parts=3, part_ids=("a", "b", "c"))]
    result = read_outcomes(claimed(1), told, T0)
    (item,) = result.items
    assert item.event == ev.Accepted(0, "a", 3, sent_ms=T0, series=0, further_ids=("b", "c"))
    assert [id_ for id_, _ in result.provider_ids] == ["a", "b", "c"]


def test_of_parts_with_one_id_a_receipt_of_it_tells_all() -> None:
    told = [Submitted(f"{ID}.0", parts=3, part_ids=("a", "a", "b"))]
    result = read_outcomes(claimed(1), told, T0)
    (item,) = result.items
    assert item.event == ev.Accepted(0, "a", 3, sent_ms=T0, series=0, further_ids=("a", "b"))
    assert result.provider_ids == [("a", f"{ID}.0 1 2"), ("b", f"{ID}.0 2 2")]


def test_parts_that_were_taken_of_a_refused_text_are_told_whatever_becomes_of_the_step() -> None:
    """The refusal is of this claim alone; what the provider charges is true whoever claimed it
    since."""
    fault = Fault("0x45", "submit_failed", True)
    outcomes = [
        Refused(f"{ID}.0", fault, about="message", part_ids=("a", "b")),
        Refused(f"{ID}.1", fault, account=True, part_ids=("c",)),
        Refused(f"{ID}.2", fault, about="account", part_ids=("d",)),
        Refused(f"{ID}.3", fault),
    ]
    result = read_outcomes(claimed(4), outcomes, T0, held="0x45")
    assert [type(item.event) for item in result.items] == [
        *(ev.StepRefused, ev.PutBack, ev.PutBack, ev.StepRefused)
    ]
    assert [(item.event, item.claimed_ms, item.entry) for item in result.loose] == [
        (ev.LooseParts(0, ids, 0), None, None) for ids in (("a", "b"), ("c",), ("d",))
    ]


def test_pictures_and_buttons_are_for_viber_alone() -> None:
    world = World()
    button = Button("Open", "https://example.com")
    content = content_with(
        "text", {"viber": ViberContent(None, "https://example.com/a.png", button)}
    )
    viber = submission_of(world, content)
    assert (viber.image_url, viber.button) == ("https://example.com/a.png", button)
    world.message.current = 1
    sms = submission_of(world, content)
    assert (sms.image_url, sms.button) == (None, None)


def test_a_notification_goes_to_devices_and_has_words_of_its_own() -> None:
    world = World()
    devices = FcmAddress("tok-1"), FcmAddress("tok-2")
    world.message.addresses = Addresses("79161234567", "anna@shop.example", devices)
    content = content_with(
        "text", {"push": PushContent(title="Hi", url="https://example.com", data={"a": "b"})}
    )
    sms = submission_of(world, content)
    assert (sms.to, sms.devices, sms.message) == ("+79161234567", (), ID)
    world.message.step.channel = "push"
    told = submission_of(world, content)
    assert (told.to, told.devices) == ("", devices)
    assert (told.title, told.text, told.url) == ("Hi", "text", "https://example.com")
    assert told.data == {"a": "b"}
    world.message.step.channel = "email"
    assert submission_of(world, content, "").to == "anna@shop.example"


def test_an_answer_may_say_that_it_is_all_and_which_devices_are_gone() -> None:
    steps = [msgspec.structs.replace(step, user="u1") for step in claimed(3)]
    dead = FcmAddress("tok-1")
    result = read_outcomes(
        steps,
        [
            Submitted(f"{ID}.0", delivered=True, gone=(dead,)),
            Refused(f"{ID}.1", Fault("404", "gone", True), unreachable=True, gone=(dead,)),
            Submitted(f"{ID}.2", delivered=True),
        ],
        5,
    )
    assert [type(item.event) for item in result.items] == [ev.Accepted, ev.StepRefused, ev.Accepted]
    assert result.items[0].event == ev.Accepted(0, sent_ms=5, delivered=True, series=0)
    assert result.gone == [("u1", dead), ("u1", dead)]
    of_nobody = [msgspec.structs.replace(step, user=None) for step in steps]
    assert read_outcomes(of_nobody, [Submitted(f"{ID}.0", gone=(dead,))], 5).gone == []


def test_what_the_account_is_refused_for_costs_nobody_a_device() -> None:
    """Another project's key refuses the tokens of all."""
    steps = [msgspec.structs.replace(step, user="u1") for step in claimed(1)]
    fault, dead = Fault("SENDER_ID_MISMATCH", "", True), FcmAddress("tok-1")
    refused = [Refused(f"{ID}.0", fault, about="account", unreachable=True, gone=(dead,))]
    assert read_outcomes(steps, refused, 5).gone == [("u1", dead)]
    assert read_outcomes(steps, refused, 5, held="SENDER_ID_MISMATCH").gone == []
