"""What breaks the standard beside what matters costs no answer, no receipt and no reply."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from providers.contract import Fault, Outcome, Refused, Submitted
from providers.smpp import pdu, reading
from providers.smpp.pdu import Frame, Malformed
from tests.worlds.smsc import Desk, Smsc, session, submission

ANSWER = pdu.SUBMIT_SM | pdu.RESPONSE
NOBODY = Refused("m.0", Fault("0x0b", "invalid_destination", True), about="person")


def octets(command: int, sequence: int, body: bytes, status: int = 0) -> bytes:
    return pdu.HEADER.pack(pdu.HEADER.size + len(body), command, status, sequence) + body


def deliver(message: pdu.Short, more: bytes = b"") -> bytes:
    return octets(pdu.DELIVER_SM, 9, pdu.encode(pdu.DELIVER_SM, 9, message)[16:] + more)


async def answered_by(body: bytes, status: int) -> list[Outcome]:
    smsc = Smsc()
    smsc.decide = lambda message: None
    outcomes: list[Outcome] = []
    async with session(smsc, response_timeout_s=5.0) as sms, trio.open_nursery() as both:

        async def send() -> None:
            outcomes.extend(await sms.deliver([submission()]))

        both.start_soon(send)
        await smsc.until(lambda: bool(smsc.submitted))
        await smsc.streams[0].send_all(octets(ANSWER, smsc.sequences[0], body, status))
    return outcomes


@pytest.mark.parametrize("body", [b"id-1\0\0\x1e", b"id-1\0\x14\x03\0\x09x", b"id-1"])
async def test_an_id_counts_whatever_follows_it(body: bytes, autojump_clock: MockClock) -> None:
    assert await answered_by(body, pdu.OK) == [Submitted("m.0", "id-1", 1)]


@pytest.mark.parametrize("body", [b"no such number", b"\0\0\x1e", b"x" * 200])
async def test_a_refusal_needs_no_body(body: bytes, autojump_clock: MockClock) -> None:
    assert await answered_by(body, pdu.INVALID_DESTINATION) == [NOBODY]


async def test_an_answer_without_an_id_is_lost_as_before(autojump_clock: MockClock) -> None:
    assert await answered_by(b"", pdu.OK) == []
    assert await answered_by(b"x" * 200, pdu.OK) == []


RECEIPT = pdu.Short(
    source="79161234567",
    esm_class=4,
    short_message=b"id:id-1 stat:DELIVRD err:000 text:",
)
REPLY = pdu.Short(source="79161234567", destination="1234", short_message=b"STOP")


async def heard(data: bytes) -> Desk:
    smsc, desk = Smsc(), Desk()
    async with session(smsc, desk) as sms:
        await sms.deliver([submission()])
        await smsc.streams[0].send_all(data)
        with trio.move_on_after(30):
            await smsc.until(lambda: bool(smsc.answered))
    return desk


@pytest.mark.parametrize("more", [b"\0\x1e\0", b"\x14\x03\0\x09x", b"\0"])
async def test_a_receipt_and_a_reply_count_whatever_is_cut_off_behind_them(
    more: bytes, autojump_clock: MockClock
) -> None:
    desk = await heard(deliver(RECEIPT, more) + deliver(REPLY, more))
    assert [(each.provider_id, each.status) for each in desk.receipts] == [("id-1", "delivered")]
    assert [each.text for each in desk.replies] == ["STOP"]


async def test_an_address_or_a_date_may_be_longer_than_the_standard(
    autojump_clock: MockClock,
) -> None:
    body = pdu.encode(pdu.DELIVER_SM, 9, RECEIPT)[16:]
    longer = body.replace(b"\0\0\0" + b"79161234567\0", b"WAP-push\0\0\0" + b"79161234567\0")
    assert longer != body
    desk = await heard(octets(pdu.DELIVER_SM, 9, longer))
    assert [each.provider_id for each in desk.receipts] == ["id-1"]


@given(st.sampled_from(sorted(pdu.BODIES)), st.binary(max_size=300), st.sampled_from([0, 8]))
def test_random_bodies_are_read_or_refused(command: int, body: bytes, status: int) -> None:
    frame = Frame(command, status, 1, body)
    try:
        read = reading.decode(frame, tolerant=True)
    except Malformed:
        return
    kind = pdu.BODIES[command]
    assert isinstance(read, kind) or (read == pdu.NOTHING and status)
