"""Reads the body of a frame, strictly or with tolerance. Pure.

Strictly, whatever breaks the standard raises `Malformed`. With tolerance, which is for what a
provider sends, what matters counts whatever is odd beside it: refused, a receipt would come again
as it is, and a message whose answer is not read would be unknown. Then

- of a refusal nothing is read: its status says enough;
- a text may be as long as the longest of the standard, and a message's id may lack its end;
- a short message may have an octet more;
- a parameter that is cut off is left out.

Where a field is missing or does not end, it is refused all the same.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from providers.smpp.pdu import (
    BODIES,
    INVALID_COMMAND,
    INVALID_COMMAND_LENGTH,
    INVALID_MESSAGE_LENGTH,
    NOTHING,
    OCTET,
    OK,
    PARAMETERS_UNREADABLE,
    RESPONSE,
    RUNS,
    SHORT_MESSAGE_OCTETS_MAX,
    Body,
    Empty,
    Frame,
    Malformed,
)

TEXT_OCTETS_MAX: Final = 65  # of any field with its end, as the longest of the standard

_TLV: Final = struct.Struct(">HH")  # a parameter's tag and length


def decode(frame: Frame, tolerant: bool = False) -> Body:
    """The body of a frame. An answer that tells of a fault may have none, whatever its kind.

    Raises Malformed, and then the frames behind it are as good as before."""
    kind = BODIES.get(frame.command)
    if kind is None:
        raise Malformed(INVALID_COMMAND, f"The command {frame.command:#010x} is not known.")
    body = frame.body
    if kind is Empty:
        return NOTHING  # what a peer adds to a PDU without a body has no meaning
    if frame.status != OK and (not body or (tolerant and frame.command & RESPONSE)):
        return NOTHING
    values: list[Any] = []
    at = 0
    for size, fields, names in RUNS[kind]:
        if size == OCTET:
            values += body[at : at + fields]
            at += fields
            if at > len(body):
                lacking = names[len(body) - at]
                raise Malformed(INVALID_COMMAND_LENGTH, f"{lacking} is missing.")
        elif size > 0:
            end = body.find(b"\0", at, at + size)
            if end < 0:
                end = _late_end(names[0], body, at, tolerant)
            values.append(body[at:end].decode("latin-1"))
            at = end + 1
        else:
            start = at + 1
            at = start + _length(names[0], body, at, tolerant)
            values.append(body[start:at])
    if kind.has_tlvs:
        values.append(_read_tlvs(body, at, tolerant) if at < len(body) else {})
    elif at != len(body):
        raise Malformed(INVALID_COMMAND_LENGTH, "A PDU is longer than its fields.")
    return kind(*values)


def _late_end(name: str, body: bytes, at: int, tolerant: bool) -> int:
    """Where a text ends that does not within its size."""
    if tolerant:
        end = body.find(b"\0", at, at + TEXT_OCTETS_MAX)
        if end < 0 and name == "message_id" and 0 < len(body) - at < TEXT_OCTETS_MAX:
            end = len(body)  # nothing follows it
        if end >= 0:
            return end
    raise Malformed(INVALID_COMMAND_LENGTH, f"{name} does not end.")


def _length(name: str, body: bytes, at: int, tolerant: bool) -> int:
    """How many octets a field says that it has."""
    if at >= len(body):
        raise Malformed(INVALID_COMMAND_LENGTH, f"{name} is missing.")
    size = body[at]
    if at + size >= len(body) or (size > SHORT_MESSAGE_OCTETS_MAX and not tolerant):
        raise Malformed(INVALID_MESSAGE_LENGTH, f"{name} says that it has {size} octets.")
    return size


def _read_tlvs(body: bytes, at: int, tolerant: bool) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    end = len(body)
    while at < end:
        if end - at < 4:
            if tolerant:
                break
            raise Malformed(PARAMETERS_UNREADABLE, "An optional parameter is cut off.")
        tag, size = _TLV.unpack_from(body, at)
        at += 4 + size
        if at > end:
            if tolerant:
                break
            raise Malformed(PARAMETERS_UNREADABLE, f"Parameter {tag:#06x} is cut off.")
        found.setdefault(tag, body[at - size : at])
    return found
