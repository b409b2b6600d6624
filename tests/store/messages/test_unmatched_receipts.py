"""Receipts that nobody knew when they came: tried again together, each with an end of its own."""

from __future__ import annotations

import pytest
import structlog.testing
import trio

from gateway.store.keys import keys_of
from gateway.store.messages import receipts
from gateway.store.messages.receipts import (
    note_provider_ids,
    part_of,
    sweep_unmatched,
    take_receipts,
)
from providers.contract import Receipt
from tests.worlds.dispatch_world import DispatchWorld, dispatching, under_trio, world

KEY = keys_of(0).unmatched_receipts


async def outran(w: DispatchWorld, count: int) -> list[str]:
    """Messages that were sent, with a receipt each that came before its id was known."""
    ids = await w.admit(count)
    async with dispatching(w):
        await w.until(ids, "sent", "planned")
    told = [Receipt("delivered", provider_id=f"p-{n}") for n in range(count)]
    assert (await take_receipts(w.store, "viber", told, w.clock())).kept == count
    await note_provider_ids(w.store, "viber", [(f"p-{n}", f"{id_}.0") for n, id_ in enumerate(ids)])
    return ids


@under_trio
async def test_those_that_are_due_are_applied_in_one_transaction(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await outran(w, 20)
        w.go_ahead(2 * receipts.UNMATCHED_DELAY_MS)
        before = w.store.counts.commits
        taken = await sweep_unmatched(w.store, 0, w.clock())
        assert (taken.applied, w.store.counts.commits - before) == (20, 1)
        assert [await w.status(id_) for id_ in ids] == ["delivered"] * 20
        assert await w.redis.call([("ZCARD", KEY)]) == [0]


@under_trio
async def test_those_that_match_leave_the_others_where_they_are(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await outran(w, 1)
        strangers = [Receipt("delivered", provider_id=f"stranger-{n}") for n in range(2)]
        await take_receipts(w.store, "viber", strangers[:1], w.clock())
        w.go_ahead(w.store.retention.unmatched_ms)
        since_ms = w.clock()
        await take_receipts(w.store, "sms", strangers[1:], since_ms)
        now_ms = w.clock() + 2 * receipts.UNMATCHED_DELAY_MS
        taken = await sweep_unmatched(w.store, 0, now_ms)
        assert (taken.applied, taken.kept, taken.dropped) == (1, 1, strangers[:1])
        assert await w.status(id_) == "delivered"
        (left,) = await w.redis.call([("ZRANGE", KEY, 0, -1, "WITHSCORES")])
        assert isinstance(left, list)
        assert len(left) == 2
        assert float(left[1]) == now_ms + (now_ms - since_ms), "it waits as long again"


@under_trio
async def test_parts_that_outran_together_tell_their_message_once_all_are_there(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await outran(w, 1)
        told = [Receipt("delivered", provider_id=f"part-{n}") for n in (1, 2)]
        await take_receipts(w.store, "viber", told, w.clock())
        await note_provider_ids(
            w.store, "viber", [(f"part-{n}", part_of(f"{id_}.0", n, 2)) for n in (1, 2)]
        )
        await w.redis.call([("DEL", keys_of(0).provider_id("viber", "p-0"))])
        w.go_ahead(2 * receipts.UNMATCHED_DELAY_MS)
        taken = await sweep_unmatched(w.store, 0, w.clock())
        assert (taken.applied, taken.kept) == (2, 1)
        assert await w.status(id_) == "delivered"


def test_what_has_to_go_because_too_many_wait_is_counted_and_logged_once_a_minute(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "UNMATCHED_MAX", 3)

    async def main() -> None:
        async with world(redis_url) as w:
            gone = []
            with structlog.testing.capture_logs() as lines:
                for batch in range(3):
                    told = [Receipt("delivered", provider_id=f"{batch}-{n}") for n in range(2)]
                    taken = await take_receipts(w.store, "viber", told, w.clock())
                    gone.append(taken.crowded_out)
            assert gone == [0, 1, 2]
            assert [(line["provider"], line["n"]) for line in lines] == [("viber", 1)]
            assert await w.redis.call([("ZCARD", KEY)]) == [3]

    trio.run(main)
