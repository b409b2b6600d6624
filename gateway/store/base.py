"""What every operation of the store works with: the Redis client, the policy, the shards, and the
commit of a batch.

A batch that keeps meeting conflicts is split in halves, so that one hot person cannot starve the
others; so is one that cannot be decided, until the piece at fault is alone. It holds no state of
its own beyond counters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from gateway.core.ids import new_id, shard_of_id
from gateway.core.money.budgets import Funds
from gateway.core.policy import Policy
from gateway.core.records.moved import is_moved, moved_to
from gateway.log_throttle import LogThrottle
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.errors import RedisError
from gateway.store import randomness
from gateway.store.campaigns.campaigns import Campaigns
from gateway.store.campaigns.declarations import Declarations
from gateway.store.events.webhooks import KnownWebhooks
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.messages.outcomes import Outcomes
from gateway.store.money.budgets import Budgets
from gateway.store.money.ignored_prices import IgnoredPrices
from gateway.store.reactions.links import Links
from gateway.store.reactions.tallies import Tallies
from gateway.store.requests.contents import Contents
from gateway.store.transaction import CommitCounts, ConflictError, commit, values_in
from gateway.store.waiting.lines import Lines
from gateway.store.waiting.queues import Queues
from gateway.store.writes import Retention, Writes
from gateway.traces import Traces

BATCH_MAX = 256  # messages a transaction: larger ones block Redis longer than they save

Piece = TypeVar("Piece")
ResultT = TypeVar("ResultT")


class Try(Protocol[ResultT]):
    """One try at a batch's decision: reads with WATCH, returns the writes and the results."""

    async def attempt(self, session: Session) -> tuple[list[Command], list[ResultT]]: ...


class Once(NamedTuple):
    """What one transaction has of its own: its token, and what it may reserve of budgets."""

    token: str
    funds: Funds


class StoreBase:
    """Every call may raise RedisUnavailable. `restored_ms`: when the data was restored from a
    backup, or 0; what is older is asked for before it is sent. `log_messages`: each change of a
    message is a line in the log."""

    def __init__(
        self,
        redis: RedisClient,
        policy: Policy,
        *,
        shards: int = 1,
        retention: Retention | None = None,
        restored_ms: int = 0,
        log_messages: bool = False,
    ) -> None:
        self.log_messages = log_messages
        self.restored_ms = restored_ms
        self.redis = redis
        self.traces: Traces | None = None  # of this process, where it traces
        self.declarations = Declarations()
        self.webhooks = KnownWebhooks()
        self.contents = Contents()
        self.policy = policy
        self.shards = shards
        self.retention = retention or Retention()
        self.campaigns = Campaigns(self.retention.campaigns_max)
        self.lines = Lines(shards)
        self.queues = Queues()
        self.any_users = False  # a user was stored once, as far as is known here
        self.zones_missed: set[str] = set()  # users whose zones are to be looked for, still
        self.links = Links()
        self.tallies = Tallies()
        self.budgets = Budgets()
        self.counts = CommitCounts()
        self.crowded_out = LogThrottle(60_000)  # of unmatched receipts, by provider
        self.outcomes = Outcomes()
        self.ignored_prices = IgnoredPrices(policy.providers)
        # Steps that another provider took over, by that which had them; with the zeros from which
        # a rate is reckoned.
        self.handed_over: Counter[str] = Counter(dict.fromkeys(policy.providers, 0))

    @property
    def policy(self) -> Policy:
        """What is configured, with what campaigns are declared to be."""
        return self._policy

    @policy.setter
    def policy(self, configured: Policy) -> None:
        self._policy = replace(configured, declared=self.declarations.declared)

    async def know_campaigns(self, now_ms: int) -> None:
        """To be called before a decision. Without a round trip where somebody looked lately, as in
        every process that is not held up: one that was knows of no pause yet. Raises
        RedisUnavailable."""
        if not self.declarations.are_known(now_ms):
            await self.look_at_campaigns(now_ms)

    async def look_at_campaigns(self, now_ms: int) -> None:
        """Reads what is declared of campaigns, and which webhooks there are, where it changed.
        Raises RedisUnavailable."""
        await self.webhooks.look(self.redis)
        if await self.declarations.look(self.redis, now_ms):
            self.policy = self._policy

    async def give_back_leases(self, now_ms: int) -> None:
        """What was leased of budgets and not needed in its time. Raises RedisUnavailable."""
        await self.budgets.give_back_old(self.redis, now_ms)

    async def read_words(self, campaign: str, words: bytes) -> bool:
        """Reads what a campaign says that named these words, so that `contents` has it; False where
        it names others by now. Raises what `Contents.read_drafts` raises."""
        return await self.contents.read_drafts(self.redis, campaign, words)

    async def lease(self, needs: Mapping[str, int], now_ms: int) -> frozenset[str]:
        """Leases so much of each budget, as far as there is; those that have less. One that is gone
        from the configuration has no end, and is asked for no more."""
        budgets = self.policy.budgets
        return await self.budgets.lease(self.redis, budgets, self.shards, needs, now_ms)

    def writes(self, keys: Keys, now_ms: int) -> Writes:
        """To collect what one transaction on a shard changes."""
        return Writes(
            keys,
            self.policy,
            self.retention,
            self.campaigns,
            self.lines,
            self.queues,
            self.webhooks.now,
            now_ms,
        )

    def shard_of_home(self, home: str) -> int:
        """The shard of a request whose first identity this is."""
        return shard_of(home, self.shards)

    def shard_of_message(self, message_id: str) -> int:
        """Where an id of ours says that its message is."""
        shard = shard_of_id(message_id)
        assert shard is not None, f"not a message id: {message_id!r}"
        return shard % self.shards

    def new_message_id(self, home: str, now_ms: int) -> str:
        return new_id(now_ms, shard_of(home, self.shards), randomness.id_bits())

    def new_id_in(self, shard: int, now_ms: int) -> str:
        return new_id(now_ms, shard, randomness.id_bits())

    async def in_pieces(
        self,
        keys: Keys,
        work: Sequence[Piece],
        now_ms: int,
        try_of: Callable[[Sequence[Piece], Once], Try[ResultT]],
        give_up: Callable[[Piece, Exception], Awaitable[ResultT]],
    ) -> list[ResultT]:
        """Commits the work in batches, halving one that conflicts until it goes through. A single
        piece that cannot be decided is given up, and nothing of it is written."""
        pieces = [work[i : i + BATCH_MAX] for i in range(0, len(work), BATCH_MAX)]
        pieces.reverse()
        results: list[ResultT] = []
        while pieces:
            piece = pieces.pop()
            once = Once(keys.token(randomness.token()), self.budgets.funds(now_ms))

            async def attempt(
                session: Session, piece: Sequence[Piece] = piece, once: Once = once
            ) -> tuple[list[Command], list[ResultT]]:
                once.funds.undo()
                return await try_of(piece, once).attempt(session)

            try:
                results += await commit(self.redis, once.token, attempt, self.counts)
            except RedisError:
                raise
            except Exception as error:
                once.funds.undo()
                if len(piece) == 1:
                    if isinstance(error, ConflictError):
                        raise
                    results.append(await give_up(piece[0], error))
                    continue
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
            else:
                self.counts.items += len(piece)
        return results


class Stored(NamedTuple):
    """What stands under the key of a message's record."""

    key: str
    value: bytes | None


async def read_messages(store: StoreBase, message_ids: Iterable[str]) -> dict[str, Stored]:
    """The records of messages in any shards, packed."""
    found = await _read(store, {id_: store.shard_of_message(id_) for id_ in message_ids})
    moved = {i: moved_to(s.value) for i, s in found.items() if s.value and is_moved(s.value)}
    return found | await _read(store, moved) if moved else found


async def _read(store: StoreBase, places: Mapping[str, int]) -> dict[str, Stored]:
    by_shard: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for id_, shard in places.items():
        by_shard[shard][id_] = keys_of(shard).message(id_)
    replies = await store.redis.call([("MGET", *names.values()) for names in by_shard.values()])
    return {
        id_: Stored(key, value)
        for names, reply in zip(by_shard.values(), replies, strict=True)
        for (id_, key), value in zip(names.items(), values_in(reply), strict=True)
    }
