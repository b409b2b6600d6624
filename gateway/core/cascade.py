"""The cascade: the whole state machine of a message after admission, pure.

`advance(message, happening, persons, policy, now_ms)` changes the records it is given in place (the
caller decoded them for this decision and throws them away when the commit fails) and returns the
effects. It reads no clock and draws no random number; the same call serves production, property
tests and simulation.

The shape of it:

    QUEUED --claimed--> SENDING --accepted--> SENT --receipt--> DELIVERED --> SEEN
      |  ^                | | |                 +--receipt or timer--> EXPIRED, UNDELIVERED: next
      |  |                | | +--lost answer--> UNKNOWN --look-up--> SENT or QUEUED; or timer: next
      |  +-- RETRYING <---+ +--refused for good--> REJECTED: next
      +--too late, cancelled, opted out--> SKIPPED, and the message is final

What holds whatever happens, in whatever order (tests/core/test_cascade_properties.py):

  - a step's status only moves up in rank, so repeated and reordered receipts change nothing; the
    one way back is from SENDING or UNKNOWN to QUEUED, and only where the provider is known not to
    have the step, or policy prefers to send again;
  - no step starts after a delivery, after `expires_ms`, or once the message is final;
  - the app is billed at most once, at the first delivery; a step's charge is booked once and only
    corrected by a receipt's price, and the corrections do not depend on the order of receipts;
  - a claim and a slot are held exactly while the message is live or delivered, or one of its steps
    is still out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from gateway.core import events as ev
from gateway.core import settlement, timing
from gateway.core.effects import Effects
from gateway.core.model import (
    FINAL,
    Message,
    MessageStatus,
    Person,
    StepStatus,
)
from gateway.core.policy import NOT_FOUND_MIN, SENDING_LIMIT_MS, Policy
from gateway.core.transitions import Turn

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
    turn = Turn(message, persons, policy, now_ms)
    match happening:  # the frequent ones first: the cases are tried in turn
        case ev.Reported():
            _reported(turn, happening)
        case ev.Claimed():
            _claimed(turn, happening)
        case ev.Accepted():
            _accepted(turn, happening)
        case ev.Refused():
            _refused(turn, happening)
        case ev.NotSent():
            _not_sent(turn, happening)
        case ev.PutBack():
            _put_back(turn, happening)
        case ev.LostAnswer():
            _lost_answer(turn, happening.step)
        case ev.NotKnown():
            _not_known(turn, happening.step)
        case ev.TimerDue():
            _timer_due(turn)
        case ev.Cancelled():
            _cancelled(turn)
        case _:
            assert_never(happening)
    if turn.effects.changed:
        message.updated_ms = max(message.updated_ms, now_ms)
    return turn.effects


def needs_people(
    message: Message, happening: ev.Happening, policy: Policy, now_ms: int, *, alone: bool = True
) -> bool:
    """Whether the decision may read or change the persons' records: loading them costs a round trip
    a batch.

    `alone` False: other happenings of this message are decided first, so its status now says
    nothing."""
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


def _claimed(turn: Turn, claim: ev.Claimed) -> None:
    message = turn.message
    step = turn.current(message.current if claim.step == ev.CURRENT else claim.step)
    if step is None or step.status != StepStatus.QUEUED or message.status in FINAL:
        return
    if claim.provider not in (None, step.provider):
        return
    opted_out = claim.opt_out == "all" or (
        claim.opt_out == "marketing" and message.category == "marketing"
    )
    if opted_out:
        turn.end(MessageStatus.SUPPRESSED, "opted_out")
        return
    if turn.now_ms >= message.expires_ms:
        turn.end(MessageStatus.EXPIRED, "ttl")
        return
    turn.effects.changed = True
    turn.effects.submit = True
    step.status = StepStatus.SENDING
    step.attempts += 1
    step.claimed_ms = turn.now_ms
    step.started_ms = step.started_ms or turn.now_ms


def _accepted(turn: Turn, accepted: ev.Accepted) -> None:
    step = turn.step(accepted.step)
    if step is None or step.started_ms == 0:
        return
    if accepted.provider_id is not None and step.provider_id is None:
        step.provider_id = accepted.provider_id
        turn.effects.changed = True
    unanswered = step.status in (StepStatus.SENDING, StepStatus.UNKNOWN)
    if accepted.again and unanswered and turn.policy.providers[step.provider].can_look_up:
        # Charging for one that was refused, and waiting for its receipt, was found by the fault
        # bench (2026-11-22): a code refused in an answer that was lost, and sent again.
        step.status = StepStatus.UNKNOWN
        turn.effects.changed = True
        turn.set_timer(accepted.step, timing.unknown_due_ms(step, turn.policy, turn.now_ms))
        return
    turn.take_as_sent(accepted.step, step, accepted.sent_ms or turn.now_ms)


def _refused(turn: Turn, refused: ev.Refused) -> None:
    step = turn.step(refused.step)
    if step is None or step.status not in (StepStatus.SENDING, StepStatus.UNKNOWN):
        return
    attempts_max = turn.policy.providers[step.provider].attempts_max
    step.fault = refused.fault
    if step.status == StepStatus.UNKNOWN:
        step.status = StepStatus.SENDING  # its answer was lost and is known after all
    if refused.fault.permanent or step.attempts >= attempts_max or turn.stopped(refused.step):
        turn.fail(refused.step, step, StepStatus.REJECTED)
    else:
        step.series += 1
        turn.retry_later(step)


def _not_sent(turn: Turn, not_sent: ev.NotSent) -> None:
    step = turn.step(not_sent.step)
    if step is None or step.status != StepStatus.SENDING:
        return
    step.fault = not_sent.fault
    if turn.now_ms >= step.started_ms + step.wait_ms or turn.stopped(not_sent.step):
        turn.fail(not_sent.step, step, StepStatus.UNDELIVERED)
    else:
        turn.retry_later(step)


def _put_back(turn: Turn, put_back: ev.PutBack) -> None:
    step = turn.step(put_back.step)
    if step is None or step.status != StepStatus.SENDING:
        return
    step.attempts -= 1
    step.series += put_back.refused
    if turn.stopped(put_back.step):
        turn.effects.changed = True
        step.status = StepStatus.SKIPPED
        turn.close_step(put_back.step)
    else:
        turn.enqueue(step)


def _lost_answer(turn: Turn, index: int) -> None:
    step = turn.step(index)
    if step is None or step.status != StepStatus.SENDING:
        return
    turn.effects.changed = True
    rule = turn.policy.categories.get(turn.message.category)
    provider = turn.policy.providers[step.provider]
    resend = rule is not None and rule.resend_unknown
    if resend and step.attempts < provider.attempts_max and not turn.stopped(index):
        turn.enqueue(step)
        return
    step.status = StepStatus.UNKNOWN
    turn.set_timer(index, timing.unknown_due_ms(step, turn.policy, turn.now_ms))


def _not_known(turn: Turn, index: int) -> None:
    step = turn.step(index)
    if step is None or step.status != StepStatus.UNKNOWN or step.look_ups < NOT_FOUND_MIN:
        return
    attempts_max = turn.policy.providers[step.provider].attempts_max
    if step.attempts < attempts_max and not turn.stopped(index) and turn.in_time():
        turn.enqueue(step)


def _reported(turn: Turn, reported: ev.Reported) -> None:
    index, receipt = reported.step, reported.receipt
    step = turn.step(index)
    if step is None or step.started_ms == 0 or step.provider != reported.provider:
        return
    if reported.series != step.series and receipt.status not in ("delivered", "seen"):
        return  # of a reference the provider refused at once, which was sent again under another
    if receipt.provider_id is not None and step.provider_id is None:
        step.provider_id = receipt.provider_id
        turn.effects.changed = True
    turn.take_as_sent(index, step, step.claimed_ms)  # the answer, if one comes, is late
    price = settlement.price_in(receipt, step, turn.policy)
    if receipt.status != "sent":
        status = _RECEIPT_STATUS[receipt.status]
        if status >= StepStatus.DELIVERED:
            turn.deliver(index, step, status, receipt.at_ms, price)
        else:
            turn.fail(index, step, status, receipt)
    correction = settlement.corrected(turn.message, index, step, price)
    if correction is not None:
        turn.book(correction)


def _timer_due(turn: Turn) -> None:
    message = turn.message
    if message.due_ms == 0 or turn.now_ms < message.due_ms:
        return
    index = message.current
    step = message.steps[index]
    turn.effects.changed = True
    message.due_ms = 0
    match step.status:
        case StepStatus.QUEUED | StepStatus.RETRYING:
            if not turn.in_time():
                turn.end(MessageStatus.EXPIRED, "ttl")
            elif step.status == StepStatus.RETRYING:
                turn.enqueue(step)
        case StepStatus.SENDING:
            lost_at = step.claimed_ms + SENDING_LIMIT_MS
            if turn.now_ms >= lost_at:
                _lost_answer(turn, index)
            else:
                message.due_ms = lost_at
        case StepStatus.SENT:
            turn.fail(index, step, StepStatus.EXPIRED)
        case StepStatus.UNKNOWN:
            turn.unknown_timer(index, step)
        case _:
            pass  # the step ended while its timer was on the way


def _cancelled(turn: Turn) -> None:
    message = turn.message
    if message.status in FINAL:
        turn.effects.refused = "final"
        return
    turn.end(MessageStatus.CANCELLED, "cancelled")
