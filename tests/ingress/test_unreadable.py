"""One thing in what all workers read that nobody can read costs itself alone."""

from __future__ import annotations

import pytest
import structlog.testing
import uvloop

from gateway.redis.client import Command
from gateway.store import shared_keys
from tests.worlds.ingress_world import OTP, SALE, T0, Clock, World, opened_world, settings

JUNK = b"\xff\xfe junk"
ALL_SCOPES = {'scopes = ["report-all"]': 'scopes = ["send", "read", "report-all", "operate"]'}
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
