"""The picture by which it is seen that an e-mail with links was opened. Pure.

Its code has 128 bits: message and step behind a permutation under the installation's key of links,
a Feistel network as theirs (`gateway.core.links.link_codes`). So nothing is kept for it, and of all
codes one in 65,000 names a message at all, which need not be there.
"""

from __future__ import annotations

import base64
import re
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from gateway.core.ids import PACKED_BYTES, packed_id, shard_of_id, unpacked_id
from gateway.core.links.urls import Said
from gateway.core.records.message import Message

_PURPOSE = b"open"
_HALF_BYTES = 8
_HALF = 1 << 8 * _HALF_BYTES
_CHECK = bytes(2)
_ROUNDS = [bytes((number,)) for number in range(6)]
_is_code = re.compile(r"[\w-]{22}", re.ASCII).fullmatch
_ends = re.compile(r"</body(\s*>)?", re.IGNORECASE).finditer


class Opened(NamedTuple):
    """What was opened."""

    message: str
    step: int


def code_of(opened: Opened, key: bytes) -> str:
    told = packed_id(opened.message) + bytes((opened.step,)) + _CHECK
    left, right = int.from_bytes(told[:_HALF_BYTES]), int.from_bytes(told[_HALF_BYTES:])
    for round_ in _ROUNDS:
        left, right = right, (left + _mixed(right, round_, key)) % _HALF
    mixed = left.to_bytes(_HALF_BYTES) + right.to_bytes(_HALF_BYTES)
    return base64.urlsafe_b64encode(mixed).decode().rstrip("=")


def opened_of(code: str, key: bytes) -> Opened | None:
    """What `code_of` made a code of; None: it is none."""
    if _is_code(code) is None:
        return None
    mixed = base64.urlsafe_b64decode(code + "==")
    left, right = int.from_bytes(mixed[:_HALF_BYTES]), int.from_bytes(mixed[_HALF_BYTES:])
    for round_ in reversed(_ROUNDS):
        left, right = (right - _mixed(left, round_, key)) % _HALF, left
    told = left.to_bytes(_HALF_BYTES) + right.to_bytes(_HALF_BYTES)
    if not told.endswith(_CHECK):
        return None
    message = unpacked_id(told[:PACKED_BYTES])
    return None if shard_of_id(message) is None else Opened(message, told[PACKED_BYTES])


def with_picture(said: Said, message: Message, root: str, key: bytes) -> Said:
    """What the current step says, with the picture at its end where that is HTML."""
    html: str | None = getattr(said, "html", None)
    if html is None:
        return said
    code = code_of(Opened(message.id, message.current), key)
    picture = f'<img src="{root}/o/{code}.gif" width="1" height="1" alt="">'
    *_, last = (None, *_ends(html))  # looked for from each one it takes the square of the length
    at = len(html) if last is None or last[1] is None else last.start()
    return msgspec.structs.replace(said, html=html[:at] + picture + html[at:])


def _mixed(half: int, round_: bytes, key: bytes) -> int:
    told = round_ + half.to_bytes(_HALF_BYTES)
    digest = blake2b(told, digest_size=_HALF_BYTES, key=key, person=_PURPOSE).digest()
    return int.from_bytes(digest)
