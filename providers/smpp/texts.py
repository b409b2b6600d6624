"""From a text to the parts of a short message, and from the octets of one back to a text. Pure.

A text goes in the first of the configured encodings that has all its characters. National language
tables are left out: no text is written with them, and one that comes with them reads as the default
alphabet. A text that needs several parts is cut so that no escape and no surrogate pair is torn.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from providers import gsm7
from providers.smpp import pdu

Encoding = Literal["gsm7", "gsm7-packed", "latin1", "ucs2"]
Long = Literal["udh", "sar", "payload"]

PARTS_MAX: Final = 255
UDHI: Final = 0x40  # of esm_class: the message begins with a header
HEADER_OCTETS: Final = 6  # 05 00 03 and the reference, how many parts, which part
UCS2: Final = 0x08
LATIN1: Final = 0x03
# By the data_coding of what comes; any other is the default alphabet.
_CODECS: Final = {
    0x01: "latin-1",  # ASCII, and what else there may be
    LATIN1: "latin-1",
    0x06: "iso8859-5",
    0x07: "iso8859-8",
    **dict.fromkeys((UCS2, *range(0x18, 0x1C)), "utf-16-be"),  # the latter with a class
}
_CONCAT8: Final = 0x00
_CONCAT16: Final = 0x08

_CODES: Final[Mapping[int, int]] = {ord(char): code for code, char in enumerate(gsm7.BASIC)}
_WRITTEN: Final = {
    **{char: bytes([code]) for code, char in enumerate(gsm7.BASIC) if char != gsm7.ESC},
    **{char: bytes([_CODES[ord(gsm7.ESC)], code]) for char, code in gsm7.EXTENSION.items()},
}
# Most Latin texts have only characters whose code is that of ASCII.
_ALIKE: Final = "".join(char for char, code in _WRITTEN.items() if char.encode() == code)
_is_alike: Final = re.compile(f"[{re.escape(_ALIKE)}]*").fullmatch
_ESC: Final = _CODES[ord(gsm7.ESC)]
_EXTENSION: Final = {code: char for char, code in gsm7.EXTENSION.items()}


class Alphabet(NamedTuple):
    """How an encoding is written. `single` and `part` are in units of `width` octets: what fits
    into a message of one part, and into each of several. `torn` says whether a cut before the unit
    at that place would tear a character; None: none would."""

    data_coding: int
    single: int
    part: int
    width: int
    write: Callable[[str], bytes | None]
    torn: Callable[[bytes, int], bool] | None


class Part(NamedTuple):
    """What a submit_sm says of its text."""

    esm_class: int
    short_message: bytes
    tlvs: Mapping[int, bytes]


class Encoded(NamedTuple):
    """A text as PDUs; `countable`: whether the provider makes as many parts of it as there are."""

    data_coding: int
    parts: Sequence[Part]
    countable: bool = True


def _septets(text: str) -> bytes | None:
    if _is_alike(text):
        return text.encode()
    try:
        return b"".join([_WRITTEN[char] for char in text])
    except KeyError:
        return None


def _latin1(text: str) -> bytes | None:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _ucs2(text: str) -> bytes | None:
    return text.encode("utf-16-be", "surrogatepass")


def _tears_escape(units: bytes, at: int) -> bool:
    return units[at - 1] == _ESC


def _tears_pair(units: bytes, at: int) -> bool:
    return 0xD8 <= units[2 * at - 2] <= 0xDB and 0xDC <= units[2 * at] <= 0xDF


ALPHABETS: Final[Mapping[Encoding, Alphabet]] = {
    "gsm7": Alphabet(0, 160, 153, 1, _septets, _tears_escape),
    "gsm7-packed": Alphabet(0, 160, 153, 1, _septets, _tears_escape),
    "latin1": Alphabet(LATIN1, 140, 134, 1, _latin1, None),
    "ucs2": Alphabet(UCS2, 70, 67, 2, _ucs2, _tears_pair),
}


def encode(text: str, encodings: Sequence[Encoding], long: Long, reference: int) -> Encoded | None:
    """The PDUs of a text; None when it has a character that no encoding has, or too many parts.
    `reference` tells the parts of one message from those of another."""
    for name in encodings:
        alphabet = ALPHABETS[name]
        written = alphabet.write(text)
        if written is None:
            continue
        packed = name == "gsm7-packed"
        if len(written) <= alphabet.single * alphabet.width:
            single = pack(written) if packed else written
            return Encoded(alphabet.data_coding, [Part(0, single, {})])
        if long == "payload":
            whole = pack(written) if packed else written
            if len(whole) > pdu.TLV_OCTETS_MAX // 2:
                return None
            tlvs = {pdu.MESSAGE_PAYLOAD: whole}
            return Encoded(alphabet.data_coding, [Part(0, b"", tlvs)], countable=False)
        pieces = list(_cut(written, alphabet))
        if len(pieces) > PARTS_MAX:
            return None
        parts = _with_header if long == "udh" else _with_parameters
        return Encoded(alphabet.data_coding, parts(pieces, reference, packed=packed))
    return None


def count(text: str, encodings: Sequence[Encoding], long: Long) -> int:
    """How many PDUs a text becomes; 1 for one that cannot be written."""
    if len(text) <= ALPHABETS["ucs2"].single // 2:
        return 1  # in every alphabet: a character has two units at most
    encoded = encode(text, encodings, long, 0)
    return 1 if encoded is None else len(encoded.parts)


def _cut(written: bytes, alphabet: Alphabet) -> Iterator[bytes]:
    width, start, units = alphabet.width, 0, len(written) // alphabet.width
    while start < units:
        end = min(start + alphabet.part, units)
        if end < units and alphabet.torn is not None and alphabet.torn(written, end):
            end -= 1
        yield written[start * width : end * width]
        start = end


def _with_header(pieces: Sequence[bytes], reference: int, *, packed: bool) -> list[Part]:
    parts = []
    for number, piece in enumerate(pieces, 1):
        header = bytes((5, _CONCAT8, 3, reference & 0xFF, len(pieces), number))
        # The text of a packed part begins at the first septet border after the header.
        parts.append(Part(UDHI, header + (pack(piece, 1) if packed else piece), {}))
    return parts


def _with_parameters(pieces: Sequence[bytes], reference: int, *, packed: bool) -> list[Part]:
    total = len(pieces)
    return [
        Part(
            0,
            pack(piece) if packed else piece,
            {
                pdu.SAR_REFERENCE: struct.pack(">H", reference & 0xFFFF),
                pdu.SAR_TOTAL: bytes([total]),
                pdu.SAR_NUMBER: bytes([number]),
            },
        )
        for number, piece in enumerate(pieces, 1)
    ]


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Septets one behind the other, the lowest bits first, after so many empty bits."""
    value = 0
    for place, septet in enumerate(septets):
        value |= septet << (7 * place + fill_bits)
    return value.to_bytes((7 * len(septets) + fill_bits + 7) // 8, "little")


def unpack(octets: bytes, fill_bits: int = 0) -> bytes:
    """The septets in packed octets. An eighth that is empty is no septet."""
    septets = bytearray()
    rest, bits = 0, -fill_bits  # what is no septet yet, as a number that stays small
    for octet in octets:
        rest |= octet << bits if bits >= 0 else octet >> -bits
        bits += 8
        while bits >= 7:
            septets.append(rest & 0x7F)
            rest >>= 7
            bits -= 7
    if len(septets) % 8 == 0 and septets.endswith(b"\0"):
        del septets[-1]
    return bytes(septets)


class Piece(NamedTuple):
    """A part of a message that came: of `total` with this `reference`, the `number`th."""

    text: str
    reference: int = 0
    total: int = 1
    number: int = 1


def read(message: pdu.Short | pdu.Data, *, packed: bool = False) -> Piece:
    """What somebody wrote. Whatever does not read as text becomes some; `packed` is how the
    default alphabet comes."""
    content, header, fill_bits = message.content, b"", 0
    if message.esm_class & UDHI and content:
        length = 1 + content[0]
        header, content = content[1:length], content[length:]
        fill_bits = -8 * length % 7
    if (codec := _CODECS.get(message.data_coding)) is not None:
        text = content.decode(codec, "replace")
    else:
        text = septet_text(unpack(content, fill_bits) if packed else content)
    reference, total, number = _place(header) or _place_in(message.tlvs) or (0, 1, 1)
    return Piece(text, reference, total, number)


def septet_text(septets: bytes) -> str:
    """The characters of septets; what is none reads as a space."""
    text, escaped = [], False
    for septet in septets:
        if escaped:
            text.append(_EXTENSION.get(septet, " "))
            escaped = False
        elif septet == _ESC:
            escaped = True
        else:
            text.append(gsm7.BASIC[septet] if septet < len(gsm7.BASIC) else " ")
    return "".join(text)


def _place(header: bytes) -> tuple[int, int, int] | None:
    """Reference, total and number in a header's elements, of which each has a kind and a length."""
    at = 0
    while at + 2 <= len(header):
        kind, size = header[at], header[at + 1]
        value = header[at + 2 : at + 2 + size]
        if kind == _CONCAT8 and len(value) == 3:
            return _sound(value[0], value[1], value[2])
        if kind == _CONCAT16 and len(value) == 4:
            return _sound(value[0] << 8 | value[1], value[2], value[3])
        at += 2 + size
    return None


def _place_in(tlvs: Mapping[int, bytes]) -> tuple[int, int, int] | None:
    values = [tlvs.get(tag, b"") for tag in (pdu.SAR_REFERENCE, pdu.SAR_TOTAL, pdu.SAR_NUMBER)]
    if not all(values):
        return None
    reference, total, number = (int.from_bytes(value, "big") for value in values)
    return _sound(reference, total, number)


def _sound(reference: int, total: int, number: int) -> tuple[int, int, int] | None:
    return (reference, total, number) if 1 <= number <= total <= PARTS_MAX else None
