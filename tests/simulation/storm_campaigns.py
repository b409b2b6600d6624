"""What is declared of campaigns in a storm, and from when on everybody knows it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import trio
from msgspec.structs import replace

from gateway.core.campaigns.campaigns import Campaign, CampaignState
from gateway.store import shared_keys
from gateway.store.campaigns import declarations
from gateway.store.installation.audit import Deed

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

NAMES = ("a", "b")
STATES: tuple[CampaignState, ...] = ("paused", "paused", "paused", "running", "cancelled")
KNOWN_S = 2.0  # what is declared holds everywhere by then
MOMENTS_S = (0.5, 3.0, 40.0, 3_000.0, 32_500.0)


class Still(NamedTuple):
    """Nothing of a campaign may start: from when this was answered until something else was
    asked for."""

    name: str
    heard_s: float
    until_s: float


class Campaigns:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.cancelled_s: dict[str, float] = {}  # when that was answered
        self.still: list[Still] = []
        self._paused_s: dict[str, float] = {}
        self._in_turn: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    def begin(self) -> None:
        storm, chance = self.storm, self.storm.chance
        if storm.plan.pace:
            storm.nursery.start_soon(self._declare, NAMES[0], "running", storm.plan.pace)
        for _ in range(storm.plan.changes):
            name, state = chance.choice(NAMES), chance.choice(STATES)
            at_s = chance.choice(MOMENTS_S) + chance.uniform(0, 10)
            storm.start(at_s, self._declare, name, state)
            if state == "paused":
                at_s += chance.choice((2.5, 30.0, 2_000.0, 50_000.0))
                goes_on: CampaignState = chance.choice(("running", "running", "cancelled"))
                storm.start(at_s, self._declare, name, goes_on)

    def paused(self) -> set[str]:
        return set(self._paused_s)

    def not_through(self) -> set[str]:
        """Those that were cancelled, but not all of their messages yet."""
        done = self.storm.server.value(shared_keys.CANCELLING.encode()) or {}
        shards = range(self.storm.plan.shards)
        return {
            name
            for name in self.cancelled_s
            if any(f"{shard}:{name}".encode() not in done for shard in shards)
        }

    async def _declare(self, name: str, state: CampaignState, pace: int = 0) -> None:
        """Until it is answered."""
        storm = self.storm
        async with self._in_turn[name]:
            if name in self.cancelled_s:
                return
            asked_s, clock = trio.current_time(), storm.clock()
            if state == "running":
                self._goes_on(name, asked_s)
            await storm.answered(lambda: self._once(name, state, pace, clock()))
            storm.note(f"campaign {name} is {state}")
            heard_s = trio.current_time()
            if state == "paused":
                self._paused_s.setdefault(name, heard_s)
            elif state == "cancelled":
                self._goes_on(name, heard_s)
                self.cancelled_s[name] = heard_s

    async def _once(self, name: str, state: CampaignState, pace: int, now_ms: int) -> None:
        def decide(before: Campaign | None, content: bytes) -> tuple[Campaign, bytes]:
            campaign = replace(before or Campaign(), state=state)
            if pace:
                campaign = replace(campaign, pace_per_min=pace)
            if state == "cancelled" and not campaign.cancelled_ms:
                campaign = replace(campaign, cancelled_ms=now_ms)
            return campaign, content

        storm, deed = self.storm, Deed(now_ms, "shop", "campaign", name)
        client = storm.client()
        await declarations.change(client, storm.plan.shards, name, decide, lambda _: deed)

    def _goes_on(self, name: str, now_s: float) -> None:
        if name in self._paused_s:
            self.still.append(Still(name, self._paused_s.pop(name), now_s))
