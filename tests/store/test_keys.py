"""What stands in Redis after everything was used once, held against the table of keys.

Days of messages, receipts and faults are held against it in tests/simulation.
"""

from __future__ import annotations

import pytest

from gateway import telemetry
from gateway.core import events as ev
from gateway.finance.reports.verify import verify_ledger
from gateway.redis.client import RedisClient
from gateway.store.installation import api_keys, audit, snapshots
from gateway.store.installation.audit import Deed
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import note_provider_ids
from tests.ingress.callbacks.test_callbacks import BASIC, VIBER, report
from tests.worlds.ingress_world import OTP, SALE, T0, World, with_ingress
from tests.worlds.key_table import ONCE_CLOSED, TABLE, Row, fault_of


async def scan(redis: RedisClient) -> list[tuple[str, str, bool]]:
    """Every key with its type and whether it lapses."""
    (reply,) = await redis.call([("KEYS", "*")])
    assert isinstance(reply, list)
    names = sorted(name.decode() for name in reply)
    kinds = await redis.call([("TYPE", name) for name in names])
    lives = await redis.call([("PTTL", name) for name in names])
    return [
        (name, kind if isinstance(kind, str) else kind.decode(), life != -1)
        for name, kind, life in zip(names, kinds, lives, strict=True)
    ]


@with_ingress(shards=2)
async def test_every_key_is_in_the_table_with_its_type_and_its_end(world: World) -> None:
    id_ = (await world.send(OTP, Idempotency_Key="k1")).json["id"]
    await world.send(SALE | {"user": "u-1"})
    for number in range(world.store.retention.claims_max + 1):
        await world.send(OTP | {"campaign": f"c{number}"})
    await world.store.apply([Item(id_, ev.Claimed(0)), Item(id_, ev.Accepted(0))], T0)
    await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    await world.call("POST", VIBER, report("stranger"), key="")
    await world.call("PUT", "/v1/optouts/+79161234599", {"scope": "all"})
    await note_provider_ids(world.store, "sms", [("pid-1", f"{id_}.0")])
    key = await api_keys.create(world.redis, "shop", ["send"], T0)
    await api_keys.note_uses(world.redis, {api_keys.digest_of(key.encode()): T0})
    await world.redis.call([audit.command(Deed(T0, "shop", "optout.set"), of_app=True)])
    text = telemetry.snapshot(telemetry.new_registries(), "dispatch-here-1")
    await snapshots.publish(world.redis, "dispatch-here-1", text, T0)
    assert (await verify_ledger(world.redis, 2, full=False)).agrees
    found = await scan(world.redis)
    faults = [fault_of(name, kind, lapses=lapses) for name, kind, lapses in found]
    assert [fault for fault in faults if fault is not None] == []
    seen = {row.name for row in TABLE for name, _, _ in found if row.pattern.fullmatch(name)}
    assert seen >= USED_HERE
    assert any(name.endswith("m:" + id_) and lapses for name, _, lapses in found), "it is closed"


USED_HERE = {
    "{kN}m:<id>",
    "{kN}p:<digits>",
    "{kN}u:<user>",
    "{kN}c:<n>:<identity>:<c>",
    "{kN}i:<app>:<key>",
    "{kN}o",
    "{kN}lane:<provider>:<cat>",
    "{kN}timers",
    "{kN}ledger",
    "{kN}totals:<day>",
    "{kN}days",
    "{kN}verified",
    "{kN}events:<app>",
    "{kN}changed",
    "{kN}x:<provider>:<pid>",
    "{kN}parked",
    "{kN}t:<token>",
    "{kaskad}keys",
    "{kaskad}key_uses",
    "{kaskad}audit",
    "{kaskad}audit_apps",
    "{kaskad}campaigns:<month>",
    "{kaskad}processes",
    "{kaskad}stats:<process>",
}


@pytest.mark.parametrize(
    ("key", "kind", "lapses", "fault"),
    [
        ("{k3}m:1", "string", False, ""),
        ("{k3}t:1", "string", False, "never lapses"),
        ("{k3}ledger", "stream", True, "lapses"),
        ("{k3}ledger", "string", False, "is a string"),
        ("{k3}lost", "string", False, "not in exactly one row"),
        ("ledger", "stream", False, "not in exactly one row"),
    ],
)
def test_what_is_not_as_the_table_says_is_found(
    key: str, kind: str, *, lapses: bool, fault: str
) -> None:
    found = fault_of(key, kind, lapses=lapses)
    assert (found or "").count(fault) >= 1 if fault else found is None


def test_every_row_says_how_long_its_key_lives() -> None:
    assert len(TABLE) > 20
    assert all(isinstance(row, Row) and row.until for row in TABLE)
    assert sum(row.until == ONCE_CLOSED for row in TABLE) == 1
