"""One provider's lanes as one dispatcher reads them: what has been read and not been claimed yet.

Owns the buffers, most urgent category first, the doorbells that end an idle wait, and the knowledge
of which entries are pending under our name. It must not know limits, claims or providers.

Failures: StoreUnavailable passes to the lane, which waits. A read whose answer was lost may have
made entries pending that nobody here knows of; the next read then first compares what Redis says we
hold with what we know, and so does every look at the dead, for a read that was done late. A lane
whose group is gone (Redis lost its data) gets it again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.worker.claim import Entry
from gateway.redis.errors import OutcomeUnknown, StoreReplyError, StoreUnavailable
from gateway.store import lanes
from gateway.store.keys import keys_of
from gateway.store.lanes import Waiting
from providers.contract import Category

IDLE_S = 1.0  # an idle lane reads this often even if no bell rings
FRESH_S = 0.005  # after a read this young another would find nothing worth a round trip


class Intake:
    def __init__(self, deps: DispatchDeps, provider: str) -> None:
        self._deps = deps
        self._provider = provider
        self._watchdog = deps.watchdog("doorbell")
        self._category_of: dict[str, Category] = {
            keys_of(shard).lane(provider, category): category
            for shard in range(deps.store.shards)
            for category in CATEGORIES
        }
        self._buffers: dict[Category, deque[Entry]] = {c: deque() for c in CATEGORIES}
        self._known: set[tuple[str, bytes]] = set()
        self._lock = trio.Lock()  # reading and knowing what was read are one step
        self._unsure = False
        self.read_at = -1.0  # trio's time of the last read of all lanes
        self._work = trio.Event()
        self._hungry = trio.Event()
        self._code = trio.Event()
        self._codes_read = trio.Event()

    @property
    def lanes(self) -> list[str]:
        return list(self._category_of)

    def waiting(self) -> tuple[int, int, int]:
        """How many entries each category has ready."""
        otp, transactional, marketing = (len(self._buffers[c]) for c in CATEGORIES)
        return otp, transactional, marketing

    def pick(self, counts: Sequence[int]) -> list[Entry]:
        """Takes up to the given number of each category; never two entries of one message."""
        picked: dict[str, Entry] = {}
        for category, count in zip(CATEGORIES, counts, strict=True):
            buffer = self._buffers[category]
            again = []
            while buffer and count > 0:
                entry = buffer.popleft()
                if entry.message_id in picked:
                    again.append(entry)
                    continue
                picked[entry.message_id] = entry
                count -= 1
            buffer.extend(again)
        return list(picked.values())

    def give(self, entries: Iterable[Entry]) -> None:
        """Entries that are ours already go first in their buffers."""
        for entry in entries:
            self._buffers[entry.category].appendleft(entry)
            self._work.set()

    def forget(self, entries: Iterable[Entry]) -> None:
        """These are acknowledged: they are no longer held."""
        for entry in entries:
            self._known.discard((entry.at.lane, entry.at.entry))

    async def fill(self, soon: int, *, now: bool = False, codes: bool = False) -> None:
        """Reads what can be used soon: one round trip over all lanes (`codes`: the most urgent
        ones), none if one was just made (`now`: even then)."""
        fresh = trio.current_time() - self.read_at < FRESH_S and any(self.waiting())
        if fresh and not now:
            return
        async with self._lock:
            if self._unsure:
                await self._recount()
            shards = self._deps.store.shards
            wanted = []
            for lane, category in self._category_of.items():
                missing = 2 * soon - len(self._buffers[category])
                if not codes or category == CATEGORIES[0]:
                    wanted.append((lane, -(-missing // shards)))
            try:
                found = await lanes.read(self._deps.link, self._deps.consumer, wanted)
            except OutcomeUnknown:
                self._unsure = True
                raise
            except StoreReplyError as error:
                await self._repair(error)
                return
            if not codes:
                self.read_at = trio.current_time()
            for lane, waitings in found.items():
                self._buffers[self._category_of[lane]].extend(self._news(lane, waitings))

    async def idle(self) -> None:
        """Waits until reading is worthwhile."""
        self._hungry.set()
        with trio.move_on_after(IDLE_S):
            await self._work.wait()
        self._work = trio.Event()
        self._hungry = trio.Event()
        self.read_at = -1.0

    async def take_over(self) -> list[Entry]:
        """What dead dispatchers held of these lanes and is now ours, of one round.

        When Redis goes away in the middle, what was taken until then is returned: it is ours."""
        taken: list[Entry] = []
        async with self._lock:
            for lane in await self._survey():
                try:
                    waitings = await lanes.take_over(self._deps.link, self._deps.consumer, lane)
                except StoreUnavailable:
                    self._unsure = True  # of one dead dispatcher some may be ours by now
                    if taken:
                        return taken
                    raise
                except StoreReplyError as error:
                    await self._repair(error)
                    continue
                taken += self._news(lane, waitings)
        return taken

    def wake(self) -> None:
        """Ends `idle`: there is work that no bell tells of."""
        self._work.set()

    async def code(self) -> None:
        """Waits until a code has come since the last call; their bell is asked for the next."""
        self._codes_read.set()
        self._codes_read = trio.Event()
        await self._code.wait()
        self._code = trio.Event()

    async def ring(self, shard: int) -> None:
        """The doorbell of one shard's lanes but the codes': ends `idle` when something is new."""

        async def asked() -> None:
            await self._hungry.wait()

        await self._ring(shard, CATEGORIES[1:], self.wake, asked)

    async def ring_for_codes(self, shard: int) -> None:
        """The doorbell of one shard's codes, which is heard whatever goes on: ends `code`."""

        def rung() -> None:
            self._code.set()

        async def asked() -> None:
            await self._codes_read.wait()

        await self._ring(shard, CATEGORIES[:1], rung, asked)

    async def _ring(
        self,
        shard: int,
        categories: Sequence[Category],
        rung: Callable[[], None],
        asked: Callable[[], Awaitable[None]],
    ) -> None:
        """The ids it waits beyond are taken before the lane is told to read, so nothing falls
        between. It waits again once it is `asked`, or nothing has come."""
        names = [keys_of(shard).lane(self._provider, category) for category in categories]
        ids: list[bytes] = []
        told = False

        async def turn() -> float:
            nonlocal told
            try:
                if not ids or await lanes.wait_for_work(
                    self._deps.bell, list(zip(names, ids, strict=True))
                ):
                    ids[:] = await lanes.newest(self._deps.bell, names)
                    told = True
                    rung()
            except StoreReplyError as error:
                await self._repair(error)
            return 0.0

        while True:
            told = False
            await self._watchdog.until_done(turn)
            if told:
                await asked()

    def _news(self, lane: str, waitings: Iterable[Waiting]) -> list[Entry]:
        """The entries we did not know we hold, which we do from now on."""
        category = self._category_of[lane]
        news = [
            Entry(w.message_id, w.at, category)
            for w in waitings
            if (lane, w.at.entry) not in self._known
        ]
        self._known.update((lane, entry.at.entry) for entry in news)
        return news

    async def _survey(self) -> list[str]:
        """The lanes others hold something of. Notices what is pending under our name unknown to us:
        a read whose connection was cut may be done after the recount that followed (bytes that were
        delayed, a Redis that stood still)."""
        try:
            surveys = await lanes.survey(self._deps.link, self._deps.consumer, self.lanes)
        except StoreReplyError as error:
            await self._repair(error)
            return []
        known = Counter(lane for lane, _ in self._known)
        found = list(zip(self.lanes, surveys, strict=True))
        if any(survey.mine > known[lane] for lane, survey in found):
            self._unsure = True
        return [lane for lane, survey in found if survey.others]

    async def _recount(self) -> None:
        """After a lost answer: finds the entries that are pending under our name unknown to us."""
        for lane, category in self._category_of.items():
            held = await lanes.held(self._deps.link, self._deps.consumer, lane)
            self._buffers[category].extend(self._news(lane, held))
        self._unsure = False

    async def _repair(self, error: StoreReplyError) -> None:
        """Makes groups that are gone; any other refusal is a bug and passes."""
        if error.code != "NOGROUP" and "no such key" not in error.message:
            raise error
        wanted = [(self._provider, category) for category in CATEGORIES]
        await lanes.ensure_groups(self._deps.link, wanted, self._deps.store.shards)
