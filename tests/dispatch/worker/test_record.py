"""What a request came to is divided by shard before it is recorded."""

from __future__ import annotations

import pytest

from gateway.core.events import LooseParts, LostAnswer
from gateway.core.ids import new_id, shard_of_id
from gateway.dispatch.worker.answers import RequestResult, read_outcomes
from gateway.dispatch.worker.claim import ClaimedStep, Entry
from gateway.dispatch.worker.record import by_shard
from gateway.store.messages.apply import LaneEntry
from providers.contract import Fault, Refused, Submission, Submitted
from tests.worlds.cascade_world import T0


def batch_of(*shards: int) -> list[ClaimedStep]:
    steps = []
    for n, shard in enumerate(shards):
        id_ = new_id(T0, shard, n)
        submission = Submission(f"{id_}.0", "+1", "Shop", "otp", "text", 60_000)
        entry = Entry(id_, LaneEntry(f"lane {shard}", b"1-1", shard), "otp", shard)
        steps.append(ClaimedStep(entry, 0, 1, 0.0, 0, submission))
    return steps


def answer_to(batch: list[ClaimedStep]) -> RequestResult:
    """The first message's answer is lost, the others are accepted under ids of the provider's."""
    return read_outcomes(
        batch,
        [Submitted(s.submission.ref, provider_id=f"P{n}") for n, s in enumerate(batch) if n],
        T0,
    )


def test_each_shard_gets_its_own_outcomes_and_ids() -> None:
    batch = batch_of(3, 0, 3, 0, 5)
    parts = by_shard(answer_to(batch))
    assert [part.shard for part in parts] == [3, 0, 5]
    for part in parts:
        assert {step.entry.shard for step in part.steps} == {part.shard}
        assert {shard_of_id(item.message_id) for item in part.items} == {part.shard}
        assert [item.message_id for item in part.items] == [s.entry.message_id for s in part.steps]
    assert [[pid for pid, _ in part.provider_ids] for part in parts] == [
        ["P2"],
        ["P1", "P3"],
        ["P4"],
    ]
    assert isinstance(parts[0].items[0].event, LostAnswer)


def test_a_result_of_one_shard_is_its_only_part() -> None:
    result = answer_to(batch_of(2, 2))
    (part,) = by_shard(result)
    assert (part.items, part.provider_ids) == (result.items, result.provider_ids)


@pytest.mark.parametrize("shards", [(4, 4, 4), (1, 2, 1)])
def test_parts_of_refused_texts_are_told_to_the_shards_of_these_before_the_refusals(
    shards: tuple[int, ...],
) -> None:
    batch = batch_of(*shards)
    fault = Fault("0x45", "submit_failed", True)
    refused = [
        Refused(step.submission.ref, fault, part_ids=(f"P{n}",)) for n, step in enumerate(batch)
    ]
    for part in by_shard(read_outcomes(batch, refused, T0)):
        ids = [step.entry.message_id for step in part.steps]
        assert [item.message_id for item in part.items] == ids * 2
        assert {type(item.event) for item in part.items[: len(ids)]} == {LooseParts}
        assert {item.shard for item in part.items[: len(ids)]} == {part.shard}
