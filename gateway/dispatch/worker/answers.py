"""What the answer to one batch comes to, an item a message.

The stage of a failure decides: not sent, refused for the rate or for the account: back to the lane;
refused as a whole: split and tried again, alone for good; no usable answer: lost, never sent again
blindly. Pure: nothing is sent and nothing recorded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gateway.core.events import (
    Accepted,
    Event,
    LooseParts,
    LostAnswer,
    PutBack,
    StepNotSent,
    StepRefused,
)
from gateway.core.ids import step_ref
from gateway.dispatch.worker.breaker import RETRY_AFTER_MAX_S
from gateway.dispatch.worker.claim import ClaimedStep
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import loose_part_of, part_of
from gateway.store.providers.pauses import ACCOUNT, OUTAGE, REJECTIONS, Trouble
from providers import contract
from providers.contract import Device, Fault, Outcome, PersonReply


class RequestResult:
    """What one request came to: an item a step of the batch, in order, or none of what is split.

    `halt`: nothing more may go now; `split`: try the halves of `left`."""

    def __init__(self, batch: Sequence[ClaimedStep], code: str = "", detail: str = "") -> None:
        self.batch = batch
        self.code = code  # of the fault when it failed as a whole
        self.detail = detail
        self.items: list[Item] = []
        self.loose: list[Item] = []  # and parts that were taken of texts that were refused
        self.counts: Counter[str] = Counter()
        # The provider's id, and our reference or a part of it.
        self.provider_ids: list[tuple[str, str]] = []
        self.gone: list[tuple[str, Device]] = []  # a user, and one of theirs that no longer exists
        self.wishes: list[PersonReply] = []  # that people told the provider, as its refusals say
        self.trouble: Trouble | None = None  # for which the provider is paused
        self.slow_down_ms: int | None = None
        self.halt = False
        self.split = False
        self._left: RequestResult | None = None

    @property
    def left(self) -> RequestResult:
        """What of it is not recorded yet: all of it, but for what was told while it was open."""
        return self if self._left is None else self._left

    def after(self, told: RequestResult) -> RequestResult:
        """The whole request's result, of which this is what is left when `told` is recorded."""
        whole = RequestResult([*told.batch, *self.batch], self.code, self.detail)
        whole.items = told.items + self.items
        whole.loose, whole.gone = self.loose, told.gone + self.gone
        whole.wishes = told.wishes + self.wishes
        whole.counts = told.counts + self.counts
        whole.provider_ids = told.provider_ids + self.provider_ids
        whole.trouble = self.trouble
        whole.halt, whole.split = self.halt, self.split
        whole._left = self
        return whole

    @property
    def accepted(self) -> list[str]:
        """What is known of accepted messages by: our references, and the provider's ids."""
        refs = [
            step.submission.ref
            for step, item in zip(self.batch, self.items, strict=True)
            if isinstance(item.event, Accepted)
        ]
        return refs + [provider_id for provider_id, _ in self.provider_ids]

    @property
    def not_accepted(self) -> list[str]:
        """The messages that the provider did not take."""
        taken = {item.message_id for item in self.items if isinstance(item.event, Accepted)}
        return [id_ for step in self.batch if (id_ := step.entry.message_id) not in taken]

    @property
    def failed(self) -> bool:
        """Whether the provider could not be reached, or lost half of its answer at least."""
        return 2 * (self.counts["not_sent"] + self.counts["unknown"]) >= len(self.batch)

    def add(self, step: ClaimedStep, outcome: str, event: Event) -> None:
        self.items.append(step.became(event))
        self.counts[outcome] += 1

    def note_gone(self, step: ClaimedStep, devices: Sequence[Device]) -> None:
        """Devices of the user that do not exist any more. What is refused for the account's fault
        says nothing of a device."""
        if step.user is not None:
            self.gone += ((step.user, device) for device in devices)

    def note_wish(self, step: ClaimedStep, refused: contract.Refused) -> None:
        """That its person told the provider to be sent no more."""
        if refused.opted_out:
            who = step.submission.to.removeprefix("+")
            self.wishes.append(PersonReply(refused.ref, who, kind="block"))

    def note_loose(self, step: ClaimedStep, ids: tuple[str, ...]) -> None:
        """Parts that the provider took of a text that it did not take as a whole. Whatever else
        happened to the step, it charges them: no guard by the claim."""
        if ids:
            loose = LooseParts(step.index, ids, step.series)
            self.loose.append(Item(step.entry.message_id, loose, shard=step.entry.shard))

    def add_all(self, outcome: str, event: Callable[[ClaimedStep], Event]) -> None:
        for step in self.batch:
            self.add(step, outcome, event(step))


def accepted_by(
    taken: contract.Submitted, index: int, series: int, sent_ms: int | None
) -> Accepted:
    """What it is to a step that the provider took it."""
    ids = taken.part_ids
    return Accepted(
        index,
        taken.provider_id or (ids[0] if ids else None),
        taken.parts,
        taken.again,
        sent_ms,
        taken.delivered,
        series,
        ids[1:],
    )


def ids_in(taken: contract.Submitted) -> list[tuple[str, str]]:
    """The provider's ids of a message, each with our reference or a part of it. Where it gave
    several parts one id, a receipt of it speaks of all of them."""
    ref, ids = taken.ref, tuple(dict.fromkeys(taken.part_ids))
    found = [] if taken.provider_id is None else [(taken.provider_id, ref)]
    if ids:
        found += [(id_, part_of(ref, number, len(ids))) for number, id_ in enumerate(ids, 1)]
    return found


def loose_ids_in(items: Sequence[Item]) -> list[tuple[str, str]]:
    """The ids of loose parts, each with what is noted for it."""
    return [
        (id_, loose_part_of(step_ref(item.message_id, item.event.step, item.event.series)))
        for item in items
        if isinstance(item.event, LooseParts)
        for id_ in item.event.ids
    ]


def codes_of(outcomes: Sequence[Outcome]) -> list[str | None]:
    """What an answer says of the account: None for what was taken, the code of what was rejected.
    Nothing for what speaks of the person or the message, or of an account that is paused at once.
    """
    return [
        outcome.fault.code if isinstance(outcome, contract.Refused) else None
        for outcome in outcomes
        if not isinstance(outcome, contract.Refused) or _may_be_all_alike(outcome)
    ]


def _may_be_all_alike(refused: contract.Refused) -> bool:
    return refused.about == "account" and not refused.account


def read_outcomes(
    batch: Sequence[ClaimedStep],
    outcomes: Sequence[Outcome],
    sent_ms: int,
    *,
    held: str | None = None,
    away: frozenset[str] = frozenset(),
) -> RequestResult:
    """An answer that speaks of single messages; one it does not mention has lost its answer.

    `sent_ms` is when the request began. `held` is the code that nearly all messages are rejected
    with: it is the account's fault, and what has it goes back to its lane. `away` are the providers
    that none of them goes to."""
    result = RequestResult(batch)
    by_ref = {outcome.ref: outcome for outcome in outcomes}
    for step in batch:
        outcome = by_ref.get(step.submission.ref)
        if outcome is None:
            result.add(step, "unknown", LostAnswer(step.index))
            continue
        if isinstance(outcome, contract.NotTaken):
            result.halt = True
            result.add(step, "throttled" if outcome.throttled else "put_back", PutBack(step.index))
            continue
        if isinstance(outcome, contract.Submitted):
            result.provider_ids += ids_in(outcome)
            accepted = accepted_by(outcome, step.index, step.series, sent_ms)
            # Whatever else happened to the step, the provider has it: no guard by the claim.
            result.items.append(Item(step.entry.message_id, accepted, step.entry.at))
            result.counts["accepted"] += 1
            result.note_gone(step, outcome.gone)
            continue
        result.note_loose(step, outcome.part_ids)
        if outcome.account:
            result.trouble = Trouble(ACCOUNT, outcome.fault.code, outcome.fault.name)
            result.halt = True
            result.add(step, "put_back", PutBack(step.index, refused=True))
        elif outcome.fault.code == held and _may_be_all_alike(outcome):
            result.trouble = Trouble(REJECTIONS, outcome.fault.code, outcome.fault.name)
            result.halt = True
            result.add(step, "put_back", PutBack(step.index, refused=True))
        else:
            refused = StepRefused(step.index, outcome.fault, outcome.unreachable, away)
            result.add(step, "refused", refused)
            result.note_gone(step, outcome.gone)
            result.note_wish(step, outcome)
    return result


def read_fault(
    batch: Sequence[ClaimedStep],
    fault: contract.SendFault,
    *,
    held: str | None = None,
    away: frozenset[str] = frozenset(),
) -> RequestResult:
    """A request that failed as a whole, by its stage; the rest as for `read_outcomes`."""
    result = RequestResult(batch, fault.code, fault.detail)
    named = Fault(fault.code, fault.code, isinstance(fault, contract.BadRequest))
    match fault:
        case contract.NotSent():
            result.halt = True
            result.add_all("not_sent", lambda step: StepNotSent(step.index, named, away))
        case contract.Throttled():
            result.halt = True
            result.add_all("throttled", lambda step: PutBack(step.index))
        case contract.AccountFault():
            result.halt = True
            result.trouble = Trouble(ACCOUNT, fault.code, fault.detail)
            result.add_all("put_back", lambda step: PutBack(step.index, refused=True))
        case contract.BadRequest() if fault.about == "account" and fault.code == held:
            result.halt = True
            result.trouble = Trouble(REJECTIONS, fault.code, fault.detail)
            result.add_all("put_back", lambda step: PutBack(step.index, refused=True))
        case contract.BadRequest() if len(batch) > 1:
            result.split = True
            result.counts["split"] = len(batch)
        case contract.BadRequest():
            result.add_all("refused", lambda step: StepRefused(step.index, named))
        case _:
            result.add_all("unknown", lambda step: LostAnswer(step.index))
            gone = fault.gone if isinstance(fault, contract.Unknown) else ()
            for step in batch:
                result.note_gone(step, gone)
            if fault.retry_after_ms is not None:
                rest_ms = min(fault.retry_after_ms, round(RETRY_AFTER_MAX_S * 1000))
                result.trouble = Trouble(OUTAGE, fault.code, fault.detail, rest_ms)
    return result


def not_sent(batch: Sequence[ClaimedStep]) -> RequestResult:
    """Nothing was tried: the messages go back to their lane."""
    result = RequestResult(batch)
    result.add_all("put_back", lambda step: PutBack(step.index))
    return result
