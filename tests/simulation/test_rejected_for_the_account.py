"""A sender that is not registered: the campaign stays where it is, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio

from gateway.core.records.message import StepStatus, names_of
from gateway.core.records.message_codec import unpack_message
from gateway.core.rejections import STREAK
from gateway.store.keys import keys_of
from gateway.store.providers import pauses
from gateway.store.providers.pauses import REJECTIONS, Pause, Trouble
from providers.contract import About, BadRequest, Fault, Outcome, Refused, Submission
from tests.simulation.pace import Pace

CAMPAIGN = 300


class Rejecting:
    """A provider that rejects everything for one reason until `until`."""

    def __init__(self, about: About, until: float, **provider: int) -> None:
        self.pace = Pace(0.005, **provider)
        self.about, self.until = about, until
        self._well = self.pace.provider.otherwise
        self.pace.provider.otherwise = self._reply
        self.tried: list[tuple[float, int]] = []

    async def _reply(self, batch: Sequence[Submission]) -> list[Outcome]:
        if trio.current_time() >= self.until:
            return await self._well(batch)
        self.tried.append((trio.current_time(), len(batch)))
        await trio.sleep(0.005)
        fault = Fault("13", "REJECTED_SENDER", True)
        return [Refused(s.ref, fault, about=self.about) for s in batch]

    async def steps(self, ids: Sequence[str]) -> Counter[str]:
        """The status of each message's first step."""
        keys = keys_of(0)
        records = await self.pace.store.redis.call([("GET", keys.message(id_)) for id_ in ids])
        messages = [unpack_message(id_, r) for id_, r in zip(ids, records, strict=True)]
        return Counter(names_of(StepStatus)[message.steps[0].status] for message in messages)


@pytest.mark.parametrize(
    ("batch", "rate", "rejected_max"), [(100, 10_000, 0), (1, 1_000, STREAK - 1)]
)
def test_a_campaign_waits_while_its_sender_is_not_registered(
    batch: int, rate: int, rejected_max: int
) -> None:
    """Every message went on to SMS before: 300 of 300."""
    world = Rejecting("account", 8.0, batch=batch, rate=rate, connections=4)

    async def work() -> None:
        ids = await world.pace.admit(CAMPAIGN)
        await trio.sleep(3.0)
        pause = (await pauses.read(world.pace.store.redis))["viber"]
        assert (pause.kind, pause.code, pause.by_receipt) == (REJECTIONS, "13", False)
        steps = await world.steps(ids)
        assert steps["rejected"] <= rejected_max
        assert steps["queued"] == CAMPAIGN - steps["rejected"]
        await trio.sleep(4.0)
        assert await world.steps(ids) == steps, "a probe that is rejected costs nothing either"
        await trio.sleep(15.0)
        assert (await world.steps(ids))["sent"] == CAMPAIGN - steps["rejected"]
        assert await pauses.read(world.pace.store.redis) == {}

    world.pace.run(work)
    probes = [count for at, count in world.tried if at > 1.0]
    assert probes == [1]


@pytest.mark.parametrize("about", ["person", "message"])
def test_no_viber_never_pauses_however_many(about: About) -> None:
    world = Rejecting(about, 100.0, batch=50, rate=1_000)

    async def work() -> None:
        ids = await world.pace.admit(CAMPAIGN)
        await trio.sleep(3.0)
        assert await world.steps(ids) == {"rejected": CAMPAIGN}
        assert await pauses.read(world.pace.store.redis) == {}

    world.pace.run(work)


def test_a_request_refused_for_its_sender_is_not_taken_apart() -> None:
    pace = Pace(0.005, rate=1_000, batch=100)

    async def refuse(batch: Sequence[Submission]) -> list[Outcome]:
        await trio.sleep(0.005)
        raise BadRequest("E400", "messages[0].sender: is unknown", about="account")

    pace.provider.otherwise = refuse

    async def work() -> None:
        await pace.admit(100)
        await trio.sleep(2.0)
        pause = (await pauses.read(pace.store.redis))["viber"]
        assert (pause.kind, pause.code) == (REJECTIONS, "E400")

    pace.run(work)
    assert sum(map(len, pace.provider.batches)) <= 3 * STREAK


def test_a_probe_is_noted_before_it_is_sent() -> None:
    """Its receipt may be faster than its answer."""
    pace = Pace(0.005)
    noted: list[bool] = []
    well = pace.provider.otherwise

    async def look(batch: Sequence[Submission]) -> list[Outcome]:
        pause = (await pauses.read(pace.store.redis))["viber"]
        noted.append({submission.ref for submission in batch} <= set(pause.probes))
        return await well(batch)

    pace.provider.otherwise = look

    async def work() -> None:
        trouble = Trouble(REJECTIONS, "13", "Nearly all receipts say so.", by_receipt=True)
        await pauses.change(
            pace.store.redis, "viber", lambda _: pauses.begun(trouble, pace.clock())
        )
        await trio.sleep(1.5)  # the dispatcher has read of it
        await pace.admit(1)
        await trio.sleep(6.0)

    pace.run(work)
    assert noted == [True]


def test_where_receipts_told_acceptance_ends_nothing_and_the_probe_is_noted() -> None:
    pace = Pace(0.005, rate=1_000, batch=100)

    async def work() -> None:
        trouble = Trouble(REJECTIONS, "13", "Nearly all receipts say so.", by_receipt=True)
        await pauses.change(
            pace.store.redis, "viber", lambda _: pauses.begun(trouble, pace.clock())
        )
        await trio.sleep(1.5)
        await pace.admit(CAMPAIGN)
        await trio.sleep(6.0)
        pause: Pause = (await pauses.read(pace.store.redis))["viber"]
        (ref,) = pause.probes
        assert [ref.partition(".")[0]] == [id_ for _, _, id_ in pace.arrived]
        await pauses.delete(pace.store.redis, "viber")  # as ingress does by its receipt
        await trio.sleep(3.0)
        assert len(pace.arrived) == CAMPAIGN

    pace.run(work)
