"""The record of paused providers: written by one version, read by others."""

from __future__ import annotations

import trio

from gateway.redis.trio_driver import open_link
from gateway.store import keys as k
from gateway.store import pauses
from gateway.store.pauses import Pause


def test_a_pause_is_read_as_it_was_written_until_it_is_deleted(redis_url: str) -> None:
    async def main() -> None:
        async with open_link(redis_url) as link:
            assert await pauses.read(link) == {}
            pause = Pause("E402", "No credit.", 1_000, 6_000)
            await pauses.write(link, "viber", pause)
            assert await pauses.read(link) == {"viber": pause}
            await pauses.delete(link, "viber")
            await pauses.delete(link, "viber")
            assert await pauses.read(link) == {}

    trio.run(main)


def test_a_value_that_cannot_be_read_is_a_pause_whose_time_is_over(redis_url: str) -> None:
    async def main() -> None:
        async with open_link(redis_url) as link:
            await link.call([("HSET", k.PAUSED, "viber", b'{"reason": 7}')])
            (pause,) = (await pauses.read(link)).values()
            assert (pause.code, pause.until) == ("unknown", 0)

    trio.run(main)
