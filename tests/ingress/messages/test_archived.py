"""What a worker tells of archived messages and lines: the same as if they were in Redis still, but
for the person."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.archive.archive import Archive
from gateway.archive.place import Folder
from gateway.archive.run import Run, RunLimits
from gateway.ingress import archived
from gateway.store.keys import keys_of
from gateway.store.money.months import keep_report
from tests.ingress.callbacks.test_callbacks import BASIC, report
from tests.ingress.links.test_following import code, delivered, follow
from tests.ingress.reports.test_report_details import page
from tests.worlds.ingress_world import ENV, OTP, SALE, T0, World, with_ingress

KEY = "a key of the archive's hashes"
Test = Callable[[World, Archive], Awaitable[None]]


def with_archive(test: Test) -> Callable[[str, Path, pytest.MonkeyPatch], None]:
    @functools.wraps(test)
    def run(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ENV, "KASKAD_ARCHIVE_KEY", KEY)
        table = f'[archive]\nurl = "{tmp_path}/archive"\n[prices]'

        @with_ingress(shards=2, changed={"[prices]": table})
        async def inner(world: World) -> None:
            root = tmp_path / "archive"
            await test(world, Archive(Folder(root), str(root), KEY.encode()))

        inner(redis_url)

    del run.__wrapped__
    return run


async def send(world: World, count: int) -> list[str]:
    """Codes, each delivered."""
    ids = []
    for number in range(count):
        body = OTP | {"to": f"+7916123456{number}", "metadata": {"order": str(number)}}
        id_ = (await world.send(body)).json["id"]
        await world.hand_over(id_)
        await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
        ids.append(id_)
    return ids


async def archive_all(world: World, archive: Archive, rows_a_step: int = 1_000) -> None:
    async def pause() -> None:
        raise AssertionError("nobody else archives")

    limits = RunLimits(keep_ms=0, rows_a_step=rows_a_step)
    await Run(world.store, archive, limits, lambda: 10**14, pause).once()


async def lines(world: World, query: str = "") -> list[dict[str, Any]]:
    """All of them, a page after the other."""
    found, cursor = [], ""
    while True:
        path = f"/v1/ledger?from=2026-11-01&to=2026-11-30{query}{cursor}"
        answer = (await world.call("GET", path, key="finance-key")).json
        found += answer["items"]
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"


@with_archive
async def test_a_message_is_read_as_before_without_its_person(
    world: World, archive: Archive
) -> None:
    (id_,) = await send(world, 1)
    before = (await world.call("GET", f"/v1/messages/{id_}")).json
    timeline = (await world.call("GET", f"/v1/messages/{id_}/timeline")).json
    shown = await page(world, f"/reports/messages/{id_}")
    await archive_all(world, archive)
    shard = world.store.shard_of_message(id_)
    assert await world.redis.call([("EXISTS", keys_of(shard).message(id_))]) == [0]
    after = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert after == before | {"to": None, "user": None, "metadata": None}
    assert (await world.call("GET", f"/v1/messages/{id_}/timeline")).json == timeline
    assert (await world.call("GET", f"/v1/messages/{id_}/explain")).status == 200
    seen = await page(world, f"/reports/messages/{id_}")
    assert (seen.status, seen.body) == (200, shown.body)
    assert (await world.call("DELETE", f"/v1/messages/{id_}")).json["type"] == "/docs#final"
    other = await world.call("GET", f"/v1/messages/{id_}", key="bank-key")
    assert other.status == 404
    assert (await world.call("GET", "/v1/messages/0123456789ABCDEFGHJK")).status == 404


@with_archive
async def test_a_links_clicks_have_their_country_still(world: World, archive: Archive) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    path = f"/v1/links/{here}"
    await follow(world, f"/l/{here}")
    await world.app.clicks.drained()
    before = (await world.call("GET", path)).json
    assert (before["clicks"], before["by_country"]) == (1, {"RU": 1})
    await archive_all(world, archive)
    shard = world.store.shard_of_message(id_)
    assert await world.redis.call([("EXISTS", keys_of(shard).message(id_))]) == [0]
    assert (await world.call("GET", path)).json == before


@with_archive
async def test_the_ledgers_lines_are_the_same_wherever_they_are(
    world: World, archive: Archive
) -> None:
    await send(world, 3)
    before = await lines(world)
    assert len(before) == 6
    await archive_all(world, archive)
    assert await lines(world) == before
    assert await lines(world, "&limit=1") == before
    await send(world, 3)
    both = await lines(world)
    await archive_all(world, archive)
    again = await lines(world)
    assert sorted(again, key=str) == sorted(both, key=str)
    assert await lines(world, "&kind=bill&channel=sms") == [
        line for line in again if line["kind"] == "bill"
    ]
    assert await lines(world, "&campaign=none") == []
    assert await lines(world, "&step=0&day=2026-11-19") == []


@with_archive
async def test_what_was_archived_while_its_month_was_closed_says_so(
    world: World, archive: Archive
) -> None:
    """It is closed as of the moment in which that began."""
    await send(world, 2)
    await archive_all(world, archive)
    await keep_report(world.redis, "2026-11", b"{}", T0)
    archived = await lines(world)
    assert [line["reason"] for line in archived] == ["late:2026-11"] * 4


def hide(archive: Archive, table: str) -> list[Path]:
    """Where its files are now."""
    found = Path(archive.url).rglob(f"{table}/*/*.parquet")
    return [path.rename(path.with_suffix(".away")) for path in found]


@with_archive
async def test_an_archive_that_cannot_be_read_is_a_503_and_nothing_else(
    world: World, archive: Archive
) -> None:
    (id_,) = await send(world, 1)
    await archive_all(world, archive)
    hide(archive, "messages")
    answer = await world.call("GET", f"/v1/messages/{id_}")
    assert (answer.status, answer.headers["retry-after"] > "0") == (503, True)
    assert (await world.send(OTP | {"to": "+79161234590"})).status == 202


@contextmanager
def unmounted(archive: Archive, *, mount_point: bool) -> Iterator[None]:
    """Without its folder, or with an empty one in its place."""
    root = Path(archive.url)
    away = root.rename(root.with_name("away"))
    if mount_point:
        root.mkdir()
    yield
    if mount_point:
        root.rmdir()
    away.rename(root)


@with_archive
async def test_an_archive_whose_folder_is_not_mounted_is_not_taken_for_an_empty_one(
    world: World, archive: Archive
) -> None:
    """What it holds was told as forgotten, and the ledger's lines without it."""
    (id_,) = await send(world, 1)
    before = await lines(world)
    await archive_all(world, archive)
    ledger = "/v1/ledger?from=2026-11-01&to=2026-11-30"
    asked = [f"/v1/messages/{id_}", f"/v1/messages/{id_}/timeline", ledger]
    conversion = {"id": "order-1", "message": id_}
    for mount_point in (False, True):
        with unmounted(archive, mount_point=mount_point):
            for path in (*asked, "/v1/messages?phone=%2B79161234560"):
                key = "finance-key" if path == ledger else "shop-key"
                assert (await world.call("GET", path, key=key)).status == 503, path
            assert (await world.call("POST", "/v1/conversions", [conversion])).status == 503
    assert (await world.call("GET", f"/v1/messages/{id_}")).status == 200
    assert await lines(world) == before


@with_archive
async def test_while_the_archive_is_away_a_line_a_minute_says_so(
    world: World, archive: Archive
) -> None:
    """Each question had one."""
    (id_,) = await send(world, 1)
    await archive_all(world, archive)
    hide(archive, "messages")
    now = 0.0
    with pytest.MonkeyPatch.context() as patch, capture_logs() as lines:
        patch.setattr(archived, "time", SimpleNamespace(monotonic=lambda: now))
        for seconds in (0, 20, 39, 1):
            now += seconds
            assert (await world.call("GET", f"/v1/messages/{id_}")).status == 503
    told = [line for line in lines if line["event"] == "the archive cannot be read"]
    assert [line["n"] for line in told] == [1, 3]
    assert "parquet" in told[0]["reason"]


async def found(world: World, query: str) -> list[dict[str, Any]]:
    """All that are found, a page after the other."""
    items, cursor = [], ""
    while True:
        answer = await world.call("GET", f"/v1/messages?{query}{cursor}")
        assert answer.status == 200, answer.body
        items += answer.json["items"]
        if answer.json["next"] is None:
            return items
        cursor = f"&cursor={answer.json['next']}"


@with_archive
async def test_a_search_finds_messages_wherever_they_are(world: World, archive: Archive) -> None:
    await send(world, 3)
    sale = {"campaign": "autumn", "user": "u1", "to": "+79161234560"}
    (late,) = [(await world.send(SALE | sale)).json["id"]]
    queries = ["phone=%2B79161234560", "user=u1", "campaign=autumn", "campaign=autumn&status=sent"]
    counts = "/reports/messages?count=delivered&from=2026-11-01&to=2026-11-30"
    before = [await found(world, query) for query in queries]
    shown = await page(world, counts)
    assert [len(each) for each in before] == [2, 1, 1, 0]
    await archive_all(world, archive)
    gone = {"to": None, "user": None, "metadata": None}
    after = [await found(world, f"{query}&limit=1") for query in queries]
    assert after[1:] == before[1:]
    assert after[0] == [before[0][0], before[0][1] | gone]
    assert before[0][0]["id"] == late, "under way, so in Redis"
    assert (await page(world, counts)).body == shown.body


@with_archive
async def test_a_search_of_an_archive_that_cannot_be_read_is_a_503(
    world: World, archive: Archive
) -> None:
    ids = await send(world, 2)
    await archive_all(world, archive)
    assert [each["id"] for each in await found(world, "phone=%2B79161234561")] == ids[1:]
    hide(archive, "index")
    answer = await world.call("GET", "/v1/messages?phone=%2B79161234560")
    assert (answer.status, answer.headers["retry-after"] > "0") == (503, True)


@with_archive
async def test_whose_messages_are_archived_is_shown_what_is_held_and_forgotten(
    world: World, archive: Archive
) -> None:
    path = "/v1/users/u1"
    ids = []
    for key, campaign in (("shop-key", "autumn"), ("bank-key", "loans")):
        body = SALE | {"user": "u1", "campaign": campaign, "route": "sms-only"}
        ids.append((await world.call("POST", "/v1/messages", body, key=key)).json["id"])
        await world.hand_over(ids[-1])
        await world.call("POST", "/v1/callbacks/sms", report(f"{ids[-1]}.0"), BASIC, key="")
    before = (await world.call("GET", path)).json
    assert [claim["message"] for claim in before["claims"]] == ids[:1]
    await archive_all(world, archive)
    after = (await world.call("GET", path)).json
    assert (after["claims"], after["caps"]) == (before["claims"], before["caps"])
    assert after["messages"] == []
    assert (await world.call("DELETE", path)).status == 200
    assert (await world.call("GET", path)).status == 404
    assert (await world.call("DELETE", path)).status == 404
    theirs = (await world.call("GET", path, key="bank-key")).json
    assert [claim["message"] for claim in theirs["claims"]] == ids[1:]
    assert [cap["count"] for cap in theirs["caps"]] == [cap["count"] - 1 for cap in before["caps"]]
    again = await world.send(SALE | {"user": "u1", "route": "sms-only"})
    assert (again.status, again.json["outcome"]) == (202, "accepted")


@with_archive
async def test_what_holds_nothing_is_forgotten_in_the_archive_too(
    world: World, archive: Archive
) -> None:
    id_ = (await world.send(OTP | {"user": "u1"})).json["id"]
    await world.hand_over(id_)
    await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    await archive_all(world, archive)
    path, found = "/v1/users/u1", "/v1/messages?user=u1"
    assert [m["id"] for m in (await world.call("GET", found)).json["items"]] == [id_]
    assert (await world.call("DELETE", path, key="bank-key")).status == 404
    assert (await world.call("DELETE", path)).status == 200
    assert (await world.call("GET", found)).json["items"] == []
    assert (await world.call("DELETE", path)).status == 404
