"""The budgets of a storm: how they stand, and when what waits for them may go on.

While the storm lasts it is looked every second or so whether one was exceeded, or has room that is
not given to what waits for it. What nobody can foresee may exceed it: what is charged beyond what
its message had reserved, because it arrived late or twice. That is written down where it is
decided, whether or not it is committed then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from gateway.core.money import budgets as rules
from gateway.core.money.budgets import Budget, Move
from gateway.core.records.entries import Post
from gateway.core.records.message import Message
from gateway.store import shared_keys
from gateway.store.keys import keys_of
from gateway.store.money.budgets import LEASE_MS
from gateway.store.waiting.queues import BUDGET
from tests.simulation.storm_policy import DEAREST, budgets_of
from tests.worlds.cascade_world import T0

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

EPOCH_S, EPOCHS = 60, 3  # as in lease.lua
RAISED = 2  # so many times as much
SPARE_SHARE = 0.02  # of a window: two of its parts
WAITS_MAX_S = 300.0  # with room, whoever dies or stands still
# How long after a lease something may be reserved of it: while it holds, and what a slow Redis
# adds; and what a process adds that stands still meanwhile.
RESERVES_S, STANDS_STILL_S = LEASE_MS / 1_000 + 2.0, 15.0


class Budgets:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        # By budget, message and what was charged for: when, and how much was not reserved for it.
        self._unforeseen: dict[tuple[str, str, str, int], tuple[float, int]] = {}
        self._room_since_s: float | None = None
        self._leased_s: dict[str, tuple[int, float]] = {}  # how much, as looked at, and since when

    def begin(self) -> None:
        storm, chance = self.storm, self.storm.chance
        if storm.plan.budget and chance.random() < 0.5:
            storm.later(chance.choice((2.0, 40.0, 1_000.0)), self._raise)

    def settle(
        self, message: Message, posts: Sequence[Post], known: Sequence[Budget]
    ) -> list[Move]:
        """Settles as ever, and writes down what exceeds what was reserved."""
        moves = rules.settle(message, posts, known)
        place = ",".join(f"{post.group.provider}.{post.step}" for post in posts)
        for move in moves:
            beyond = move.used + move.reserved
            if move.used and beyond > 0:
                about = move.budget, message.id, place, move.used
                self._unforeseen[about] = trio.current_time(), beyond
        return moves

    def look(self) -> None:
        """That none is exceeded, and that nothing waits for what there is."""
        now_ms = self._now_ms()
        self._note_leases()
        for budget in self.storm.policy.budgets:
            # What is used counts until its part of the window has left it as a whole.
            since_s = (budget.since_ms(now_ms) - budget.window_ms * SPARE_SHARE - T0) / 1_000
            unforeseen = sum(
                amount
                for (name, *_), (at_s, amount) in self._unforeseen.items()
                if name == budget.name and at_s > since_s
            )
            spent = self._spent(budget)
            assert spent <= budget.limit + unforeseen, (
                f"{budget.name} is exceeded: {spent} of {budget.limit}, and {unforeseen} unforeseen"
            )
        if self.storm.weather.down or not self.have_room():
            self._room_since_s = None
            return
        now_s = trio.current_time()
        if self._room_since_s is None:
            self._room_since_s = now_s
        waited_s = now_s - self._room_since_s
        assert waited_s < WAITS_MAX_S, f"there was room for {waited_s} s, and somebody waits"

    def have_room(self) -> bool:
        """Whether something waits that fits."""
        return any(
            budget.limit - self._spent(budget) - self._leased(budget) >= DEAREST
            for budget in self._waited_for()
        )

    def _note_leases(self) -> None:
        for budget in self.storm.policy.budgets:
            leased = self._leased(budget)
            before, _ = self._leased_s.get(budget.name, (0, 0.0))
            if leased > before:
                self._leased_s[budget.name] = leased, trio.current_time()
            elif leased < before:
                self._leased_s[budget.name] = leased, self._leased_s[budget.name][1]

    def on_its_way(self) -> bool:
        """Whether a process may have leased what it is about to reserve."""
        self._note_leases()
        plan, calm = self.storm.plan, self.storm.calm
        reserves_s = RESERVES_S + (STANDS_STILL_S if plan.still_share and not calm else 0.0)
        since_s = trio.current_time() - reserves_s
        return any(leased and at_s > since_s for leased, at_s in self._leased_s.values())

    def moves_at_s(self) -> Iterator[float]:
        """When there may be more room in those for which something waits."""
        spare_s = self.storm.plan.clocks_apart_s + 1.0
        for budget in self._waited_for():
            for fields in self.hashes(budget):
                for end_ms in (int(field) for field in fields if field.isdigit()):
                    yield (end_ms + budget.window_ms - T0) / 1_000 + spare_s
            for epoch in self.storm.server.value(shared_keys.leased(budget.name).encode()) or ():
                yield (int(epoch) + EPOCHS) * EPOCH_S - T0 / 1_000 + spare_s

    def _raise(self) -> None:
        storm = self.storm
        storm.note("there is more money")
        more = budgets_of(storm.plan, RAISED * storm.plan.budget)
        storm.policy = replace(storm.policy, budgets=more)
        for store in (slot.store for slot in storm.slots):
            if store is not None:
                store.policy = replace(store.policy, budgets=more)

    def _now_ms(self) -> int:
        """By the clock that is the furthest ahead: by it a window moves first."""
        ahead_ms = round(self.storm.plan.clocks_apart_s * 1_000)
        return T0 + round(trio.current_time() * 1_000) + ahead_ms

    def _waited_for(self) -> list[Budget]:
        shards = range(self.storm.plan.shards)
        return [
            budget
            for budget in self.storm.policy.budgets
            if any(
                self.storm.server.value(keys_of(shard).held(BUDGET + budget.name).encode())
                for shard in shards
            )
        ]

    def hashes(self, budget: Budget) -> Iterator[dict[str, int]]:
        """What each shard keeps of it."""
        for shard in range(self.storm.plan.shards):
            found = self.storm.server.value(keys_of(shard).budget(budget.name).encode()) or {}
            yield {field.decode(): int(amount) for field, amount in found.items()}

    def _spent(self, budget: Budget) -> int:
        since_ms = budget.since_ms(self._now_ms())
        return sum(
            amount
            for fields in self.hashes(budget)
            for field, amount in fields.items()
            if field == "reserved" or (field.isdigit() and int(field) > since_ms)
        )

    def _leased(self, budget: Budget) -> int:
        """What processes have leased lately, and not reserved."""
        storm = self.storm
        found = storm.server.value(shared_keys.leased(budget.name).encode()) or {}
        now_epoch = storm.server.now_us() // 1_000_000 // EPOCH_S
        reserved = Counter[str]()
        for fields in self.hashes(budget):
            reserved.update(fields)
        return sum(
            max(int(amount) - reserved[f"epoch:{epoch.decode()}"], 0)
            for epoch, amount in found.items()
            if int(epoch) > now_epoch - EPOCHS
        )
