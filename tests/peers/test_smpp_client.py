"""PyPI's `smpplib` as a client of the simulator's SMSC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from smpplib import consts, exceptions, gsm
from smpplib.client import Client

from providers.simulator import Knobs, Settings, child
from tests.worlds.ports import free_port

LONG = "Здравствуйте! [€] " * 8  # of three parts
PHONE = "79161234567"
TIMEOUT_S = 20  # for what must come
KEY = "secret"  # the standard has eight characters at most, and this client cuts


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = free_port()
    hello = {"ending": "delivered", "reply": "Спасибо"}
    knobs = Knobs(receipt_ms_min=0, receipt_ms_max=0)
    with child.running(Settings(api_key=KEY, knobs=knobs, smpp_port=number)) as started:
        started.turn(by_phone={PHONE: {"sms": hello}})
        yield number


@pytest.mark.parametrize("udh", [True, False], ids=["udh", "sar"])
def test_its_messages_are_taken_and_it_reads_what_is_told(udh: bool, port: int) -> None:
    sent: list[str] = []
    told: list[tuple[str, int]] = []
    said: list[str] = []

    def taken(pdu: Any) -> None:
        sent.append(pdu.message_id.decode())

    def came(pdu: Any) -> None:
        if pdu.esm_class:
            told.append((pdu.receipted_message_id.rstrip(b"\0").decode(), pdu.message_state))
        else:
            said.append(pdu.short_message.decode("utf-16-be"))

    with Client("127.0.0.1", port, timeout=TIMEOUT_S, allow_unknown_opt_params=True) as client:
        client.set_message_sent_handler(taken)
        client.set_message_received_handler(came)
        client.connect()
        client.bind_transceiver(system_id="kaskad", password=KEY)
        parts, coding, esm_class = gsm.make_parts(LONG, use_udhi=udh)
        assert len(parts) == 3
        for number, part in enumerate(parts, 1):
            sar = {"sar_msg_ref_num": 7, "sar_total_segments": 3, "sar_segment_seqnum": number}
            client.send_message(
                source_addr_ton=consts.SMPP_TON_ALNUM,
                source_addr="Shop",
                dest_addr_ton=consts.SMPP_TON_INTL,
                destination_addr=PHONE,
                data_coding=coding,
                esm_class=esm_class,
                short_message=part,
                registered_delivery=True,
                **({} if udh else sar),
            )
        while len(told) < 3 or not said:
            client.read_once()
    assert len(sent) == 3
    assert sorted(told) == [(id_, consts.SMPP_MESSAGE_STATE_DELIVERED) for id_ in sorted(sent)]
    assert said == ["Спасибо"]


def test_it_is_told_that_its_password_is_wrong(port: int) -> None:
    with Client("127.0.0.1", port, timeout=TIMEOUT_S, allow_unknown_opt_params=True) as client:
        client.connect()
        with pytest.raises(exceptions.PDUError) as raised:
            client.bind_transmitter(system_id="kaskad", password="guess")
        assert raised.value.args[1] == consts.SMPP_ESME_RINVPASWD
        client.bind_transmitter(system_id="kaskad", password=KEY)
