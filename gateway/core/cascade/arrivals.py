"""What it does to a message that a step arrived, and that the person reacted or may yet react.

The first delivery of a leg bills it. A reaction ends the cascade; until there is one, and where
there is none, `await_reaction` says what goes on and when.
"""

from __future__ import annotations

from gateway.core import timing
from gateway.core.cascade.failover import Failover
from gateway.core.events import Converted, Replied
from gateway.core.money import settlement
from gateway.core.money.settlement import Work
from gateway.core.reactions.reactions import answers, had_arrived, may_have_left
from gateway.core.records.message import ACCEPTED, WAITING, MessageStatus, Step, StepStatus
from gateway.core.records.words import REACTION_NAMES, ReactionName
from providers.contract import Receipt

CONVERSIONS_MAX = 256  # of one message: each is remembered in its record

_STATUS_OF: dict[ReactionName, tuple[int, int]] = {
    "seen": (StepStatus.SEEN, MessageStatus.SEEN),
    "clicked": (StepStatus.CLICKED, MessageStatus.CLICKED),
}


class Change(Failover):
    """One decision's transitions."""

    __slots__ = ()

    def take_arrival(self, work: Work, receipt: Receipt, price: int | None) -> None:
        """A receipt says that the step was delivered, or seen. Of several that say when it was
        delivered the earliest moment counts: that it was seen may have been told first. None is
        later than now or earlier than the claim, whatever the provider's clock says (a receipt by
        SMPP names the minute): others count from it."""
        step, at_ms = work.step, receipt.at_ms
        if at_ms is not None:
            claimed_ms = work.attempt.first_claimed_ms or self.message.created_ms
            at_ms = max(min(at_ms, self.now_ms), claimed_ms)
        self.deliver(work, at_ms, price)
        if receipt.status == "seen":
            self.react(work, "seen", at_ms)
        elif at_ms and at_ms < step.delivered_ms and step.arrival_of(work.attempt) == 1:
            step.delivered_ms = at_ms
            step.done_ms = min(step.done_ms, at_ms)
            self.effects.changed = True
        if step.replied_ms:
            self._answer(work)

    def deliver(self, work: Work, at_ms: int | None, price: int | None) -> None:
        """The first sign that the step arrived: a receipt, or a reaction, which proves it. One that
        two providers had may arrive twice."""
        message, step = self.message, work.step
        if step.arrived:
            if not step.arrival_of(work.attempt):
                self._deliver_again(work, price)
            return
        self.effects.changed = True
        again = message.delivered_step >= 0 and message.has_arrived(step.leg)
        given_up = step.done_ms != 0 and step.status != StepStatus.SKIPPED
        if len(step.attempts) > 1:
            work.attempt.arrival = 1
            step.chosen = work.attempt.candidate
            if given_up and work.attempt is not step.attempt:
                given_up = False
                self._take_back_undelivered(work.index, step)
        step.status = StepStatus.DELIVERED
        step.done_ms = step.delivered_ms = at_ms or self.now_ms
        booking = settlement.delivered(work, price, given_up=given_up, again=again)
        if message.delivered_step < 0:
            message.delivered_step = work.index
            self.book_undelivered(False)
        if booking.billed is not None:
            step.billed = booking.billed
            message.billed = (message.billed or 0) + booking.billed
            waits = not message.finished and message.step.status in WAITING
            self.keep_people(step, came_first=waits)
        self.note_arrival(step, step.delivered_ms)
        self.note_delay(work)
        self.book(work.attempt, booking)
        if step.until == "delivered" and not message.finished:
            self.finish("hidden_seen" if step.hidden else "delivered")
        if message.finished:
            self.close()
        self.show(step, MessageStatus.DELIVERED)

    def _deliver_again(self, work: Work, price: int | None) -> None:
        """Another provider had delivered the step already: a double delivery."""
        step, attempt = work.step, work.attempt
        attempt.arrival = 1 + max(other.arrival for other in step.attempts)
        self.note_delay(work)
        self.book(attempt, settlement.delivered(work, price, given_up=False, again=True))

    def _take_back_undelivered(self, index: int, step: Step) -> None:
        """The step had been booked as undelivered by the provider that was asked last."""
        assert step.attempt is not None
        latest = self.work(index, step, step.attempt)
        self.book(step.attempt, settlement.undelivered(latest, -1))

    def react(self, work: Work, kind: ReactionName, at_ms: int | None) -> None:
        """The person reacted to a step that arrived: counted once a kind, and the cascade ends."""
        message, step = self.message, work.step
        rank = REACTION_NAMES.index(kind)
        moment = at_ms or self.now_ms
        if kind == "seen":
            if step.seen_ms or step.status == StepStatus.SEEN:
                if moment < step.seen_ms:
                    step.seen_ms = moment
                    self.effects.changed = True
                return
            step.seen_ms = moment
        elif kind == "clicked":
            if step.clicked_ms:
                self._click_again(step, moment)
                return
            step.clicked_ms = moment
        else:
            if moment > step.replied_ms:
                step.replied_ms = moment
                self.effects.changed = True
            if message.reaction >= rank:
                return
        self.effects.changed = True
        self.effects.reaction = step.channel, kind
        self.note_reaction(step, kind, moment)
        before, message.reaction = message.reaction, max(message.reaction, rank)
        if not message.finished:
            self.finish("reacted")
            self.close()
        shown = False
        if kind != "replied":
            step_status, status = _STATUS_OF[kind]
            step.status = max(step.status, step_status)
            self.effects.posts.append(settlement.reacted(work, kind))
            shown = self.show(step, status)
        if not shown and message.reaction > before:
            self.tell_more(step)

    def take_reply(self, replied: Replied) -> None:
        """The person wrote back while the step was out: whether it had arrived by then is told
        later, or was just now."""
        step = self.step(replied.step)
        if step is None or not may_have_left(step):
            return
        if replied.at_ms > step.replied_ms:
            step.replied_ms = replied.at_ms
            self.effects.changed = True
        if (work := self._carried(replied.step)) is not None:
            self._answer(work)

    def _answer(self, work: Work) -> None:
        """A reply from before anybody knew that the step had arrived is a reaction if it had; who
        writes before that answers something else."""
        step = work.step
        if had_arrived(step, step.replied_ms) and answers(step, step.replied_ms):
            self.react(work, "replied", step.replied_ms)

    def _click_again(self, step: Step, at_ms: int) -> None:
        """The first and the last click are known, in whatever order they are told."""
        known = step.clicked_ms, step.reclicked_ms
        step.clicked_ms = min(at_ms, step.clicked_ms)
        step.reclicked_ms = max(at_ms, *known) if step.clicked_ms < max(at_ms, *known) else 0
        self.effects.changed |= known != (step.clicked_ms, step.reclicked_ms)

    def take_conversion(self, converted: Converted) -> None:
        """The person did what the message was for: booked once, and the cascade ends. A correction
        ends nothing."""
        message = self.message
        if converted.mark in message.converted:
            return
        if len(message.converted) >= CONVERSIONS_MAX:
            self.effects.refused = "conversions"
            return
        message.converted.append(converted.mark)
        self.effects.changed = True
        for index in converted.assisted:
            if (work := self._carried(index)) is not None:
                self.effects.posts.append(settlement.assisted(work))
        if (work := self._carried(converted.step)) is not None:
            self._convert(work, converted)
        if not message.finished and converted.counts:
            self._end_converted()

    def _carried(self, index: int) -> Work | None:
        """A step as the attempt had it that arrived, or may yet; None: it was never tried."""
        step = self.step(index)
        attempt = step.carrier if step is not None else None
        return None if step is None or attempt is None else self.work(index, step, attempt)

    def _convert(self, work: Work, converted: Converted) -> None:
        step = work.step
        post = settlement.converted(work, converted.value, counts=converted.counts)
        self.effects.posts.append(post)
        if converted.counts:
            if not step.converted_ms:
                self.note_conversion(step, converted.at_ms)
            step.converted_ms = max(step.converted_ms, converted.at_ms)

    def _end_converted(self) -> None:
        """No further step starts. One that is out where nothing arrived yet goes on, and says how
        the message ends."""
        self.finish("converted")
        if self.message.delivered_step >= 0 or not self.current_is_open():
            self.run_out()

    def await_reaction(self) -> None:
        """Something arrived, and a further step may follow: not before everybody had the time to
        react. A step that has not left waits for that, one that is out goes on. Where that time is
        over when it is told, the step that has not left starts as one that follows it."""
        message, step = self.message, self.message.step
        if self.current_is_open():
            return
        due_ms = timing.react_end_ms(message, self.now_ms)
        if step.status in WAITING:
            late = self.now_ms >= due_ms
            if late and not message.has_arrived(step.leg):
                return
            self._wait_again(step)
            if late:
                self.next_step()
                return
        elif StepStatus.PLANNED not in [s.status for s in message.steps[message.current + 1 :]]:
            self.end(message.status, "delivered")
            return
        message.due_ms = due_ms

    def _wait_again(self, step: Step) -> None:
        """The current step, which has not left, is as if it was not reached yet."""
        message = self.message
        step.status = StepStatus.PLANNED
        step.clock = ACCEPTED
        self.effects.lane = self.effects.fallback = message.held = None
        arrived = [i for i, s in enumerate(message.steps[: message.current]) if s.arrived]
        message.current = arrived[-1]
        self.keep_people(message.step, came_first=True)
        self.give_back_leg()
