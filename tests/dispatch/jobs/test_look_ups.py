"""Look-ups by the thousand, in virtual time and without Redis: side by side, bounded, held."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from gateway.core.events import NotKnown, Reported, StepRefused
from gateway.core.ids import new_id, step_ref
from gateway.core.records.message import Message
from gateway.dispatch.jobs import look_ups
from gateway.dispatch.jobs.look_ups import QUESTIONS_MAX, LookUps
from gateway.dispatch.pauses import Pauses
from gateway.store.messages.apply import Applied, Item
from gateway.store.providers.pauses import OUTAGE, Trouble
from gateway.store.store import Store
from providers.contract import Fault, NotSent, PartlyRead, Receipt, SendFault, Throttled, Unknown
from tests.simulation.pace import Pace
from tests.worlds.cascade_world import T0
from tests.worlds.cascade_world import World as Cascade
from tests.worlds.dispatch_world import ScriptedProvider


class AskedProvider(ScriptedProvider):
    """It takes 30 references, answers in `answer_s`, and knows every second one."""

    def __init__(self, answer_s: float) -> None:
        super().__init__("viber")
        self.look_up_max = 30
        self.answer_s = answer_s
        self.faults: list[SendFault] = []
        self.rejects: Fault | None = None
        self.questions: list[tuple[float, list[str]]] = []
        self.open = self.most_open = 0

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        self.questions.append((trio.current_time(), list(refs)))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await trio.sleep(self.answer_s)
        self.open -= 1
        if self.faults:
            raise self.faults.pop(0)
        if self.rejects is not None:
            return [Receipt("rejected", ref, fault=self.rejects, unreachable=True) for ref in refs]
        return [Receipt(status="sent", ref=ref) for ref in refs[::2]]


class RecordingStore(Store):
    """It keeps what is to be applied."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.redis, store.policy)
        self.recorded: list[Item] = []

    async def apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
        self.recorded += items
        await trio.lowlevel.checkpoint()
        return []


class Asking:
    """Look-ups at one provider."""

    def __init__(self, answer_s: float = 0.2) -> None:
        self.pace = Pace(0.005)
        self.provider = AskedProvider(answer_s)
        self.store = RecordingStore(self.pace.store)
        deps = replace(self.pace.deps("d"), store=self.store)
        self.pauses = Pauses(deps)
        self.look_ups = LookUps(deps, self.provider, self.pauses)

    def lose(self, count: int, *, first: int = 0) -> list[str]:
        """So many steps are to be looked up; their references."""
        refs = []
        for number in range(first, first + count):
            message: Message = copy.copy(Cascade().message)
            message.id = new_id(T0, 0, number)
            self.look_ups.add(message)
            refs.append(step_ref(message.id, message.current, message.step.series))
        return refs

    def run(self, work: Callable[[], Awaitable[Any]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.look_ups.run)
                await work()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_ten_thousand_lost_answers_are_known_within_two_minutes() -> None:
    """One question after the other they took 67 s and more; with a slower answer, for ever."""
    asking = Asking(answer_s=0.5)

    async def work() -> None:
        refs = asking.lose(10_000)
        await trio.sleep(30.0)
        questions = asking.provider.questions
        assert sorted(ref for _, asked in questions for ref in asked) == sorted(refs)
        assert len(asking.store.recorded) == 10_000
        kinds = [type(item.event) for item in asking.store.recorded]
        assert kinds.count(Reported) == sum(-(-len(refs) // 2) for _, refs in questions)
        assert kinds.count(Reported) + kinds.count(NotKnown) == 10_000

    asking.run(work)
    assert asking.provider.most_open == QUESTIONS_MAX
    assert max(len(refs) for _, refs in asking.provider.questions) == 30


def test_what_is_under_way_is_bounded_and_asked_by_a_later_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(look_ups, "UNDER_WAY_MAX", 1_000)
    asking = Asking()

    async def work() -> None:
        asking.lose(1_200)
        await trio.sleep(10.0)
        assert len(asking.store.recorded) == 1_000
        asking.lose(1_200)  # their next timer
        await trio.sleep(10.0)
        assert len(asking.store.recorded) == 2_000

    asking.run(work)


@pytest.mark.parametrize(
    ("fault", "rest_s", "again"),
    [
        (Throttled("E429", "Slow down.", retry_after_ms=7_000), 7.0, True),
        (NotSent("connect_failed", "Refused."), look_ups.REST_MIN_S / 2, True),
        (Unknown("answer_unreadable", "A row."), look_ups.REST_MIN_S / 2, False),
    ],
)
def test_after_a_question_that_failed_nobody_asks_for_a_while(
    fault: SendFault, rest_s: float, again: bool
) -> None:
    asking = Asking()
    asking.provider.faults = [fault]

    async def work() -> None:
        refs = asking.lose(5)
        await trio.sleep(0.3)
        more = asking.lose(7, first=5)
        await trio.sleep(20.0)
        (_, first), (at, then) = asking.provider.questions
        assert first == refs
        assert at >= 0.2 + rest_s
        assert then == (refs + more if again else more), "the others are left to their timer"
        assert len(asking.store.recorded) == len(then)

    asking.run(work)


def test_an_entry_that_cannot_be_read_keeps_no_other_from_being_known() -> None:
    """It might be any of those that are not named: none of them counts as not known."""
    asking = Asking()

    async def work() -> None:
        refs = asking.lose(5)
        known = [Receipt(status="sent", ref=ref) for ref in refs[1:3]]
        asking.provider.faults = [PartlyRead("row_unreadable", "A row.", known)]
        await trio.sleep(1.0)
        events = [item.event for item in asking.store.recorded]
        assert [event.receipt.ref for event in events if isinstance(event, Reported)] == refs[1:3]
        assert len(events) == 2
        asking.lose(5)  # their next timer
        await trio.sleep(1.0)
        assert len(asking.store.recorded) == 2 + 5

    asking.run(work)


def test_a_refusal_that_a_look_up_finds_says_as_much_of_the_person_as_an_answer() -> None:
    asking = Asking()
    nobody = asking.provider.rejects = Fault("52", "REJECTED_DESTINATION", True)

    async def work() -> None:
        asking.lose(1)
        await trio.sleep(1.0)
        (item,) = asking.store.recorded
        assert item.event == StepRefused(0, nobody, unreachable=True)

    asking.run(work)


def test_while_the_provider_is_out_what_is_due_waits_and_is_asked_when_it_is_back() -> None:
    asking = Asking()

    async def work() -> None:
        wish = Trouble(OUTAGE, "http_503", "", 60_000)
        await asking.pauses.begin("viber", wish, probe=False)
        asking.lose(500)
        await trio.sleep(50.0)
        assert asking.provider.questions == []
        await asking.pauses.probed("viber", [])
        await trio.sleep(2.0)
        assert len(asking.store.recorded) == 500

    asking.run(work)
