"""The record an installation leaves in its Redis, against a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from gateway.core.records.codec import SCHEMA
from gateway.redis.errors import RedisUnavailable
from gateway.store import keys as k
from gateway.store import shared_keys
from gateway.store.installation import installation
from gateway.store.installation.installation import StoreUnfitError
from gateway.store.waiting.lines import LINES_MAX


def record(url: str) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as client:
        found: dict[bytes, bytes] = client.hgetall(shared_keys.META)
        return found


def test_the_first_start_writes_what_later_ones_must_agree_with(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR")
    assert record(redis_url) == {
        b"schema": str(SCHEMA).encode(),
        b"shards": b"4",
        b"currency": b"EUR",
        b"indexed": b"0",
    }
    assert all(finding.level == "warning" for finding in installation.prepare(redis_url, 4, "EUR"))


def test_an_installation_from_before_the_index_of_persons_notes_when_it_began(
    redis_url: str,
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(shared_keys.META, mapping={"schema": str(SCHEMA), "shards": "4"})
        before_s, _ = client.time()
    installation.prepare(redis_url, 4, "EUR")
    since = int(record(redis_url)[b"indexed"])
    assert since >= before_s * 1_000
    installation.prepare(redis_url, 4, "EUR")
    assert int(record(redis_url)[b"indexed"]) == since


def test_lanes_have_lines_from_the_first_start_on_and_elsewhere_once_a_dispatcher_reads_them(
    redis_url: str,
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        installation.prepare(redis_url, 4, "EUR")
        assert client.hgetall(shared_keys.LINES) == {b"read": b"%d" % LINES_MAX}
        client.flushall()
        client.hset(shared_keys.META, mapping={"schema": str(SCHEMA), "shards": "4"})
        installation.prepare(redis_url, 4, "EUR")
        assert client.hgetall(shared_keys.LINES) == {}


def test_a_full_redis_is_read_and_roles_start_on_it(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR")
    with redis.Redis.from_url(redis_url) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1")
        try:
            found = [
                *installation.prepare(redis_url, 4, "EUR"),
                *installation.look(redis_url, 4, "EUR"),
            ]
        finally:
            client.config_set("maxmemory", before)
    assert {finding.level for finding in found} == {"warning"}


def test_another_number_of_shards_is_refused_with_what_to_set(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR")
    with pytest.raises(StoreUnfitError, match=r"4 shards.*set redis\.shards = 4"):
        installation.prepare(redis_url, 8, "EUR")
    assert record(redis_url)[b"shards"] == b"4"


def test_another_currency_over_what_was_booked_is_refused_with_what_to_set(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR")
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(k.keys_of(3).ledger, {"d": b""})
    sentence = r"kept in EUR, but prices\.currency is USD.*Set prices\.currency = \"EUR\""
    with pytest.raises(StoreUnfitError, match=sentence):
        installation.prepare(redis_url, 4, "USD")
    (finding,) = [f for f in installation.look(redis_url, 4, "USD") if f.level == "error"]
    assert finding.code == "currency_differs"
    assert record(redis_url)[b"currency"] == b"EUR"


def test_the_currency_may_change_until_something_is_booked(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR")
    assert [f for f in installation.look(redis_url, 4, "USD") if f.level == "error"] == []
    assert record(redis_url)[b"currency"] == b"EUR", "looking changes nothing"
    installation.prepare(redis_url, 4, "USD")
    assert record(redis_url)[b"currency"] == b"USD"


def test_another_zone_over_what_was_booked_is_refused_with_what_to_set(redis_url: str) -> None:
    installation.prepare(redis_url, 4, "EUR", zone="Europe/Moscow")
    installation.prepare(redis_url, 4, "EUR", zone="Asia/Almaty")  # nothing is booked yet
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(k.keys_of(3).ledger, {"d": b""})
    sentence = r"by the days of Asia/Almaty, but reports\.zone is UTC.*zone = \"Asia/Almaty\""
    with pytest.raises(StoreUnfitError, match=sentence):
        installation.prepare(redis_url, 4, "EUR")
    installation.prepare(redis_url, 4, "EUR", zone="Asia/Almaty")


def test_what_was_booked_before_there_were_zones_counts_by_utc(redis_url: str) -> None:
    installation.prepare(redis_url, 1, "EUR")
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(k.keys_of(0).ledger, {"d": b""})
    (finding,) = [
        f
        for f in installation.look(redis_url, 1, "EUR", zone="Europe/Moscow")
        if f.level == "error"
    ]
    assert finding.code == "zone_differs"
    assert b"zone" not in record(redis_url)


def test_an_installation_of_before_takes_the_currency_it_is_started_with(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(shared_keys.META, mapping={"schema": SCHEMA, "shards": 1})
        client.xadd(k.keys_of(0).ledger, {"d": b""})
    installation.prepare(redis_url, 1, "EUR")
    with pytest.raises(StoreUnfitError):
        installation.prepare(redis_url, 1, "USD")


def test_data_of_a_newer_schema_is_refused(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(shared_keys.META, mapping={"schema": SCHEMA + 1, "shards": 1})
    with pytest.raises(StoreUnfitError, match=r"newer Kaskad.*upgrade"):
        installation.prepare(redis_url, 1, "EUR")


def test_data_of_an_older_schema_is_refused_and_left_as_it_is(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(
            shared_keys.META, mapping={"schema": installation.OLDEST_SCHEMA - 1, "shards": 1}
        )
    with pytest.raises(StoreUnfitError, match=r"before its first release.*empty"):
        installation.prepare(redis_url, 1, "EUR")
    assert record(redis_url)[b"schema"] == str(installation.OLDEST_SCHEMA - 1).encode()


def test_the_schema_of_data_that_can_be_read_is_raised_at_the_start(redis_url: str) -> None:
    oldest = installation.OLDEST_SCHEMA
    with redis.Redis.from_url(redis_url) as client:
        client.hset(shared_keys.META, mapping={"schema": oldest, "shards": 1})
    installation.look(redis_url, 1, "EUR")
    assert record(redis_url)[b"schema"] == str(oldest).encode()
    installation.prepare(redis_url, 1, "EUR")
    assert record(redis_url)[b"schema"] == str(SCHEMA).encode()


def test_a_record_that_is_no_record_is_refused(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(shared_keys.META, mapping={"schema": "one", "shards": 1})
    with pytest.raises(StoreUnfitError, match="no data of Kaskad"):
        installation.prepare(redis_url, 1, "EUR")


def test_looking_changes_nothing(redis_url: str) -> None:
    assert [f for f in installation.look(redis_url, 4, "EUR") if f.level == "error"] == []
    assert record(redis_url) == {}


def test_a_redis_that_is_away_is_a_sentence_that_says_what_to_do(short_dir: Path) -> None:
    with pytest.raises(RedisUnavailable, match=r"cannot be reached.*correct redis\.url"):
        installation.prepare(f"unix://{short_dir}/nothing.sock", 1, "EUR")
