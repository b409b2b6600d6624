"""How the time of a storm is moved on, past what would be idle polling.

When nothing is under way, the clock jumps to what is due next. What happens by itself (somebody
sends, a provider calls back) is reached to the moment. What dispatchers find by looking, each by
its own clock, is reached by lot: before it is due by any of their clocks, so that one finds it
before the others, or once it is due by all of them, so that all find it at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import trio

from gateway.core.records.entries import unmatched_codec
from gateway.settings.tables import Lanes
from gateway.store import shared_keys
from gateway.store.keys import Keys, keys_of
from gateway.store.waiting.queues import ZONES, budget_of, campaign_of
from tests.worlds.cascade_world import T0

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

LOOK_S = 0.7
LEAST_S = 2.0  # less is not worth a jump, after which every loop looks at once
MARGIN_S = 0.1
HORIZON_S = 8 * 24 * 3_600.0  # by then everything has ended, or something is wrong
PARKED_MS = 1_200_000
STRANGER = "nobody-"  # how the reference begins of a receipt that nothing ever matches


class MovingOn:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm

    async def run(self) -> None:
        """Until the storm is over. Says what the polling that is skipped would have said."""
        storm = self.storm
        while not storm.over():
            await trio.sleep(LOOK_S)
            storm.budgets.look()
            # Of dispatchers with nothing to do some call is slow at most times. (Seed 100555 made a
            # million of them while a budget was full.)
            storm.weather.fair = self._nothing_to_do() and self._ahead_s() >= LEAST_S
            if not storm.weather.fair or storm.weather.under_way:
                continue
            for event in sorted(event for event in storm.queue if event[3]):
                event[2]()
            storm.queue = [event for event in storm.queue if not event[3]]
            heapq.heapify(storm.queue)
            if self.quiet() and (ahead_s := self._ahead_s()) >= LEAST_S:
                self._jump(self._by_lot(ahead_s))

    def _jump(self, ahead_s: float) -> None:
        server = self.storm.server
        self.storm.virtual_clock.jump(ahead_s)
        for key in server.names():
            if key.startswith(shared_keys.alive("").encode()):
                server.outlive(key, int(Lanes().lease_ms))
            elif b"}lane:" in key:
                for group in server.data[key].groups.values():
                    for consumer in group.consumers:
                        group.consumers[consumer] += round(ahead_s * 1000)

    def quiet(self) -> bool:
        """Whether nothing is under way that time would be missing for."""
        return not self.storm.weather.under_way and self._nothing_to_do()

    def _nothing_to_do(self) -> bool:
        storm = self.storm
        if storm.busy or storm.weather.down or self._lane_entries():
            return False
        budgets = storm.budgets
        return not (storm.campaigns.not_through() or budgets.on_its_way() or budgets.have_room())

    # --- what is next

    def next_at_s(self) -> float:
        """The next moment something is due, as far as anybody knows."""
        return min(self._happens_at_s(), self._found_at_s())

    def _apart_s(self) -> float:
        """How far a dispatcher's clock may be from what is due, and a little more."""
        return self.storm.plan.clocks_apart_s + MARGIN_S

    def _ahead_s(self) -> float:
        until_s = min(self._happens_at_s(), self._found_at_s() - self._apart_s())
        return until_s - trio.current_time()

    def _by_lot(self, ahead_s: float) -> float:
        if self.storm.chance.random() < 0.5:
            return ahead_s
        until_s = min(self._happens_at_s(), self._found_at_s() + self._apart_s())
        return until_s - trio.current_time()

    def _happens_at_s(self) -> float:
        """What happens at its moment by itself."""
        at_s = min((at for at, _, _, soon in self.storm.queue if not soon), default=HORIZON_S)
        now = trio.current_time()
        return min([at_s, *(at for at in self.storm.budgets.moves_at_s() if at > now)])

    def _found_at_s(self) -> float:
        """What dispatchers find to be due."""
        now, at_s = trio.current_time(), HORIZON_S
        at_s = min([at_s, *(at for at in self.probes_at_s().values() if at > now)])
        due_ms = min(self._scores(), default=None)
        return at_s if due_ms is None else min(at_s, (due_ms - T0) / 1000)

    def _scores(self) -> Iterator[float]:
        value = self.storm.server.value
        for shard in range(self.storm.plan.shards):
            keys = keys_of(shard)
            for key in (keys.timers, *self._held_in(keys)):
                yield from (value(key.encode()) or {}).values()
            for member, score in (value(keys.unmatched_receipts.encode()) or {}).items():
                parked = unmatched_codec.decode(member)
                strange = (parked.receipt.ref or "").startswith(STRANGER)
                yield max(score, parked.since_ms + PARKED_MS) if strange else score

    def probes_at_s(self) -> dict[str, float]:
        """When the providers that stand still for an account fault are tried again."""
        found = self.storm.server.value(shared_keys.PAUSED.encode()) or {}
        untils = {
            name.decode(): msgspec.json.decode(value)["until"] for name, value in found.items()
        }
        return {name: (until - T0) / 1000 for name, until in untils.items()}

    def _lane_entries(self) -> int:
        """What waits in lanes that could be worked on now."""
        storm = self.storm
        soon_s = trio.current_time() + storm.plan.clocks_apart_s + 3.0
        resting = {name for name, at_s in self.probes_at_s().items() if at_s > soon_s}
        lanes = (
            keys_of(shard).lane(provider, category)
            for shard in range(storm.plan.shards)
            for provider in storm.books.keys() - resting
            for category in ("otp", "transactional", "marketing")
        )
        return sum(storm.server.do_xlen(lane.encode()) for lane in lanes)

    def _held_in(self, keys: Keys) -> list[str]:
        """Queues of what waits for a moment, but those that nobody releases from."""
        server = self.storm.server
        names = [name.decode() for name in server.value(shared_keys.QUEUES.encode()) or ()]
        paused = self.storm.campaigns.paused()
        return [
            keys.held(name)
            for name in names
            if name != ZONES
            and budget_of(name) is None
            and ((queue := campaign_of(name)) is None or queue.campaign not in paused)
        ]
