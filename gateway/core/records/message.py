"""A message and its steps.

    message    one send request that was accepted: one person, one content, one route
    step       one attempt to reach the person on one channel; `attempt` has what providers did

Records hold no behaviour beyond reading themselves: only `gateway.core.cascade` changes a message.
Times are epoch milliseconds, UTC; money is in 1e-6 currency units.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.addresses import Addresses, person_id
from gateway.core.channels import Until
from gateway.core.records.attempt import Attempt, Candidate
from gateway.core.records.held import Held
from gateway.core.records.links import Tracked
from gateway.core.records.words import Importance
from providers.contract import Category, Fault


class StepStatus:
    """A step's status; the value is its rank in the lattice, and a step never moves to a lower
    rank. Plain ints: a member of an enum takes 70 ns longer each time it is named (Python 3.11)."""

    PLANNED = 0  # a later step of the route, not reached yet
    QUEUED = 1  # in its provider's lane
    RETRYING = 2  # waits for its timer to go back to the lane
    SENDING = 10  # claimed: bytes may be on the wire
    SENT = 20  # the provider took it
    UNKNOWN = 30  # the answer was lost: it may or may not have been taken
    SKIPPED = 38  # never started: something made it needless or forbidden
    EXPIRED = 40
    UNDELIVERED = 41
    REJECTED = 42
    DELIVERED = 50
    SEEN = 60
    CLICKED = 70


class MessageStatus:
    """What a caller sees of a message. Of those in ARRIVED the higher value is the higher one."""

    QUEUED = 0
    SENT = 1
    DELIVERED = 2
    SEEN = 3
    UNDELIVERED = 4
    SUPPRESSED = 5
    EXPIRED = 6
    CANCELLED = 7
    CLICKED = 8


def names_of(statuses: type[StepStatus | MessageStatus]) -> dict[int, str]:
    """What each of them is called, by its number."""
    return {number: name.lower() for name, number in vars(statuses).items() if name.isupper()}


STEP_NAMES: dict[int, str] = {
    StepStatus.PLANNED: "queued",
    StepStatus.QUEUED: "queued",
    StepStatus.RETRYING: "queued",
    StepStatus.SENDING: "queued",
    StepStatus.SENT: "sent",
    StepStatus.UNKNOWN: "unknown",
    StepStatus.SKIPPED: "skipped",
    StepStatus.EXPIRED: "expired",
    StepStatus.UNDELIVERED: "undelivered",
    StepStatus.REJECTED: "rejected",
    StepStatus.DELIVERED: "delivered",
    StepStatus.SEEN: "seen",
    StepStatus.CLICKED: "clicked",
}
MESSAGE_NAMES = names_of(MessageStatus)
ARRIVED = frozenset((MessageStatus.DELIVERED, MessageStatus.SEEN, MessageStatus.CLICKED))
WAITING = frozenset((StepStatus.QUEUED, StepStatus.RETRYING, StepStatus.PLANNED))
UNANSWERED = frozenset((StepStatus.SENDING, StepStatus.UNKNOWN))
UNSENT = WAITING | UNANSWERED  # such a step may yet need the content
OPEN = UNANSWERED | {StepStatus.SENT}


class Clock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step's time: since when it runs, or since when it is stopped; 0 is since the message was
    accepted. `used_ms` is how much of the wait was used when it was stopped."""

    since_ms: int
    used_ms: int = 0


ACCEPTED = Clock(0)


class Step(msgspec.Struct, omit_defaults=True, gc=False):
    """What it costs and how long it may take are fixed at acceptance, so a changed configuration or
    price list never changes a message that is under way. The first of the `candidates` is asked
    first, and its price is what the app pays."""

    channel: str = field(name="c")
    candidates: list[Candidate] = field(name="o")
    sell: int = field(name="e")  # price of one unit to the app
    wait_ms: int = field(name="w")
    grace_ms: int = field(name="g")
    parts: int = field(name="n", default=1)  # how many units it is priced as
    until: Until = field(name="u", default="delivered")
    # The candidate in whose lane it is, or who delivered it; -1: none yet.
    chosen: int = field(name="h", default=-1)
    status: int = field(name="s", default=0)
    done_ms: int = field(name="d", default=0)  # set once the step ended, delivered or not
    delivered_ms: int = field(name="v", default=0)
    seen_ms: int = field(name="y", default=0)
    react_ms: int = field(name="j", default=0)  # how long after delivery the person may take
    clicked_ms: int = field(name="k", default=0)
    leg: int = field(name="l", default=0)  # set when it starts
    billed: int | None = field(name="b", default=None)  # what its delivery billed, if anything
    fault: Fault | None = field(name="f", default=None)  # why it was skipped, or never sent
    clock: Clock = field(name="t", default=ACCEPTED)
    attempts: list[Attempt] = field(name="a", default_factory=list)
    auto: int = field(name="q", default=0)  # the longest its wait could be, if it was learned
    hidden: bool = field(name="x", default=False)  # its person hides what was seen
    rate: int = field(name="m", default=0)  # by which it was put in order, of a million; 0: not
    doubted: bool = field(name="r", default=False)  # tried though its channel reached nobody
    reclicked_ms: int = field(name="z", default=0)  # the last click, where it was not the first
    converted_ms: int = field(name="p", default=0)  # the last conversion that it has
    replied_ms: int = field(name="i", default=0)  # the last reply, maybe before it arrived

    @property
    def arrived(self) -> bool:
        return self.status >= StepStatus.DELIVERED

    def arrival_of(self, attempt: Attempt) -> int:
        """The how-manieth of the step's attempts it was to arrive; 0: it did not."""
        return attempt.arrival or int(self.arrived and len(self.attempts) == 1)

    @property
    def carrier(self) -> Attempt | None:
        """The attempt that has it: the first to arrive, else the latest that was sent, else the
        latest."""
        if len(self.attempts) < 2:
            return self.attempt
        sent = [attempt for attempt in self.attempts if attempt.sent_ms]
        return next((a for a in sent if a.arrival == 1), (sent or self.attempts)[-1])

    @property
    def candidate(self) -> Candidate:
        """The chosen one; before any is, the first in line."""
        return self.candidates[max(self.chosen, 0)]

    @property
    def provider(self) -> str | None:
        return self.candidates[self.chosen].provider if self.chosen >= 0 else None

    @property
    def attempt(self) -> Attempt | None:
        """The latest; None before the first claim."""
        return self.attempts[-1] if self.attempts else None

    @property
    def series(self) -> int:
        return self.attempts[-1].series if self.attempts else 0

    @property
    def claimed_ms(self) -> int:
        return self.attempts[-1].claimed_ms if self.attempts else 0

    @property
    def first_claimed_ms(self) -> int:
        return self.attempts[0].first_claimed_ms if self.attempts else 0

    @property
    def tries(self) -> int:
        return sum(attempt.tries for attempt in self.attempts)

    @property
    def charged(self) -> int | None:
        """What was booked as charges of all attempts; None: nothing was."""
        charges = [cost for a in self.attempts if (cost := a.cost) is not None]
        return sum(charges) if charges else None

    @property
    def latest_fault(self) -> Fault | None:
        """Why it was skipped or never sent, else what its latest attempt ran into."""
        return self.fault or (self.attempts[-1].fault if self.attempts else None)

    def attempt_of(self, series: int) -> Attempt | None:
        """The attempt that a reference's series names."""
        for attempt in self.attempts:
            if series <= attempt.series:
                return attempt
        return self.attempt

    def provider_of(self, attempt: Attempt) -> str:
        return self.candidates[attempt.candidate].provider


class Message(msgspec.Struct, omit_defaults=True, gc=False):
    """Read and written by `gateway.core.records.message_codec`.

    `content` is an encoded Content, its own words, and goes with the record: a key of its own for
    each text cost 104 bytes a waiting message, and a write and a deletion more (2026-11-22)."""

    app: str = field(name="a")
    addresses: Addresses = field(name="t")
    country: str = field(name="y")
    category: Category = field(name="c")
    route: str = field(name="r")
    created_ms: int = field(name="b")
    updated_ms: int = field(name="m")
    expires_ms: int = field(name="x")
    steps: list[Step] = field(name="s")
    id: str = ""
    status: int = field(name="z", default=0)
    current: int = field(name="i", default=0)  # the step the cascade is at
    due_ms: int = field(name="d", default=0)  # when its timer fires; 0 is none
    finished: bool = field(name="e", default=False)  # no further step can start
    baseline_cost: int | None = field(name="f", default=None)  # by the reports' baseline, if any
    billed: int | None = field(name="l", default=None)
    delivered_step: int = field(name="v", default=-1)  # the first delivery
    user: str | None = field(name="u", default=None)
    campaign: str | None = field(name="g", default=None)
    reason: str | None = field(name="o", default=None)
    metadata: dict[str, str] | None = field(name="k", default=None)
    importance: int = field(name="I", default=int(Importance.NORMAL))
    reaction: int = field(name="R", default=0)  # the highest known, a place in REACTION_NAMES
    own_users: bool = field(name="w", default=False)  # `user` is its app's own numbering
    holds: bool = field(name="h", default=False)  # it holds a claim or a cap slot of its person
    # Whose record that is; empty: its first identity's, and nothing more is known of that person.
    person: str = field(name="p", default="")
    undelivered: bool = field(name="j", default=False)  # booked as one that nobody got
    ended_ms: int = field(name="E", default=0)  # when it ended without a delivery
    content: bytes = field(name="n", default=b"")  # empty once no further step can need it
    not_before_ms: int = field(name="B", default=0)  # as its `send_at` asked; 0: at once
    tz: str | None = field(name="T", default=None)  # the recipient's, as given
    held: Held | None = field(name="H", default=None)  # why its current step may not start
    counted: bool = field(name="D", default=False)  # among those of its declared campaign
    variant: str = field(name="V", default="")  # of its campaign's content
    content_of: bytes = field(name="C", default=b"")  # the version of that which it says, if any
    vars: dict[str, str] | None = field(name="A", default=None)  # filled in there
    # What it has reserved and not used yet of each budget it was accepted in.
    reserved: dict[str, int] = field(name="W", default_factory=dict)
    sequence: int = field(name="N", default=0)  # changes so far that webhooks might be told
    links: Tracked | None = field(name="L", default=None)  # where its URLs are links of ours
    converted: list[int] = field(name="O", default_factory=list)  # marks of its conversions
    loose: bool = field(name="S", default=False)  # an attempt has loose parts
    trace: str = field(name="Y", default="")  # the context of its acceptance, if it is traced

    @property
    def closed(self) -> bool:
        """Finished, and no step of it can still be heard of within its time."""
        return self.finished and self.due_ms == 0

    @property
    def step(self) -> Step:
        """The step the cascade is at."""
        return self.steps[self.current]

    @property
    def awaits(self) -> bool:
        """Whether a step of it waits for a reaction."""
        return max([step.react_ms for step in self.steps]) > 0

    @property
    def leg(self) -> int:
        """The latest that began."""
        return max([step.leg for step in self.steps])

    @property
    def charged(self) -> int | None:
        """What was booked as charges of all steps; None: nothing was."""
        charges = [charged for step in self.steps if (charged := step.charged) is not None]
        return sum(charges) if charges else None

    def billed_by(self, index: int) -> int | None:
        """What the step's delivery billed. An older record says that of the message alone."""
        step = self.steps[index]
        first = step.billed is None and index == self.delivered_step
        return self.billed if first else step.billed

    def has_arrived(self, leg: int) -> bool:
        """Whether a step of the leg was delivered."""
        return True in [step.arrived for step in self.steps if step.leg == leg]

    @property
    def holder(self) -> str:
        """The identity under which its claim and slot are kept, in its own shard; empty when its
        person is not recognised."""
        return self.person or self.addresses.first_identity(self.named_user)

    @property
    def identities(self) -> list[str]:
        return self.addresses.identities(self.named_user)

    @property
    def named_user(self) -> str | None:
        """The `user` as an identity."""
        return person_id(self.user, self.app) if self.own_users else self.user
