"""What was handed to a provider, for its invoice: under the references that it charged."""

from __future__ import annotations

from gateway.core.events import Accepted, Claimed, Event, StepRefused
from gateway.store.messages.sent_lines import lines_within
from providers.contract import Fault
from tests.worlds.cascade_world import DAY, T0, World, policy, request

EVENTS: tuple[Event, ...] = (
    Claimed(0),
    StepRefused(0, Fault("429", "throttled", False)),
    Accepted(0, series=0),  # the answer to an earlier process, which was late
    Accepted(0, series=1),
)


def test_a_step_sent_by_two_references_is_named_by_what_it_was_charged_for() -> None:
    world = World(policy(charged_on="sent"), request(route="sms-only"))
    found = []
    for event in EVENTS:
        world.happen(event)
        (line,) = lines_within([world.message], "sms", T0 - DAY, T0 + DAY)
        names = (line.id, *line.further_ids)
        found.append(tuple(name.removeprefix(line.message) for name in names))
    assert found == [(".0",), (".0.1",), (".0",), (".0", ".0.1")]
