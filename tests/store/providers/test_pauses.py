"""The record of paused providers: written by one version, read by others."""

from __future__ import annotations

import msgspec
import trio

from gateway.redis.address import parse_address
from gateway.redis.server.checks import connect
from gateway.redis.trio_driver import open_client
from gateway.store import shared_keys
from gateway.store.providers import pauses
from gateway.store.providers.pauses import Pause


def test_a_pause_is_read_as_it_was_written_until_it_is_deleted(redis_url: str) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            assert await pauses.read(redis) == {}
            pause = Pause("E402", "No credit.", 1_000, 6_000)
            await pauses.change(redis, "viber", lambda _: pause)
            assert await pauses.read(redis) == {"viber": pause}
            stands = await pauses.change(redis, "viber", lambda stands: stands)
            assert (stands.before, stands.after) == (pause, pause)
            await pauses.delete(redis, "viber")
            await pauses.delete(redis, "viber")
            assert await pauses.read(redis) == {}

    trio.run(main)


def test_a_change_is_decided_again_when_another_wrote_meanwhile(redis_url: str) -> None:
    first, second = Pause("E402", "", 1_000, 6_000), Pause("E403", "", 2_000, 7_000)
    seen: list[Pause | None] = []

    async def main() -> None:
        async with open_client(redis_url) as redis:
            await pauses.change(redis, "viber", lambda _: first)
            with connect(parse_address(redis_url), decode=False, key=shared_keys.PAUSED) as other:

                def end_the_first(stands: Pause | None) -> Pause | None:
                    if not seen:
                        other.hset(
                            shared_keys.PAUSED, "viber", msgspec.json.encode(second).decode()
                        )
                    seen.append(stands)
                    return None if stands == first else stands

                assert await pauses.change(redis, "viber", end_the_first) == (second, second)
            assert await pauses.read(redis) == {"viber": second}

    trio.run(main)
    assert seen == [first, second]


def test_a_value_that_cannot_be_read_is_a_pause_whose_time_is_over(redis_url: str) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            await redis.call([("HSET", shared_keys.PAUSED, "viber", b'{"reason": 7}')])
            (pause,) = (await pauses.read(redis)).values()
            assert (pause.code, pause.until) == ("unknown", 0)

    trio.run(main)


def test_a_pause_of_a_version_without_kinds_is_an_account_fault_and_unknown_fields_are_ignored(
    redis_url: str,
) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            old = b'{"code": "E402", "detail": "", "since": 1, "until": 2, "later": [1]}'
            await redis.call([("HSET", shared_keys.PAUSED, "viber", old)])
            assert await pauses.read(redis) == {
                "viber": Pause("E402", "", 1, 2, kind=pauses.ACCOUNT)
            }

    trio.run(main)
