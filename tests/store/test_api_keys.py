"""API keys as Redis has them: what is kept of a key, and how older records are read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store import api_keys
from gateway.store.api_keys import ApiKey, Scope, digest_of, granted
from gateway.store.keys import API_KEYS

T0 = 1_795_262_400_000
KEY = b"kk_example"


def read(redis_url: str, scopes: Sequence[str]) -> ApiKey | None:
    """What is read of a record with these words for scopes, as version 1 wrote them."""
    record = msgspec.msgpack.encode({"app": "shop", "scopes": scopes, "created": T0})

    async def main(redis: RedisClient) -> ApiKey | None:
        await redis.call([("HSET", API_KEYS, digest_of(KEY).hex(), record)])
        return await api_keys.find(redis, digest_of(KEY))

    return run(redis_url, main)


def test_a_record_of_version_1_with_report_goes_on_seeing_every_app(redis_url: str) -> None:
    found = read(redis_url, ["send", "read", "report"])
    assert found == ApiKey("shop", ("send", "read", "report-all"), T0)


def test_a_scope_of_a_later_version_is_left_out(redis_url: str) -> None:
    assert read(redis_url, ["send", "fly"]) == ApiKey("shop", ("send",), T0)


@pytest.mark.parametrize("scope", api_keys.SCOPES)
def test_a_scope_is_read_as_it_was_given(redis_url: str, scope: Scope) -> None:
    async def main(redis: RedisClient) -> tuple[ApiKey | None, bytes]:
        key = await api_keys.create(redis, "shop", [scope], T0)
        (record,) = await redis.call([("HVALS", API_KEYS)])
        return await api_keys.find(redis, digest_of(key.encode())), record[0]

    found, record = run(redis_url, main)
    assert found == ApiKey("shop", (scope,), T0)
    # A process of version 1 takes the word `report` for every app's money.
    assert ("report" in msgspec.msgpack.decode(record)["scopes"]) == (scope == "report-all")


def test_who_sees_every_apps_money_sees_its_own() -> None:
    assert granted(["report-all"]) == {"report", "report-all"}
    assert granted(["send", "report"]) == {"send", "report"}
