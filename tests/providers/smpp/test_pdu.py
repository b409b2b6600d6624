"""PDUs on the wire: vectors that others wrote, and everything that is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.smpp import pdu, reading
from providers.smpp.pdu import Bind, Body, Bound, Data, Frame, Frames, Malformed, Short, Taken

HELLO = Short(
    source_ton=5,
    source="Shop",
    destination_ton=1,
    destination_npi=1,
    destination="79161234567",
    validity_period="000000010000000R",
    registered_delivery=1,
    short_message=b"Hello",
)
RECEIPT = (
    b"id:24095 sub:001 dlvrd:001 submit date:2611281210 done date:2611281211 stat:DELIVRD err:000 "
    b"text:Hello"
)
VECTORS: dict[str, tuple[str, int, int, int, Body]] = {
    "bind": (
        "000000230000000900000000000000016b61736b616400736563726574000034000000",
        pdu.BIND_TRANSCEIVER,
        0,
        1,
        Bind(system_id="kaskad", password="secret"),
    ),
    "bound": (
        "0000001a800000090000000000000001534d5343000210000134",
        pdu.BIND_TRANSCEIVER | pdu.RESPONSE,
        0,
        1,
        Bound(system_id="SMSC", tlvs={pdu.SC_INTERFACE_VERSION: b"\x34"}),
    ),
    "submit": (
        (
            "0000004500000004000000000000000200050053686f7000010137393136313233343536370000000000303030"
            "30303030313030303030303052000100000005"
            "48656c6c6f"
        ),
        pdu.SUBMIT_SM,
        0,
        2,
        HELLO,
    ),
    "taken": (
        "000000158000000400000000000000023565316600",
        pdu.SUBMIT_SM | pdu.RESPONSE,
        0,
        2,
        Taken(message_id="5e1f"),
    ),
    "throttled": (
        "00000010800000040000005800000003",
        pdu.SUBMIT_SM | pdu.RESPONSE,
        pdu.THROTTLED,
        3,
        pdu.NOTHING,
    ),
    "receipt": (
        (
            "000000a4000000050000000000000007000101373931363132333435363700050053686f700004000000000000"
            "00006669643a3234303935207375623a30303120646c7672643a303031207375626d697420646174653a323631"
            "3132383132313020646f6e6520646174653a3236313132383132313120737461743a44454c4956524420657272"
            "3a30303020746578743a48656c6c6f001e000535653166000427000102"
        ),
        pdu.DELIVER_SM,
        0,
        7,
        Short(
            source_ton=1,
            source_npi=1,
            source="79161234567",
            destination_ton=5,
            destination="Shop",
            esm_class=4,
            short_message=RECEIPT,
            tlvs={pdu.RECEIPTED_MESSAGE_ID: b"5e1f\0", pdu.MESSAGE_STATE: b"\x02"},
        ),
    ),
    "delivered": (
        "0000001180000005000000000000000700",
        pdu.DELIVER_SM | pdu.RESPONSE,
        0,
        7,
        Taken(),
    ),
    "enquire": ("00000010000000150000000000000009", pdu.ENQUIRE_LINK, 0, 9, pdu.NOTHING),
    "enquired": (
        "00000010800000150000000000000009",
        pdu.ENQUIRE_LINK | pdu.RESPONSE,
        0,
        9,
        pdu.NOTHING,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_reads_and_writes(name: str) -> None:
    text, command, status, sequence, body = VECTORS[name]
    octets = bytes.fromhex(text)
    (frame,) = Frames().feed(octets)
    assert frame[:3] == (command, status, sequence)
    assert reading.decode(frame) == body
    assert pdu.encode(command, sequence, body, status=status) == octets


@given(st.lists(st.sampled_from(sorted(VECTORS))), st.data())
def test_a_stream_is_cut_into_the_same_frames_wherever_it_breaks(
    names: list[str], data: st.DataObject
) -> None:
    octets = b"".join(bytes.fromhex(VECTORS[name][0]) for name in names)
    frames = Frames()
    found: list[Frame] = []
    while octets:
        cut = data.draw(st.integers(1, len(octets)))
        found += frames.feed(octets[:cut])
        octets = octets[cut:]
    assert [frame.command for frame in found] == [VECTORS[name][1] for name in names]
    assert not frames.waiting


@pytest.mark.parametrize("length", [0, 15, pdu.PDU_OCTETS_MAX + 1, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_ends_the_stream(length: int) -> None:
    with pytest.raises(Malformed) as caught:
        Frames().feed(pdu.HEADER.pack(length, pdu.ENQUIRE_LINK, 0, 1))
    assert caught.value.status == pdu.INVALID_COMMAND_LENGTH


def frame(command: int, body: bytes, status: int = 0) -> Frame:
    return Frame(command, status, 1, body)


def submit(body: Short) -> bytes:
    return pdu.encode(pdu.SUBMIT_SM, 1, body)[pdu.HEADER.size :]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (frame(0x7F, b""), pdu.INVALID_COMMAND),
        (frame(pdu.BIND_TRANSCEIVER, b"a" * 16 + b"\0"), pdu.INVALID_COMMAND_LENGTH),
        (frame(pdu.BIND_TRANSCEIVER, b"a\0b\0\0\x34\0\0\0x"), pdu.INVALID_COMMAND_LENGTH),
        (frame(pdu.SUBMIT_SM | pdu.RESPONSE, b"no end"), pdu.INVALID_COMMAND_LENGTH),
        (frame(pdu.SUBMIT_SM | pdu.RESPONSE, b""), pdu.INVALID_COMMAND_LENGTH),
        (frame(pdu.SUBMIT_SM, submit(HELLO)[:-1]), pdu.INVALID_MESSAGE_LENGTH),
        (frame(pdu.SUBMIT_SM, submit(HELLO)[:-6]), pdu.INVALID_COMMAND_LENGTH),
        (frame(pdu.SUBMIT_SM, submit(HELLO) + b"\0\x1e\0"), pdu.PARAMETERS_UNREADABLE),
        (frame(pdu.SUBMIT_SM, submit(HELLO) + b"\0\x1e\0\2x"), pdu.PARAMETERS_UNREADABLE),
    ],
)
def test_what_is_too_long_or_ends_too_early_is_refused(bad: Frame, status: int) -> None:
    with pytest.raises(Malformed) as caught:
        reading.decode(bad)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "body",
    [
        Short(source="x" * 21),
        Short(destination="a\0b"),
        Short(short_message=b"x" * 255),
        Short(tlvs={pdu.MESSAGE_PAYLOAD: b"x" * 65_536}),
        Short(tlvs={pdu.MESSAGE_PAYLOAD: b"x" * 65_500}),
        Taken(message_id="x" * 65),
    ],
)
def test_what_does_not_fit_is_not_written(body: Body) -> None:
    command = pdu.SUBMIT_SM if isinstance(body, Short) else pdu.SUBMIT_SM | pdu.RESPONSE
    with pytest.raises(Malformed):
        pdu.encode(command, 1, body)


def test_a_refusal_is_the_answer_of_what_is_known_and_a_nack_of_the_rest() -> None:
    known = pdu.refusal(frame(pdu.DELIVER_SM, b""), pdu.TEMPORARY_ERROR)
    assert known.hex() == "00000010800000050000006400000001"
    unknown = pdu.refusal(frame(0x21, b""), pdu.INVALID_COMMAND)
    assert unknown.hex() == "00000010800000000000000300000001"


@given(st.sampled_from(sorted(pdu.BODIES)), st.binary(max_size=300), st.sampled_from([0, 8]))
def test_random_bodies_are_read_or_refused(command: int, body: bytes, status: int) -> None:
    try:
        read = reading.decode(frame(command, body, status))
    except Malformed:
        return
    again = pdu.encode(command, 1, read, status=status)
    (written,) = Frames().feed(again)
    assert reading.decode(written) == read


@given(st.binary(max_size=300))
def test_random_streams_are_cut_or_refused(octets: bytes) -> None:
    try:
        Frames().feed(octets)
    except Malformed:
        pass


latin = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20)
octet = st.integers(0, 255)
tlvs = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=40), max_size=4)


@given(
    st.one_of(
        st.builds(
            Short,
            source=latin,
            destination=latin,
            esm_class=octet,
            data_coding=octet,
            short_message=st.binary(max_size=254),
            tlvs=tlvs,
        ),
        st.builds(Data, source=latin, destination=latin, esm_class=octet, tlvs=tlvs),
        st.builds(Taken, message_id=latin, tlvs=tlvs),
        st.builds(Bind, system_id=latin.map(lambda text: text[:15]), password=latin),
    )
)
def test_what_is_written_reads_the_same(body: Body) -> None:
    command = next(code for code, kind in pdu.BODIES.items() if kind is type(body))
    (read,) = Frames().feed(pdu.encode(command, 7, body))
    assert reading.decode(read) == body


@pytest.mark.parametrize("kind", dict.fromkeys(pdu.BODIES.values()))
def test_the_fields_of_a_body_stand_in_the_order_of_its_layout(kind: type[Body]) -> None:
    named = tuple(name for name, _ in kind.layout)
    assert kind.__struct_fields__ == (*named, *(("tlvs",) if kind.has_tlvs else ()))
