"""What every transition works with: the records of one decision, the policy, the moment, and the
effects collected so far.

Here are the parts that transitions share: which step is meant, its clock and timer, what is held
for the person, and what is booked. `transitions` says when.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from gateway.core import holding, timing
from gateway.core.campaigns import audience
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.effects import Effects, group_of, status_change_of
from gateway.core.events import Accepted, Invoiced
from gateway.core.money import settlement
from gateway.core.money.budgets import Funds, needs_of
from gateway.core.money.settlement import Booking, Work
from gateway.core.people.persons import full_cap, give_back, give_back_leg, keep, release, take
from gateway.core.people.rates import Tally, counts_as, counts_conversions
from gateway.core.people.reach import arrived, is_unreachable, learn, reacted
from gateway.core.policy import Policy, WhenAway
from gateway.core.records.attempt import Attempt
from gateway.core.records.entries import Post
from gateway.core.records.held import Held
from gateway.core.records.message import OPEN, Clock, Message, Step
from gateway.core.records.person import Person
from gateway.core.records.words import ReactionName
from gateway.core.waits import Delay
from providers.contract import Receipt
from ratelimit.caps import Full


class CascadeDecision:
    """One decision: the records, the policy, the moment, and the effects collected so far."""

    __slots__ = ("effects", "funds", "message", "now_ms", "persons", "policy")

    def __init__(
        self,
        message: Message,
        persons: Sequence[Person],
        policy: Policy,
        now_ms: int,
        funds: Funds,
    ) -> None:
        self.message = message
        self.persons = persons
        self.policy = policy
        self.now_ms = now_ms
        self.funds = funds
        self.effects = Effects()

    def step(self, index: int) -> Step | None:
        steps = self.message.steps
        return steps[index] if 0 <= index < len(steps) else None

    def current(self, index: int) -> Step | None:
        return self.step(index) if index == self.message.current else None

    def attempted(self, index: int) -> tuple[Step | None, Attempt | None]:
        """A step and its latest attempt, without which nothing of it can have been sent."""
        step = self.step(index)
        return step, step.attempt if step is not None else None

    def work(self, index: int, step: Step, attempt: Attempt) -> Work:
        """The attempt as settlement looks at it."""
        provider = step.provider_of(attempt)
        return Work(self.message, index, step, attempt, provider, self.policy)

    def can_look_up(self, step: Step, attempt: Attempt) -> bool:
        return self.policy.provider(step.provider_of(attempt)).can_look_up

    def in_time(self) -> bool:
        return self.now_ms < self.message.expires_ms and not self.campaign_ended

    @property
    def campaign(self) -> Campaign | None:
        """What is declared of it now."""
        return self.policy.declared.of(self.message.campaign)

    @property
    def campaign_ended(self) -> bool:
        """Whether its campaign is over: the end may be nearer now than when it was accepted."""
        campaign = self.campaign
        return campaign is not None and campaign.is_over(self.now_ms)

    def last_no_longer(self) -> None:
        """The message's end is no later than that of its campaign."""
        if (campaign := self.campaign) is not None:
            self.message.expires_ms = campaign.no_later(self.message.expires_ms)

    @property
    def when_away(self) -> WhenAway:
        return self.policy.when_away(self.message.category)

    def stopped(self, index: int) -> bool:
        """Whether a step that is not out at its provider must not be tried again."""
        return self.message.finished or index != self.message.current

    def next_leg(self) -> int:
        """The leg of a step that starts now: a new one where something of the latest arrived."""
        message = self.message
        if message.delivered_step < 0:
            return 0
        leg = message.leg
        return leg + 1 if message.has_arrived(leg) else leg

    def held(self) -> Held | None:
        """Why the current step may not start now."""
        return holding.held_of(self.message, self.policy, self.now_ms)

    def is_funded(self, held: Held, told_full: Container[str]) -> bool:
        """Reserves what the message may cost, which waits for that; else it waits on, for the first
        budget that is full."""
        message = self.message
        needs = needs_of(message, message.steps, self.policy.budgets)
        lacking = self.funds.take(needs, told_full)
        if lacking is None:
            message.reserved, self.effects.reserved = needs, dict(needs)
            return True
        if not lacking.full:
            self.effects.lacking = dict(lacking.needs)
        elif lacking.full != held.budget:
            message.held = Held("budget", budget=lacking.full)
            self.effects.changed = True
        return False

    @property
    def campaign_cancelled(self) -> bool:
        return self.policy.declared.is_cancelled(self.message.campaign)

    def full(self, step: Step, held: Held | None = None) -> Full | None:
        """The cap of the step's channel that one more would break, now or when it is held no
        more."""
        message = self.message
        return full_cap(
            self.persons,
            self.policy,
            message.category,
            step.channel,
            self.now_ms if held is None else max(held.until_ms, self.now_ms),
            but=message.id,
            leg=self.next_leg(),
        )

    def is_unreachable(self, step: Step) -> bool:
        """Whether the person is known not to be reached on the step's channel."""
        message = self.message
        return is_unreachable(
            self.persons, step.channel, message.addresses, self.policy, self.now_ms
        )

    def kinds_refused(self, step: Step) -> set[str]:
        """Of which kinds the person's devices were refused for good; "": the one address."""
        refused = [a for a in step.attempts if a.fault is not None and a.fault.permanent]
        return {self._devices_of(step, attempt) for attempt in refused}

    def _devices_of(self, step: Step, attempt: Attempt) -> str:
        return self.policy.provider(step.provider_of(attempt)).devices

    def learn_unreachable(self, step: Step, attempt: Attempt, at_ms: int | None) -> None:
        """The person is not to be reached on the step's channel, as was said at that moment. Where
        devices of one kind are gone, those of another may be there (2026-11-30)."""
        if self._devices_of(step, attempt):
            attempt.gone = True
            gone = {self._devices_of(step, each) for each in step.attempts if each.gone}
            if not self.message.addresses.device_kinds <= gone:
                return
        if self.persons and learn(
            self.persons[0],
            step.channel,
            self.message.addresses,
            self.policy,
            reached=False,
            at_ms=self._within(at_ms),
        ):
            self.effects.people_changed = True

    def note_arrival(self, step: Step, at_ms: int) -> None:
        """The person was reached on the step's channel at that moment."""
        message, policy = self.message, self.policy
        person = self.persons[0] if self.persons else None
        # Where nothing counts it, it is news of somebody alone of whom something is remembered.
        if person is not None and (policy.counts or person.channels):
            moment_ms = self._within(at_ms)
            if arrived(person, step.channel, message.addresses, policy, moment_ms):
                self.effects.people_changed = True
        if policy.declared.excluded:
            self._note_reached(self._within(at_ms))
        if policy.counts:
            self.effects.tallies.append(Tally(message.app, step.channel, "exposures"))

    def _note_reached(self, at_ms: int) -> None:
        """The campaign reached the person. Of somebody who was forgotten a moment ago nothing is
        noted."""
        message, declared = self.message, self.policy.declared
        known = self.persons and message.holder
        if known and audience.note_reached(self.persons[0], message.campaign, declared, at_ms):
            self.effects.people_changed = True

    def note_reaction(self, step: Step, kind: ReactionName, at_ms: int) -> None:
        """The person did, for the first time, that with what the step sent. Where every kind
        counts, only the message's first does: one exposure has one reaction at most."""
        policy, moment_ms = self.policy, self._within(at_ms)
        if policy.asks_reactions and self.persons and self.message.holder:
            audience.note_reaction(self.persons[0], moment_ms)
            self.effects.people_changed = True
        if not policy.counts:
            return
        counts = counts_as(kind, policy.reach.metric, first=self.message.reaction == 0)
        if self.persons:
            reacted(self.persons[0], step.channel, kind, moment_ms, counts=counts)
            self.effects.people_changed = True
        if counts:
            self.effects.tallies.append(Tally(self.message.app, step.channel, "reactions"))

    def note_conversion(self, step: Step, at_ms: int) -> None:
        """The step had its first conversion. Whoever converts acted, though nothing was seen."""
        policy = self.policy
        if not counts_conversions(policy):
            return
        if self.persons:
            reacted(self.persons[0], step.channel, "clicked", self._within(at_ms), counts=True)
            self.effects.people_changed = True
        self.effects.tallies.append(Tally(self.message.app, step.channel, "reactions"))

    def note_delay(self, work: Work) -> None:
        """The attempt arrived, and what it took until that was known is counted where somebody
        learns from it."""
        if work.provider in self.policy.learning:
            took_ms = max(self.now_ms - work.attempt.sent_ms, 0)
            self.effects.delays.append(Delay(work.provider, self.message.country, took_ms))

    def _within(self, at_ms: int | None) -> int:
        """The moment that a provider names; now, where it names none."""
        return timing.within_ms(self.message, at_ms or self.now_ms, self.now_ms)

    def book_undelivered(self, undelivered: bool) -> None:
        """Books that the message reached nobody, or that it did after all."""
        message = self.message
        if message.undelivered != undelivered:
            message.undelivered = undelivered
            count = 1 if undelivered else -1
            self.effects.posts.append(Post(group_of(message), {"undelivered_messages": count}))

    def current_is_open(self) -> bool:
        step = self.message.step
        return step.status in OPEN and step.done_ms == 0

    def tell(self, step: Step) -> None:
        change = status_change_of(self.message, step, self.now_ms)
        self.effects.status_changes.append(change)

    def tell_more(self, step: Step) -> None:
        """The app is told what is new beside the status."""
        self.effects.notices.append(status_change_of(self.message, step, self.now_ms))

    def stop_clock(self, step: Step, at_ms: int) -> None:
        """What the step used of its wait until that moment is kept."""
        ran_ms = max(at_ms - timing.began_ms(self.message, step), 0)
        step.clock = Clock(self.now_ms, step.clock.used_ms + ran_ms)

    def start_clock(self, step: Step) -> None:
        if timing.is_stopped(self.message, step):
            step.clock = Clock(self.now_ms - step.clock.used_ms)

    def set_timer(self, index: int, due_ms: int) -> None:
        if index == self.message.current:
            self.message.due_ms = due_ms
            self.effects.changed = True

    def take_people(self) -> None:
        """The slot moves to the current step's channel."""
        if self.message.holds:
            take(self.persons, self.message, self.policy, self.now_ms)
            self.effects.people_changed = True

    def keep_people(self, step: Step, *, came_first: bool) -> None:
        """The step was the first of its leg to arrive. Of somebody who was forgotten a moment ago
        nothing is kept."""
        if not (self.persons and self.message.holder):
            return
        if keep(self.persons, self.message, step, self.policy, self.now_ms, came_first=came_first):
            self.message.holds = True
            self.effects.people_changed = True

    def give_back(self) -> None:
        if self.message.holds:
            give_back(self._holding(), self.message)
            self.message.holds = False
            self.effects.people_changed = True

    def give_back_leg(self) -> None:
        """The slot of a leg in which nothing arrived is free again."""
        if self.message.holds:
            give_back_leg(self._holding(), self.message)
            self.effects.people_changed = True

    def release(self) -> None:
        """The message does not go on: all it holds where nothing arrived is free again, else the
        slot of a leg in which nothing did, and its claim has an end."""
        message = self.message
        if message.delivered_step < 0:
            self.give_back()
        elif message.holds and message.awaits:
            release(self._holding(), message, self.policy, self.now_ms)
            self.effects.people_changed = True

    def _holding(self) -> Sequence[Person]:
        assert self.persons, "the person was not loaded: needs_people() is wrong"
        return self.persons

    def learn_ids(self, attempt: Attempt, accepted: Accepted) -> None:
        """The provider's ids of the whole. Receipts that came before the answer named some."""
        first, further = accepted.provider_id, accepted.further_ids
        if first is None:
            return
        known = attempt.ids
        if not known or (known != (first, *further) and {first, *further}.issuperset(known)):
            attempt.provider_id, attempt.further_ids = first, further
            self.effects.changed = True

    def learn_names(self, attempt: Attempt, receipt: Receipt) -> None:
        """What a receipt is the first to name: the provider's id, and the phone's network."""
        if receipt.provider_id is not None and attempt.provider_id is None:
            attempt.provider_id = receipt.provider_id
            self.effects.changed = True
        if receipt.network is not None and attempt.network is None:
            attempt.network = receipt.network
            self.effects.changed = True

    def take_invoice(self, invoiced: Invoiced) -> None:
        """Charges what an accepted invoice asks for."""
        step = self.step(invoiced.step)
        if step is None or invoiced.attempt >= len(step.attempts):
            return
        attempt = step.attempts[invoiced.attempt]
        work = self.work(invoiced.step, step, attempt)
        booking = settlement.invoiced(work, invoiced.amount, invoiced.invoice)
        if work.provider == invoiced.provider and booking is not None:
            attempt.invoiced, attempt.invoiced_days = True, invoiced.days
            self.book(attempt, booking)

    def book(self, attempt: Attempt, booking: Booking) -> None:
        """Applies what settlement says: the post and the attempt's charge."""
        self.effects.changed = True
        if booking.charged is not None:
            attempt.charged = booking.charged
            attempt.priced = booking.priced
            attempt.waived = booking.waived
        if booking.loose is not None:
            attempt.loose_cost = booking.loose
        if booking.post is not None:
            self.effects.posts.append(booking.post)
