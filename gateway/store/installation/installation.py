"""What an installation says about itself in Redis: schema version, shards and currency, checked at
start.

They are the record `{kaskad}meta`. The first start writes it; every later start must agree with it,
because another number of shards would look for people in the wrong places and send twice, and
amounts of two currencies, or days of two zones, would be added up. Before anything is booked
currency and zone may still change. Records of an earlier schema are upgraded as they are read, so
the schema here is raised at the start; a later one forbids it. Synchronous, by redis-py, before any
loop runs. What forbids a start is `StoreUnfitError` with one sentence a line; a Redis that merely
does not answer is RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import redis
from redis.client import Pipeline

from gateway.core.records.codec import SCHEMA
from gateway.core.views.words import rfc3339
from gateway.errors import ConfigurationError
from gateway.redis.address import Address, parse_address
from gateway.redis.errors import RedisUnavailable
from gateway.redis.server.checks import Finding, connect, examine, masters_now
from gateway.store import keys, shared_keys
from gateway.store.former_shards import ever, numbers_in
from gateway.store.waiting.lines import LINES_MAX, READ_FIELD

OLDEST_SCHEMA = 2  # what `gateway.core.records` still reads
SCHEMA_FIELD = "schema"
SHARDS_FIELD = "shards"
RESTORED_FIELD = "restored"
CURRENCY_FIELD = "currency"
ZONE_FIELD = "zone"
COPIED_CODE = "copied_away"
AWAY_CODES = frozenset({"redis_unreachable", "redis_loading"})


class Copied(NamedTuple):
    """Where everything went by a copy that was finished."""

    to: str
    shards: int
    at_ms: int


class StoreUnfitError(ConfigurationError):
    """Kaskad must not run on this Redis; `findings` are the errors, each a sentence."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(finding.sentence for finding in findings))


def look(url: str, shards: int, currency: str, *, zone: str = "UTC") -> list[Finding]:
    """Everything wrong with the Redis at `url` for `shards` shards, prices in `currency` and
    reports on the days of `zone`. Changes nothing."""
    return _check(url, shards, currency, zone, write=False)


def prepare(
    url: str, shards: int, currency: str, *, zone: str = "UTC", restored_ms: int = 0
) -> list[Finding]:
    """Makes sure that a role may start on the Redis at `url`; the first start leaves its record.
    `restored_ms` is noted: the data came from a backup at that moment, or earlier.

    Returns the warnings. Raises as `insist` does."""
    findings = _check(url, shards, currency, zone, write=True)
    insist(findings)
    if restored_ms:
        with connect(parse_address(url), decode=False, key=shared_keys.META) as client:
            client.hset(shared_keys.META, RESTORED_FIELD, str(restored_ms))
    return findings


def restored_at(url: str) -> int:
    """When the data was restored from a backup last; 0: never. Raises RedisUnavailable."""
    try:
        with connect(parse_address(url), decode=False, key=shared_keys.META) as client:
            return int(client.hget(shared_keys.META, RESTORED_FIELD) or 0)
    except redis.RedisError as fault:
        raise RedisUnavailable(f"Redis stopped to answer: {fault}.") from None


def insist(findings: Sequence[Finding]) -> None:
    """Raises StoreUnfitError with every error, RedisUnavailable when the only one is that nobody
    answers: that is no fault of the configuration, and may pass."""
    errors = [finding for finding in findings if finding.level == "error"]
    if is_away(errors):
        raise RedisUnavailable(errors[0].sentence)
    if errors:
        raise StoreUnfitError(errors)


def is_away(errors: Sequence[Finding]) -> bool:
    """Whether all that is wrong is that Redis does not answer."""
    return bool(errors) and all(error.code in AWAY_CODES for error in errors)


def judge(schema: int, shards: int, wanted_shards: int) -> list[Finding]:
    """What is wrong with a record that says `schema` and `shards`. Pure."""
    findings = []
    if schema < OLDEST_SCHEMA:
        sentence = (
            f"The data in Redis was written by a Kaskad before its first release (schema {schema}, "
            f"this one reads from {OLDEST_SCHEMA} on): let that one finish, then point redis.url "
            "at an empty Redis, or its data directory at an empty one."
        )
        findings.append(Finding("error", "schema_older", sentence))
    if schema > SCHEMA:
        sentence = (
            f"The data in Redis was written by a newer Kaskad (schema {schema}, this one knows "
            f"{SCHEMA}): upgrade this Kaskad, or point redis.url at another Redis."
        )
        findings.append(Finding("error", "schema_newer", sentence))
    if shards != wanted_shards:
        sentence = (
            f"The data in Redis is spread over {shards} shard{'s' if shards != 1 else ''}, but "
            f"redis.shards is {wanted_shards}: set redis.shards = {shards}; for another number, "
            f"copy it to an empty Redis (`kaskad copy --to URL --shards {wanted_shards}`)."
        )
        findings.append(Finding("error", "shards_differ", sentence))
    return findings


def _check(url: str, shards: int, currency: str, zone: str, *, write: bool) -> list[Finding]:
    findings = examine(url)
    if any(finding.level == "error" for finding in findings):
        return findings
    try:
        address = parse_address(url)
        findings += _check_spread(address, shards)
        with connect(address, decode=False, key=shared_keys.META) as client:
            findings += _check_record(client, shards, write=write)
            if all(finding.level != "error" for finding in findings):
                booked = partial(_has_booked, client, address, shards)
                check = partial(_check_booked_in, client, booked, write=write)
                findings += check(CURRENCY_FIELD, currency, _other_currency)
                # Before there was a choice it was UTC.
                findings += check(ZONE_FIELD, zone, _other_zone, unsaid="UTC")
            return findings
    except redis.RedisError as fault:
        return [
            *findings,
            Finding("error", "redis_unreachable", f"Redis stopped to answer: {fault}."),
        ]


def _check_spread(address: Address, shards: int) -> list[Finding]:
    """Whether every master of a cluster can have a shard: later it is too late to say so."""
    if not address.cluster:
        return []
    masters = len(set(masters_now(address).values()))
    if shards >= masters:
        return []
    sentence = (
        f"The cluster at {address.label} has {masters} masters and redis.shards is {shards}: some "
        "can hold nothing. Set more shards, such as 16, before the first start fixes them."
    )
    return [Finding("warning", "shards_few", sentence)]


def _check_record(client: redis.Redis, shards: int, *, write: bool) -> list[Finding]:
    if client.exists(shared_keys.COPYING):
        sentence = (
            "A copy into this Redis was begun and not finished: run `kaskad copy` again until it "
            "ends, or empty it."
        )
        return [Finding("error", "copy_unfinished", sentence)]
    if (gone := _copied_away(client)) is not None:
        return [gone]
    fields = [SCHEMA_FIELD, SHARDS_FIELD]
    # Read alone first: a full Redis refuses whatever stands in a transaction, and roles and
    # commands must start on it.
    found: Any = client.hmget(shared_keys.META, [*fields, shared_keys.INDEXED_FIELD])
    if write and None in found:
        with client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(shared_keys.META, shared_keys.INDEXED_FIELD, str(_indexed_since_ms(client)))
            if found[0] is None:  # no dispatcher of before lanes had lines is at work here
                pipe.hsetnx(shared_keys.LINES, READ_FIELD, LINES_MAX)
            # Two roles may start first at the same moment: one of them wins, the other reads it.
            pipe.hsetnx(shared_keys.META, SCHEMA_FIELD, str(SCHEMA))
            pipe.hsetnx(shared_keys.META, SHARDS_FIELD, str(shards))
            pipe.hmget(shared_keys.META, fields)
            found = pipe.execute()[-1]
    found = found[: len(fields)]
    if None in found:
        return []
    try:
        schema, stored_shards = (int(value) for value in found)
    except ValueError:
        sentence = (
            f"The record {shared_keys.META} in Redis holds {found!r}: this is no data of Kaskad."
        )
        return [Finding("error", "meta_unreadable", sentence)]
    findings = judge(schema, stored_shards, shards)
    if write and schema < SCHEMA and not findings:
        _raise_schema(client)
    return findings


def _copied_away(client: redis.Redis) -> Finding | None:
    found: Any = client.hgetall(shared_keys.COPIED)
    if not found:
        return None
    to, shards, at_ms = (found[field.encode()].decode() for field in Copied._fields)
    sentence = (
        f"Everything here was copied to {to} at {rfc3339(int(at_ms))}: set redis.url (or "
        f"KASKAD_REDIS_URL) to that and redis.shards = {shards}. Where nothing was ever started on "
        "it, `kaskad copy --take-back` lets roles start here again."
    )
    return Finding("error", COPIED_CODE, sentence)


def _indexed_since_ms(client: redis.Redis) -> int:
    """Since when every message is indexed, where that begins now; 0: there was none before."""
    if client.hget(shared_keys.META, SCHEMA_FIELD) is None:
        return 0
    seconds, micros = client.time()
    return seconds * 1_000 + micros // 1_000


def _check_booked_in(
    client: redis.Redis,
    booked: Callable[[], bool],
    field: str,
    wanted: str,
    differs: Callable[[str, str], Finding],
    *,
    write: bool,
    unsaid: str | None = None,
) -> list[Finding]:
    """Whether what bookings are kept in may be this; a start records it. `unsaid` is what it was
    before it was recorded."""
    found = client.hget(shared_keys.META, field)
    stored = unsaid if found is None else found.decode() if isinstance(found, bytes) else found
    if stored is not None and stored != wanted and booked():
        return [differs(stored, wanted)]
    if write and stored != wanted:
        client.hset(shared_keys.META, field, wanted)
    return []


def _other_currency(stored: str, wanted: str) -> Finding:
    sentence = (
        f"The ledger in Redis is kept in {stored}, but prices.currency is {wanted}: amounts of two "
        f'currencies cannot be added up. Set prices.currency = "{stored}", or use an empty Redis.'
    )
    return Finding("error", "currency_differs", sentence)


def _other_zone(stored: str, wanted: str) -> Finding:
    sentence = (
        f"The totals in Redis are kept by the days of {stored}, but reports.zone is {wanted}: what "
        f'is booked cannot change its day. Set reports.zone = "{stored}", or use an empty Redis.'
    )
    return Finding("error", "zone_differs", sentence)


def _has_booked(client: redis.Redis, address: Address, shards: int) -> bool:
    """Whether any shard has a ledger: then there is money, or messages with prices under way."""
    before = numbers_in(client.hget(shared_keys.META, shared_keys.SHARDS_BEFORE_FIELD))
    for shard in ever(shards, before):
        ledger = keys.keys_of(shard).ledger
        with connect(address, decode=False, key=ledger) as node:
            if node.exists(ledger):
                return True
    return False


def _raise_schema(client: redis.Redis) -> None:
    """Says that records are written in today's schema; a newer process may have said more."""

    def raised(pipe: Pipeline) -> None:
        stored = int(pipe.hget(shared_keys.META, SCHEMA_FIELD) or 0)
        pipe.multi()
        pipe.hset(shared_keys.META, SCHEMA_FIELD, str(max(stored, SCHEMA)))

    client.transaction(raised, shared_keys.META)
