"""What comes late for messages that are archived and no longer in Redis: reactions, clicks and
conversions change them as ever, and they leave again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.archive.archive import Archive
from gateway.core import events as ev
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from providers.contract import Receipt
from tests.ingress.links.test_following import TRACKED, code, follow
from tests.ingress.messages.test_archived import archive_all, hide, with_archive
from tests.worlds.ingress_world import T0, World


async def sent(world: World, **changes: Any) -> str:
    """A tracked message that arrived and is closed."""
    id_: str = (await world.send(TRACKED | {"user": "u1"} | changes)).json["id"]
    await world.deliver(id_)
    seen = ev.Reported(0, Receipt("seen", ref=f"{id_}.0"), "viber")
    await world.store.apply([Item(id_, seen)], T0)
    return id_


async def there(world: World, ids: Iterable[str]) -> list[str]:
    return [message.id for message in await reads.readable_messages(world.store, list(ids))]


async def convert(world: World, **asked: Any) -> Any:
    return await world.call("POST", "/v1/conversions", {"id": "o1", "value": "49.90"} | asked)


async def total(world: World) -> dict[str, Any]:
    answer = await world.call("GET", "/v1/reports/cost", key="finance-key")
    found: dict[str, Any] = answer.json["total"]
    return found


@with_archive
async def test_a_conversion_is_put_down_to_an_archived_message(
    world: World, archive: Archive
) -> None:
    id_ = await sent(world)
    await archive_all(world, archive)
    assert await there(world, [id_]) == []
    for again in ("accepted", "duplicate"):
        answer = (await convert(world, message=id_)).json
        assert (answer["outcome"], answer["attributed"]["message"]) == (again, id_)
    assert ((await total(world))["conversions"], (await total(world))["revenue"]) == (1, "49.9000")
    await archive_all(world, archive)
    await archive_all(world, archive)
    assert await there(world, [id_]) == []
    assert (await convert(world, message=id_)).json["outcome"] == "duplicate"
    assert (await convert(world, id="o2", message=id_, value="-49.90")).json["attributed"][
        "by"
    ] == ("conversion")


@with_archive
async def test_a_user_stands_for_archived_messages_as_well(world: World, archive: Archive) -> None:
    id_ = await sent(world)
    await archive_all(world, archive)
    answer = (await convert(world, user="u1", campaign="autumn")).json
    assert answer["attributed"]["message"] == id_


@with_archive
async def test_reactions_and_clicks_count_for_archived_messages(
    world: World, archive: Archive
) -> None:
    first, second = await sent(world), await sent(world, to="+79161234500", user="u2")
    link = await code(world, second)
    await archive_all(world, archive)
    at = "2026-11-20T10:00:00Z"
    body = {"message": first, "kind": "clicked", "at": at}
    assert (await world.call("POST", "/v1/reactions", body)).json["outcome"] == "accepted"
    assert (await follow(world, f"/l/{link}")).status == 302
    await world.app.clicks.drained()
    assert (await total(world))["clicked"] == 2
    assert sorted(await there(world, [first, second])) == sorted([first, second])


@with_archive
async def test_what_cannot_be_looked_up_is_a_503_and_is_not_decided(
    world: World, archive: Archive
) -> None:
    id_ = await sent(world)
    await archive_all(world, archive)
    away = hide(archive, "messages")
    assert (await convert(world, user="u1", campaign="autumn")).status == 503
    assert (await convert(world, message=id_)).status == 503
    for path in away:
        path.rename(path.with_suffix(".parquet"))
    answer = (await convert(world, user="u1", campaign="autumn")).json
    assert (answer["outcome"], answer["attributed"]["message"]) == ("accepted", id_)
