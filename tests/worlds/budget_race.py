"""A process of its own that asks until a budget is full. It loads no more than that takes."""

from __future__ import annotations

from itertools import count

import trio
from msgspec.structs import replace

from gateway.core.money.budgets import Budget
from gateway.redis.trio_driver import open_client
from gateway.store.store import Store
from tests.worlds.cascade_world import DAY, T0, policy, request

ONE = 45_000  # a Viber and an SMS
SHARDS = 3
SHARED = Budget("spring", 60 * ONE, 30 * DAY, "30d", "refuse", campaign="autumn")


def until_refused(url: str, people: int) -> int:
    """How many messages, to people from that number on, were accepted before one was refused."""

    async def work() -> int:
        async with open_client(url) as redis:
            store = Store(redis, replace(policy(), budgets=(SHARED,)), shards=SHARDS)
            for number in count(people):
                to = f"7916{number:07d}"
                wanted = [request(id=store.new_message_id(to, T0), to=to)]
                (answer,) = await store.admit(wanted, T0)
                if answer.outcome != "accepted":
                    return number - people
        raise AssertionError

    return trio.run(work)
