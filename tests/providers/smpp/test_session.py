"""A session in virtual time: what becomes of messages when the other side does anything at all."""

from __future__ import annotations

import itertools

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from providers.contract import (
    AccountFault,
    Fault,
    NotSent,
    NotTaken,
    Receipt,
    Refused,
    Submitted,
)
from providers.smpp import pdu, provider
from providers.smpp import session as sessions
from tests.worlds.smsc import Decide, Desk, Smsc, config, session, submission

LONG = "a" * 200
NOBODY = Refused("m.0", Fault("0x0b", "invalid_destination", True), about="person")


def batch(count: int) -> list[str]:
    return [f"m{number}.0" for number in range(count)]


async def test_a_batch_is_taken_in_its_order(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        outcomes = await sms.deliver([submission(ref) for ref in batch(3)])
    assert outcomes == [Submitted(f"m{n}.0", f"id-{n + 1}", 1) for n in range(3)]
    (first, *_) = smsc.submitted
    assert (first.source_ton, first.source_npi, first.source) == (5, 0, "Shop")
    assert (first.destination_ton, first.destination_npi, first.destination) == (
        1,
        1,
        "79161234567",
    )
    assert (first.registered_delivery, first.validity_period) == (1, "000000010000000R")


async def test_no_more_than_the_window_is_without_an_answer(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with session(smsc, window=4, response_timeout_s=5.0) as sms, trio.open_nursery() as both:
        both.start_soon(sms.deliver, [submission(ref) for ref in batch(3)])
        both.start_soon(sms.deliver, [submission(ref) for ref in batch(3)])
        await trio.testing.wait_all_tasks_blocked()
        assert len(smsc.submitted) == 4


async def test_a_lost_answer_is_unknown_and_nothing_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    ids = iter([(0, "a"), None, (0, "c")])
    smsc.decide = lambda message: next(ids)
    async with session(smsc) as sms:
        outcomes = await sms.deliver([submission(ref) for ref in batch(3)])
    assert outcomes == [Submitted("m0.0", "a", 1), Submitted("m2.0", "c", 1)]
    assert len(smsc.submitted) == 3


@pytest.mark.parametrize(
    ("answers", "late"),
    [
        ([(0, 0, "a")], [Submitted("m0.0", "a", 1)]),
        ([(2, 0, "c"), (1, 0, "b")], [Submitted("m1.0", parts=2, part_ids=("b", "c"))]),
        ([(2, 0, "c")], []),
        (
            [(1, 0x0B, ""), (2, 0, "c")],
            [replace(NOBODY, ref="m1.0", part_ids=("c",))],
        ),
        ([(1, 0x58, ""), (2, 0, "c")], []),
        ([(0, 0, "a"), (0, 0, "b")], [Submitted("m0.0", "a", 1)]),
        ([(0, 0x0B, "")], [replace(NOBODY, ref="m0.0")]),
        ([(0, 0x58, "")], []),
        ([(0, 0x08, "")], []),
        ([(0, 0x0E, "")], []),
        ([(0, 0, "")], []),
    ],
    ids=[
        *("taken", "parts in any order", "one part", "a part refused", "a part throttled"),
        *("twice", "refused"),
        *("throttled", "refused for now", "the account", "without an id"),
    ],
)
async def test_an_answer_that_comes_late_is_told_once_and_nothing_is_sent_again(
    answers: list[tuple[int, int, str]],
    late: list[Submitted | Refused],
    autojump_clock: MockClock,
) -> None:
    smsc, desk = Smsc(), Desk()
    smsc.decide = lambda message: None
    async with session(smsc, desk, response_timeout_s=5.0) as sms:
        assert await sms.deliver([submission("m0.0"), submission("m1.0", LONG)]) == []
        await trio.sleep(60)
        for place, status, id_ in answers:
            await smsc.answer(place, status, id_)
        await trio.testing.wait_all_tasks_blocked()
    assert desk.late == late
    assert len(smsc.submitted) == 3


async def test_a_late_answer_is_forgotten_in_the_end_and_with_its_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LATE_MAX", 2)
    smsc, desk = Smsc(), Desk()
    smsc.decide = lambda message: None
    async with session(smsc, desk, response_timeout_s=5.0) as sms:
        assert await sms.deliver([submission(ref) for ref in batch(3)]) == []
        await smsc.answer(0, id_="one too many")
        await smsc.answer(1, id_="b")
        await trio.sleep(sessions.LATE_S + 1)
        await smsc.answer(2, id_="too late")
        assert await sms.deliver([submission("m4.0")]) == []
        await trio.aclose_forcefully(smsc.streams[-1])
        await smsc.until(lambda: len(smsc.binds) == 2)
        await smsc.answer(3, id_="of another session")
        await trio.testing.wait_all_tasks_blocked()
    assert desk.late == [Submitted("m1.0", "b", 1)]


async def test_what_was_written_when_the_session_ended_is_unknown_and_the_rest_goes_back(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()

    def hang_up(message: pdu.Short) -> None:
        if len(smsc.submitted) == 2:
            raise trio.BrokenResourceError

    smsc.decide = hang_up
    async with session(smsc, window=2) as sms:
        outcomes = await sms.deliver([submission(ref) for ref in batch(3)])
        assert outcomes == [NotTaken("m2.0")]
        assert len(smsc.submitted) == 2
        smsc.decide = lambda message: (0, "again")
        assert await sms.deliver([submission()]) == [Submitted("m.0", "again", 1)]
    assert smsc.binds == ["transceiver", "transceiver"]


@pytest.mark.parametrize("status", [pdu.THROTTLED, pdu.QUEUE_FULL])
async def test_throttled_messages_go_back_and_nothing_more_is_sent(
    status: int, autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    answers = iter([(0, "a"), (status, "")])
    smsc.decide = lambda message: next(answers)
    async with session(smsc, window=2) as sms:
        outcomes = await sms.deliver([submission(ref) for ref in batch(4)])
    assert outcomes[:2] == [Submitted("m0.0", "a", 1), NotTaken("m1.0", throttled=True)]
    assert outcomes[2:] == [NotTaken("m2.0"), NotTaken("m3.0")]
    assert len(smsc.submitted) == 2


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        (0x08, Refused("m.0", Fault("0x08", "system_error", False), about="account")),
        (0x64, Refused("m.0", Fault("0x64", "temporary_error", False), about="account")),
        (0x0B, Refused("m.0", Fault("0x0b", "invalid_destination", True), about="person")),
        (0x0A, Refused("m.0", Fault("0x0a", "invalid_source", True), about="account")),
        (0x01, Refused("m.0", Fault("0x01", "invalid_message_length", True), about="message")),
        (0x45, Refused("m.0", Fault("0x45", "submit_failed", True), about="account")),
        (0x410, Refused("m.0", Fault("0x410", "provider_code", True), about="account")),
        (0x0E, Refused("m.0", Fault("0x0e", "wrong_password", True), True, "account")),
    ],
)
async def test_a_status_says_whose_fault_it_is(
    status: int, refused: Refused, autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: (status, "")
    async with session(smsc) as sms:
        assert await sms.deliver([submission()]) == [refused]


async def test_a_long_text_is_taken_when_each_part_is(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        outcomes = await sms.deliver([submission("m0.0", LONG), submission("m1.0")])
        assert sms.tokens([submission("m0.0", LONG), submission("m1.0")]) == 3
    assert outcomes == [
        Submitted("m0.0", parts=2, part_ids=("id-1", "id-2")),
        Submitted("m1.0", "id-3", 1),
    ]


def answering(*answers: tuple[int, str] | None) -> Decide:
    each = itertools.chain(answers, itertools.repeat(None))
    return lambda message: next(each)


async def test_a_part_that_is_refused_for_now_is_sent_again_when_another_is_out(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    smsc.decide = answering((0, "a"), (pdu.THROTTLED, ""), (0x08, ""), (0, "b"))
    async with session(smsc) as sms:
        outcomes = await sms.deliver([submission("m.0", LONG)])
    assert outcomes == [Submitted("m.0", parts=2, part_ids=("a", "b"))]
    assert [message.short_message[5] for message in smsc.submitted] == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("decide", "outcomes"),
    [
        (answering((pdu.THROTTLED, ""), (pdu.THROTTLED, "")), [NotTaken("m.0", throttled=True)]),
        (answering((0, "a"), None), []),
        (answering(None, (0, "a")), []),
        (
            answering((0, "a"), (0x45, "")),
            [
                Refused(
                    "m.0", Fault("0x45", "submit_failed", True), about="account", part_ids=("a",)
                )
            ],
        ),
        (answering((0, "a"), *[(pdu.THROTTLED, "")] * provider.PART_TRIES), []),
    ],
    ids=["none is taken", "the second is lost", "the first is lost", "refused", "never taken"],
)
async def test_a_long_text_of_which_a_part_is_not_taken(
    decide: Decide, outcomes: list[object], autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    smsc.decide = decide
    async with session(smsc) as sms:
        found = await sms.deliver([submission("m.0", LONG)])
    assert found == outcomes


@pytest.mark.parametrize("changes", [{"text": "привет"}, {"sender": "x" * 21}, {"sender": "Чай"}])
async def test_what_cannot_be_written_is_refused_alone(
    changes: dict[str, str], autojump_clock: MockClock
) -> None:
    async with session(Smsc(), encodings=("gsm7",)) as sms:
        refused, taken = await sms.deliver([submission("m0.0", **changes), submission("m1.0")])
    assert isinstance(refused, Refused)
    assert (refused.fault.permanent, refused.about) == (True, "message")
    assert taken == Submitted("m1.0", "id-1", 1)


async def test_ids_have_one_spelling_in_answer_and_receipt(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    smsc.decide = lambda message: (0, "5E1F")
    async with session(smsc, desk, id_format_resp="hex", id_format_dlr="dec") as sms:
        assert await sms.deliver([submission()]) == [Submitted("m.0", "24095", 1)]
        text = b"id:0024095 stat:DELIVRD err:000"
        receipt = pdu.Short(source="79161234567", esm_class=4, short_message=text)
        sequence = await smsc.push(receipt)
        await smsc.until(lambda: smsc.answered == [sequence])
    told = Receipt("delivered", provider_id="24095", to="79161234567", raw=text.decode())
    assert desk.receipts == [told]


async def test_a_receipt_is_answered_when_it_is_durable(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk) as sms:
        await sms.deliver([submission()])
        desk.opened = trio.Event()
        for _ in range(3):
            await smsc.push(pdu.Short(esm_class=4, short_message=b"id:id-1 stat:DELIVRD"))
        await desk.came.wait()
        # The session goes on meanwhile.
        assert await sms.deliver([submission("m1.0")]) == [Submitted("m1.0", "id-2", 1)]
        await trio.sleep(60)
        assert smsc.answered == []
        desk.opened.set()
        await smsc.until(lambda: smsc.answered == [1, 2, 3])
    assert len(desk.receipts) == 3


async def test_what_a_person_wrote_comes_as_a_reply(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk) as sms:
        await sms.deliver([submission()])
        reply = pdu.Short(source="79161234567", destination="1234", short_message=b"STOP")
        await smsc.push(reply)
        await smsc.push(reply)
        await smsc.push(pdu.Short(source="Bank", short_message=b"an advertisement"))
        await smsc.until(lambda: len(smsc.answered) == 3)
    first, again = desk.replies
    assert (first.sender, first.to, first.text) == ("79161234567", "1234", "STOP")
    assert again.id == first.id


@pytest.mark.parametrize(
    "broken",
    [
        pdu.encode(0x21, 9),
        pdu.encode(pdu.DELIVER_SM, 9),
        pdu.encode(pdu.SUBMIT_SM | pdu.RESPONSE, 77, pdu.Taken(message_id="of nothing")),
        pdu.encode(pdu.GENERIC_NACK, 78, status=3),
    ],
    ids=["unknown", "no body", "stray answer", "stray nack"],
)
async def test_what_breaks_the_rules_ends_no_session(
    broken: bytes, autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        await sms.deliver([submission()])
        await smsc.streams[0].send_all(broken)
        assert await sms.deliver([submission()]) == [Submitted("m.0", "id-2", 1)]
    assert len(smsc.binds) == 1


async def test_a_stream_that_cannot_be_followed_is_begun_anew(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        await sms.deliver([submission()])
        await smsc.streams[0].send_all(b"\0" * 16)
        await smsc.until(lambda: len(smsc.binds) == 2)
        assert await sms.deliver([submission()]) == [Submitted("m.0", "id-2", 1)]


async def test_a_peer_that_goes_silent_is_left_and_bound_again(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        await sms.deliver([submission()])
        await trio.sleep(600)
        assert len(smsc.binds) == 1  # it was asked, and answered
        smsc.answers_links = False
        await trio.sleep(120)
        assert len(smsc.binds) >= 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0x0E, AccountFault), (0x0D, AccountFault), (0x05, NotSent), (0x08, NotSent)],
)
async def test_a_refused_bind_says_why_nothing_goes(
    status: int, kind: type[AccountFault | NotSent], autojump_clock: MockClock
) -> None:
    smsc = Smsc()
    smsc.bind_status = status
    async with session(smsc) as sms:
        with pytest.raises(kind, match=f"0x{status:02x}"):
            await sms.deliver([submission()])
        await trio.sleep(300)
        assert 5 <= len(smsc.binds) <= 15  # with growing delays
        smsc.bind_status = pdu.OK
        await trio.sleep(provider.RECONNECT_S_MAX)
        assert await sms.deliver([submission()]) == [Submitted("m.0", "id-1", 1)]


async def test_without_a_task_there_is_no_session(autojump_clock: MockClock) -> None:
    sms = provider.SmppProvider(config(), Smsc().connect)
    with pytest.raises(NotSent, match="no_session"):
        await sms.deliver([submission()])


async def test_sending_and_receiving_may_be_bound_apart(autojump_clock: MockClock) -> None:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk, bind="tx+rx") as sms:
        assert await sms.deliver([submission()]) == [Submitted("m.0", "id-1", 1)]
        await smsc.push(pdu.Short(esm_class=4, short_message=b"id:id-1 stat:DELIVRD"), stream=0)
        await smsc.until(lambda: smsc.answered == [1])
        assert smsc.binds == ["receiver", "transmitter"]
        await smsc.streams[0].aclose()
        await smsc.until(lambda: len(smsc.binds) == 4)
    assert [receipt.status for receipt in desk.receipts] == ["delivered"]


async def test_a_stop_waits_for_answers_and_unbinds(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    asked: list[pdu.Short] = []
    smsc.decide = lambda message: asked.append(message)
    found: list[object] = []
    async with trio.open_nursery() as nursery:
        async with session(smsc) as sms:

            async def deliver() -> None:
                found.extend(await sms.deliver([submission()]))

            nursery.start_soon(deliver)
            await smsc.until(lambda: bool(asked))
            nursery.start_soon(_answer_later, smsc)
        assert smsc.unbound == 1
    assert found == [Submitted("m.0", "late", 1)]


async def _answer_later(smsc: Smsc) -> None:
    await trio.sleep(2)
    command = pdu.SUBMIT_SM | pdu.RESPONSE
    await smsc.streams[0].send_all(pdu.encode(command, 2, pdu.Taken(message_id="late")))


async def test_an_unbind_of_the_peer_is_answered_and_the_session_comes_back(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    async with session(smsc) as sms:
        await sms.deliver([submission()])
        await smsc.streams[0].send_all(pdu.encode(pdu.UNBIND, 5))
        await smsc.until(lambda: len(smsc.binds) == 2)
        assert await sms.deliver([submission()]) == [Submitted("m.0", "id-2", 1)]


async def test_what_is_under_way_at_an_unbind_of_the_peer_is_answered_first(
    autojump_clock: MockClock,
) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with session(smsc, window=2) as sms:
        found: list[object] = []

        async def deliver() -> None:
            found.extend(await sms.deliver([submission(ref) for ref in batch(3)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver)
            await smsc.until(lambda: len(smsc.submitted) == 2)
            await smsc.streams[0].send_all(pdu.encode(pdu.UNBIND, 5))
            for place in range(2):
                await trio.sleep(1)
                await smsc.answer(place, id_=f"late-{place}")
        assert found == [
            *(Submitted(f"m{place}.0", f"late-{place}", 1) for place in range(2)),
            NotTaken("m2.0"),
        ]
        assert len(smsc.submitted) == 2
        await smsc.until(lambda: len(smsc.binds) == 2)


async def test_a_peer_that_unbinds_is_waited_for_a_little(autojump_clock: MockClock) -> None:
    smsc = Smsc()
    smsc.decide = lambda message: None
    async with session(smsc) as sms, trio.open_nursery() as nursery:
        nursery.start_soon(sms.deliver, [submission(ref) for ref in batch(2)])
        await smsc.until(lambda: len(smsc.submitted) == 2)
        began = trio.current_time()
        await smsc.streams[0].send_all(pdu.encode(pdu.UNBIND, 5))
        await smsc.until(lambda: len(smsc.binds) == 2)
        assert sessions.LEAVE_S <= trio.current_time() - began < 2 * sessions.LEAVE_S
