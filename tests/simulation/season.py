"""A season of campaigns to an audience of stated habits: one configuration, played in virtual time.

The rules that decide for real, the simulator's exchange for the providers and the phones, and the
adapters' own wire format between them; what Redis, HTTP and the clock do is not played. A click,
which no provider tells, is reported as an app would report it.
"""

from __future__ import annotations

import copy
import heapq
from collections import defaultdict
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from gateway.core import admission, cascade, events
from gateway.core.addresses import Addresses
from gateway.core.effects import Effects
from gateway.core.ids import new_id, read_ref
from gateway.core.people.opt_outs import EVERY_CHANNEL, NONE, OptOuts
from gateway.core.people.rates import NOTHING, THOUSAND, Counted
from gateway.core.people.stop_words import wish_in
from gateway.core.plan import Known
from gateway.core.reactions.reactions import reacted_step
from gateway.core.records.content import Content
from gateway.core.records.message import Message
from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest
from gateway.core.records.words import Importance
from gateway.dispatch.worker.submission import SubmissionWriter
from gateway.settings.bootstrap import load_prices, policy_of
from gateway.settings.file import Settings
from providers.contract import PersonReply, Refused, Submitted
from providers.http.adapter import Reply
from providers.http.settings import http_config
from providers.registry import KINDS
from providers.simulator import People, knobs_of
from providers.simulator.exchange import Exchange
from providers.simulator.twin import Twin
from providers.simulator.twins import TWINS

T0 = 1_788_249_600_000  # a morning in September 2026
DAY_MS = 86_400_000
TEXT = "Осенняя распродажа: минус 30 % на всё. Только до воскресенья!"
SEED = 11
LOOK_MS = 1_000


class Wave(msgspec.Struct, frozen=True):
    """One campaign to everybody on a day of the season, by the route of its category or another."""

    name: str
    day: int
    importance: int = Importance.NORMAL
    route: str | None = None


def phones_of(size: int) -> list[str]:
    """Those of an audience; a smaller one is a part of it."""
    return [f"7944{n:07d}" for n in range(size)]


class Season:
    """`configured` is a whole configuration, `people` the kinds of the audience, `size` how many
    persons there are; `before`: what was learned of them by then."""

    def __init__(
        self,
        configured: Settings,
        people: Sequence[People],
        size: int,
        before: Season | None = None,
    ) -> None:
        self.settings = configured
        self.policy = policy_of(configured, load_prices(configured))
        knobs = knobs_of(configured.providers, configured.prices.file)
        knobs = replace(knobs, seed=SEED, people=tuple(people))
        self.exchange = Exchange(replace(knobs, receipt_ms_min=2_000, receipt_ms_max=20_000))
        self.adapters = {
            name: adapter(http_config(configured.provider(name)))
            for name, provider in configured.providers.items()
            if (adapter := KINDS[provider.kind].adapter) is not None
        }
        self.phones = phones_of(size)
        self.persons = {phone: Person() for phone in self.phones}
        self.opt_outs: dict[str, OptOuts] = {}
        self.rates: dict[tuple[str, str], Counted] = {}
        if before is not None:
            self.persons = copy.deepcopy(before.persons)
            self.opt_outs, self.rates = dict(before.opt_outs), dict(before.rates)
        self.messages: dict[str, Message] = {}
        self.newest: dict[str, Message] = {}  # by phone: what a reply answers
        self.costs: defaultdict[str, int] = defaultdict(int)  # by message, in 1e-6 currency units
        self.timers: list[tuple[int, str]] = []
        self.clicks = 0
        self.now_ms = T0

    def play(self, waves: Sequence[Wave]) -> list[Message]:
        """Sends the waves, each on its day, until every message is final; returns them all."""
        for number, wave in enumerate(waves):
            self._live_until(T0 + wave.day * DAY_MS)
            for place, phone in enumerate(self.phones, number * len(self.phones)):
                self._send(phone, wave, place)
        self._live_until(None)
        assert all(message.closed for message in self.messages.values())
        return list(self.messages.values())

    def _live_until(self, until_ms: int | None) -> None:
        """Lets everything happen that is due by then, to the second; None: all there is."""
        while (at_ms := self._next_ms()) is not None and (until_ms is None or at_ms <= until_ms):
            self.now_ms = max(self.now_ms, -(-at_ms // LOOK_MS) * LOOK_MS)
            while self.timers and self.timers[0][0] <= self.now_ms:
                due_ms, id_ = heapq.heappop(self.timers)
                message = self.messages[id_]
                if message.due_ms == due_ms:
                    self._happen(message, events.TimerDue())
            reports: defaultdict[tuple[Twin, str, str], list[bytes]] = defaultdict(list)
            for push in self.exchange.tick(self.now_ms):
                reports[push.twin, push.url, push.kind].append(push.report)
            for (twin, url, _), bodies in reports.items():
                self._called_back(url, twin.post(bodies))
            self._clicked()
        self.now_ms = max(self.now_ms, until_ms or 0)

    def _next_ms(self) -> int | None:
        nearest = [self.exchange.next_ms(), self.timers[0][0] if self.timers else None]
        return min((at_ms for at_ms in nearest if at_ms is not None), default=None)

    def _send(self, phone: str, wave: Wave, place: int) -> None:
        request = MessageRequest(
            id=new_id(self.now_ms, 0, place),
            app="shop",
            addresses=Addresses(phone),
            country="RU",
            category="marketing",
            content=Content(TEXT),
            campaign=wave.name,
            importance=wave.importance,
            route=wave.route,
        )
        people, opt_outs = [self.persons[phone]], self.opt_outs.get(phone, NONE)
        known = Known(self.rates)
        decision = admission.admit(request, people, opt_outs, self.policy, self.now_ms, known=known)
        if not isinstance(decision, admission.Admitted):
            assert isinstance(decision, admission.Suppressed), decision
            return
        message = decision.message
        self.messages[message.id] = self.newest[phone] = message
        self._note_timer(message)
        if decision.lane is not None:
            self._claim(message)

    def _happen(self, message: Message, event: events.Event) -> Effects:
        needed = cascade.needs_people(message, event, self.policy, self.now_ms)
        people = [self.persons[message.addresses.phone or ""]] if needed else []
        effects = cascade.advance(message, event, people, self.policy, self.now_ms)
        for post in effects.posts:
            self.costs[message.id] += post.measures.get("cost", 0)
        for tally in effects.tallies:
            one, key = Counted(**{tally.what: THOUSAND}), (tally.app, tally.channel)
            self.rates[key] = self.rates.get(key, NOTHING) + one
        self._note_timer(message)
        if effects.lane is not None:
            self._claim(message)
        return effects

    def _note_timer(self, message: Message) -> None:
        if message.due_ms:
            heapq.heappush(self.timers, (message.due_ms, message.id))

    def _claim(self, message: Message) -> None:
        """A dispatcher takes the step at once, and sends it."""
        step = message.current
        opt_outs = self.opt_outs.get(message.addresses.phone or "", NONE)
        if not self._happen(message, events.Claimed(step, opt_outs)).submit:
            return
        name = message.step.candidate.provider
        adapter = self.adapters[name]
        sender = self.settings.providers[name].sender
        batch = [SubmissionWriter(sender).write(message, self.now_ms)]
        asked = adapter.submit(batch)
        twin = next(twin for twin in TWINS.values() if twin.sends_at(asked.path))
        read = twin.read_send(message.step.channel, asked.body, asked.path)
        answer = self.exchange.send(twin, read, self.now_ms).answer
        (outcome,) = adapter.outcomes(batch, Reply(answer.status, {}, answer.body))
        if isinstance(outcome, Submitted):
            taken = events.Accepted(step, outcome.provider_id, outcome.parts, outcome.again)
            self._happen(message, taken)
        else:
            assert isinstance(outcome, Refused)
            refused = events.StepRefused(step, outcome.fault, outcome.unreachable)
            self._happen(message, refused)

    def _called_back(self, url: str, body: bytes) -> None:
        name = urlsplit(url).path.rpartition("/")[2]
        read = self.adapters[name].receipts(body, "application/json")
        assert not read.faults
        for receipt in read.receipts:
            ref = read_ref(receipt.ref or "")
            assert ref is not None
            said = events.Reported(ref.step, receipt, name, ref.series)
            self._happen(self.messages[ref.message_id], said)
        for reply in read.replies:
            self._replied(reply)

    def _replied(self, reply: PersonReply) -> None:
        phone = reply.sender.removeprefix("+")
        if wish_in(reply.text, self.policy.stop_words) == "stop":
            self.opt_outs[phone] = {EVERY_CHANNEL: "marketing"}
            return
        message = self.newest[phone]
        step = reacted_step(message, None)
        assert step is not None
        self._happen(message, events.Reacted(step, "replied", self.now_ms))

    def _clicked(self) -> None:
        page = self.exchange.book.clicks(self.clicks)
        self.clicks = page.next_offset
        for click in page.clicks:
            ref = read_ref(click.message_id)
            assert ref is not None
            message = self.messages[ref.message_id]
            step = reacted_step(message, click.channel)
            assert step is not None
            self._happen(message, events.Reacted(step, "clicked", click.at_ms))
