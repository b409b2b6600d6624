"""API keys as Redis has them: what is kept of a key, how older records are read, how one ends."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store.installation import api_keys, audit
from gateway.store.installation.api_keys import ApiKey, ListedKey, Scope, digest_of, granted
from gateway.store.installation.audit import KeptDeed
from gateway.store.shared_keys import API_KEYS, KEY_USES

T0 = 1_795_262_400_000
KEY = b"kk_example"


def scopes_read(redis_url: str, words: Sequence[str]) -> tuple[Scope, ...]:
    """What is read of a record with these words for scopes, as version 1 wrote it."""
    record = msgspec.msgpack.encode({"app": "shop", "scopes": words, "created": T0})

    async def main(redis: RedisClient) -> ApiKey | None:
        await redis.call([("HSET", API_KEYS, digest_of(KEY).hex(), record)])
        return await api_keys.find(redis, digest_of(KEY))

    found = run(redis_url, main)
    assert found is not None
    assert (found.app, found.created, found.name, found.expires, found.prefix) == (
        *("shop", T0),
        *("", 0, ""),
    )
    return found.scopes


def test_a_record_of_version_1_with_report_goes_on_seeing_every_app(redis_url: str) -> None:
    found = scopes_read(redis_url, ["send", "read", "report"])
    assert found == ("send", "read", "report-all")


def test_a_scope_of_a_later_version_is_left_out(redis_url: str) -> None:
    assert scopes_read(redis_url, ["send", "fly"]) == ("send",)


@pytest.mark.parametrize("scope", api_keys.SCOPES)
def test_a_scope_is_read_as_it_was_given(redis_url: str, scope: Scope) -> None:
    async def main(redis: RedisClient) -> tuple[ApiKey | None, bytes]:
        key = await api_keys.create(redis, "shop", [scope], T0)
        (record,) = await redis.call([("HVALS", API_KEYS)])
        return await api_keys.find(redis, digest_of(key.encode())), record[0]

    found, record = run(redis_url, main)
    assert found is not None
    assert found.scopes == (scope,)
    # A process of version 1 takes the word `report` for every app's money.
    assert ("report" in msgspec.msgpack.decode(record)["scopes"]) == (scope == "report-all")


def test_who_sees_every_apps_money_sees_its_own() -> None:
    assert granted(["report-all"]) == {"report", "report-all"}
    assert granted(["send", "report"]) == {"send", "report"}


@pytest.mark.parametrize(
    ("key", "shown"),
    [("kk_0123456789", "kk_01234"), ("chosen-by-somebody-1", "chos"), ("short-and-secret", "")],
)
def test_as_much_of_a_key_is_shown_as_tells_nobody_the_rest(key: str, shown: str) -> None:
    assert api_keys.shown(key) == shown


def test_a_key_is_listed_with_its_last_use_until_it_is_revoked(redis_url: str) -> None:
    async def main(redis: RedisClient) -> tuple[list[list[ListedKey]], str, list[KeptDeed]]:
        key = await api_keys.create(
            redis, "shop", ["send"], T0, name="till", expires_ms=T0 + 9, by="ann@here"
        )
        digest = digest_of(key.encode())
        seen = [await api_keys.listed(redis)]
        for used_ms in (T0 + 5, T0 + 3):  # another worker tells late of an earlier use
            await api_keys.note_uses(redis, {digest: used_ms, b"unknown": T0})
        seen.append(await api_keys.listed(redis))
        await api_keys.revoke(redis, seen[-1][0], T0 + 7, "bob@here")
        assert await api_keys.find(redis, digest) is None
        await api_keys.note_uses(redis, {digest: T0 + 8})
        seen.append(await api_keys.listed(redis))
        assert await redis.call([("EXISTS", KEY_USES)]) == [0]
        return seen, key, (await audit.read(redis, 10)).deeds

    ((new,), (used,), revoked), key, deeds = run(redis_url, main)
    assert (new.key.app, new.key.name, new.key.expires) == ("shop", "till", T0 + 9)
    assert (new.key.prefix, new.used_ms) == (key[:8], None)
    assert used.used_ms == T0 + 5
    assert revoked == []
    assert [(d.deed.at_ms, d.deed.by, d.deed.action, d.deed.target) for d in deeds] == [
        (T0 + 7, "bob@here", "key.revoke", new.id),
        (T0, "ann@here", "key.new", new.id),
    ]
    assert deeds[0].deed.detail == "shop (till): send"
    assert key not in repr(deeds)
