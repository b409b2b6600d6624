"""Texts in parts: how many, where they are cut, and that they read the same when joined."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import segments
from providers import gsm7
from providers.smpp import pdu, texts
from providers.smpp.texts import Encoding, Long

USUAL: tuple[Encoding, ...] = ("gsm7", "ucs2")
PACKED: tuple[Encoding, ...] = ("gsm7-packed", "ucs2")
LATIN: tuple[Encoding, ...] = ("latin1", "ucs2")
FACE = "\U0001f600"
TEXTS = [
    ("a" * 160, [160]),
    ("a" * 161, [153, 8]),
    ("a" * 306, [153, 153]),
    ("a" * 307, [153, 153, 1]),
    ("a" * 159 + "€", [153, 8]),
    ("€" * 80, [160]),
    ("€" * 81, [152, 10]),
    ("a" * 152 + "[" + "a" * 153, [152, 153, 2]),
    ("[" * 76 + "a" + "[" * 76, [153, 152]),
    ("я" * 70, [70]),
    ("я" * 71, [67, 4]),
    ("я" * 202, [67, 67, 67, 1]),
    (FACE * 36, [66, 6]),
    ("я" * 66 + FACE + "я" * 66, [66, 67, 1]),
    ("ç", [1]),
    ("[я]", [3]),
]


def encoded(
    text: str, encodings: tuple[Encoding, ...] = USUAL, long: Long = "udh"
) -> texts.Encoded:
    found = texts.encode(text, encodings, long, 0x2A)
    assert found is not None
    return found


def read(sent: texts.Encoded, *, packed: bool = False) -> list[texts.Piece]:
    return [
        texts.read(
            pdu.Short(
                esm_class=part.esm_class,
                data_coding=sent.data_coding,
                short_message=part.short_message,
                tlvs=part.tlvs,
            ),
            packed=packed,
        )
        for part in sent.parts
    ]


@pytest.mark.parametrize(("text", "units"), TEXTS)
def test_a_text_is_cut_where_handsets_join_it(text: str, units: list[int]) -> None:
    sent = encoded(text)
    width = 2 if sent.data_coding == texts.UCS2 else 1
    header = texts.HEADER_OCTETS if len(sent.parts) > 1 else 0
    assert [(len(part.short_message) - header) // width for part in sent.parts] == units
    assert texts.count(text, USUAL, "udh") == len(units)


def test_a_header_names_the_part() -> None:
    sent = encoded("Привет " * 12)
    assert [part.short_message[:6].hex() for part in sent.parts] == ["0500032a0201", "0500032a0202"]
    assert {part.esm_class for part in sent.parts} == {texts.UDHI}
    assert sent.data_coding == 8


def test_parameters_name_the_part_and_a_payload_has_none() -> None:
    sent = encoded("a" * 161, long="sar")
    assert [part.tlvs[pdu.SAR_NUMBER] for part in sent.parts] == [b"\1", b"\2"]
    assert {part.tlvs[pdu.SAR_REFERENCE] for part in sent.parts} == {b"\0\x2a"}
    assert {(part.esm_class, part.tlvs[pdu.SAR_TOTAL]) for part in sent.parts} == {(0, b"\2")}
    whole = encoded("a" * 161, long="payload")
    assert not whole.countable
    assert [part.short_message for part in whole.parts] == [b""]
    assert whole.parts[0].tlvs == {pdu.MESSAGE_PAYLOAD: b"a" * 161}


def test_the_first_encoding_that_has_every_character_is_taken() -> None:
    assert encoded("olá", LATIN)[:2] == (3, [texts.Part(0, b"ol\xe1", {})])
    assert encoded("привет", LATIN).data_coding == 8
    assert encoded("@[", ("gsm7",)).parts[0].short_message == b"\0\x1b\x3c"
    assert texts.encode("привет", ("gsm7", "latin1"), "udh", 0) is None
    assert texts.encode("я" * 67 * 256, USUAL, "udh", 0) is None


def test_packed_septets_are_those_of_the_standard() -> None:
    assert texts.pack(b"hellohello").hex() == "e8329bfd4697d9ec37"
    assert encoded("hellohello", PACKED).parts[0].short_message.hex() == "e8329bfd4697d9ec37"
    assert texts.unpack(bytes.fromhex("e8329bfd4697d9ec37")) == b"hellohello"
    long = encoded("a" * 161, PACKED)
    assert [len(part.short_message) for part in long.parts] == [140, 14]


def test_a_long_packed_text_is_read_once() -> None:
    """Shifted out of one long number it took the square of its length: 0.7 s where it is 64 KB."""
    began = time.process_time()
    assert texts.unpack(texts.pack(b"hello" * 3)[:13] * 20_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("coding", "octets", "text"),
    [
        (0x00, b"STOP", "STOP"),
        (0x01, b"a_b$", "a_b$"),
        (0x06, "СТОП".encode("iso8859-5"), "СТОП"),
        (0x07, "הסר".encode("iso8859-8"), "הסר"),
        (0x08, "СТОП".encode("utf-16-be"), "СТОП"),
        (0x18, "СТОП".encode("utf-16-be"), "СТОП"),
        (0xF0, b"STOP", "STOP"),
    ],
)
def test_what_a_person_wrote_reads_by_its_coding(coding: int, octets: bytes, text: str) -> None:
    assert texts.read(pdu.Short(data_coding=coding, short_message=octets)).text == text


texts_of_any = st.one_of(
    st.text(st.sampled_from(gsm7.BASIC.replace(gsm7.ESC, "") + "".join(gsm7.EXTENSION))),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(
    texts_of_any.map(lambda text: text * 3),
    st.sampled_from([USUAL, PACKED, LATIN]),
    st.sampled_from(["udh", "sar", "payload"]),
)
def test_what_is_sent_reads_the_same_when_joined(
    text: str, encodings: tuple[Encoding, ...], long: Long
) -> None:
    sent = encoded(text, encodings, long)
    pieces = read(sent, packed=encodings is PACKED and sent.data_coding == 0)
    # A packed text of a multiple of eight septets less one cannot tell its last @ from padding.
    exact = "".join(piece.text for piece in pieces)
    assert exact == text or (
        encodings is PACKED and exact.replace("@", "") == text.replace("@", "")
    )
    total = len(sent.parts)
    assert [(piece.total, piece.number) for piece in pieces] == [
        (total, number) for number in range(1, total + 1)
    ]
    assert all(len(part.short_message) <= 160 for part in sent.parts)
    if sent.countable and encodings is not LATIN:
        assert total == segments.count(text).parts


@given(st.binary(max_size=160), st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_any_message_reads_as_some_text(
    content: bytes, esm_class: int, coding: int, packed: bool
) -> None:
    message = pdu.Short(esm_class=esm_class, data_coding=coding, short_message=content)
    piece = texts.read(message, packed=packed)
    assert 1 <= piece.number <= piece.total <= texts.PARTS_MAX
