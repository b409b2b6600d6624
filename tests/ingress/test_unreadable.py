"""One thing in what all workers read that nobody can read costs itself alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog.testing
import uvloop

from gateway.redis.client import Command
from gateway.store import shared_keys
from gateway.store.keys import keys_of
from tests.worlds.ingress_world import OTP, SALE, T0, Answer, Clock, World, opened_world, settings

JUNK = b"\xff\xfe junk"
ALL_SCOPES = {
    'scopes = ["report-all"]': 'scopes = ["send", "read", "report-all", "manage", "operate"]'
}
PLANTED: dict[str, list[Command]] = {
    "a campaign's name": [
        ("HSET", shared_keys.CAMPAIGNS, JUNK, "{}"),
        ("HINCRBY", shared_keys.CAMPAIGNS_META, "version", 1),
    ],
    "a line": [
        ("HSET", shared_keys.LINES, "read", 1),
        ("HSET", shared_keys.LINES, JUNK, JUNK, "3", JUNK, "999999", f"{T0} shop"),
    ],
    "a process's name": [("ZADD", shared_keys.PROCESSES, T0, JUNK)],
    "how the archive is": [("HSET", shared_keys.ARCHIVE, JUNK, JUNK, "files", JUNK)],
    "how a schedule is": [("HSET", shared_keys.SCHEDULED, JUNK, JUNK)],
}
KEYS = keys_of(0)
READ = ("/readyz", "/metrics", "/v1/ops", "/v1/campaigns", "/v1/ops/drain")


@pytest.mark.parametrize("what", PLANTED)
def test_a_worker_goes_on_beside_what_it_cannot_read(redis_url: str, what: str) -> None:
    async def main() -> None:
        config = settings(changed=ALL_SCOPES)
        async with opened_world(redis_url, config, Clock()) as world:
            for command in PLANTED[what]:
                await world.redis.call([command])
            await world.store.look_at_campaigns(T0 + 10_000)
            assert await answers(world) == [202, 202, *[200] * len(READ)]

    with structlog.testing.capture_logs():
        uvloop.run(main())


async def answers(world: World) -> list[int]:
    found = []
    for message in (OTP, SALE):
        sent = await world.call("POST", "/v1/messages", message, key="finance-key")
        found.append(sent.status)
    return found + [(await world.call("GET", path, key="finance-key")).status for path in READ]


def in_world(redis_url: str, work: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened_world(redis_url, settings(changed=ALL_SCOPES), Clock()) as world:
            await work(world)

    with structlog.testing.capture_logs():
        uvloop.run(main())


async def call(world: World, method: str, path: str, body: Any = b"") -> Answer:
    return await world.call(method, path, body, key="finance-key")


def test_a_conversion_that_is_kept_and_cannot_be_read_fails_no_other(redis_url: str) -> None:
    async def work(world: World) -> None:
        await world.redis.call([("SET", KEYS.conversion("finance", "bad"), JUNK)])
        asked = [{"id": id_, "user": "u-1", "campaign": "autumn"} for id_ in ("a", "bad", "b")]
        answer = await call(world, "POST", "/v1/conversions", asked)
        assert answer.status == 200
        outcomes = [each["outcome"] for each in answer.json]
        assert outcomes == ["accepted", "error", "accepted"]
        (kept,) = await world.redis.call([("GET", KEYS.conversion("finance", "bad"))])
        assert kept == JUNK

    in_world(redis_url, work)


def test_a_count_that_cannot_be_read_hides_no_campaign(redis_url: str) -> None:
    async def work(world: World) -> None:
        for name in ("autumn", "spring"):
            assert (await call(world, "PUT", f"/v1/campaigns/{name}", {})).status == 200
        counts = KEYS.campaign_counts("spring")
        await world.redis.call([("HSET", counts, JUNK, 1, "queued", JUNK, "sent", 2)])
        listed = (await call(world, "GET", "/v1/campaigns")).json
        assert {each["name"]: each["counts"]["sent"] for each in listed["items"]} == {
            "autumn": 0,
            "spring": 2,
        }

    in_world(redis_url, work)


@pytest.mark.parametrize("of", ["user", "owners"])
def test_a_person_is_erased_whatever_cannot_be_read_of_it(redis_url: str, of: str) -> None:
    user, owners = KEYS.user("u-1"), KEYS.owners("p:79161234567")

    async def work(world: World) -> None:
        stored = await call(world, "PUT", "/v1/users/u-1", {"phone": "+79161234567"})
        assert stored.status == 200
        sent = await call(world, "POST", "/v1/messages", OTP | {"user": "u-1"})
        harm: Command = ("SET", user, JUNK) if of == "user" else ("HSET", owners, JUNK, JUNK)
        await world.redis.call([harm])
        assert (await call(world, "DELETE", "/v1/users/u-1")).status == 200
        left = await world.redis.call([("EXISTS", user), ("HGET", owners, "")])
        assert left == [0, None]
        shown = await call(world, "GET", f"/v1/messages/{sent.json['id']}")
        assert shown.json["to"] is None

    in_world(redis_url, work)
