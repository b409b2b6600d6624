"""What an archive holds is never said not to be there because nobody says where it is."""

from __future__ import annotations

from gateway.core.ids import new_id
from gateway.store.keys import keys_of
from gateway.store.shared_keys import ARCHIVE
from tests.ingress.reports.test_ledger_lines import TODAY, fill, lines
from tests.worlds.ingress_world import World, with_ingress


@with_ingress()
async def test_what_is_not_in_redis_may_be_in_an_archive_that_is_not_configured_any_more(
    world: World,
) -> None:
    await fill(world)
    path = f"/v1/messages/{new_id(world.clock(), 0, 0)}"
    assert (await world.call("GET", path)).status == 404
    assert (await lines(world, TODAY)).status == 200

    first = (await world.redis.call([("XRANGE", keys_of(0).ledger, "-", "+", "COUNT", 1)]))[0]
    await world.redis.call([("XDEL", keys_of(0).ledger, first[0][0])])
    await world.redis.call([("HSET", ARCHIVE, "installation", "i", "rows", 1, "index_from_ms", 1)])
    for asked in (path, "/v1/messages?user=u", "/v1/users/nobody", f"/v1/ledger?{TODAY}"):
        found = await world.call("GET", asked)
        assert (found.status, found.json["type"]) == (503, "/docs#unavailable"), asked
        assert "archive cannot be read" in found.json["detail"]
