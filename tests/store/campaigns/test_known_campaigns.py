"""How long a process goes by what it knows of campaigns."""

from __future__ import annotations

import pytest

from gateway.core.campaigns.campaigns import Campaign
from gateway.core.events import Claimed
from gateway.core.records.held import Held
from gateway.store.campaigns import declarations
from gateway.store.campaigns.declarations import KNOWN_MS
from gateway.store.installation.audit import Deed
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from tests.worlds.cascade_world import ID, T0, policy, request
from tests.worlds.stores import in_store

PAUSED = Campaign(state="paused")


@pytest.mark.parametrize(
    ("later_ms", "held"), [(KNOWN_MS - 1, None), (KNOWN_MS, Held("paused")), (-1, Held("paused"))]
)
def test_a_process_that_was_held_up_looks_before_it_claims(
    redis_url: str, later_ms: int, held: Held | None
) -> None:
    """Found by the storms (seed 31005, 2026-11-29): it went by what it knew before a pause. A clock
    that was set back says nothing of how long that is."""

    async def work(store: Store) -> None:
        campaign = "autumn"
        await store.admit([request(id=ID, campaign=campaign)], T0)
        other = Store(store.redis, policy(), shards=store.shards)
        await other.look_at_campaigns(T0)
        deed = Deed(T0, "a test", "campaign.put", campaign)
        await declarations.change(
            store.redis, store.shards, campaign, lambda *_: (PAUSED, b""), lambda _: deed
        )
        (applied,) = await other.apply([Item(ID, Claimed(0))], T0 + later_ms)
        assert applied.message is not None
        assert (applied.message.held, applied.effects.submit) == (held, held is None)

    in_store(redis_url, work)
