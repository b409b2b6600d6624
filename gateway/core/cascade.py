"""The cascade: the whole state machine of a message after admission, pure.

`advance(message, happening, persons, policy, now_ms)` changes the records it is given in place (the caller decoded
them for this decision and throws them away when the commit fails) and returns the effects. It reads no clock and
draws no random number; the same call serves production, property tests and simulation.

The shape of it:

    QUEUED --claimed--> SENDING --accepted--> SENT --receipt--> DELIVERED --> SEEN
      ^ |                 | |  \\                \\--receipt or timer--> EXPIRED, UNDELIVERED --> next step
      | +--expires, cancel| |   \\--lost answer--> UNKNOWN --look-up--> SENT, or QUEUED again, or timer --> next step
      +--RETRYING <-------+ +--refused for good--> REJECTED --> next step

What holds whatever happens, in whatever order (tests/unit/test_cascade_properties.py):
  - a step's status only moves up in rank, so repeated and reordered receipts change nothing; the one way back is
    from SENDING or UNKNOWN to QUEUED, and only where the provider is known not to have the step;
  - no step starts after a delivery, after `expires_ms`, or once the message is final;
  - the app is billed at most once, at the first delivery; a step's charge is booked once and only corrected by a
    receipt's price, and the corrections do not depend on the order of receipts;
  - a claim and a slot are held exactly while the message is live or delivered (or one of its steps is still out).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import assert_never

from gateway.core import effects as fx
from gateway.core import events as ev
from gateway.core import people
from gateway.core.effects import Effects, Post, group_of, status_event
from gateway.core.model import (
    ARRIVED,
    FINAL,
    OPEN,
    WAITING,
    Message,
    MessageStatus,
    Person,
    Step,
    StepStatus,
)
from gateway.core.money import from_decimal
from gateway.core.policy import (
    LOOK_UP_DELAYS_MS,
    NOT_FOUND_MIN,
    RETRY_DELAY_MAX_MS,
    SENDING_LIMIT_MS,
    Policy,
)
from providers.contract import Fault, Receipt

_RECEIPT_STATUS = {
    "expired": StepStatus.EXPIRED,
    "undelivered": StepStatus.UNDELIVERED,
    "rejected": StepStatus.REJECTED,
    "delivered": StepStatus.DELIVERED,
    "seen": StepStatus.SEEN,
}


def advance(
    message: Message,
    happening: ev.Happening,
    persons: Sequence[Person],
    policy: Policy,
    now_ms: int,
) -> Effects:
    """Applies one happening. An impossible or outdated one returns effects with `changed` False."""
    turn = _Turn(message, persons, policy, now_ms)
    match happening:
        case ev.Claimed():
            turn.claimed(happening)
        case ev.Accepted():
            turn.accepted(happening)
        case ev.Refused():
            turn.refused(happening)
        case ev.NotSent():
            turn.not_sent(happening)
        case ev.PutBack():
            turn.put_back(happening.step)
        case ev.LostAnswer():
            turn.lost_answer(happening.step)
        case ev.NotKnown():
            turn.not_known(happening.step)
        case ev.Reported():
            turn.reported(happening)
        case ev.TimerDue():
            turn.timer_due()
        case ev.Cancelled():
            turn.cancelled()
        case _:
            assert_never(happening)
    if turn.effects.changed:
        message.updated_ms = max(message.updated_ms, now_ms)
    return turn.effects


def needs_people(
    message: Message, happening: ev.Happening, policy: Policy, now_ms: int, *, alone: bool = True
) -> bool:
    """Whether the decision may read or change the persons' records: loading them costs a round trip a batch.

    `alone` False: other happenings of this message are decided first, so its status now says nothing."""
    if not message.holds and message.campaign is None and message.category not in policy.slot_ms:
        return False
    if not alone:
        return True
    match happening:
        case ev.Accepted() | ev.LostAnswer() | ev.NotKnown():
            return False
        case ev.Claimed():
            return happening.opt_out is not None or now_ms >= message.expires_ms
        case ev.PutBack():
            return message.status in FINAL
        case ev.Reported():
            return happening.receipt.status != "sent"
        case _:
            return True


class _Turn:
    """One decision: the records, the policy, the moment, and the effects collected so far."""

    __slots__ = ("effects", "message", "now_ms", "persons", "policy")

    def __init__(
        self, message: Message, persons: Sequence[Person], policy: Policy, now_ms: int
    ) -> None:
        self.message = message
        self.persons = persons
        self.policy = policy
        self.now_ms = now_ms
        self.effects = Effects()

    # --- what happens -------------------------------------------------------------------------------------------

    def claimed(self, claim: ev.Claimed) -> None:
        message = self.message
        step = self._current(claim.step)
        if step is None or step.status != StepStatus.QUEUED or message.status in FINAL:
            return
        opted_out = claim.opt_out == "all" or (
            claim.opt_out == "marketing" and message.category == "marketing"
        )
        if opted_out:
            self._end(MessageStatus.SUPPRESSED, "opted_out")
            return
        if self.now_ms >= message.expires_ms:
            self._end(MessageStatus.EXPIRED, "ttl")
            return
        self.effects.changed = True
        self.effects.submit = True
        step.status = StepStatus.SENDING
        step.attempts += 1
        step.claimed_ms = self.now_ms
        step.started_ms = step.started_ms or self.now_ms

    def accepted(self, accepted: ev.Accepted) -> None:
        step = self._step(accepted.step)
        if step is None or step.started_ms == 0:
            return
        if accepted.provider_id is not None and step.provider_id is None:
            step.provider_id = accepted.provider_id
            self.effects.changed = True
        self._take_as_sent(accepted.step, step)

    def refused(self, refused: ev.Refused) -> None:
        step = self._step(refused.step)
        if step is None or step.status not in (StepStatus.SENDING, StepStatus.UNKNOWN):
            return
        attempts_max = self.policy.providers[step.provider].attempts_max
        step.fault = refused.fault
        if refused.fault.permanent or step.attempts >= attempts_max or self._stopped(refused.step):
            self._fail(refused.step, step, StepStatus.REJECTED)
        else:
            self._retry_later(step)

    def not_sent(self, not_sent: ev.NotSent) -> None:
        step = self._step(not_sent.step)
        if step is None or step.status != StepStatus.SENDING:
            return
        step.fault = not_sent.fault
        if self.now_ms >= step.started_ms + step.wait_ms or self._stopped(not_sent.step):
            self._fail(not_sent.step, step, StepStatus.UNDELIVERED)
        else:
            self._retry_later(step)

    def put_back(self, index: int) -> None:
        step = self._step(index)
        if step is None or step.status != StepStatus.SENDING:
            return
        step.attempts -= 1
        if self._stopped(index):
            self.effects.changed = True
            step.status = StepStatus.SKIPPED
            self._close_step(index)
        else:
            self._enqueue(step)

    def lost_answer(self, index: int) -> None:
        step = self._step(index)
        if step is None or step.status != StepStatus.SENDING:
            return
        self.effects.changed = True
        rule = self.policy.categories.get(self.message.category)
        provider = self.policy.providers[step.provider]
        resend = rule is not None and rule.resend_unknown
        if resend and step.attempts < provider.attempts_max and not self._stopped(index):
            self._enqueue(step)
            return
        step.status = StepStatus.UNKNOWN
        self._set_timer(index, self._unknown_due(step))

    def not_known(self, index: int) -> None:
        step = self._step(index)
        if step is None or step.status != StepStatus.UNKNOWN or step.look_ups < NOT_FOUND_MIN:
            return
        attempts_max = self.policy.providers[step.provider].attempts_max
        if step.attempts < attempts_max and not self._stopped(index) and self._in_time():
            self._enqueue(step)

    def reported(self, reported: ev.Reported) -> None:
        index, receipt = reported.step, reported.receipt
        step = self._step(index)
        if step is None or step.started_ms == 0 or step.provider != reported.provider:
            return
        if receipt.provider_id is not None and step.provider_id is None:
            step.provider_id = receipt.provider_id
            self.effects.changed = True
        self._take_as_sent(index, step)
        if receipt.status != "sent":
            status = _RECEIPT_STATUS[receipt.status]
            if status >= StepStatus.DELIVERED:
                self._deliver(index, step, status, receipt)
            else:
                self._fail(index, step, status, receipt)
        self._charge_by_receipt(index, step, receipt)

    def timer_due(self) -> None:
        message = self.message
        if message.due_ms == 0 or self.now_ms < message.due_ms:
            return
        index = message.current
        step = message.steps[index]
        self.effects.changed = True
        message.due_ms = 0
        match step.status:
            case StepStatus.QUEUED | StepStatus.RETRYING:
                if not self._in_time():
                    self._end(MessageStatus.EXPIRED, "ttl")
                elif step.status == StepStatus.RETRYING:
                    self._enqueue(step)
            case StepStatus.SENDING:
                lost_at = step.claimed_ms + SENDING_LIMIT_MS
                if self.now_ms >= lost_at:
                    self.lost_answer(index)
                else:
                    message.due_ms = lost_at
            case StepStatus.SENT:
                self._fail(index, step, StepStatus.EXPIRED)
            case StepStatus.UNKNOWN:
                self._unknown_timer(index, step)
            case _:
                pass  # the step ended while its timer was on the way

    def cancelled(self) -> None:
        message = self.message
        if message.status in FINAL:
            self.effects.refused = "final"
            return
        self._end(MessageStatus.CANCELLED, "cancelled")

    # --- steps --------------------------------------------------------------------------------------------------

    def _step(self, index: int) -> Step | None:
        return self.message.steps[index] if 0 <= index < len(self.message.steps) else None

    def _current(self, index: int) -> Step | None:
        return self._step(index) if index == self.message.current else None

    def _in_time(self) -> bool:
        return self.now_ms < self.message.expires_ms

    def _stopped(self, index: int) -> bool:
        """Whether a step that is not out at its provider must not be tried again."""
        return self.message.status in FINAL or index != self.message.current

    def _take_as_sent(self, index: int, step: Step) -> None:
        """The provider has the step: booked once, by its answer or by a receipt that outran it."""
        if step.sent_ms:
            return
        self.effects.changed = True
        step.sent_ms = self.now_ms
        if self.policy.providers[step.provider].charged_on == "sent":
            note = self._charge(step, step.cost * step.parts)
            self._post(index, step, {"sent": 1, "cost": step.cost * step.parts}, note)
        else:
            self._post(index, step, {"sent": 1})
        still_open = step.status < StepStatus.SENT or step.status == StepStatus.UNKNOWN
        if still_open and step.done_ms == 0:
            step.status = StepStatus.SENT
            self._set_timer(index, self._sent_due(step))
        message = self.message
        if message.status in (MessageStatus.QUEUED, MessageStatus.SENT):
            message.status = MessageStatus.SENT
            self.effects.events.append(status_event(message, step, self.now_ms))
        if index == len(message.steps) - 1:
            self.effects.free_content = True

    def _deliver(self, index: int, step: Step, status: StepStatus, receipt: Receipt) -> None:
        message = self.message
        if step.status >= status:
            return
        self.effects.changed = True
        before, step.status = step.status, status
        if before == StepStatus.DELIVERED:
            self._show(index, step, MessageStatus.SEEN)
            return
        measures = {"parts": step.parts} if step.channel == "sms" else {}
        if step.done_ms:
            measures["undelivered"] = -1  # it had been given up, and arrived after all
        step.done_ms = receipt.at_ms or self.now_ms
        note = None
        if step.charged is None:
            amount = self._price_in(receipt)
            note = self._charge(step, step.cost * step.parts if amount is None else amount)
            step.priced = amount is not None
            measures["cost"] = step.charged or 0
        if message.delivered_step >= 0:
            measures["double_delivered"] = 1
        else:
            message.delivered_step = index
            message.billed = step.sell * step.parts
            measures["delivered"] = 1
            measures["billed"] = message.billed
            measures["sms_only_cost"] = self._sms_only(step)
            self._keep_people()
        self._post(index, step, measures, note)
        self._skip_waiting()
        if not self._current_is_open():
            message.due_ms = 0
        self._show(index, step, MessageStatus.DELIVERED)
        if status == StepStatus.SEEN:
            self._show(index, step, MessageStatus.SEEN)
        self.effects.free_content = True

    def _fail(
        self, index: int, step: Step, status: StepStatus, receipt: Receipt | None = None
    ) -> None:
        """The step ends without delivery; the cascade goes on when it was the current one.

        A step whose answer was lost stays UNKNOWN when its own timer ends it; a receipt says more."""
        fault = receipt.fault if receipt is not None else None
        if fault is not None and (step.fault is None or step.status < StepStatus.EXPIRED):
            step.fault = fault
            self.effects.changed = True
        if step.status >= StepStatus.EXPIRED:
            return
        self.effects.changed = True
        if step.status != StepStatus.UNKNOWN or receipt is not None:
            step.status = status
        if step.done_ms:
            return
        step.done_ms = (receipt.at_ms if receipt is not None else None) or self.now_ms
        self._post(index, step, {"undelivered": 1})
        self._close_step(index)

    def _close_step(self, index: int) -> None:
        """After a step ended without delivery: on to the next, or to the message's end."""
        message = self.message
        if index != message.current:
            return
        message.due_ms = 0
        if message.status not in FINAL:
            self._next_step()
        elif message.delivered_step < 0:
            self._give_back()

    def _next_step(self) -> None:
        message = self.message
        capped = False
        for index in range(message.current + 1, len(message.steps)):
            if not self._in_time():
                self._end(MessageStatus.EXPIRED, "ttl")
                return
            step = message.steps[index]
            full = people.full_cap(
                self.persons,
                self.policy,
                message.category,
                step.channel,
                self.now_ms,
                but=message.id,
            )
            message.current = index
            if full is None:
                if message.holds:
                    people.take(self.persons, message, step.channel, self.policy, self.now_ms)
                    self.effects.people_changed = True
                self._enqueue(step)
                return
            capped = True
            step.status = StepStatus.SKIPPED
            step.done_ms = self.now_ms
            step.fault = Fault("frequency_cap", full.cap.name, True)
        last = next(s for s in reversed(message.steps) if s.status != StepStatus.SKIPPED)
        if capped:
            self._end(MessageStatus.SUPPRESSED, "frequency_cap")
        elif last.status in (StepStatus.EXPIRED, StepStatus.UNKNOWN):
            self._end(MessageStatus.EXPIRED, last.fault.name if last.fault else "no_receipt")
        else:
            self._end(MessageStatus.UNDELIVERED, last.fault.name if last.fault else "undelivered")

    def _end(self, status: MessageStatus, reason: str) -> None:
        """The message is final without a delivery. A step that is out may still be heard of: its timer stays."""
        message = self.message
        self.effects.changed = True
        self._skip_waiting()
        message.status = status
        message.reason = reason
        self.effects.free_content = True
        if not self._current_is_open():
            message.due_ms = 0
            self._give_back()
        step = message.steps[message.current]
        self.effects.events.append(status_event(message, step, self.now_ms))

    def _skip_waiting(self) -> None:
        for step in self.message.steps:
            if step.status in WAITING:
                step.status = StepStatus.SKIPPED

    def _current_is_open(self) -> bool:
        return self.message.steps[self.message.current].status in OPEN

    def _show(self, index: int, step: Step, status: MessageStatus) -> None:
        """Moves the message's own status up, where CONTRACT.md section 4 allows it."""
        message = self.message
        if message.status in (MessageStatus.CANCELLED, MessageStatus.SUPPRESSED):
            return
        if message.status in ARRIVED and (
            index != message.delivered_step or message.status >= status
        ):
            return
        message.status = status
        message.reason = None
        self.effects.events.append(status_event(message, step, self.now_ms))

    # --- lanes and timers ---------------------------------------------------------------------------------------

    def _enqueue(self, step: Step) -> None:
        message = self.message
        self.effects.changed = True
        step.status = StepStatus.QUEUED
        self.effects.lane = (step.provider, message.category)
        message.due_ms = message.expires_ms

    def _retry_later(self, step: Step) -> None:
        """Back to the lane after a delay that doubles, spread by up to a fifth so that a batch does not return at
        once; the spread comes from the id, so the rule stays pure."""
        rule = self.policy.providers[step.provider]
        delay = min(rule.retry_ms << min(step.attempts - 1, 16), RETRY_DELAY_MAX_MS)
        delay += delay * (zlib.crc32(self.message.id.encode()) % 200) // 1000
        step.status = StepStatus.RETRYING
        self.effects.changed = True
        self.message.due_ms = min(self.now_ms + delay, self.message.expires_ms)

    def _sent_due(self, step: Step) -> int:
        return self.now_ms + patience_ms(self.message, step, self.now_ms) + step.grace_ms

    def _unknown_due(self, step: Step) -> int:
        """The next look-up, or the end of the step's time where there is none."""
        end = step.started_ms + step.wait_ms + step.grace_ms
        can_look_up = self.policy.providers[step.provider].can_look_up
        if can_look_up and step.look_ups < len(LOOK_UP_DELAYS_MS):
            return min(self.now_ms + LOOK_UP_DELAYS_MS[step.look_ups], end)
        return end

    def _unknown_timer(self, index: int, step: Step) -> None:
        if self.now_ms >= step.started_ms + step.wait_ms + step.grace_ms:
            self._fail(index, step, StepStatus.EXPIRED)
            return
        self.effects.look_up = True
        step.look_ups += 1
        self._set_timer(index, self._unknown_due(step))

    def _set_timer(self, index: int, due_ms: int) -> None:
        if index == self.message.current:
            self.message.due_ms = due_ms
            self.effects.changed = True

    # --- people and money ---------------------------------------------------------------------------------------

    def _keep_people(self) -> None:
        if self.persons:
            people.keep(self.persons, self.message, self.policy, self.now_ms)
            self.message.holds = True
            self.effects.people_changed = True

    def _give_back(self) -> None:
        if self.message.holds:
            assert self.persons, "the persons' records were not loaded: needs_people() is wrong"
            people.give_back(self.persons, self.message)
            self.message.holds = False
            self.effects.people_changed = True

    def _sms_only(self, step: Step) -> int:
        """What this delivery would have cost as SMS; for one that was an SMS, what it did cost."""
        if step.channel == "sms":
            return step.charged if step.charged is not None else step.cost * step.parts
        return self.message.sms_cost

    def _charge(self, step: Step, amount: int) -> dict[str, int]:
        """Notes what the provider's charge for the step is now known to be; returns the two prices to keep."""
        step.charged = amount
        return {"list": step.cost * step.parts, "charged": amount}

    def _price_in(self, receipt: Receipt) -> int | None:
        if receipt.cost is None or receipt.currency != self.policy.currency:
            return None
        return from_decimal(receipt.cost)

    def _charge_by_receipt(self, index: int, step: Step, receipt: Receipt) -> None:
        """A receipt's price replaces the list's; of several, the highest stands, so their order does not matter.

        A step that is not charged yet stays so: this provider charges for deliveries, and there is none."""
        amount = self._price_in(receipt)
        if amount is None or step.charged is None or (step.priced and amount <= step.charged):
            return
        self.effects.changed = True
        difference = amount - step.charged
        note = self._charge(step, amount)
        step.priced = True
        if difference == 0:
            return
        measures = {"cost": difference}
        if step.channel == "sms" and self.message.delivered_step == index:
            measures["sms_only_cost"] = difference
        self._post(index, step, measures, note)

    def _post(
        self, index: int, step: Step, measures: dict[str, int], note: dict[str, int] | None = None
    ) -> None:
        carries_money = not fx.COUNTS.issuperset(measures)
        self.effects.posts.append(
            Post(
                group=group_of(self.message, step),
                measures=measures,
                message=self.message.id if carries_money else None,
                step=index if carries_money else -1,
                note=note,
                metadata=self.message.metadata if carries_money else None,
            )
        )


def patience_ms(message: Message, step: Step, now_ms: int) -> int:
    """How long a step that starts now may take: its wait, but not beyond the moment the message is worth it.

    It is also the time limit the provider is given, so that it stops trying when we do."""
    return max(min(step.wait_ms, message.expires_ms - now_ms), 1)
