"""What every operation of the store works with: the Redis client, the policy, the shards, and the
commit of a batch.

A batch that keeps meeting conflicts is split in halves, so that one hot person cannot starve the
others; so is one that cannot be decided, until the piece at fault is alone. It holds no state of
its own beyond counters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from gateway.core.ids import new_id, shard_of_id
from gateway.core.policy import Policy
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.errors import RedisError
from gateway.store import randomness
from gateway.store.campaigns import Campaigns
from gateway.store.ignored_prices import IgnoredPrices
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.lines import Lines
from gateway.store.transaction import CommitCounts, ConflictError, commit, values_in
from gateway.store.writes import Retention

BATCH_MAX = 256  # messages a transaction: larger ones block Redis longer than they save

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Try(Protocol[Result]):
    """One try at a batch's decision: reads with WATCH, returns the writes and the results."""

    async def attempt(self, session: Session) -> tuple[list[Command], list[Result]]: ...


class StoreBase:
    """Every call may raise RedisUnavailable. `restored_ms`: when the data was restored from a
    backup, or 0; what is older is asked for before it is sent."""

    def __init__(
        self,
        redis: RedisClient,
        policy: Policy,
        *,
        shards: int = 1,
        retention: Retention | None = None,
        restored_ms: int = 0,
    ) -> None:
        self.restored_ms = restored_ms
        self.redis = redis
        self.policy = policy
        self.shards = shards
        self.retention = retention or Retention()
        self.campaigns = Campaigns(self.retention.campaigns_max)
        self.lines = Lines()
        self.counts = CommitCounts()
        self.ignored_prices = IgnoredPrices(policy.providers)

    def shard_of_home(self, home: str) -> int:
        """The shard of a request whose first identity this is."""
        return shard_of(home, self.shards)

    def keys_for_message(self, message_id: str) -> Keys | None:
        """The keys of the shard named in the id; None when it is no id of this installation."""
        shard = shard_of_id(message_id)
        return None if shard is None or shard >= self.shards else keys_of(shard)

    def new_message_id(self, home: str, now_ms: int) -> str:
        return self.new_id_in(self.shard_of_home(home), now_ms)

    def new_id_in(self, shard: int, now_ms: int) -> str:
        return new_id(now_ms, shard, randomness.bits(45))

    async def in_pieces(
        self,
        keys: Keys,
        work: Sequence[Piece],
        try_of: Callable[[Sequence[Piece], str], Try[Result]],
        give_up: Callable[[Piece, Exception], Awaitable[Result]],
    ) -> list[Result]:
        """Commits the work in batches, halving one that conflicts until it goes through. A single
        piece that cannot be decided is given up, and nothing of it is written."""
        pieces = [work[i : i + BATCH_MAX] for i in range(0, len(work), BATCH_MAX)]
        pieces.reverse()
        results: list[Result] = []
        while pieces:
            piece = pieces.pop()
            token = keys.token(randomness.token())

            async def attempt(
                session: Session, piece: Sequence[Piece] = piece, token: str = token
            ) -> tuple[list[Command], list[Result]]:
                return await try_of(piece, token).attempt(session)

            try:
                results += await commit(self.redis, token, attempt, self.counts)
            except RedisError:
                raise
            except Exception as error:
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


def message_key(message_id: str) -> str:
    """Where the record of an id of ours stands."""
    shard = shard_of_id(message_id)
    assert shard is not None
    return keys_of(shard).message(message_id)


async def read_messages(redis: RedisClient, message_ids: Iterable[str]) -> dict[str, bytes | None]:
    """The records of messages in any shards, packed."""
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for id_ in message_ids:
        shard = shard_of_id(id_)
        assert shard is not None
        by_shard[shard].append(id_)
    replies = await redis.call(
        [("MGET", *(keys_of(s).message(i) for i in ids)) for s, ids in by_shard.items()]
    )
    return {
        id_: value
        for ids, reply in zip(by_shard.values(), replies, strict=True)
        for id_, value in zip(ids, values_in(reply), strict=True)
    }
