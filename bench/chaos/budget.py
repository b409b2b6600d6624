"""A budget that runs out in the storm: of what Viber may cost for all that is transactional.

There is money for a part of it, the rest is refused. When all is over nothing may be reserved, what
is used is what was charged, and the limit holds but for what arrived after its message was final or
was sent again by policy. It is read without the product, as `records` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import redis

from bench.chaos import audience
from bench.chaos.records import Record

NAME = "scarce"
CHANNEL, CATEGORY = "viber", "transactional"
PRICE = 10_000  # of a Viber message, as the price list has it, in 1e-6
SHARE = 0.5  # of the messages that it would be asked for


def limit_for(messages: int, routes: Sequence[str]) -> int:
    """With so many messages in the storm, in 1e-6; those of a route of their own ask for none."""
    asked = messages * audience.CATEGORIES.count(CATEGORY) // len(audience.CATEGORIES)
    if routes:
        asked = asked * routes.count("") // len(routes)
    return int(asked * SHARE) * PRICE


def config_text(limit: int) -> str:
    """The budget in the configuration; none without a limit."""
    if not limit:
        return ""
    return (
        f'[[budgets]]\nname = "{NAME}"\ncategory = "{CATEGORY}"\nchannel = "{CHANNEL}"\n'
        f'limit = "{limit / 1_000_000:.6f}"\nwindow = "30d"\nthen = "refuse"\n\n'
    )


def faults(
    client: redis.Redis, limit: int, messages: Iterable[Record], revived: set[str]
) -> Iterator[str]:
    """What is wrong with its books; `revived` are delivered after they had been given up."""
    fields = {
        name.decode(): int(amount) for name, amount in client.hgetall("{k0}budget:" + NAME).items()
    }
    reserved = fields.get("reserved", 0)
    used = sum(amount for name, amount in fields.items() if name.isdigit())
    charged = unforeseen = 0
    for message in messages:
        if message.category != CATEGORY:
            continue
        cost = sum(step.charged for step in message.steps if step.channel == CHANNEL)
        twice = sum(step.charged > 0 for step in message.steps) > 1
        charged += cost
        unforeseen += cost if twice or message.id in revived else max(cost - PRICE, 0)
    if reserved:
        yield f"The budget has {reserved} reserved for messages that are final"
    if used != charged:
        yield f"The budget has {used} used, and {charged} was charged"
    if used > limit + unforeseen:
        yield f"The budget of {limit} is exceeded: {used} used, {unforeseen} unforeseen"
