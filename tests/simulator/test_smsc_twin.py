"""Our SMPP session against the simulator's SMSC, and what that does with other clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop
from msgspec.structs import replace

from providers.contract import AccountFault, Fault, NotTaken, Outcome, Refused, Submitted
from providers.simulator import Settings, changed, child
from providers.simulator.runtime import Runtime
from providers.simulator.smsc.door import SmscDoor
from providers.simulator.smsc.parts import UNFINISHED_MAX, Gathering
from providers.simulator.smsc.twin import SCHEME
from providers.smpp import pdu, reading, texts
from providers.smpp.provider import SmppProvider, open_stream
from tests.worlds.ports import free_port
from tests.worlds.simulated import KNOBS
from tests.worlds.smsc import Desk, config, submission

LONG = "Здравствуйте! [€] " * 8  # of three parts
PHONE = "79161234567"


class Simulated:
    def __init__(self, started: child.Child, port: int) -> None:
        self.child = started
        self.port = port


@pytest.fixture(scope="module")
def running() -> Iterator[Simulated]:
    port = free_port()
    with child.running(Settings(knobs=KNOBS, smpp_port=port)) as started:
        yield Simulated(started, port)


@pytest.fixture
def smsc(running: Simulated) -> Simulated:
    running.child.reset()
    running.child.turn(sms_delivered=1.0, sms_undelivered=0.0, push_retry_scale=0.0)
    return running


@asynccontextmanager
async def bound(smsc: Simulated, desk: Desk, **changes: Any) -> AsyncIterator[SmppProvider]:
    terms = config(port=smsc.port, **({"password": "simulator"} | changes))
    provider = SmppProvider(terms, partial(open_stream, terms, None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.run, desk)
        yield provider
        nursery.cancel_scope.cancel()


async def told(smsc: Simulated) -> None:
    """Lets all that is to come reach whoever is bound."""
    await trio.to_thread.run_sync(partial(smsc.child.flush, everything=True))


async def one(smsc: Simulated, **changes: Any) -> list[Outcome]:
    """What one message came to."""
    async with bound(smsc, Desk(), **changes) as sms:
        return list(await sms.deliver([submission()]))


def ids_of(outcome: Outcome) -> tuple[str, ...]:
    assert isinstance(outcome, Submitted)
    return outcome.part_ids or (outcome.provider_id or "",)


@pytest.mark.parametrize("bind", ["trx", "tx+rx"])
@pytest.mark.parametrize("long", ["udh", "sar"])
@pytest.mark.trio
async def test_a_message_is_one_entry_whatever_its_parts_and_each_has_its_receipt(
    bind: str, long: str, smsc: Simulated
) -> None:
    desk = Desk()
    async with bound(smsc, desk, bind=bind, long=long) as sms:
        short, cut = await sms.deliver([submission("a.0"), submission("b.0", LONG)])
        await told(smsc)
    ids = [*ids_of(short), *ids_of(cut)]
    assert len(ids) == 4
    assert {(receipt.provider_id, receipt.status) for receipt in desk.receipts} == {
        (id_, "delivered") for id_ in ids
    }
    bill = smsc.child.bill()
    assert [(line.parts, line.to) for line in bill.messages.values()] == [(1, PHONE), (3, PHONE)]
    (sms_bill,) = bill.channels
    assert (sms_bill.delivered, sms_bill.charged_parts) == (2, 4)


@pytest.mark.trio
async def test_what_comes_whole_is_cut_there(smsc: Simulated) -> None:
    async with bound(smsc, Desk(), long="payload") as sms:
        await sms.deliver([submission(text=LONG)])
    assert [line.parts for line in smsc.child.bill().messages.values()] == [3]


@pytest.mark.parametrize(
    ("override", "status", "fault"),
    [
        ({"ending": "undelivered"}, "undelivered", Fault("027", "UNDELIV", True)),
        ({"ending": "expired"}, "expired", Fault("027", "EXPIRED", True)),
    ],
)
@pytest.mark.trio
async def test_an_end_is_told_with_its_code(
    override: dict[str, str], status: str, fault: Fault, smsc: Simulated
) -> None:
    smsc.child.turn(by_phone={PHONE: {"sms": override}})
    desk = Desk()
    async with bound(smsc, desk) as sms:
        await sms.deliver([submission()])
        await told(smsc)
    assert [(receipt.status, receipt.fault) for receipt in desk.receipts] == [(status, fault)]


@pytest.mark.parametrize(
    ("knobs", "outcomes"),
    [
        ({"throttle_share": 1.0}, [NotTaken("m.0", throttled=True)]),
        (
            {"server_error_share": 1.0},
            [Refused("m.0", Fault("0x08", "system_error", False), about="account")],
        ),
        (
            {"by_phone": {PHONE: {"sms": {"ending": "rejected"}}}},
            [Refused("m.0", Fault("0x45", "submit_failed", True), about="account")],
        ),
        ({"garbage_share": 1.0}, []),
    ],
)
@pytest.mark.trio
async def test_what_is_refused_is_not_taken_for_more(
    knobs: dict[str, Any], outcomes: list[Outcome], smsc: Simulated
) -> None:
    smsc.child.turn(**knobs)
    assert await one(smsc) == outcomes
    assert smsc.child.bill().charge.get("EUR", "0") == ("0" if outcomes else "0.0400")


@pytest.mark.parametrize(("charged_on", "charge"), [("sent", "0.0800"), ("delivered", "0")])
@pytest.mark.trio
async def test_of_a_text_that_is_rejected_the_parts_cost_that_were_taken(
    charged_on: str, charge: str, smsc: Simulated
) -> None:
    rejected = {PHONE: {"sms": {"ending": "rejected"}}}
    smsc.child.turn(sms_charged_on=charged_on, by_phone=rejected)
    async with bound(smsc, Desk()) as sms:
        (outcome,) = await sms.deliver([submission(text=LONG)])
    assert isinstance(outcome, Refused)
    assert len(outcome.part_ids) == 2
    (line,) = smsc.child.bill().messages.values()
    assert (line.outcome, line.parts, line.charge) == (
        "rejected",
        2 if charge != "0" else 3,
        charge,
    )


@pytest.mark.parametrize(
    ("knobs", "taken"),
    [
        ({"lost_share": 1.0}, 0),
        ({"answer_lost_share": 1.0}, 1),
        ({"server_error_share": 1.0, "server_error_accepts": True}, 1),
    ],
)
@pytest.mark.trio
async def test_a_fault_may_leave_a_message_without_an_answer(
    knobs: dict[str, Any], taken: int, smsc: Simulated
) -> None:
    smsc.child.turn(**knobs)
    assert await one(smsc, response_timeout_s=0.2) == []
    assert len(smsc.child.bill().messages) == taken


@pytest.mark.trio
async def test_the_rate_is_in_pdus(smsc: Simulated) -> None:
    smsc.child.turn(rate_per_s=2)
    async with bound(smsc, Desk()) as sms:
        outcomes = await sms.deliver([submission(f"m{n}.0") for n in range(3)])
    assert outcomes[2] == NotTaken("m2.0", throttled=True)


@pytest.mark.trio
async def test_who_has_another_password_is_not_bound(smsc: Simulated) -> None:
    async with bound(smsc, Desk(), password="guess") as sms:
        with pytest.raises(AccountFault, match="wrong_password"):
            await sms.deliver([submission()])


@pytest.mark.trio
async def test_a_person_writes_back(smsc: Simulated) -> None:
    answer = {"ending": "delivered", "reply": "СТОП"}
    smsc.child.turn(by_phone={PHONE: {"sms": answer}})
    desk = Desk()
    async with bound(smsc, desk) as sms:
        await sms.deliver([submission()])
        await told(smsc)
    assert [(reply.sender, reply.to, reply.text) for reply in desk.replies] == [
        (PHONE, "Shop", "СТОП")
    ]


class Client:
    """A client that says what a test wants."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = pdu.Frames()
        self._came: list[pdu.Frame] = []

    def say(self, command: int, body: pdu.Body = pdu.NOTHING, sequence: int = 7) -> pdu.Frame:
        """Its answer."""
        self.tell(command, body, sequence)
        return self.hear()

    def tell(self, command: int, body: pdu.Body = pdu.NOTHING, sequence: int = 7) -> None:
        self._connection.sendall(pdu.encode(command, sequence, body))

    def answer(self, frame: pdu.Frame, status: int) -> None:
        command = frame.command | pdu.RESPONSE
        self._connection.sendall(pdu.encode(command, frame.sequence, pdu.Taken(), status=status))

    def hear(self) -> pdu.Frame:
        while not self._came:
            data = self._connection.recv(65_536)
            if not data:
                raise ConnectionError
            self._came = self._frames.feed(data)
        return self._came.pop(0)

    def bind(self, command: int = pdu.BIND_TRANSCEIVER) -> int:
        return self.say(command, pdu.Bind(system_id="kaskad", password="simulator")).status

    @property
    def closed(self) -> bool:
        return self._connection.recv(1) == b""


@contextmanager
def client(smsc: Simulated) -> Iterator[Client]:
    with closing(socket.create_connection(("127.0.0.1", smsc.port), timeout=20.0)) as connection:
        yield Client(connection)


MESSAGE = pdu.Short(source="Shop", destination=PHONE, registered_delivery=1, short_message=b"Hello")


def test_a_receipt_comes_again_until_it_is_answered(smsc: Simulated) -> None:
    smsc.child.turn(receipt_ms_min=0, receipt_ms_max=0)
    with client(smsc) as first:
        assert first.bind() == pdu.OK
        answers = [first.say(pdu.SUBMIT_SM, MESSAGE), first.hear()]
        frames = {frame.command: frame for frame in answers}
        told = reading.decode(frames[pdu.DELIVER_SM])
        first.answer(frames[pdu.DELIVER_SM], pdu.TEMPORARY_ERROR)
        again = first.hear()
        assert reading.decode(again) == told
        first.answer(again, pdu.OK)
    assert smsc.child.flush().reports_waiting == 0


def test_a_receipt_waits_for_somebody_who_receives(smsc: Simulated) -> None:
    smsc.child.turn(push_retry_scale=1.0)
    with client(smsc) as sender:
        assert sender.bind(pdu.BIND_TRANSMITTER) == pdu.OK
        assert sender.say(pdu.SUBMIT_SM, MESSAGE).status == pdu.OK
        assert smsc.child.flush(everything=True).reports_waiting == 1
        with client(smsc) as receiver:
            assert receiver.bind(pdu.BIND_RECEIVER) == pdu.OK
            frame = receiver.hear()
            assert frame.command == pdu.DELIVER_SM
            receiver.answer(frame, pdu.OK)
            assert receiver.say(pdu.SUBMIT_SM, MESSAGE).status == pdu.NOT_BOUND


def test_who_wants_no_receipt_has_none(smsc: Simulated) -> None:
    with client(smsc) as sender:
        sender.bind()
        sender.say(pdu.SUBMIT_SM, pdu.Short(source="Shop", destination=PHONE, short_message=b"Hi"))
        assert smsc.child.flush(everything=True).reports_waiting == 0
        assert sender.say(pdu.ENQUIRE_LINK).command == pdu.ENQUIRE_LINK | pdu.RESPONSE


def test_what_a_session_may_say(smsc: Simulated) -> None:
    with client(smsc) as peer:
        assert peer.say(pdu.SUBMIT_SM, MESSAGE).status == pdu.NOT_BOUND
        assert peer.bind() == pdu.OK
        assert peer.bind() == pdu.ALREADY_BOUND
        assert peer.say(0x77).status == pdu.INVALID_COMMAND
        bad = pdu.Short(source="Shop", destination="nobody", short_message=b"Hi")
        assert peer.say(pdu.SUBMIT_SM, bad).status == pdu.INVALID_DESTINATION
        assert peer.say(pdu.UNBIND).command == pdu.UNBIND | pdu.RESPONSE
        assert peer.closed


def test_an_outage_cuts_off_who_is_bound_or_is_told(smsc: Simulated) -> None:
    with client(smsc) as peer:
        assert peer.bind() == pdu.OK
        smsc.child.turn(outage="unavailable")
        assert peer.say(pdu.SUBMIT_SM, MESSAGE).status == pdu.SYSTEM_ERROR
        with client(smsc) as second:
            assert second.bind() == pdu.SYSTEM_ERROR
        smsc.child.turn(outage="refuse")
        with pytest.raises(ConnectionError):
            peer.say(pdu.ENQUIRE_LINK)
    assert smsc.child.bill().messages == {}


def test_what_is_sent_to_an_smsc_that_hangs_is_lost(smsc: Simulated) -> None:
    with client(smsc) as peer:
        assert peer.bind() == pdu.OK
        smsc.child.turn(outage="hang")
        peer.tell(pdu.SUBMIT_SM, MESSAGE)
        smsc.child.turn(outage="refuse")
        assert peer.closed
    assert smsc.child.bill().messages == {}


def test_a_receipt_outlives_the_process(tmp_path: Path) -> None:
    knobs = changed(KNOBS, {"receipt_ms_min": 1_000, "receipt_ms_max": 1_000})
    settings = Settings(knobs=knobs, smpp_port=free_port(), book=str(tmp_path / "book"))
    with child.running(settings) as started, client(Simulated(started, settings.smpp_port)) as peer:
        assert peer.bind() == pdu.OK
        taken = reading.decode(peer.say(pdu.SUBMIT_SM, MESSAGE))
        started.process.kill()
    assert isinstance(taken, pdu.Taken)
    with child.running(settings) as started, client(Simulated(started, settings.smpp_port)) as peer:
        assert peer.bind() == pdu.OK
        told = reading.decode(peer.hear())
        assert isinstance(told, pdu.Short)
        assert told.tlvs[pdu.RECEIPTED_MESSAGE_ID] == taken.message_id.encode() + b"\0"


def _parts(reference: int, count: int) -> list[pdu.Short]:
    encoded = texts.encode("a" * 153 * count, ("gsm7",), "udh", reference)
    assert encoded is not None
    assert len(encoded.parts) == count
    return [
        pdu.Short(
            destination=PHONE,
            esm_class=part.esm_class,
            registered_delivery=1,
            short_message=part.short_message,
        )
        for part in encoded.parts
    ]


def test_parts_are_gathered_in_any_order_and_by_account() -> None:
    gathering = Gathering()
    first, second = _parts(1, 2)
    assert gathering.take("a", second, "2") is None
    assert gathering.take("b", first, "9") is None
    assert gathering.take("a", second, "3") is None
    whole = gathering.take("a", first, "1")
    assert whole == (["1", "3"], False, 2, 1)


def test_only_the_parts_that_want_a_receipt_have_one() -> None:
    gathering = Gathering()
    first, second = _parts(1, 2)
    assert gathering.take("a", replace(first, registered_delivery=0x10), "1") is None
    whole = gathering.take("a", replace(second, registered_delivery=0), "2")
    assert whole == (["1"], True, 2, 1)


def test_unfinished_messages_are_forgotten_in_the_end() -> None:
    gathering = Gathering()
    first, second = _parts(1, 2)
    for number in range(UNFINISHED_MAX + 1):
        assert gathering.take(f"{number}", first, "1") is None
    assert gathering.take("0", second, "2") is None
    assert gathering.take("2", second, "2") is not None


def test_a_receipt_for_a_connection_that_was_cut_a_moment_ago_is_not_taken() -> None:
    """Found by make chaos (2026-11-29): whoever wrote to it ended, and with it what waited."""
    bind = pdu.Bind(system_id="bench", password="simulator")
    receipt = pdu.encode(pdu.DELIVER_SM, 1, pdu.Short(destination="bench"))

    async def main() -> bool:
        door = SmscDoor(Runtime(KNOBS), "simulator")
        async with await asyncio.start_server(door, "127.0.0.1", 0) as server:
            port: int = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(pdu.encode(pdu.BIND_RECEIVER, 1, bind))
            await reader.read(1)
            door.close()
            await asyncio.sleep(0)  # it is closed, and its reader not told yet
            carry = door.runtime.pusher.carriers[SCHEME]
            taken = await carry(f"{SCHEME}:bench", receipt, 1.0)
            writer.close()
        return taken

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) is False
