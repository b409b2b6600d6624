"""A changed configuration under load, in virtual time: its limits hold within two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.dispatch.deps import DispatchDeps
from gateway.settings import bootstrap
from gateway.settings.changes import Configuration
from gateway.settings.file import Settings, parse
from tests.simulation.pace import Pace
from tests.worlds.cascade_world import policy
from tests.worlds.ingress_world import CONFIG, ENV

BATCH = 5
BEFORE_S = 2.0
WITHIN_S = 2.0
LOOKED_AT_S = 5.0


def settings(rate: int) -> Settings:
    text = CONFIG.format(server="", shards=1)
    table = "[providers.viber]"
    return parse(text.replace(table, f'{table}\nrate = "{rate}/s"'), Path("/nowhere"), ENV)


class Changing(Pace):
    """Its dispatchers are told of changes, as SIGHUP tells each process."""

    def __init__(self, rate: int, **provider: Any) -> None:
        super().__init__(0.05, rate=rate, **provider)
        self._told: list[trio.MemorySendChannel[Configuration]] = []

    def deps(self, name: str) -> DispatchDeps:
        told, changes = trio.open_memory_channel[Configuration](0)
        self._told.append(told)
        return replace(super().deps(name), changes=changes)

    async def change(self, rate: int) -> None:
        changed = settings(rate)
        for told in self._told:
            await told.send(Configuration(changed, policy(), lambda: changed))


@pytest.mark.parametrize(("before", "after"), [(1, 20), (20, 2)])
def test_a_changed_rate_holds_within_two_seconds_and_no_request_fails(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    # The provider is a script, which has no callbacks whose proofs could change.
    monkeypatch.setattr(bootstrap, "reconfigure_provider", lambda *_: None)
    world = Changing(before, batch=BATCH)
    admitted: list[str] = []

    async def work() -> None:
        admitted.extend(await world.admit(200))
        await trio.sleep(BEFORE_S)
        await world.change(after)
        await trio.sleep(WITHIN_S + LOOKED_AT_S)

    world.run(work, dispatchers=2)
    begin = BEFORE_S + WITHIN_S
    sent = [at for at, _, _ in world.arrived if begin <= at < begin + LOOKED_AT_S]
    wanted = after * LOOKED_AT_S
    assert 0.9 * wanted <= len(sent) <= wanted + BATCH
    ids = [id_ for _, _, id_ in world.arrived]
    assert len(ids) == len(set(ids)), "once each: nothing was sent again"
    assert set(ids) <= set(admitted)
