"""What all processes count together: the exposures and reactions of each app's persons, by channel,
and how long the deliveries of each provider to each country take.

They are counted in the transactions that record what is counted, in the shard of each, and added up
by whoever needs them, each REFRESH_MS at most. A counter is bounded by the numbers of apps and
channels, or of providers, countries and bins, and lapses when nobody would look at it any more.
What is known stands where Redis cannot be asked; what cannot be read counts for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from gateway.core.money.days import DAY_MS
from gateway.core.people.rates import NO_RATES, NOTHING, THOUSAND, AppRates, Counted, Tally
from gateway.core.plan import KNOWN_NOTHING, Known
from gateway.core.policy import Policy
from gateway.core.waits import (
    BIN_LAST,
    DAYS,
    NOTHING_LEARNED,
    QUARTER_MS,
    QUARTERS,
    Delay,
    Learned,
    learn,
)
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.redis.errors import RedisUnavailable
from gateway.redis.replies import as_list, pairs, whole
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of

REFRESH_MS = 5_000
PERIOD_MS = 30 * DAY_MS  # what is counted in the same one fades together
PERIODS = 12
# Of delays: the letter in their key, how long each counts, and how many count with the present one.
_SPANS = (("d", DAY_MS, DAYS), ("q", QUARTER_MS, QUARTERS))
SPARE_MS = 3_600_000  # how much longer than it is looked at a counter stands
_PARTS = 3  # of a counter's name
_WHAT = frozenset(Counted.__struct_fields__)
_BINS = {str(number): number for number in range(BIN_LAST + 1)}


def tally_commands(keys: Keys, tallies: Iterable[Tally], now_ms: int) -> Iterator[Command]:
    """Counts exposures and reactions."""
    period = now_ms // PERIOD_MS
    key = keys.rates(period)
    counts = Counter(f"{tally.channel}:{tally.what}:{tally.app}" for tally in tallies)
    yield from (("HINCRBY", key, field, count) for field, count in counts.items())
    yield "PEXPIRE", key, (period + PERIODS) * PERIOD_MS + SPARE_MS - now_ms


def delay_commands(keys: Keys, delays: Iterable[Delay], now_ms: int) -> Iterator[Command]:
    """Counts how long deliveries took, by the day and by the quarter of an hour."""
    counts = Counter(f"{delay.bin}:{delay.country}:{delay.provider}" for delay in delays)
    for kind, length_ms, kept in _SPANS:
        number = now_ms // length_ms
        key = keys.delays(kind, number)
        yield from (("HINCRBY", key, field, count) for field, count in counts.items())
        yield "PEXPIRE", key, (number + kept) * length_ms - now_ms


class Tallies:
    """What one process knows of them; nothing is read where no route needs it."""

    def __init__(self) -> None:
        self.known = KNOWN_NOTHING
        self._next_ms = 0

    async def refresh(self, redis: RedisClient, policy: Policy, shards: int, now_ms: int) -> None:
        if now_ms < self._next_ms or not (policy.counts or policy.learning):
            return
        self._next_ms = now_ms + REFRESH_MS
        with suppress(RedisUnavailable):
            every = [keys_of(shard) for shard in await shards_ever(redis, shards)]
            rates = await _read_rates(redis, every, now_ms) if policy.counts else NO_RATES
            waits = NOTHING_LEARNED
            if policy.learning:
                waits = await _read_waits(redis, every, policy, now_ms)
            self.known = Known(rates, waits)


async def _read_rates(redis: RedisClient, every: Iterable[Keys], now_ms: int) -> AppRates:
    found: dict[tuple[str, str], Counted] = {}
    last = now_ms // PERIOD_MS
    for period in range(last - PERIODS + 1, last + 1):
        age_s = (now_ms - (period + 1) * PERIOD_MS) // 1000
        replies = await redis.call([("HGETALL", keys.rates(period)) for keys in every])
        for (channel, what, app), count in _counts_in(replies):
            if what in _WHAT:
                one = Counted(**{what: count * THOUSAND}).faded(age_s)
                found[app, channel] = found.get((app, channel), NOTHING) + one
    return found


async def _read_waits(
    redis: RedisClient, every: Sequence[Keys], policy: Policy, now_ms: int
) -> Learned:
    bins: defaultdict[tuple[str, str], list[Counter[int]]] = defaultdict(
        lambda: [Counter() for _ in range(DAYS + QUARTERS)]
    )
    spans = [(kind, now_ms // ms - age) for kind, ms, kept in _SPANS for age in range(kept)]
    for place, span in enumerate(spans):
        replies = await redis.call([("HGETALL", keys.delays(*span)) for keys in every])
        for (bin_, country, provider), count in _counts_in(replies):
            if bin_ in _BINS:
                bins[policy.present(provider), country][place][_BINS[bin_]] += count
    taught = {pair: learn(found[:DAYS], found[DAYS:]) for pair, found in bins.items()}
    return {pair: wait_ms for pair, wait_ms in taught.items() if wait_ms is not None}


def _counts_in(replies: Iterable[RedisReply]) -> Iterator[tuple[list[str], int]]:
    """Each counter by the three parts of its name. What another version counts beside them, or what
    is none, is passed over."""
    for reply in replies:
        for field, count in pairs(as_list(reply)):
            parts, number = field.decode(errors="replace").split(":", 2), whole(count)
            if len(parts) == _PARTS and number is not None:
                yield parts, number
