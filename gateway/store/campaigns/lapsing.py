"""Declarations of campaigns that are over make room for new ones.

Every process keeps all that is declared, so their number is bounded. Where that many are, those go
that ended, the longest ago first, if that is LAPSE_MS ago and no message of theirs is under way:
what is declared of them, what they say, and what was counted with it. One that was cancelled would
run again as if it had never been declared, so those go last, and only after CANCELLED_LAPSE_MS.
Reports and the ledger keep what they sent and cost. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway.core.campaigns.campaigns import Campaign
from gateway.core.money.days import DAY_MS
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list
from gateway.store import randomness, shared_keys
from gateway.store.campaigns.declarations import VERSION_FIELD, counts, read
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of
from gateway.store.transaction import CommitCounts, commit

LAPSE_MS = 30 * DAY_MS
CANCELLED_LAPSE_MS = 365 * DAY_MS
TOGETHER = 100  # at most, so that not every new campaign looks for room
LIVE = ("held", "queued", "sent")


async def make_room(
    redis: RedisClient, shards: int, campaigns: Mapping[str, Campaign], now_ms: int
) -> int:
    """Drops some that are over, and says how many. One that was changed meanwhile stays."""
    over = [
        (campaign.state == "cancelled", campaign.over_ms, name)
        for name, campaign in campaigns.items()
        if campaign.over_ms and campaign.over_ms + _lapse_ms(campaign) <= now_ms
    ]
    names = [name for *_, name in sorted(over)[:TOGETHER]]
    found = await counts(redis, shards, names)
    done = {name: campaigns[name] for name in names if not _is_live(found[name])}
    return await _drop(redis, shards, done) if done else 0


def _lapse_ms(campaign: Campaign) -> int:
    """How long it is over before its declaration may go."""
    return CANCELLED_LAPSE_MS if campaign.state == "cancelled" else LAPSE_MS


def _is_live(states: Counter[str]) -> bool:
    return any(states[state] for state in LIVE)


async def _drop(redis: RedisClient, shards: int, done: Mapping[str, Campaign]) -> int:
    token, names = shared_keys.installation_token(randomness.token()), list(done)

    async def attempt(session: Session) -> tuple[list[Command], list[str]]:
        _, values = await session.call(
            [("WATCH", token, shared_keys.CAMPAIGNS), ("HMGET", shared_keys.CAMPAIGNS, *names)]
        )
        pairs = zip(names, as_list(values), strict=True)
        same = [name for name, value in pairs if value and read(value) == done[name]]
        if not same:
            return [], same
        return [
            ("HINCRBY", shared_keys.CAMPAIGNS_META, VERSION_FIELD, 1),
            ("HDEL", shared_keys.CAMPAIGNS, *same),
            ("HDEL", shared_keys.CAMPAIGN_WORDS, *same),
            ("HDEL", shared_keys.RECIPIENTS, *same),
            (
                "HDEL",
                shared_keys.CANCELLING,
                *(f"{n}:{name}" for name in same for n in range(shards)),
            ),
        ], same

    dropped = await commit(redis, token, attempt, CommitCounts())
    ever = await shards_ever(redis, shards)
    commands: list[Command] = [
        ("DEL", keys_of(shard).campaign_counts(name)) for name in dropped for shard in ever
    ]
    if commands:
        await redis.call(commands)
    return len(dropped)
