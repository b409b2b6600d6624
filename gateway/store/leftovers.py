"""What waits under the names of providers that a configuration does not have. Changes nothing.

Synchronous, by redis-py, for the command line. Raises redis.RedisError.
"""

from __future__ import annotations

from collections.abc import Container

from gateway.redis.address import parse_address
from gateway.redis.server.checks import connect
from gateway.store import keys
from gateway.store.keys import keys_of

CATEGORIES = ("otp", "transactional", "marketing")


def waiting(url: str, shards: int, known: Container[str]) -> dict[str, int]:
    """Messages in the lanes of each provider that some process had and `known` does not; those
    without any are left out."""
    address = parse_address(url)
    with connect(address, decode=False, key=keys.PROVIDERS) as client:
        had = [name.decode() for name in client.zrange(keys.PROVIDERS, 0, -1)]
    counts = dict.fromkeys((name for name in had if name not in known), 0)
    lanes = [(name, category) for name in counts for category in CATEGORIES]
    for shard in range(shards if lanes else 0):
        with connect(address, decode=False, key=keys_of(shard).timers) as client:
            for name, category in lanes:
                counts[name] += client.xlen(keys_of(shard).lane(name, category))
    return {name: count for name, count in counts.items() if count}
