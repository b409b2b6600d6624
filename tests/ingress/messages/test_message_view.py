"""What an app sees of a step that several providers were asked for."""

from __future__ import annotations

from gateway.core import events
from gateway.core.policy import RouteStep
from gateway.core.views.message import StepView, timeline_of, view_of
from providers.contract import Fault
from tests.worlds.cascade_world import DAY, ID, MINUTE, World, policy, request

BUSY = Fault("20", "BUSY", False)
STEPS = (RouteStep(("sms",), MINUTE, 0), RouteStep(("viber", "viber-2"), DAY, 0))


def started() -> World:
    """Its second step is in the lane of the first in line."""
    world = World(policy(steps=STEPS), request(category="transactional", campaign=None))
    assert shown(world).provider is None, "nobody is chosen yet"
    world.send()
    world.report("undelivered")
    return world


def shown(world: World) -> StepView:
    return view_of(world.message, "EUR").steps[1]


def test_a_step_shows_the_provider_that_has_it_and_all_tries() -> None:
    world = started()
    assert (shown(world).provider, shown(world).attempts) == ("viber", 0)
    world.happen(events.Claimed(1))
    world.happen(events.StepRefused(1, BUSY))
    step = shown(world)
    assert (step.provider, step.status, step.provider_id) == ("viber-2", "queued", None)
    assert step.error is not None
    assert (step.error.code, step.attempts) == ("20", 1)
    world.now_ms += 1_000
    world.happen(events.Claimed(1))
    world.happen(events.Accepted(1))
    step = shown(world)
    assert (step.provider, step.status, step.provider_id) == ("viber-2", "sent", f"{ID}.1.2")
    assert (step.error, step.attempts) == (None, 2)
    world.report("delivered", 1, provider="viber-2", series=2)
    step = shown(world)
    assert (step.billed, step.cost) == ("0.0090", "0.0060"), "sold by one, bought of the other"
    tried = [e.provider for e in timeline_of(world.message).items if e.event == "tried"]
    assert tried == ["sms", "viber", "viber-2"]


def test_a_step_shows_who_delivered_it_though_another_was_asked_since() -> None:
    world = started()
    world.happen(events.Claimed(1))
    for event in (events.LostAnswer(1), events.NotKnown(1), events.NotKnown(1), events.Claimed(1)):
        world.happen(event)
    assert shown(world).provider == "viber-2"
    world.report("delivered", 1, provider="viber", series=0)
    step = shown(world)
    assert (step.provider, step.provider_id, step.cost) == ("viber", f"{ID}.1", "0.0050")
    world.happen(events.Accepted(1, "theirs"))
    world.report("delivered", 1, provider="viber-2", series=1)
    step = shown(world)
    assert (step.provider, step.provider_id, step.cost) == ("viber", f"{ID}.1", "0.0110")
    assert step.billed == "0.0090"
