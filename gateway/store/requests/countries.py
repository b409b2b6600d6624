"""To which countries each app has sent: a set of all installations' processes together.

Raises RedisError; what is not noted is found again with the next message.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.redis.client import Command, RedisClient
from gateway.store.shared_keys import COUNTRIES

ReachedCountry = tuple[str, str]  # an app, and a country in two letters


async def note(redis: RedisClient, reached: Sequence[ReachedCountry]) -> list[ReachedCountry]:
    """Notes them, and returns those to which the app never sent before."""
    commands: list[Command] = [("SADD", COUNTRIES, f"{app}:{country}") for app, country in reached]
    replies = await redis.call(commands)
    return [each for each, added in zip(reached, replies, strict=True) if added]
