"""One provider's lanes as one dispatcher reads them: what has been read and not been claimed yet.

It keeps the buffers, most urgent category first, and knows which entries are pending under our
name. Buffers are bounded by what can be used soon. Entries of a closed shard stay where they are
until it opens.

A read that failed may have made entries pending that nobody here knows of: its shards are checked
before they are read again, which compares what Redis says we hold with what we know and makes
groups that are gone (Redis lost its data). A look at the dead does the same, for a read that was
done late.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import trio

from gateway.core.records.message import Message, StepStatus
from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.claim import Entry
from gateway.dispatch.worker.shards import Shards
from gateway.dispatch.worker.turns import Turns
from gateway.dispatch.worker.wake_ups import WakeUps
from gateway.redis.errors import CommandRefused, RedisUnavailable
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.waiting import lanes
from gateway.store.waiting.lanes import WaitingEntry
from providers.contract import Category

FRESH_S = 0.005  # after a read this young another would find nothing worth a round trip
READ_TOGETHER_S = 1.0  # a shard that says nothing for so long is read without the others


class _Place(NamedTuple):
    """What a stream is: one line of a shard's lane."""

    shard: int
    category: Category
    line: int


def _as_read(entry: Entry) -> WaitingEntry:
    return WaitingEntry(entry.message_id, entry.at)


def _is_being_sent(message: Message | None) -> bool:
    return message is not None and any(s.status == StepStatus.SENDING for s in message.steps)


class EntryReader:
    def __init__(self, deps: DispatchDeps, provider: str, shards: Shards) -> None:
        self._deps = deps
        self._shards = shards
        every = range(deps.store.shards)
        self._names = deps.store.policy.names_of(provider)
        self._lines = 0
        self._lanes: list[dict[str, _Place]] = [{} for _ in every]
        self._place: dict[str, _Place] = {}
        self._buffers = {category: Turns(deps.store.shards) for category in CATEGORIES}
        self._turn = 0  # whose shard's entries are selected first
        self._known: set[tuple[str, bytes]] = set()
        self._reading = trio.Lock()
        # What is taken over must be known before pending entries are counted, and nothing else.
        self._pending = [trio.Lock() for _ in every]
        self.read_at = -1.0  # trio's time of the last read of all lanes
        self.wake_ups = WakeUps(deps, provider, shards)
        self.read_lines()

    def read_lines(self) -> None:
        """Reads all lines of the lanes that there are by now."""
        new = range(self._lines, self._deps.store.lines.count)
        if not new:
            return
        for shard, lanes_of in enumerate(self._lanes):
            lanes_of |= {
                keys_of(shard).lane(name, category, line): _Place(shard, category, line)
                for name, category in self._wanted()
                for line in new
            }
            self._place |= lanes_of
        self._lines = new.stop
        self.wake_ups.listen_anew()

    def waiting(self) -> tuple[int, int, int]:
        """How many entries each category has ready."""
        otp, transactional, marketing = (
            self._buffers[category].count(self._shards.open) for category in CATEGORIES
        )
        return otp, transactional, marketing

    def select(self, counts: Sequence[int]) -> list[Entry]:
        """Takes up to the given number of each category; never two entries of one message.

        Lines take turns. Of a line, what one shard has goes before the next one's, because each
        shard costs a claim and a record of its own; which shard is first goes round, so that none
        waits for long."""
        shards = deque(self._shards.open)
        shards.rotate(-self._turn)
        self._turn += 1
        selected: dict[str, Entry] = {}
        for category, count in zip(CATEGORIES, counts, strict=True):
            for entry in self._buffers[category].take(count, shards, selected):
                selected[entry.message_id] = entry
        return list(selected.values())

    def give(self, entries: Iterable[Entry]) -> None:
        """Entries that are ours already go first in their buffers."""
        for entry in entries:
            self._buffers[entry.category].put_first(entry)
            self.wake_ups.wake()

    def forget(self, entries: Iterable[Entry]) -> None:
        """These are acknowledged: they are no longer held."""
        for entry in entries:
            self._known.discard((entry.at.lane, entry.at.entry))

    async def fill(
        self, soon: int, *, now: bool = False, only: Sequence[Category] | None = None
    ) -> None:
        """Reads what can be used soon: one round trip over all lanes of the open shards (`only`:
        those of some categories), none if one was just made (`now`: even then). Shards that do not
        answer are closed."""
        fresh = trio.current_time() - self.read_at < FRESH_S and any(self.waiting())
        if fresh and not now:
            return
        async with self._reading:
            shards = self._shards.open
            # Each shard has what one selection takes; a single one has it twice.
            enough = self._enough_of_a_line(max(soon, 2 * soon // max(len(shards), 1)))
            wanted = [
                (
                    lane,
                    enough[place.category]
                    - self._buffers[place.category].held(place.line, place.shard),
                )
                for shard in shards
                for lane, place in self._lanes[shard].items()
                if only is None or place.category in only
            ]
            found = await self._read(shards, wanted)
            if only is None and shards:
                self.read_at = trio.current_time()
            for waitings in found.values():
                self._add(waitings)

    async def give_back(self) -> None:
        """What was read and not selected goes back to its lanes, because the dispatcher stops or
        has no session any more. Should that fail it stays here, and pending for `leave`."""
        entries = [entry for turns in self._buffers.values() for entry in turns.clear()]
        try:
            await lanes.give_back(self._deps.redis, map(_as_read, entries))
        except RETRYABLE:
            self.give(reversed(entries))
        else:
            self.forget(entries)

    async def leave(self, *, unanswered: bool) -> None:
        """The dispatcher has stopped: all that is still pending under our name goes back to its
        lanes, but for what is being sent where requests are `unanswered`. In a shard that does not
        answer it is left to others."""
        for shard in range(self._deps.store.shards):
            try:
                await self._leave_shard(shard, unanswered=unanswered)
            except RETRYABLE as error:
                self._shards.suspect([shard], error)
            except CommandRefused as error:
                self._suspect_if_missing([shard], error)

    async def _leave_shard(self, shard: int, *, unanswered: bool) -> None:
        store, names = self._deps.store, list(self._lanes[shard])
        held = await lanes.held(store.redis, self._deps.consumer, names)
        if unanswered:
            messages = await reads.messages(store, shard, [w.message_id for w in held])
            held = [w for w in held if not _is_being_sent(messages.get(w.message_id))]
        await lanes.give_back(store.redis, held)

    async def wait_for_work(self) -> None:
        """Waits until reading is worthwhile; then what was read last is no longer fresh."""
        await self.wake_ups.wait_for_work()
        self.read_at = -1.0

    async def check(self, shard: int) -> None:
        """Makes what is missing of a shard's lanes, and finds what is pending under our name
        unknown to us. Raises RedisUnavailable; may be repeated."""
        await lanes.ensure_groups(self._deps.redis, shard, self._wanted(), range(self._lines))
        async with self._pending[shard]:
            await self._recount(shard)

    async def take_over(self, shard: int) -> list[Entry]:
        """What dead dispatchers held of a shard's lanes and is now ours, of one round. Raises
        RedisUnavailable.

        When Redis goes down in the middle, what was taken until then is returned: it is ours."""
        taken: list[Entry] = []
        async with self._pending[shard]:
            for lane in await self._survey(shard):
                try:
                    waitings = await lanes.take_over(self._deps.redis, self._deps.consumer, lane)
                except RedisUnavailable as error:
                    # Of one dead dispatcher some may be ours by now.
                    self._shards.suspect([shard], error)
                    break
                except CommandRefused as error:
                    self._suspect_if_missing([shard], error)
                    break
                taken += self._news(waitings)
        return taken

    def _enough_of_a_line(self, enough: int) -> dict[Category, int]:
        """How many entries of a line of each category are held, so that all lines together have
        enough: where several have something, each has twice its part."""
        return {
            category: min(enough, 2 * enough // max(turns.filled(), 1) + 1)
            for category, turns in self._buffers.items()
        }

    def _wanted(self) -> list[tuple[str, Category]]:
        """The lanes of a shard, those of earlier names too: what waits there is ours to send."""
        return [(name, category) for category in CATEGORIES for name in self._names]

    async def _read(
        self, shards: Sequence[int], wanted: Sequence[tuple[str, int]]
    ) -> dict[str, list[WaitingEntry]]:
        """Reads lanes of some shards. When that fails all of them are suspect; a single one has
        the Redis client's patience, several have READ_TOGETHER_S."""
        with trio.CancelScope() as together:
            if len(shards) > 1:
                together.deadline = trio.current_time() + READ_TOGETHER_S
            try:
                return await lanes.read(self._deps.redis, self._deps.consumer, wanted)
            except RETRYABLE as error:
                self._shards.suspect(shards, error)
            except CommandRefused as error:
                self._suspect_if_missing(shards, error)
            return {}
        self._shards.suspect(shards, RedisUnavailable("A read of several shards took too long."))
        return {}

    def _add(self, waitings: Iterable[WaitingEntry]) -> None:
        for entry in self._news(waitings):
            self._buffers[entry.category].add(entry)

    def _news(self, waitings: Iterable[WaitingEntry]) -> list[Entry]:
        """The entries we did not know we hold, which we do from now on."""
        news = []
        for waiting in waitings:
            key = (waiting.at.lane, waiting.at.entry)
            if key not in self._known:
                self._known.add(key)
                shard, category, line = self._place[waiting.at.lane]
                news.append(Entry(waiting.message_id, waiting.at, category, shard, line))
        return news

    async def _survey(self, shard: int) -> list[str]:
        """The lanes of a shard of which others hold something. Counts what is pending under our
        name: a read whose connection was cut may be done after the recount that followed (bytes
        that were delayed, a Redis that stood still)."""
        names = list(self._lanes[shard])
        try:
            surveys = await lanes.survey(self._deps.redis, self._deps.consumer, names)
        except CommandRefused as error:
            self._suspect_if_missing([shard], error)
            return []
        known = Counter(lane for lane, _ in self._known)
        found = list(zip(names, surveys, strict=True))
        if any(survey.mine > known[lane] for lane, survey in found):
            await self._recount(shard)
            self.wake_ups.wake_all()
        return [lane for lane, survey in found if survey.others]

    async def _recount(self, shard: int) -> None:
        names = list(self._lanes[shard])
        self._add(await lanes.held(self._deps.redis, self._deps.consumer, names))

    def _suspect_if_missing(self, shards: Sequence[int], error: CommandRefused) -> None:
        """Groups that are gone are made by the check; any other refusal is a bug and passes."""
        if not lanes.is_group_missing(error):
            raise error
        self._shards.suspect(shards, error)
