"""Reads a body that breaks the standard where what is needed of it can be read all the same. Pure.

What comes from a provider counts whatever is odd beside it: a parameter that is cut off behind a
message's id, an address longer than the standard allows, an id without its end, a text in the place
of an id that a refusal has none of. Refused, a receipt would come again as it is, and a message
whose answer is not read would be unknown.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from providers.smpp import pdu
from providers.smpp.pdu import Body, Frame, Malformed

TEXT_OCTETS_MAX: Final = 64  # of any field, as the longest of the standard


def decode(frame: Frame) -> Body:
    """As `pdu.decode`, or else what can be read; of a refusal its status says enough. Raises
    Malformed where a field is missing."""
    try:
        return pdu.decode(frame)
    except Malformed:
        kind = pdu.BODIES.get(frame.command)
        if kind is None:
            raise
        if frame.status != pdu.OK and frame.command & pdu.RESPONSE:
            return pdu.NOTHING
        read = _fields(frame.body, kind.layout)
        if read is None or not kind.has_tlvs:
            raise
        values, at = read
        values.append(_parameters(frame.body, at))
        return kind(*values)


def _fields(body: bytes, layout: pdu.Layout) -> tuple[list[Any], int] | None:
    """The fields and where they end; None where one is missing."""
    values: list[Any] = []
    at = 0
    for name, size in layout:
        if at >= len(body):
            return None
        if size == pdu.OCTET:
            values.append(body[at])
            at += 1
        elif size == pdu.SIZED:
            end = at + 1 + body[at]
            if end > len(body):
                return None
            values.append(body[at + 1 : end])
            at = end
        else:
            end = body.find(b"\0", at)
            if end < 0 and name == "message_id":  # nothing follows it
                end = len(body)
            if not at <= end <= at + TEXT_OCTETS_MAX:
                return None
            values.append(body[at:end].decode("latin-1"))
            at = end + 1
    return values, at


def _parameters(body: bytes, at: int) -> dict[int, bytes]:
    """Those in front of the first that is cut off."""
    found: dict[int, bytes] = {}
    while len(body) - at >= 4:
        tag, size = struct.unpack_from(">HH", body, at)
        at += 4 + size
        if at > len(body):
            break
        found.setdefault(tag, body[at - size : at])
    return found
