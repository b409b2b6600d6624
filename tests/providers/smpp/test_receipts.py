"""Receipts in the many ways in which providers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.contract import Fault, Receipt
from providers.smpp import pdu, receipts
from providers.smpp.receipts import IdFormat, NoReceipt, one_id

FROM = "79161234567"


def came(text: str, esm_class: int = receipts.FINAL, **tlvs: bytes) -> Receipt | NoReceipt:
    tags = {"id_": pdu.RECEIPTED_MESSAGE_ID, "state": pdu.MESSAGE_STATE}
    tags |= {"error": pdu.NETWORK_ERROR_CODE, "payload": pdu.MESSAGE_PAYLOAD}
    message = pdu.Short(
        source=FROM,
        esm_class=esm_class,
        short_message=text.encode(),
        tlvs={tags[name]: value for name, value in tlvs.items()},
    )
    assert receipts.is_receipt(message)
    return receipts.read(message, "hex", "dec")


def told(text: str, esm_class: int = receipts.FINAL, **tlvs: bytes) -> Receipt | NoReceipt:
    """What it says, without how it came."""
    receipt = came(text, esm_class, **tlvs)
    return replace(receipt, raw="") if isinstance(receipt, Receipt) else receipt


USUAL = (
    "id:24095 sub:001 dlvrd:001 submit date:2611281210 done date:2611281211 stat:{} err:{} text:"
)


@pytest.mark.parametrize(
    ("stat", "status", "about"),
    [
        ("DELIVRD", "delivered", "person"),
        ("ENROUTE", "sent", "person"),
        ("ACCEPTD", "sent", "person"),
        ("EXPIRED", "expired", "person"),
        ("DELETED", "undelivered", "person"),
        ("UNDELIV", "undelivered", "person"),
        ("UNKNOWN", "undelivered", "person"),
        ("REJECTD", "rejected", "account"),
    ],
)
def test_a_state_is_one_of_ours(stat: str, status: str, about: str) -> None:
    receipt = told(USUAL.format(stat, "0A1"))
    assert isinstance(receipt, Receipt)
    assert (receipt.status, receipt.about, receipt.to) == (status, about, FROM)
    assert receipt.provider_id == "24095"
    failed = status not in ("delivered", "sent")
    assert receipt.fault == (Fault("0A1", stat, True) if failed else None)


@pytest.mark.parametrize(
    ("word", "stat"),
    [
        ("Delivered", "DELIVRD"),
        ("UNDELIVERABLE", "UNDELIV"),
        ("UNDELIVERED", "UNDELIV"),
        ("FAILED", "UNDELIV"),
        ("ACCEPTED", "ACCEPTD"),
        ("BUFFERED", "ACCEPTD"),
        ("REJECTED", "REJECTD"),
    ],
)
def test_a_state_may_be_a_whole_word(word: str, stat: str) -> None:
    assert told(USUAL.format(word, "0A1")) == told(USUAL.format(stat, "0A1"))


@pytest.mark.parametrize(
    "receipt",
    [
        told("ID:24095 STAT:delivrd"),
        told("stat:DELIVRD id:0024095"),
        told("", id_=b"5e1f\0", state=b"\2"),
        told("", id_=b"5E1F", state=b"\2"),
        told("id:1 stat:UNDELIV", id_=b"5e1f\0", state=b"\2"),
        told("id:24095 stat:DELIVRD", id_=b"24095\0"),
        told("id:5e1f stat:DELIVRD", id_=b"5e1f\0"),
        told("", payload=b"id:24095 stat:DELIVRD"),
        told("id:24095 stat:DELIVRD", esm_class=receipts.FINAL | 0x03),
        told("id:24095 stat:DELIVRD", esm_class=0, id_=b"5e1f\0"),
    ],
)
def test_each_way_of_writing_says_the_same(receipt: Receipt) -> None:
    assert receipt == Receipt("delivered", provider_id="24095", to=FROM)


def test_a_text_may_be_in_ucs2_or_said_to_be() -> None:
    text = USUAL.format("DELIVRD", "000") + "id:1"
    for octets in (text.encode("utf-16-be"), text.encode()):
        message = pdu.Short(esm_class=receipts.FINAL, data_coding=8, short_message=octets)
        receipt = receipts.read(message, "hex", "dec")
        assert isinstance(receipt, Receipt)
        assert (receipt.provider_id, receipt.status) == ("24095", "delivered")


def test_as_it_came_it_has_no_text_that_a_person_was_sent() -> None:
    receipt = came("id:24095 stat:DELIVRD text:Your code is 1234")
    assert isinstance(receipt, Receipt)
    assert receipt.raw == "id:24095 stat:DELIVRD "
    parameters = came("", id_=b"5e1f\0", state=b"\2")
    assert isinstance(parameters, Receipt)
    assert parameters.raw == "001e=3565316600 0427=02"


def test_an_intermediate_receipt_ends_nothing() -> None:
    receipt = told("id:1 stat:UNDELIV", esm_class=receipts.INTERMEDIATE)
    assert receipt == Receipt("sent", provider_id="1", to=FROM)


def test_the_network_says_why() -> None:
    receipt = told("id:1 stat:UNDELIV err:005", error=b"\3\0\x1b")
    assert isinstance(receipt, Receipt)
    assert receipt.fault == Fault("27", "UNDELIV", True)
    plain = told("id:1 stat:UNDELIV err:000", error=b"\3\0\0")
    assert isinstance(plain, Receipt)
    assert plain.fault == Fault("UNDELIV", "UNDELIV", True)


@pytest.mark.parametrize(
    "text", ["", "stat:DELIVRD", "id:5", "id:5 stat:WEIRD", "text:id:5 stat:DELIVRD"]
)
def test_what_names_no_message_or_no_state_is_said_so(text: str) -> None:
    assert isinstance(told(text), NoReceipt)


def test_a_text_that_a_person_was_sent_forges_no_receipt() -> None:
    forged = "id:7 stat:UNDELIV err:1 text:id:8 stat:DELIVRD"
    assert told(forged) == Receipt(
        "undelivered", provider_id="7", to=FROM, fault=Fault("1", "UNDELIV", True)
    )


def test_what_a_person_wrote_is_no_receipt() -> None:
    assert not receipts.is_receipt(pdu.Short(source=FROM, short_message=b"id:1 stat:DELIVRD"))
    assert not receipts.is_receipt(pdu.Short(esm_class=0x40, short_message=b"\5\0\3\1\2\1hi"))


@pytest.mark.parametrize(
    ("text", "written", "one"),
    [
        ("5E1F", "hex", "24095"),
        ("00005e1f", "hex", "24095"),
        ("0024095", "dec", "24095"),
        ("24095", "text", "24095"),
        ("0024095", "text", "0024095"),
        ("SAR-5e1f-2-1", "hex", "SAR-5e1f-2-1"),
        ("b8b2f2c6-1111-4c4e-9a52-0d1f4e2e0001", "dec", "b8b2f2c6-1111-4c4e-9a52-0d1f4e2e0001"),
    ],
)
def test_an_id_has_one_spelling(text: str, written: IdFormat, one: str) -> None:
    assert one_id(text, written) == one


@given(st.binary(max_size=254), st.integers(0, 255), st.binary(max_size=8), st.binary(max_size=3))
def test_random_receipts_are_read_or_said_to_be_none(
    content: bytes, esm_class: int, id_: bytes, state: bytes
) -> None:
    tlvs = {pdu.RECEIPTED_MESSAGE_ID: id_, pdu.MESSAGE_STATE: state}
    message = pdu.Short(esm_class=esm_class, short_message=content, tlvs=tlvs)
    read = receipts.read(message, "text", "text")
    assert isinstance(read, NoReceipt) or read.provider_id
