"""What an event does to the records: the transitions the cascade is made of.

A transition changes the step, its attempt, the message's own status and timer, and the person's
claims and slots, and adds to the effects. `settlement` says what is booked; it is applied here.
"""

from __future__ import annotations

from gateway.core import timing
from gateway.core.addresses import Addresses
from gateway.core.campaigns import campaigns
from gateway.core.cascade.loose_charges import LooseCharges
from gateway.core.effects import fallback_from
from gateway.core.holding import is_first, waits_for
from gateway.core.money import settlement
from gateway.core.people.opt_outs import NONE, OptOuts, refuses
from gateway.core.people.reach import NOT_REACHABLE
from gateway.core.records.attempt import Attempt
from gateway.core.records.held import AWAY, Held
from gateway.core.records.message import (
    ARRIVED,
    UNSENT,
    WAITING,
    Clock,
    MessageStatus,
    Step,
    StepStatus,
)
from providers.contract import Fault, Receipt

# What keeps a step from starting that the person could otherwise be reached by.
_STOPS = frozenset(("frequency_cap", "opted_out"))


class Transitions(LooseCharges):
    """How steps start and end, and a message with them."""

    __slots__ = ()

    def attempt_for(self, step: Step) -> Attempt:
        """The attempt of the chosen candidate, a new one where the latest is another's."""
        attempt = step.attempt
        if attempt is None or attempt.candidate != step.chosen:
            series = attempt.series + 1 if attempt is not None else 0
            attempt = Attempt(step.chosen, series, first_claimed_ms=self.now_ms)
            step.attempts.append(attempt)
        return attempt

    def claim(self, step: Step, status: int) -> Attempt:
        """The step leaves its lane, and its clock runs."""
        self.start_clock(step)
        self.effects.changed = True
        self.message.held = None
        step.status = status
        attempt = self.attempt_for(step)
        attempt.claims += 1
        attempt.claimed_ms = self.now_ms
        attempt.doubt |= status == StepStatus.UNKNOWN
        return attempt

    def take_as_sent(self, work: settlement.Work, sent_ms: int, series: int | None = None) -> None:
        """The provider has the step, which was sent at `sent_ms` (0, where nobody knows: now), by
        the reference of that series, else by the last: booked once, by its answer or by a receipt
        that outran it. What was sent by two references, and taken twice, is booked twice."""
        index, step, attempt, message = work.index, work.step, work.attempt, self.message
        if attempt.sent_ms:
            if series is not None:
                self.charge_other_sending(work, series, "sent")
            return
        attempt.sent_ms = min(sent_ms, self.now_ms) or self.now_ms
        self.charge_by(work, attempt.series if series is None else series)
        attempt.doubt = False
        self.book(attempt, settlement.sent(work))
        if attempt is not step.attempt:
            return  # the provider that was asked after it decides how the step goes on
        still_open = step.status < StepStatus.SENT or step.status == StepStatus.UNKNOWN
        if still_open and step.done_ms == 0:
            if step.status in WAITING:
                self._left_after_all(index, step, attempt)
            step.status = StepStatus.SENT
            self.set_timer(index, timing.end_ms(message, step))
        if message.status in (MessageStatus.QUEUED, MessageStatus.SENT):
            message.status = MessageStatus.SENT
            self.tell(step)
        if UNSENT.isdisjoint([later.status for later in message.steps[index + 1 :]]):
            self.forget_words()

    def _left_after_all(self, index: int, step: Step, attempt: Attempt) -> None:
        """A step that waits to be sent again is at its provider: it goes on, its clock running."""
        message = self.message
        step.chosen = attempt.candidate
        if index == message.current:
            self.start_clock(step)
        else:
            message.current = index
            step.clock = Clock(attempt.claimed_ms)
        message.held = None

    def fail(
        self,
        index: int,
        step: Step,
        attempt: Attempt,
        status: int,
        receipt: Receipt | None = None,
    ) -> None:
        """The step ends without delivery; the cascade goes on when it was the current one.

        A step whose answer was lost stays UNKNOWN when its own timer ends it; a receipt says
        more."""
        fault = receipt.fault if receipt is not None else None
        if fault is not None and (attempt.fault is None or step.status < StepStatus.EXPIRED):
            attempt.fault = fault
            self.effects.changed = True
        if step.status >= StepStatus.EXPIRED:
            return
        self.effects.changed = True
        if step.status != StepStatus.UNKNOWN or receipt is not None:
            step.status = status
        if step.done_ms:
            return
        step.done_ms = (receipt.at_ms if receipt is not None else None) or self.now_ms
        self.book(attempt, settlement.undelivered(self.work(index, step, attempt)))
        self.close_step(index)

    def give_up(self, index: int, step: Step, *, away: bool) -> None:
        """The time of a step is over that is not out at its provider. It says why it was not sent,
        where no attempt does."""
        if step.latest_fault is None:
            code = "away" if away else "not_sent"
            step.fault = Fault(code, code, False)
        attempt = step.attempt or Attempt(step.chosen)
        self.fail(index, step, attempt, StepStatus.EXPIRED)

    def another_can_run(self, index: int, opt_outs: OptOuts = NONE) -> bool:
        """Whether a step after this one could start, as far as opt-outs are known."""
        category = self.message.category
        return any(
            later.status == StepStatus.PLANNED
            and not refuses(opt_outs, later.channel, category)
            and self.full(later) is None
            for later in self.message.steps[index + 1 :]
        )

    def passes_unreachable(self, index: int, step: Step, opt_outs: OptOuts = NONE) -> bool:
        """Skips a step that is about to start where its person is not reached, while a later one
        could run; the last is tried all the same."""
        if not self.is_unreachable(step):
            return False
        if not self.another_can_run(index, opt_outs):
            step.doubted = True
            return False
        self.skip(step, NOT_REACHABLE.code)
        return True

    def opt_out(self, index: int, opt_outs: OptOuts) -> None:
        """The person does not want this step: on to the first that is wanted."""
        message = self.message
        for step in message.steps[index:]:
            if step.status in WAITING and refuses(opt_outs, step.channel, message.category):
                self.skip(step, "opted_out")
        self.close_step(index)

    def pass_capped(self, step: Step, cap: str) -> None:
        """A cap is full for the current step, which was held: on to the next one, and where
        nothing was tried yet to the end, as at acceptance."""
        self.skip(step, "frequency_cap", cap)
        if is_first(self.message):
            self.end(MessageStatus.SUPPRESSED, "frequency_cap")
        else:
            step.done_ms = self.now_ms
            self.close_step(self.message.current)

    def skip(self, step: Step, code: str, name: str | None = None) -> None:
        """The step does not start (again); `code` says why."""
        self.effects.changed = True
        step.status = StepStatus.SKIPPED
        step.fault = Fault(code, name or code, True)

    def close_step(self, index: int) -> None:
        """After a step ended without delivery: on to the next, or to the message's end."""
        message = self.message
        if index != message.current:
            return
        message.due_ms = 0
        if not message.finished:
            self.next_step()
        elif message.status in (MessageStatus.QUEUED, MessageStatus.SENT):
            self.run_out()  # a conversion ended it while the step was out
        else:
            self.release()

    def next_step(self) -> None:
        """Queues the next step that may start; without one the message ends. While somebody may
        still react nothing starts."""
        message = self.message
        if self.campaign_cancelled:
            self.end(MessageStatus.CANCELLED, campaigns.CANCELLED)
            return
        arrived = message.delivered_step >= 0
        if arrived and self.now_ms < timing.react_end_ms(message, self.now_ms):
            return  # `await_reaction` sets the timer
        left = message.step
        for index in range(message.current + 1, len(message.steps)):
            step = message.steps[index]
            if step.status != StepStatus.PLANNED:
                continue
            if not self.in_time():
                reason = campaigns.ENDED if self.campaign_ended else "ttl"
                self.end(MessageStatus.EXPIRED, reason, skipped="ttl")
                return
            held = self.held()
            full = self.full(step, held)
            message.current = index
            if full is None and self.passes_unreachable(index, step):
                continue
            if full is None:
                step.leg = self.next_leg()
                self.take_people()
                step.clock = Clock(self.now_ms)
                self.enqueue(step)
                self.effects.fallback = fallback_from(left, step.channel)
                return
            self.skip(step, "frequency_cap", full.cap.name)
            step.done_ms = self.now_ms
        self.run_out()

    def run_out(self) -> None:
        """No step is left that may start."""
        message = self.message
        if message.delivered_step >= 0:
            self.end(message.status, "delivered")
            return
        codes = [step.fault.code for step in message.steps if step.fault is not None]
        if stopped := [code for code in codes if code in _STOPS]:
            self.end(MessageStatus.SUPPRESSED, stopped[-1])
            return
        tried = [s for s in message.steps if s.status != StepStatus.SKIPPED]
        if not tried:
            self.end(MessageStatus.CANCELLED, "converted")
            return
        last = tried[-1]
        fault = last.latest_fault
        if last.status in (StepStatus.EXPIRED, StepStatus.UNKNOWN):
            self.end(MessageStatus.EXPIRED, fault.name if fault else "no_receipt")
        else:
            self.end(MessageStatus.UNDELIVERED, fault.name if fault else "undelivered")

    def expire(self, *, away: bool) -> None:
        """The message's time is over before its current step went out; the reason is what kept
        it."""
        held = waits_for(self.message, self.policy, self.now_ms)
        if self.campaign_ended:
            self.end(MessageStatus.EXPIRED, campaigns.ENDED, skipped="ttl")
            return
        if held is not None and held.stops_clock:
            self.end(MessageStatus.EXPIRED, held.reason, skipped=held.skipped)
            return
        fault = self.message.step.latest_fault
        kept = "away" if away else "ttl"
        self.end(MessageStatus.EXPIRED, fault.name if fault is not None else kept, skipped="ttl")

    def end(self, status: int, reason: str, *, skipped: str = "") -> None:
        """The message ends: without a delivery as `status`, else as what it is. `skipped` is why
        those that wait are, where it is not the reason."""
        message = self.message
        self.effects.changed = True
        self.finish(skipped or reason)
        if message.delivered_step >= 0:
            self.close()
            self.tell_more(message.step)
            return
        message.status = status
        message.reason = reason
        message.ended_ms = self.now_ms
        self.book_undelivered(True)
        self.close()
        self.tell(message.step)

    def close(self) -> None:
        """No further step can start. A step that is out may still be heard of: its timer stays."""
        if not self.current_is_open():
            self.message.due_ms = 0
            self.release()

    def forget_words(self) -> None:
        """No further step can need what the message says."""
        message = self.message
        message.content, message.content_of, message.vars = b"", b"", None

    def erase(self) -> None:
        """Nobody is known of it any more; a message that was under way is cancelled."""
        message = self.message
        if message.user is None and message.addresses == Addresses():
            return
        if not message.finished:
            self.end(MessageStatus.CANCELLED, "erased")
        self.give_back()
        message.addresses, message.person = Addresses(), ""
        message.user, message.metadata = None, None
        self.forget_words()
        self.effects.changed = True

    def finish(self, reason: str) -> None:
        """No further step can start: those that wait are skipped."""
        message = self.message
        message.finished = True
        self.forget_words()
        message.held = None
        for step in message.steps:
            if step.status in WAITING:
                self.skip(step, reason)

    def show(self, step: Step, status: int) -> bool:
        """Moves the message's own status up, where CONTRACT.md section 4 allows it; whether it
        did."""
        message = self.message
        if message.status in (MessageStatus.CANCELLED, MessageStatus.SUPPRESSED):
            return False
        if message.status in ARRIVED and message.status >= status:
            return False
        message.status = status
        message.reason = None
        self.tell(step)
        return True

    def enqueue(self, step: Step) -> None:
        """The step goes into its lane, or is held where it may not start yet."""
        message = self.message
        if (held := self.held()) is not None:
            self.hold_back(step, held)
            return
        self.effects.changed = True
        self.start_clock(step)
        message.held = None
        if message.category == "marketing":
            self.stop_clock(step, self.now_ms)
        step.status = StepStatus.QUEUED
        step.chosen = max(step.chosen, 0)
        self.effects.lane = (step.candidate.provider, message.category)
        message.due_ms = timing.queued_due_ms(message, step, self.policy)

    def hold_back(self, step: Step, held: Held) -> None:
        """The step may not start yet: it waits outside the lane, its clock stopped, for whoever
        releases it or the message's end. Its slot counts from when it may."""
        self.effects.changed = True
        if not timing.is_stopped(self.message, step):
            self.stop_clock(step, self.now_ms)
        step.status = StepStatus.RETRYING
        step.chosen = max(step.chosen, 0)
        self.message.held = held
        self.message.due_ms = self.message.expires_ms
        if self.persons:
            self.take_people()

    def hold(self, step: Step, away_ms: int) -> None:
        """The time of a step is over whose provider is away since that moment: the step waits in
        its lane, its clock stopped since then, until the provider is back or the message ends."""
        # A millisecond at least is used, or the clock would seem to run.
        self.stop_clock(step, max(away_ms, timing.began_ms(self.message, step) + 1))
        if step.status == StepStatus.RETRYING:
            self.enqueue(step)
        else:
            self.message.due_ms = timing.queued_due_ms(self.message, step, self.policy)
        if self.message.held is None:
            self.message.held = AWAY

    def retry_later(self, step: Step, attempt: Attempt, failures: int) -> None:
        """`failures`: how often it failed like this."""
        self.effects.changed = True
        step.status = StepStatus.RETRYING
        self.message.due_ms = timing.retry_due_ms(
            self.message, step, attempt, self.policy, self.now_ms, failures
        )

    def wait_unknown(self, index: int, step: Step, attempt: Attempt) -> None:
        """Sets the timer of a step whose answer was lost."""
        due = timing.look_up_due_ms(self.message, step, attempt, self.policy, self.now_ms)
        self.set_timer(index, due)

    def unknown_timer(self, index: int, step: Step, attempt: Attempt) -> None:
        if self.now_ms >= timing.end_ms(self.message, step):
            self.fail(index, step, attempt, StepStatus.EXPIRED)
            return
        self.effects.look_up = True
        attempt.look_ups += 1
        self.wait_unknown(index, step, attempt)
