"""Everything that can happen to a message after admission, as values for `cascade.advance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.core.people.opt_outs import NONE, OptOuts
from gateway.core.records.entries import NO_STEP
from gateway.core.records.words import ReactionName
from providers.contract import Fault, Receipt

CURRENT = -1  # as a claim's step: the one the cascade is at, which a lane entry does not name


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A dispatcher took the step from its lane and is about to send it.

    `opt_outs` are the person's by now. `provider` is whose lane it was: an entry that an earlier
    step left there claims nothing.
    `away`: that provider is, with whoever else is, so nothing is sent; another takes the step over,
    or it is passed over, or waits outside the lane. `restored_ms`: when the data was restored from
    a backup; what is older may have been sent by those whose records were lost, so its provider is
    asked first."""

    step: int
    opt_outs: OptOuts = NONE
    provider: str | None = None
    away: frozenset[str] = frozenset()
    restored_ms: int = 0


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The provider took the step; `provider_id` where it is not our own reference. `again`: it had
    the reference already, and what it said of it then was lost, so it may have refused it.
    `sent_ms` is when its request began: what the provider says happened later by its clock too.
    `delivered`: it never says more, and the step counts as delivered. `series` is the reference's:
    whoever was asked since is not meant. `further_ids` are those of parts after the first."""

    step: int
    provider_id: str | None = None
    parts: int | None = None
    again: bool = False
    sent_ms: int | None = None  # None: when it was claimed
    delivered: bool = False
    series: int | None = None  # None: the latest
    further_ids: tuple[str, ...] = ()


class StepRefused(msgspec.Struct, frozen=True):
    """The provider refused the step in its answer; `fault.permanent` says whether trying again
    could help. `unreachable`: its address reaches nobody on this channel. `away`: the providers
    that are, so that none of them is asked next. `late`: it came when nobody waited for it any
    more, from that provider, about that series, and a step has it only while its answer is lost."""

    step: int
    fault: Fault
    unreachable: bool = False
    away: frozenset[str] = frozenset()
    late: tuple[str, int] | None = None


class StepNotSent(msgspec.Struct, frozen=True):
    """No byte left us: another provider is tried, or this one later, for as long as the step lives.
    `away` as of a refusal."""

    step: int
    fault: Fault
    away: frozenset[str] = frozenset()


class PutBack(msgspec.Struct, frozen=True):
    """Claimed but not sent for a reason that is not the message's: throttled, account fault,
    shutdown. It costs the step no attempt. `refused`: the provider saw the reference and refused.
    """

    step: int
    refused: bool = False


class LostAnswer(msgspec.Struct, frozen=True):
    """Bytes left and no usable answer came."""

    step: int


class LooseParts(msgspec.Struct, frozen=True):
    """The provider took these parts of a text, which are known by its ids, and the rest not, as far
    as is known. It says nothing of how the step goes on. `series` is the reference's."""

    step: int
    ids: tuple[str, ...]
    series: int


class NotKnown(msgspec.Struct, frozen=True):
    """Asked about a step, the provider said it does not know it. `away` as of a refusal."""

    step: int
    away: frozenset[str] = frozenset()


class Reported(msgspec.Struct, frozen=True, gc=False):
    """A receipt, by callback or by look-up. `provider` is who says so: nobody else may speak for a
    step. `part`: it says of one part alone that it arrived, of a text that was taken as a whole and
    has others, or of one that was not."""

    step: int
    receipt: Receipt
    provider: str
    series: int = 0
    part: Literal["", "of_whole", "loose"] = ""


class Reacted(msgspec.Struct, frozen=True):
    """The person did something with what a step sent: proof that it arrived."""

    step: int
    kind: ReactionName
    at_ms: int


class Replied(msgspec.Struct, frozen=True):
    """The person wrote back when this step was out and nobody knew whether it had arrived: no proof
    of that, and a reaction should it turn out that it had."""

    step: int
    at_ms: int


class Converted(msgspec.Struct, frozen=True):
    """The person did what the message was for: no further step starts. `mark` tells the conversion
    from others. `step` has it, NO_STEP: another message does, or none; `assisted` had their
    part."""

    mark: int
    at_ms: int
    value: int = 0
    counts: bool = True  # False: it corrects one that did
    step: int = NO_STEP
    assisted: tuple[int, ...] = ()


class ProviderGone(msgspec.Struct, frozen=True):
    """Nobody sends for this provider any more: it was removed from the configuration, or it is
    retired. What waits in its lanes goes to another, or does not wait longer."""

    provider: str


class TimerDue(msgspec.Struct, frozen=True):
    """The message's timer fired. `away`: the providers that are, and since when."""

    away: Mapping[str, int] = {}


class Released(msgspec.Struct, frozen=True):
    """The moment came until which its step was held: whether it may start is asked again.
    `in_pace`: it has its place in its campaign's pace. `full`: budgets that have no more than is
    leased."""

    in_pace: bool = False
    full: frozenset[str] = frozenset()


class ZoneKnown(msgspec.Struct, frozen=True):
    """A user has a time zone, for which steps outside their send window may wait."""

    user: str  # as an identity
    tz: str


class Cancelled(msgspec.Struct, frozen=True):
    """`erase`: its person is to be forgotten. It says no more to whom it went, nor what, final or
    not; what it cost and billed stays, and so does what is yet to be booked."""

    erase: bool = False
    reason: str = "cancelled"


class Invoiced(msgspec.Struct, frozen=True):
    """An invoice that was accepted charges so much (1e-6 units) for one provider's attempt at a
    step, the how-manieth of the step's from 0. `days` are the invoice's first and last."""

    step: int
    attempt: int
    provider: str
    amount: int
    invoice: str
    days: str


Event = (
    Claimed
    | Accepted
    | StepRefused
    | StepNotSent
    | PutBack
    | LostAnswer
    | Reported
    | NotKnown
    | Reacted
    | Replied
    | Converted
    | ProviderGone
    | TimerDue
    | Released
    | ZoneKnown
    | Cancelled
    | Invoiced
    | LooseParts
)
