"""What is read, and the few things written, outside the transactions: single messages, an
app's events.

Loop-neutral; every call may raise RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

import msgspec

from gateway.core.ids import shard_of_id
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.entries import StatusChange, changes_codec
from gateway.core.records.message import Message
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.moved import MovedError
from gateway.core.records.reply import KeptReply
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.store import quarantine
from gateway.store.base import read_messages
from gateway.store.compression import unpack
from gateway.store.keys import keys_of, shard_in
from gateway.store.store import Store
from gateway.store.writes import BLOB_FIELD

EVENT_ENTRIES_MAX = 200  # of one stream in one read


async def message(store: Store, message_id: str) -> Message | None:
    """The message, or None when there is none (any more) of this id. Raises NewerRecordError."""
    if shard_of_id(message_id) is None:
        return None
    found = (await read_messages(store, [message_id]))[message_id]
    return None if found.value is None else _message(store, message_id, found.value)


async def messages_anywhere(
    store: Store, message_ids: Iterable[str]
) -> dict[str, Message | Exception]:
    """Those that there are of some messages in any shards, by id; an exception for one that is of
    a newer Kaskad or cannot be read."""
    ids = [id_ for id_ in message_ids if shard_of_id(id_) is not None]
    found: dict[str, Message | Exception] = {}
    if not ids:
        return found
    for id_, stored in (await read_messages(store, ids)).items():
        if stored.value is not None:
            try:
                found[id_] = _message(store, id_, stored.value)
            except (NewerRecordError, UnreadableRecordError) as error:
                found[id_] = error
    return found


async def messages(store: Store, shard: int, ids: Sequence[str]) -> dict[str, Message | None]:
    """The messages of one shard by id: None where there is none (any more), or none that can be
    read. Those of a newer Kaskad are left out."""
    if not ids:
        return {}
    keys = keys_of(shard)
    (values,) = await store.redis.call([("MGET", *keys.messages(ids))])
    found: dict[str, Message | None] = {}
    for id_, value in zip(ids, cast("list[bytes | None]", values), strict=True):
        try:
            found[id_] = None if value is None else _message(store, id_, value)
        except NewerRecordError:
            store.counts.newer += 1
        except (UnreadableRecordError, MovedError):
            found[id_] = None
    return found


def readable(store: Store, message_id: str, record: bytes | None) -> Message | None:
    """A record's message; None where there is none that this process can read."""
    with suppress(NewerRecordError, UnreadableRecordError, MovedError):
        return None if record is None else _message(store, message_id, record)
    return None


async def readable_messages(store: Store, ids: Collection[str]) -> list[Message]:
    """Those of some messages in any shards that this process can read, in their order."""
    if not ids:
        return []
    records = await read_messages(store, ids)
    found = [readable(store, id_, records[id_].value) for id_ in ids]
    return [message for message in found if message is not None]


def _message(store: Store, message_id: str, record: bytes) -> Message:
    message = unpack_message(message_id, record)
    store.policy.take_present_names(message)
    return message


# --- events ---


class EventEntry(msgspec.Struct, frozen=True):
    """One entry of an app's event stream in one shard: what one transaction changed. An entry of a
    newer Kaskad says nothing here, nor does one that cannot be read, which is set aside. `replies`
    are those that it tells of, by id, once they were added."""

    shard: int
    entry: str
    changes: list[StatusChange]
    replies: dict[str, KeptReply] = {}


async def last_event_entry(redis: RedisClient, app: str, shards: Iterable[int]) -> list[str]:
    """The newest entry id of the app's stream in each shard, "0-0" where there is none."""
    commands: list[Command] = [
        ("XREVRANGE", keys_of(shard).events(app), "+", "-", "COUNT", 1) for shard in shards
    ]
    return [reply[0][0].decode() if reply else "0-0" for reply in await redis.call(commands)]


async def events_after(
    redis: RedisClient, shard: int, positions: Mapping[str, str]
) -> dict[str, list[EventEntry]]:
    """The entries of one shard after a position, for many apps in one round trip.

    `positions` holds an entry id for each app; the result at most EVENT_ENTRIES_MAX for each, in
    order. Apps without news are absent.
    """
    keys = {app: keys_of(shard).events(app) for app in positions}
    commands: list[Command] = [
        ("XREAD", "COUNT", EVENT_ENTRIES_MAX, "STREAMS", keys[app], entry)
        for app, entry in positions.items()
    ]
    found: dict[str, list[EventEntry]] = {}
    if commands:
        for app, reply in zip(positions, await redis.call(commands), strict=True):
            if reply is not None:
                found[app] = await _entries(redis, keys[app], reply[0][1])
    return found


async def events_from(
    redis: RedisClient,
    app: str,
    shard: int,
    entry: str,
    most: int = EVENT_ENTRIES_MAX,
    changes_max: int | None = None,
) -> list[EventEntry]:
    """The entries of one shard from `entry` on, itself included where it still exists and has no
    bracket before it; at most so many, and behind the second none once they have `changes_max`."""
    key = keys_of(shard).events(app)
    (reply,) = await redis.call([("XRANGE", key, entry, "+", "COUNT", most)])
    return await _entries(redis, key, reply, changes_max)


async def _entries(
    redis: RedisClient, key: str, reply: RedisReply, changes_max: int | None = None
) -> list[EventEntry]:
    shard = shard_in(key)
    found: list[EventEntry] = []
    count = 0
    for entry, fields in cast("list[tuple[bytes, list[bytes]]]", reply):
        if changes_max is not None and count >= changes_max and len(found) > 1:
            break
        name = entry.decode()
        try:
            changes = _changes(fields)
        except NewerRecordError:
            changes = []
        except Exception as error:
            changes = []
            at_ms = int(name.partition("-")[0])
            what = {f"{key} {name}": b" ".join(fields)}
            await quarantine.set_aside(redis, shard, what, error, at_ms)
        found.append(EventEntry(shard, name, changes))
        count += len(changes)
    return found


async def add_metadata(store: Store, entries: Sequence[EventEntry]) -> None:
    """Adds the metadata of the messages that have some, as they stand now."""
    noted = [change for entry in entries for change in entry.changes if change.noted]
    if not noted:
        return
    records = await read_messages(store, dict.fromkeys(change.id for change in noted))
    for change in noted:
        record = records[change.id].value
        with suppress(NewerRecordError, UnreadableRecordError, MovedError):
            if record is not None:
                change.metadata = unpack_message(change.id, record).metadata


def _changes(fields: list[bytes]) -> list[StatusChange]:
    assert fields[0] == BLOB_FIELD, f"an event stream holds the field {fields[0]!r}"
    return changes_codec.decode(unpack(fields[1])).changes
