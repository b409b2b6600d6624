"""What a provider tells of as taken is recorded while others of its batch are open, and stays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import structlog.testing
import trio

from gateway.dispatch.dispatcher import dispatch
from gateway.store import shared_keys
from gateway.store.messages.receipts import take_receipts
from providers.contract import (
    AccountFault,
    BadRequest,
    Fault,
    NotSent,
    Outcome,
    Receipt,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from tests.worlds.dispatch_world import (
    DispatchWorld,
    Reply,
    ScriptedProvider,
    accept,
    dispatching,
    fail,
    under_trio,
    world,
)

COUNT = 8


class Half:
    """Tells of every second message of its batch, and ends as it is to when it may."""

    def __init__(self, provider: ScriptedProvider, ending: Reply = accept) -> None:
        self._provider = provider
        self._ending = ending
        self.told: list[str] = []
        self.open: list[str] = []
        self.may_end = trio.Event()

    async def __call__(self, batch: Sequence[Submission]) -> list[Outcome]:
        refs = [sent.ref for sent in batch]
        self.told += [ref.split(".")[0] for ref in refs[::2]]
        self.open += [ref.split(".")[0] for ref in refs[1::2]]
        self._provider.tell_taken([Submitted(ref, f"P-{ref}") for ref in refs[::2]])
        await self.may_end.wait()
        return await self._ending(batch)


async def told_half(w: DispatchWorld, half: Half) -> None:
    """Waits until the half that was told of is recorded, of batches that are open."""
    await w.until_true(lambda: len(half.told + half.open) == COUNT)
    await w.until(half.told, "sent", "planned")
    await w.until(half.open, "sending", "planned")


@pytest.mark.parametrize("shards", [1, 3])
def test_it_is_recorded_and_its_receipts_match_while_the_others_are_open(
    redis_url: str, shards: int
) -> None:
    async def main() -> None:
        async with world(redis_url, shards=shards) as w:
            half = Half(w.viber)
            w.viber.otherwise = half
            ids = await w.admit(COUNT)
            async with dispatching(w) as deps:

                def metric(name: str, **labels: str) -> float | None:
                    value = deps.metrics.registries.own.get_sample_value
                    return value(f"kaskad_dispatch_{name}", {"provider": "viber"} | labels)

                await told_half(w, half)
                await w.until_true(lambda: metric("claimed") == len(half.open))
                assert metric("requests_open") == len(w.viber.batches)
                assert await w.lane_entries() == len(half.open) > 0
                receipts = [Receipt("delivered", provider_id=f"P-{id_}.0") for id_ in half.told]
                await take_receipts(w.store, "viber", receipts, w.clock())
                await w.until(half.told, "delivered", "skipped")
                half.may_end.set()
                await w.until(half.open, "sent", "planned")
                await w.until_true(lambda: metric("claimed") == metric("requests_open") == 0)
                assert metric("outcomes_total", outcome="accepted") == COUNT
                assert metric("request_seconds_count") == len(w.viber.batches)
            assert await w.lane_entries() == 0
            assert w.viber.sent == dict.fromkeys(ids, 1)

    with structlog.testing.capture_logs() as logs:
        trio.run(main)
    requests = [each for each in logs if each["event"] == "request"]
    assert all(each["outcomes"] == {"accepted": each["n"]} for each in requests)
    assert sum(each["n"] for each in requests) == COUNT
    assert all(each["failed"] == [] for each in requests)


async def broken(batch: Sequence[Submission]) -> list[Outcome]:
    raise KeyError("messages")


async def refuse(batch: Sequence[Submission]) -> list[Outcome]:
    """Also what it had said it took, as no port may."""
    return [Refused(sent.ref, Fault("9", "unknown subscriber", True)) for sent in batch]


async def never(batch: Sequence[Submission]) -> list[Outcome]:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(
    ("ending", "others", "again"),
    [
        (fail(Unknown("answer_lost", "The session ended.")), ("unknown", "planned"), False),
        (broken, ("unknown", "planned"), False),
        (never, ("unknown", "planned"), False),
        (refuse, ("rejected", "sent"), False),
        (fail(NotSent("connect_failed", "Refused.")), ("sent", "planned"), True),
        (fail(Throttled("429", "Slow down.", retry_after_ms=50)), ("sent", "planned"), True),
        (fail(BadRequest("400", "One cannot be read.")), ("sent", "planned"), True),
        (fail(AccountFault("402", "No credit.")), ("queued", "planned"), False),
    ],
    ids=[
        "unknown",
        "bug",
        "deadline",
        "refused",
        "not sent",
        "throttled",
        "bad request",
        "account",
    ],
)
def test_whatever_the_batch_ends_with_it_is_the_others_alone(
    redis_url: str, ending: Reply, others: tuple[str, str], again: bool
) -> None:
    async def main() -> None:
        async with world(redis_url) as w:
            if ending is never:
                w.viber = ScriptedProvider("viber", timeout_ms=100)
            half = Half(w.viber, ending)
            w.viber.script = [half]
            ids = await w.admit(COUNT)
            async with dispatching(w) as deps:
                await told_half(w, half)
                half.may_end.set()
                await w.until(half.open, *others)
                accepted = deps.metrics.outcomes.labels("viber", "accepted")._value
                await w.until_true(lambda: accepted.get() == (COUNT if again else COUNT / 2))
                assert {await w.status(id_) for id_ in half.told} == {"sent"}
            for id_ in half.told:
                assert await w.steps(id_) == ["sent", "planned"]
                (attempt,) = (await w.message(id_)).steps[0].attempts
                assert attempt.provider_id == f"P-{id_}.0"
            assert w.viber.sent == {id_: 2 if again and id_ in half.open else 1 for id_ in ids}, (
                "what was told of is not sent again"
            )

    trio.run(main)


@under_trio
async def test_a_dispatcher_that_dies_leaves_only_the_others_unknown(redis_url: str) -> None:
    async with world(redis_url) as w:
        half = Half(w.viber)
        w.viber.script = [half]
        ids = await w.admit(COUNT)
        deps = w.deps()
        async with trio.open_nursery() as nursery:
            await nursery.start(dispatch, deps)
            await told_half(w, half)
            nursery.cancel_scope.cancel()
        await w.redis.call([("DEL", shared_keys.alive(deps.consumer))])
        receipts = [Receipt("delivered", provider_id=f"P-{id_}.0") for id_ in half.told]
        await take_receipts(w.store, "viber", receipts, w.clock())
        async with dispatching(w):
            await w.until(half.open, "unknown", "planned")
            await w.until(half.told, "delivered", "skipped")
        assert w.viber.sent == dict.fromkeys(ids, 1)


@under_trio
async def test_a_batch_of_which_all_is_told_of_has_nothing_left(redis_url: str) -> None:
    """Some twice, and what nobody sent."""

    async def tell_all(batch: Sequence[Submission]) -> list[Outcome]:
        for sent in batch:
            w.viber.tell_taken([Submitted(sent.ref, "first"), Submitted("nobody.0")])
            w.viber.tell_taken([Submitted(sent.ref, "second")])
        return await accept(batch)

    async with world(redis_url) as w:
        w.viber.script = [tell_all]
        ids = await w.admit(COUNT)
        async with dispatching(w) as deps:
            await w.until(ids, "sent", "planned")
            accepted = deps.metrics.outcomes.labels("viber", "accepted")._value
            await w.until_true(lambda: accepted.get() == COUNT)
            (more,) = await w.admit()
            await w.until([more], "sent", "planned")
        for id_ in ids:
            (attempt,) = (await w.message(id_)).steps[0].attempts
            assert attempt.provider_id == "first"
        assert w.viber.sent == dict.fromkeys([*ids, more], 1)


@under_trio
async def test_a_probe_that_is_told_of_ends_the_pause(redis_url: str) -> None:
    async def tell(batch: Sequence[Submission]) -> list[Outcome]:
        w.viber.tell_taken([Submitted(sent.ref) for sent in batch])
        raise Unknown("answer_lost", "The session ended.")

    async with world(redis_url) as w:
        w.viber.script = [fail(AccountFault("402", "No credit.")), tell]
        ids = await w.admit(COUNT)
        async with dispatching(w):
            await w.until_true(lambda: len(w.viber.batches) == 1)
            await w.until_true(lambda: len(w.viber.batches) > 1)
            await w.until(ids, "sent", "planned")
        assert len(w.viber.batches[1]) == 1
