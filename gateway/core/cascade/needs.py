"""Which events of a message need its person: loading one costs a round trip a batch. Pure."""

from __future__ import annotations

from gateway.core import events as ev
from gateway.core import timing
from gateway.core.holding import held_of
from gateway.core.people.rates import counts_conversions
from gateway.core.policy import PLANNED_LATELY_MS, Policy
from gateway.core.records.message import Message


def needs_people(
    message: Message, event: ev.Event, policy: Policy, now_ms: int, *, alone: bool = True
) -> bool:
    """Whether the decision may read or change the persons' records: loading them costs a round trip
    a batch.

    `alone` False: other events of this message are decided first, so its status now says
    nothing."""
    if not message.holds and message.campaign is None and message.category not in policy.slot_ms:
        return _asks_reach(message, event, policy, now_ms)
    goes_on = message.delivered_step >= 0 and not message.finished
    if not alone or goes_on:
        return True
    match event:  # the frequent ones first: the cases are tried in turn
        case ev.Reported():
            return event.receipt.status != "sent" and not event.part
        case ev.Claimed():
            if event.opt_outs or event.away:
                return True
            return (
                timing.is_over(message, message.step, now_ms)
                or _is_kept(message, policy, now_ms)
                or _asks_again(message, now_ms)
            )
        case ev.Accepted():
            return event.delivered
        case ev.LostAnswer() | ev.NotKnown() | ev.Invoiced() | ev.LooseParts():
            return False
        case ev.PutBack():
            return message.finished
        case _:
            return True


def _asks_reach(message: Message, event: ev.Event, policy: Policy, now_ms: int) -> bool:
    """Whether it may be learned, or asked, where the person is reached. Asked while at least two
    steps could run; of what was planned lately it is known."""
    match event:
        case ev.Claimed():
            return _asks_again(message, now_ms)
        case ev.Accepted():
            return event.delivered and _arrival_is_noted(message, event.step, policy)
        case ev.LostAnswer() | ev.NotKnown() | ev.PutBack() | ev.Invoiced() | ev.LooseParts():
            return False
        case ev.StepRefused() if event.unreachable:
            return True
        case ev.Reported() if event.part:
            return False
        case ev.Reported() if event.receipt.unreachable:
            return True
        case ev.Reported() if event.receipt.status in ("delivered", "seen"):
            reacted = event.receipt.status == "seen" or _has_reply(message, event.step)
            return (reacted and policy.asks_reactions) or _arrival_is_noted(
                message, event.step, policy
            )
        case ev.Reacted() | ev.Replied():
            return policy.asks_reactions or _arrival_is_noted(message, event.step, policy)
        case ev.Converted():
            return counts_conversions(policy)
        case ev.Reported() if event.receipt.status == "sent":
            return False
        case _:
            return len(message.steps) - message.current > 2


def _asks_again(message: Message, now_ms: int) -> bool:
    """Whether a claim asks where the person is reached, which was known when it was planned."""
    lately_ms = now_ms - PLANNED_LATELY_MS  # the first look is the cheap one
    if message.created_ms > lately_ms or len(message.steps) - message.current < 2:
        return False
    return timing.began_ms(message, message.step) <= lately_ms


def _arrival_is_noted(message: Message, step: int, policy: Policy) -> bool:
    """Whether that a step arrived says something new of its person: it was tried in doubt, or had
    failed, maybe because nobody was reached."""
    if policy.counts or step >= len(message.steps):
        return policy.counts
    arriving = message.steps[step]
    fault = arriving.latest_fault
    return arriving.doubted or (fault is not None and fault.permanent)


def _has_reply(message: Message, step: int) -> bool:
    """Whether the person wrote back before the step was known to arrive."""
    return step < len(message.steps) and message.steps[step].replied_ms > 0


def _is_kept(message: Message, policy: Policy, now_ms: int) -> bool:
    """Whether a claim of it ends or holds the message."""
    if not policy.holds_steps and not message.not_before_ms:
        return False  # as almost always
    if policy.declared.is_cancelled(message.campaign):
        return True
    return held_of(message, policy, now_ms) is not None
