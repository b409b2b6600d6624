"""How another provider of its channel takes a step over, and what a step does whose providers are
all away.

Of those that may send it the least tried goes next; of several that are tried alike each has its
share. A step whose answer was lost stays with its provider until that says that it does not have
it: it may be with the person already. What is refused for good goes to another only where that
reaches devices of another kind.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from gateway.core import timing
from gateway.core.cascade.transitions import Transitions
from gateway.core.people.opt_outs import NONE, OptOuts
from gateway.core.records.held import AWAY, Held
from gateway.core.records.message import Step, StepStatus
from gateway.core.shares import heir_of
from providers.contract import Fault

PROVIDER_REMOVED = Fault("provider_removed", "provider_removed", True)
NOBODY: Container[str] = frozenset()


class Failover(Transitions):
    """How a step goes from one provider of its channel to another."""

    __slots__ = ()

    def hand_over(
        self, step: Step, away: Container[str] = NOBODY, *, fewer_than: int | None = None
    ) -> bool:
        """Queues the step with another provider that may send it now; False where there is none.
        `fewer_than`: only where that one failed less often."""
        other = self._other(step, away, fewer_than) if len(step.candidates) > 1 else None
        if other is None:
            return False
        self.effects.handed_over = self.policy.present(step.candidate.provider)
        step.chosen = other
        self.enqueue(step)
        return True

    def hand_over_failed(self, step: Step, away: Container[str]) -> bool:
        """The same after its provider failed: each is tried once before one is tried again."""
        return self.hand_over(step, away, fewer_than=_failures(step, step.chosen))

    def hand_over_refused(self, index: int, step: Step, away: Container[str]) -> bool:
        """The same where its provider refuses the step for good, as the devices are gone that it
        reaches, or may not be sent to: those of another kind are tried before the next channel."""
        return not self.stopped(index) and self.hand_over(step, away)

    def may_fail(self, step: Step, candidate: int, how: Literal["refusals", "lost"]) -> bool:
        """Whether the provider may refuse the step for now, or lose its answer, once more."""
        times: int = sum(getattr(a, how) for a in step.attempts if a.candidate == candidate)
        return times < self.policy.provider(step.candidates[candidate].provider).attempts_max

    def pass_over(
        self, index: int, step: Step, away: Container[str], opt_outs: OptOuts = NONE
    ) -> None:
        """The provider is away: another takes it over, else it is on to a later step at once, where
        the category wants that and one can run. Else the step waits outside the lane, which nobody
        reads for long."""
        if self.hand_over(step, away):
            return
        if self.when_away == "skip" and self.another_can_run(index, opt_outs):
            self.skip(step, "away")
            self.close_step(index)
            return
        if self.when_away == "hold":
            self.hold_back(step, Held("away", timing.away_until_ms(self.message, self.now_ms)))
            return
        self.effects.changed = True
        step.status = StepStatus.RETRYING
        self.message.held = AWAY
        self.message.due_ms = timing.passed_over_due_ms(self.message, step, self.now_ms)

    def lose(self, provider: str) -> None:
        """Nobody sends for the provider any more: another takes the current step over that waits in
        its lane, or it ends."""
        message, step = self.message, self.message.step
        if step.status != StepStatus.QUEUED or step.provider != provider or self.hand_over(step):
            return
        attempt = self.attempt_for(step)
        attempt.fault = PROVIDER_REMOVED
        self.fail(message.current, step, attempt, StepStatus.REJECTED)

    def follow_lane(self) -> None:
        """The current step has its provider's present name from now on: where it waits in the lane
        of the former one, it goes into the present one's as well. While a change goes round, who
        has only the former name works on that lane, and finds no message of it there: what a late
        receipt had changed meanwhile waited until its time was over (2026-11-30)."""
        step = self.message.step
        if step.status == StepStatus.QUEUED and self.effects.lane is None:
            self.effects.lane = (step.candidate.provider, self.message.category)

    def _other(self, step: Step, away: Container[str], fewer_than: int | None) -> int | None:
        if step.attempt is not None and step.attempt.doubt:
            return None
        refused = self.kinds_refused(step)
        able = {
            place: _failures(step, place)
            for place, candidate in enumerate(step.candidates)
            if candidate.provider != step.candidate.provider  # two may be one since, by its `was`
            and candidate.provider not in away
            and self.policy.provider(candidate.provider).shares
            and self.policy.provider(candidate.provider).devices not in refused
            and self.may_fail(step, place, "refusals")
            and self.may_fail(step, place, "lost")
        }
        if not able:
            return None
        fewest = min(able.values())
        if fewer_than is not None and fewest >= fewer_than:
            return None
        least = {
            step.candidates[place].provider: place
            for place, failures in able.items()
            if failures == fewest
        }
        weights = {name: self.policy.provider(name).weight for name in least}
        return least[heir_of(self.message.id, weights)]


def _failures(step: Step, candidate: int) -> int:
    """How often the candidate failed to take the step, in whatever way."""
    return sum(
        a.refusals + a.unreachable + a.lost for a in step.attempts if a.candidate == candidate
    )
