"""Messages by whom they went to or by campaign, wherever the index of them is: the archive has what
left Redis, and a person's messages in Redis are found there."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.archive import accepted
from gateway.archive.accepted import accepted_before
from gateway.archive.run import Rows
from gateway.archive.tables import INDEX
from gateway.core.archive.manifest import ArchiveFault
from gateway.core.ids import moment_of, new_id
from gateway.core.money.days import DAY_MS, day_of
from gateway.finance.archive_calls import AcceptedAsked
from gateway.store.archive import archived_index
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.person_index import IndexPlace
from gateway.store.people import persons
from tests.simulation.pace import Pace
from tests.worlds.archive_world import ArchiveWorld, with_archive
from tests.worlds.virtual_clock import VirtualClock


def whom(*numbers: int) -> list[tuple[str, ...]]:
    """The identities of the people whom `ArchiveWorld.send` writes to, one by one."""
    found: list[tuple[str, ...]] = []
    for n in numbers:
        found += [(f"p:7916{n:07}",), (f"u:user-{n}",), (f"p:7916{n:07}", f"u:user-{n}")]
    return found


@with_archive(shards=2)
async def test_a_search_finds_the_same_before_and_after(world: ArchiveWorld) -> None:
    ids = await world.delivered(4)
    under_way = await world.send(2, "winter")
    ids += await world.delivered(4, "spring")
    questions: list[dict[str, Any]] = [{"identities": each} for each in whom(0, 1, 3)]
    questions += [{"campaign": "spring 2"}]
    questions += [{"identities": ("e:somebody0@example.com",)}, {}, {"status": "queued"}]
    before = [await world.search(**question) for question in questions]
    assert before[0] == [ids[4], under_way[0], ids[0]]
    assert before[-1] == under_way[::-1]
    for limit in (50, 1, 2):
        await world.archived(keep_ms=0, rows_a_step=7)
        assert [await world.search(limit, **each) for each in questions] == before
    late = await world.delivered(4, "late")
    assert await world.search(3, identities=("p:79160000000",)) == [late[0], *before[0]]
    for shard in range(2):
        (entries,) = await world.redis.call([("XRANGE", keys_of(shard).index, "-", "+")])
        assert len(entries) <= 3, "what is in Redis still was listed anew"


@with_archive(shards=2)
async def test_a_message_that_a_receipt_brought_back_is_found_all_the_while(
    world: ArchiveWorld,
) -> None:
    ids = await world.delivered(1)
    await world.archived(keep_ms=0)
    await world.tell(ids, "seen")
    assert (await world.archived(keep_ms=0)).brought_back == 1
    assert await reads.message(world.store, ids[0]) is not None
    assert await world.search(identities=("p:79160000000",), status="seen") == ids


@with_archive(shards=2)
async def test_who_is_erased_is_found_by_what_was_erased_no_more(world: ArchiveWorld) -> None:
    """Nor are its claims left, whose campaigns only the index could name."""
    world.store.retention = replace(world.store.retention, claims_max=0)
    ids = await world.delivered(2)
    await world.archived(keep_ms=0)
    under_way = await world.send(2, "winter")
    await world.archived(keep_ms=0)
    home = "p:79160000000"
    assert await world.search(identities=(home,)) == [under_way[0], ids[0]]
    found = await persons.find(world.store, home, world.now_ms)
    assert (list(found.messages), found.campaigns) == (under_way[:1], {"autumn 0", "winter 0"})
    await persons.erase(world.store, found, world.now_ms)
    for identity in (home, "u:user-0", "e:somebody0@example.com"):
        assert await world.search(identities=(identity,)) == []
    (left,) = await world.redis.call([("KEYS", "*79160000000*")])
    assert left == []
    await world.archived(keep_ms=0)
    assert await world.search(identities=(home,)) == []
    assert await world.search(campaign="autumn 0") == ids[:1]
    assert await world.search(identities=("p:79160000001",)) == [under_way[1], ids[1]]
    again = await world.delivered(1, "spring")
    await world.archived(keep_ms=0)
    assert await world.search(identities=(home,)) == again


@with_archive()
async def test_a_search_with_another_key_is_refused(world: ArchiveWorld) -> None:
    await world.delivered(1)
    await world.archived(keep_ms=0)
    asked = AcceptedAsked(IndexPlace(10**13, 0, 0, 0), 5, {"p:": "0" * 16}, "another mark")
    with pytest.raises(ArchiveFault, match="another hash key"):
        accepted_before(world.archive, asked)


@with_archive()
async def test_a_search_reads_whole_days_and_says_how_far_it_came(world: ArchiveWorld) -> None:
    ids = [new_id(day * DAY_MS, 0, number) for day in (1, 2, 3, 4) for number in (0, 1)]
    rows: Rows = defaultdict(list)
    for n, id_ in enumerate(ids):
        at_ms, campaign = (moment_of(id_) or 0) + n, "old" if n == 1 else None
        row = (id_, at_ms, 0, 0, 0, campaign, None, None, None)
        rows[INDEX, day_of(at_ms).isoformat()].append(row)
    world.archive.place.found(b"{}")
    world.archive.put(rows, {}, {0: (9, 0)}, world.archive.place.manifest())
    begin = IndexPlace(9 * DAY_MS, 0, 0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accepted, "ROWS_MAX", 3)
        told, after = await world.accepted((), "old", begin, 5)
        assert told == []
        assert after == IndexPlace(3 * DAY_MS, 0, 0, 0)
        told, end = await world.accepted((), "old", after, 5)
        assert ([each.message for each in told], end) == ([ids[1]], None)
    told, after = await world.accepted((), None, begin, 3)
    assert [each.message for each in told] == ids[:-4:-1]
    assert after == told[-1].place


@pytest.mark.parametrize("after_ms", [0.0, 0.4, 0.8, 1.2, 1.6])
def test_from_when_the_index_is_whole_never_goes_back(after_ms: float) -> None:
    """Two say it at once, as when one stood still and the other archived more meanwhile: what lies
    between would be looked for in Redis, which has it no more."""
    redis = Pace(answer_s=0.1).store.redis

    async def earlier() -> None:
        await trio.sleep(after_ms / 1000)
        await archived_index.note_whole_from(redis, 100)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(archived_index.note_whole_from, redis, 200)
            nursery.start_soon(earlier)
        assert await archived_index.whole_from(redis) == 200

    VirtualClock().run(main)
