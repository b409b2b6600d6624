"""Who changed what, and when: the deeds of operators and of apps, newest last, each list bounded.

They are two streams, so that no app that opts out or cancels thousands pushes out who revoked a key
or paused a provider. What stands in a deed is for an operator to read: no phone, no text. A deed
that another version wrote and this one cannot read is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import structlog

from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.errors import RedisError
from gateway.store import randomness, shared_keys
from gateway.store.transaction import CommitCounts, commit

DEEDS_MAX = 100_000  # of each list, about
_FIELD = b"d"


class Deed(msgspec.Struct, frozen=True):
    """`by` is a person on a command line (`user@host`) or an app with the prefix of its key."""

    at_ms: int
    by: str
    action: str  # "key.revoke": the kind of thing, and what was done to it
    target: str = ""
    detail: str = ""


class KeptDeed(NamedTuple):
    id: str
    deed: Deed


class AuditPage(NamedTuple):
    """`next` is before which id the page after it begins; None: there is none."""

    deeds: list[KeptDeed]
    next: str | None


_id = re.compile(r"[0-9]{1,18}-[0-9]{1,18}").fullmatch
_log = structlog.get_logger("audit")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Deed).decode


def command(deed: Deed, *, of_app: bool = False) -> Command:
    """What notes a deed, to go along with what is done."""
    key = shared_keys.AUDIT_APPS if of_app else shared_keys.AUDIT
    return ("XADD", key, "MAXLEN", "~", DEEDS_MAX, "*", _FIELD, _encode(deed))


async def done(redis: RedisClient, writes: Sequence[Command], deed: Deed) -> None:
    """An operator does this to what the installation shares, and it is noted: both or neither.
    Raises RedisUnavailable."""
    token = shared_keys.installation_token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], bool]:
        await session.call([("WATCH", token)])
        return [*writes, command(deed)], True

    await commit(redis, token, attempt, CommitCounts())


async def note(redis: RedisClient, deed: Deed, *, of_app: bool = True) -> None:
    """Somebody did something. Where that cannot be noted it is logged: it is done all the same."""
    try:
        await redis.call([command(deed, of_app=of_app)])
    except RedisError as error:
        _log.error("deed not noted", deed=deed, reason=str(error))


def is_id(text: str) -> bool:
    """Whether a deed may have this id."""
    return _id(text) is not None


async def read(redis: RedisClient, count: int, before: str = "") -> AuditPage:
    """The newest deeds before an id, newest first: of `count`, and one more where two of the last
    have the same id, those that can be read. Raises RedisUnavailable."""
    end = f"({before}" if before else "+"
    replies = await redis.call(
        [
            ("XREVRANGE", key, end, "-", "COUNT", count + 1)
            for key in (shared_keys.AUDIT, shared_keys.AUDIT_APPS)
        ]
    )
    found = [entry for reply in replies if isinstance(reply, list) for entry in reply]
    found.sort(key=lambda entry: tuple(map(int, entry[0].split(b"-"))), reverse=True)
    if len(found) > count and found[count - 1][0] == found[count][0]:
        count += 1
    deeds = []
    for id_, fields in found[:count]:
        try:
            deeds.append(KeptDeed(id_.decode(), _decode(fields[1])))
        except msgspec.DecodeError:
            continue
    return AuditPage(deeds, found[count - 1][0].decode() if len(found) >= count else None)
