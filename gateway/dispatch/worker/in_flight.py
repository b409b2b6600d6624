"""The account of one provider's worker: how many tokens, messages and requests are at which stage.

    tokens    granted -> imminent -> in the send queue
    messages  selecting -> claiming -> ready -> sending -> recording
                           claiming -> in doubt             (the claim's answer was lost)
                                       ready -> recording   (put back without having been sent)

Nothing else changes a count. Whatever is under way is an object with a method for each move, used
in a `with` block at whose end it leaves the account, also when it is cancelled. A claimed message
is counted for its shard from the claim to the record. A move that is not possible is a bug and
raises AssertionError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self

import trio


class InFlight:
    """The counts, to be read by everybody. `selecting` are places for messages, not messages."""

    def __init__(self, shards: int) -> None:
        self.granted = 0
        self.imminent = 0
        self.selecting = 0
        self.express = 0  # of those being claimed: otp that was not selected for tokens
        self.in_doubt = 0
        self.ready = 0
        self.sending = 0
        self.recording = 0
        self.requests = 0
        self._of_shard = [0] * shards
        self._claiming_of = [0] * shards
        self._freed = trio.Event()

    @property
    def claiming(self) -> int:
        return sum(self._claiming_of)

    def claiming_of(self, shards: Iterable[int]) -> int:
        return sum(self._claiming_of[shard] for shard in shards)

    @property
    def messages(self) -> int:
        """Claimed, or about to be, and not recorded."""
        return self.claiming + self.in_doubt + self.ready + self.sending + self.recording

    def messages_of(self, shards: Iterable[int]) -> int:
        return sum(self._of_shard[shard] for shard in shards)

    def grant(self, count: int) -> Tokens:
        return Tokens(self, count)

    def select(self, count: int) -> Selection:
        return Selection(self, count)

    def claim(self, shard: int, count: int, *, express: bool = False) -> Claiming:
        return Claiming(self, shard, count, express)

    def request(self, shards: Iterable[int]) -> Sending:
        """Begins a request of ready messages; `shards` has each message's."""
        return Sending(self, Counter(shards))

    def put_back(self, shard: int, count: int) -> Recording:
        """Ready messages are not sent after all."""
        self.ready -= count
        return Recording(self, shard, count)

    def freed(self) -> None:
        """There may be room for more."""
        self._freed.set()

    async def wait_freed(self) -> None:
        self._freed = trio.Event()
        await self._freed.wait()

    def change_shard(self, shard: int, change: int, *, claiming: int = 0) -> None:
        """For the moves of this module alone."""
        self._claiming_of[shard] += claiming
        self._of_shard[shard] += change
        assert self.messages == sum(self._of_shard), "a message is at two stages, or at none"

    def check(self) -> None:
        """Raises AssertionError unless every count can be."""
        assert self.granted >= 0
        assert self.imminent >= 0
        assert self.selecting >= 0
        assert 0 <= self.express <= self.claiming
        assert min(self.in_doubt, self.ready, self.sending, self.recording, self.requests) >= 0
        assert min(self._claiming_of) >= 0
        assert min(self._of_shard) >= 0


class _Leaves:
    """What leaves the account at the end of its `with` block."""

    __slots__ = ()

    def leave(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class Tokens(_Leaves):
    """One grant's tokens, until their moment has come."""

    __slots__ = ("_account", "_imminent", "count")

    def __init__(self, account: InFlight, count: int) -> None:
        assert count > 0
        self._account = account
        self._imminent = False
        self.count = count
        account.granted += count

    def become_imminent(self) -> None:
        """Messages are selected for them now."""
        assert not self._imminent
        self._imminent = True
        self._account.granted -= self.count
        self._account.imminent += self.count
        self._account.check()

    def leave(self) -> None:
        if self._imminent:
            self._account.imminent -= self.count
        else:
            self._account.granted -= self.count
        self._account.check()
        self._account.freed()


class Selection(_Leaves):
    """Places for messages that are about to be selected."""

    __slots__ = ("_account", "count")

    def __init__(self, account: InFlight, count: int) -> None:
        assert count >= 0
        self._account = account
        self.count = count
        account.selecting += count

    def leave(self) -> None:
        self._account.selecting -= self.count
        self._account.check()


class Claiming(_Leaves):
    """Messages of one shard whose claim is being made. Those that are not claimed leave with it."""

    __slots__ = ("_account", "_count", "_express", "_shard")

    def __init__(self, account: InFlight, shard: int, count: int, express: bool) -> None:
        assert count > 0
        self._account = account
        self._shard = shard
        self._count = count
        self._express = count if express else 0
        account.express += self._express
        account.change_shard(shard, count, claiming=count)

    def succeed(self, claimed: int) -> None:
        """So many were claimed and may be sent."""
        assert 0 <= claimed <= self._count
        self.leave()
        self._account.ready += claimed
        self._account.change_shard(self._shard, claimed)

    def fall_into_doubt(self) -> Doubt:
        """Nobody heard whether the claim was made: no tokens are to wait for these messages."""
        count = self._count
        self.leave()
        return Doubt(self._account, self._shard, count)

    def leave(self) -> None:
        self._account.express -= self._express
        self._account.change_shard(self._shard, -self._count, claiming=-self._count)
        self._count = self._express = 0
        self._account.check()
        self._account.freed()


class Doubt(_Leaves):
    """Messages of one shard that may have been claimed; none of them is sent."""

    __slots__ = ("_account", "_count", "_shard")

    def __init__(self, account: InFlight, shard: int, count: int) -> None:
        assert count > 0
        self._account = account
        self._shard = shard
        self._count = count
        account.in_doubt += count
        account.change_shard(shard, count)

    def leave(self) -> None:
        self._account.in_doubt -= self._count
        self._account.change_shard(self._shard, -self._count)
        self._account.check()
        self._account.freed()


class Sending(_Leaves):
    """One batch on its way to the provider, and the connection it takes. What it ends without a
    result (it was cancelled) leaves with it."""

    __slots__ = ("_account", "_left")

    def __init__(self, account: InFlight, messages: Counter[int]) -> None:
        count = messages.total()
        assert 0 < count <= account.ready
        self._account = account
        self._left = messages
        account.ready -= count
        account.sending += count
        account.requests += 1

    def answered(self, shard: int, count: int) -> Recording:
        """It is known what the request came to for so many messages of a shard."""
        assert 0 < count <= self._left[shard]
        self._left[shard] -= count
        self._account.sending -= count
        return Recording(self._account, shard, count)

    def leave(self) -> None:
        self._account.requests -= 1
        for shard, count in self._left.items():
            self._account.sending -= count
            self._account.change_shard(shard, -count)
        self._account.check()
        self._account.freed()


class Recording(_Leaves):
    """Messages of one shard whose outcome is known and being recorded."""

    __slots__ = ("_account", "_count", "_shard")

    def __init__(self, account: InFlight, shard: int, count: int) -> None:
        self._account = account
        self._shard = shard
        self._count = count
        account.recording += count
        account.check()

    def leave(self) -> None:
        self._account.recording -= self._count
        self._account.change_shard(self._shard, -self._count)
        self._account.check()
        self._account.freed()
