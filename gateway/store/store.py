"""The store as its users see it: batches of requests in, answers out; batches of events in,
effects out.

Loop-neutral: it awaits nothing but the link, so ingress (uvloop) and dispatch (trio) use the same
object. It holds no state of its own beyond counters. A batch that keeps meeting conflicts is split
in halves, so that one hot person cannot starve the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from gateway.core.ids import new_id, shard_of_id
from gateway.core.policy import Policy
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.client import Command, Link, Session
from gateway.store import cross_shard as reserve
from gateway.store import randomness as noise
from gateway.store.admit import Admission
from gateway.store.apply import Application, Applied, Item
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.transaction import CommitCounts, ConflictError, commit
from gateway.store.writes import Retention

BATCH_MAX = 256  # messages a transaction: larger ones block Redis longer than they save

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Try(Protocol[Result]):
    """One try at a batch's decision: reads with WATCH, returns the writes and the results."""

    async def attempt(self, session: Session) -> tuple[list[Command], list[Result]]: ...


class Store:
    """All of Kaskad's state. Every call may raise StoreUnavailable."""

    def __init__(
        self, link: Link, policy: Policy, *, shards: int = 1, retention: Retention | None = None
    ) -> None:
        self.link = link
        self.policy = policy
        self.shards = shards
        self.retention = retention or Retention()
        self.counts = CommitCounts()

    def shard_of_home(self, home: str) -> int:
        """The shard of a request or message whose home is this identity."""
        return shard_of(home, self.shards)

    def keys_for_message(self, message_id: str) -> Keys | None:
        """The keys of the shard named in the id; None when it is no id of this installation."""
        shard = shard_of_id(message_id)
        return None if shard is None or shard >= self.shards else keys_of(shard)

    def new_message_id(self, home: str, now_ms: int) -> str:
        return new_id(now_ms, self.shard_of_home(home), noise.bits(45))

    async def admit(
        self, shard: int, requests: Sequence[MessageRequest], now_ms: int
    ) -> list[Answer]:
        """Decides requests whose homes are all in `shard`; one answer each, in order, durable."""
        if self.shards > 1:
            return await reserve.admit(self, shard, requests, now_ms)
        return await self.admit_at_home(shard, requests, now_ms)

    async def admit_at_home(
        self, shard: int, requests: Sequence[MessageRequest], now_ms: int
    ) -> list[Answer]:
        """As `admit`, for requests whose needs in other shards are met."""
        keys = keys_of(shard)

        def try_of(piece: Sequence[MessageRequest], token: str) -> Admission:
            return Admission(keys, piece, self.policy, self.retention, now_ms, token, self.shards)

        answers = await self._in_pieces(keys, requests, try_of)
        self.counts.newer += sum(answer.outcome == "unavailable" for answer in answers)
        return answers

    async def apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
        """Decides events of any shards' messages. The order of the result is by shard, then as
        given.

        Items of one message keep their order. An id that is none of ours comes back with `message`
        None; so does a message whose record is of a newer Kaskad, which is left alone.
        """
        by_shard: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            shard = shard_of_id(item.message_id)
            assert shard is not None, f"not a message id: {item.message_id!r}"
            by_shard[shard].append(item)
        applied: list[Applied] = []
        for shard, members in by_shard.items():
            keys = keys_of(shard)

            def try_of(piece: Sequence[Item], token: str, keys: Keys = keys) -> Application:
                return Application(
                    keys,
                    piece,
                    self.policy,
                    self.retention,
                    now_ms,
                    token,
                    self.link,
                    self.shards,
                )

            applied += await self._in_pieces(keys, members, try_of)
            if self.shards > 1 and any(a.effects.people_changed for a in applied):
                await reserve.copy_states(self, shard, now_ms)
        self.counts.newer += sum(a.newer for a in applied)
        return applied

    async def _in_pieces(
        self,
        keys: Keys,
        work: Sequence[Piece],
        try_of: Callable[[Sequence[Piece], str], Try[Result]],
    ) -> list[Result]:
        """Commits the work in batches, halving one that conflicts until it goes through."""
        pieces = [work[i : i + BATCH_MAX] for i in range(0, len(work), BATCH_MAX)]
        pieces.reverse()
        results: list[Result] = []
        while pieces:
            piece = pieces.pop()
            token = keys.token(noise.token())

            async def attempt(
                session: Session, piece: Sequence[Piece] = piece, token: str = token
            ) -> tuple[list[Command], list[Result]]:
                return await try_of(piece, token).attempt(session)

            try:
                results += await commit(self.link, token, attempt, self.counts)
            except ConflictError:
                if len(piece) == 1:
                    raise
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
            else:
                self.counts.items += len(piece)
        return results
