"""What a dispatcher shows of the archive: how far behind it is, what it has, whether it fails."""

from __future__ import annotations

from unittest import mock

from msgspec.structs import replace

from gateway.core import events as ev
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.jobs import archive
from gateway.dispatch.jobs.archive import LOOK_S, ArchiveWatch
from gateway.store.archive import archiving
from gateway.store.messages.apply import Item
from tests.worlds.dispatch_world import SetClock, under_trio, world

clock = SetClock()
NAMES = ("lag_seconds", "files", "rows", "failing")


def shown(deps: DispatchDeps) -> list[float | None]:
    shared = deps.metrics.registries.shared
    return [shared.get_sample_value(f"kaskad_dispatch_archive_{name}") for name in NAMES]


@under_trio
@mock.patch.object(archive, "trio", clock)
async def test_how_the_archive_is_stands_in_the_metrics(redis_url: str) -> None:
    async with world(redis_url) as w:
        deps = w.deps()
        watch = ArchiveWatch(deps)
        ids = await w.admit(1)
        await watch.look()
        assert shown(deps) == [0, 0, 0, 0], "there is no archive"

        w.store.retention = replace(w.store.retention, archives=True)
        await w.store.apply([Item(ids[0], ev.Cancelled())], w.clock())
        booked_ms = await archiving.waiting_since(w.redis, range(w.store.shards))
        w.go_ahead(booked_ms + 7_000 - w.clock())
        await watch.look()
        lag, *others = shown(deps)
        assert lag is not None
        assert (7 <= lag < 8, others) == (True, [0, 0, 0])
        await archiving.note_failure(w.redis, "the disk is full", w.clock())
        await watch.look()
        assert shown(deps)[3] == 0, "it looks again later"
        clock.now += LOOK_S
        await watch.look()
        assert shown(deps)[3] == 1
        await archiving.note_success(w.redis, files=3, rows=40, through={}, now_ms=w.clock())
        clock.now += LOOK_S
        await watch.look()
        assert shown(deps)[1:] == [3, 40, 0]
