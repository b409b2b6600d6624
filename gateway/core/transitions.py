"""What can become of a step and its message: the transitions the cascade is made of. Pure.

`cascade` decides which happening leads to which of these; here is what each does to the records:
the step, the message's own status, its timer, the person's claims and slots, and the effects.
Nothing else changes a record.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core import persons as people
from gateway.core import settlement, timing
from gateway.core.effects import Effects, Post, status_event
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
from gateway.core.policy import Policy
from providers.contract import Fault, Receipt


class Turn:
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

    # --- steps

    def step(self, index: int) -> Step | None:
        return self.message.steps[index] if 0 <= index < len(self.message.steps) else None

    def current(self, index: int) -> Step | None:
        return self.step(index) if index == self.message.current else None

    def in_time(self) -> bool:
        return self.now_ms < self.message.expires_ms

    def stopped(self, index: int) -> bool:
        """Whether a step that is not out at its provider must not be tried again."""
        return self.message.status in FINAL or index != self.message.current

    def take_as_sent(self, index: int, step: Step, sent_ms: int) -> None:
        """The provider has the step, which was sent at `sent_ms`: booked once, by its answer or by
        a receipt that outran it."""
        if step.sent_ms:
            return
        self.effects.changed = True
        step.sent_ms = min(sent_ms, self.now_ms)
        self.book(settlement.sent(self.message, index, step, self.policy))
        still_open = step.status < StepStatus.SENT or step.status == StepStatus.UNKNOWN
        if still_open and step.done_ms == 0:
            step.status = StepStatus.SENT
            patience = timing.patience_ms(self.message, step, self.now_ms)
            self.set_timer(index, self.now_ms + patience + step.grace_ms)
        message = self.message
        if message.status in (MessageStatus.QUEUED, MessageStatus.SENT):
            message.status = MessageStatus.SENT
            self.effects.events.append(status_event(message, step, self.now_ms))
        if index == len(message.steps) - 1:
            message.content = b""

    def deliver(
        self, index: int, step: Step, status: StepStatus, at_ms: int | None, price: int | None
    ) -> None:
        message = self.message
        if step.status >= status:
            return
        self.effects.changed = True
        before, step.status = step.status, status
        if before == StepStatus.DELIVERED:
            self.show(index, step, MessageStatus.SEEN)
            return
        given_up = step.done_ms != 0
        step.done_ms = at_ms or self.now_ms
        first = message.delivered_step < 0
        self.book(settlement.delivered(message, index, step, price, given_up=given_up))
        if first:
            self.keep_people()
        self.skip_waiting()
        if not self.current_is_open():
            message.due_ms = 0
        self.show(index, step, MessageStatus.DELIVERED)
        if status == StepStatus.SEEN:
            self.show(index, step, MessageStatus.SEEN)
        message.content = b""

    def fail(
        self, index: int, step: Step, status: StepStatus, receipt: Receipt | None = None
    ) -> None:
        """The step ends without delivery; the cascade goes on when it was the current one.

        A step whose answer was lost stays UNKNOWN when its own timer ends it; a receipt says
        more."""
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
        self.book(settlement.undelivered(self.message, index, step))
        self.close_step(index)

    def close_step(self, index: int) -> None:
        """After a step ended without delivery: on to the next, or to the message's end."""
        message = self.message
        if index != message.current:
            return
        message.due_ms = 0
        if message.status not in FINAL:
            self.next_step()
        elif message.delivered_step < 0:
            self.give_back()

    def next_step(self) -> None:
        message = self.message
        capped = False
        for index in range(message.current + 1, len(message.steps)):
            if not self.in_time():
                self.end(MessageStatus.EXPIRED, "ttl")
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
                    people.take(self.persons, message, self.policy, self.now_ms)
                    self.effects.people_changed = True
                self.enqueue(step)
                return
            capped = True
            step.status = StepStatus.SKIPPED
            step.done_ms = self.now_ms
            step.fault = Fault("frequency_cap", full.cap.name, True)
        last = next(s for s in reversed(message.steps) if s.status != StepStatus.SKIPPED)
        if capped:
            self.end(MessageStatus.SUPPRESSED, "frequency_cap")
        elif last.status in (StepStatus.EXPIRED, StepStatus.UNKNOWN):
            self.end(MessageStatus.EXPIRED, last.fault.name if last.fault else "no_receipt")
        else:
            self.end(MessageStatus.UNDELIVERED, last.fault.name if last.fault else "undelivered")

    def end(self, status: MessageStatus, reason: str) -> None:
        """The message is final without a delivery. A step that is out may still be heard of: its
        timer stays."""
        message = self.message
        self.effects.changed = True
        self.skip_waiting()
        message.status = status
        message.reason = reason
        message.content = b""
        if not self.current_is_open():
            message.due_ms = 0
            self.give_back()
        step = message.steps[message.current]
        self.effects.events.append(status_event(message, step, self.now_ms))

    def skip_waiting(self) -> None:
        for step in self.message.steps:
            if step.status in WAITING:
                step.status = StepStatus.SKIPPED

    def current_is_open(self) -> bool:
        step = self.message.steps[self.message.current]
        return step.status in OPEN and step.done_ms == 0

    def show(self, index: int, step: Step, status: MessageStatus) -> None:
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

    # --- lanes and timers

    def enqueue(self, step: Step) -> None:
        message = self.message
        self.effects.changed = True
        step.status = StepStatus.QUEUED
        self.effects.lane = (step.provider, message.category)
        message.due_ms = message.expires_ms

    def retry_later(self, step: Step) -> None:
        self.effects.changed = True
        step.status = StepStatus.RETRYING
        self.message.due_ms = timing.retry_due_ms(self.message, step, self.policy, self.now_ms)

    def unknown_timer(self, index: int, step: Step) -> None:
        if self.now_ms >= timing.unknown_end_ms(step):
            self.fail(index, step, StepStatus.EXPIRED)
            return
        self.effects.look_up = True
        step.look_ups += 1
        self.set_timer(index, timing.unknown_due_ms(step, self.policy, self.now_ms))

    def set_timer(self, index: int, due_ms: int) -> None:
        if index == self.message.current:
            self.message.due_ms = due_ms
            self.effects.changed = True

    # --- people and money

    def keep_people(self) -> None:
        if self.persons and people.keep(self.persons, self.message, self.policy, self.now_ms):
            self.message.holds = True
            self.effects.people_changed = True

    def give_back(self) -> None:
        if self.message.holds:
            assert self.persons, "the person was not loaded: needs_people() is wrong"
            people.give_back(self.persons, self.message)
            self.message.holds = False
            self.effects.people_changed = True

    def book(self, post: Post) -> None:
        self.effects.changed = True
        self.effects.posts.append(post)
