"""The writes of one transaction on one shard, collected per kind and turned into commands once.

What is not per message is written once a batch: one ZADD for all timers, one XACK a lane, one
HINCRBY a counter, one ledger entry and one event entry an app for all lines. It decides nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns import audience
from gateway.core.effects import Effects, Fallback, status_change_of
from gateway.core.money.months import MONTH_CHARS
from gateway.core.people import reach
from gateway.core.people.persons import prune
from gateway.core.people.rates import Tally
from gateway.core.policy import Policy
from gateway.core.records.entries import (
    ClosedMessages,
    Indexed,
    IndexEntry,
    LedgerEntry,
    Post,
    StatusChange,
    StatusChanges,
    changes_codec,
    closed_codec,
    index_codec,
    ledger_codec,
)
from gateway.core.records.message import MESSAGE_NAMES, Message, MessageStatus
from gateway.core.records.message_codec import pack_message
from gateway.core.records.person import DedupeClaim, Person, claim_codec, pack_person
from gateway.core.records.request import MessageRequest, RememberedAnswer, remembered_codec
from gateway.core.records.webhook import WebhookEvent
from gateway.core.waits import Delay
from gateway.core.webhooks import FALLBACK, Webhooks
from gateway.redis.client import Command, RedisClient
from gateway.store.campaigns.campaigns import Campaigns
from gateway.store.campaigns.declarations import MONEY
from gateway.store.compression import pack
from gateway.store.events import outbox
from gateway.store.keys import GROUP, Keys
from gateway.store.messages.person_index import indexed
from gateway.store.money.budgets import BudgetWrites
from gateway.store.money.sums import add_up, by_hour, fold_counts
from gateway.store.reactions.tallies import delay_commands, tally_commands
from gateway.store.waiting.lines import Lines
from gateway.store.waiting.queues import HeldPlace, Queues, place_of

LANE_FIELD = b"m"
BLOB_FIELD = b"d"
HOURS_KEPT_MS = 400 * 86_400_000  # at which hours people did what on a day


class Retention(msgspec.Struct, frozen=True):
    """How long things are kept: closed messages, idempotency keys, unmatched receipts, receipts as
    they came (0: not at all); and how many: status changes an app, campaigns a month that the
    totals keep apart, claims in a person's record."""

    message_ms: int = 30 * 86_400_000
    idempotency_ms: int = 86_400_000
    unmatched_ms: int = 86_400_000
    raw_receipts_ms: int = 0
    events_max: int = 100_000
    campaigns_max: int = 10_000
    claims_max: int = 16
    archives: bool = False  # there is an archive, for which closed messages are listed


class Before(msgspec.Struct, frozen=True, gc=False):
    """Of a message before it changed: when its timer was due, where it was held, and as what its
    campaign counted it."""

    due_ms: int = 0
    place: HeldPlace | None = None
    state: str = ""  # in which it is counted, where it is

    @classmethod
    def of(cls, message: Message) -> Before:
        if message.held is None and not message.counted:  # as almost always
            return cls(message.due_ms)
        return cls(message.due_ms, place_of(message), _counted_as(message))


NEW = Before()
ACCEPTED = "accepted"


def _counted_as(message: Message) -> str:
    """The state in which its campaign counts it; empty where it does not."""
    if not message.counted:
        return ""
    if message.held is not None and message.status == MessageStatus.QUEUED:
        return "held"
    return MESSAGE_NAMES[message.status]


class Writes:
    """Collects what a batch of decisions changes; `commands()` gives the body of MULTI … EXEC."""

    def __init__(
        self,
        keys: Keys,
        policy: Policy,
        retention: Retention,
        campaigns: Campaigns,
        lines: Lines,
        queues: Queues,
        webhooks: Webhooks,
        now_ms: int,
    ) -> None:
        self._keys = keys
        self._policy = policy
        self._retention = retention
        self._campaigns = campaigns
        self._lines = lines
        self._queues = queues
        self._webhooks = webhooks
        self._now_ms = now_ms
        self._day = policy.days.of(now_ms).isoformat()
        self._live: dict[str, bytes] = {}  # written by one MSET
        self._single: list[Command] = []
        self._deleted: list[str] = []
        self._timers: dict[str, int] = {}
        self._held: defaultdict[str, dict[str, int]] = defaultdict(dict)  # by queue; 0: no more
        # By lane and app.
        self._lanes: defaultdict[tuple[tuple[str, str], str], list[str]] = defaultdict(list)
        self._acks: defaultdict[str, list[bytes]] = defaultdict(list)
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by campaign
        self._indexed: list[Indexed] = []
        self._closed: list[str] = []
        self._posts: list[Post] = []
        self.budgets = BudgetWrites(keys, policy.budgets, now_ms)
        self._tallies: list[Tally] = []
        self._delays: list[Delay] = []
        self._changes: defaultdict[str, list[StatusChange]] = defaultdict(list)
        self._events: list[WebhookEvent] = []

    def message(self, message: Message, before: Before) -> None:
        key = self._keys.message(message.id)
        if message.closed:
            self._live.pop(key, None)
            keep = self._retention.message_ms
            self._single.append(("SET", key, pack_message(message), "PX", keep))
            if self._retention.archives:
                self._closed.append(message.id)
        else:
            self._live[key] = pack_message(message)
        if message.due_ms != before.due_ms:
            self._timers[message.id] = message.due_ms
        if message.held is not None or before.place is not None:
            self._place(message, before.place)
        if message.counted and (state := _counted_as(message)) != before.state:
            assert message.campaign is not None
            counts = self._counts[message.campaign]
            counts[state] += 1
            counts[before.state or ACCEPTED] += -1 if before.state else 1

    def _place(self, message: Message, before: HeldPlace | None) -> None:
        """Where it waits now, and where it waited before."""
        place = place_of(message)
        if place != before:
            if before is not None:
                self._held[before.queue][message.id] = 0
            if place is not None:
                self._held[place.queue][message.id] = place.moment_ms

    def count_request(self, request: MessageRequest, what: str) -> None:
        """One that became no message, where its campaign is declared."""
        if self._policy.declared.of(request.campaign) is not None:
            assert request.campaign is not None
            self._counts[request.campaign][what] += 1

    def timer(self, message_id: str, due_ms: int) -> None:
        """When the message's timer is due; 0: it has none."""
        self._timers[message_id] = due_ms

    def effects(self, message: Message, effects: Effects) -> None:
        if effects.lane is not None:
            self.enqueue(message, effects.lane)
        if effects.posts:
            self._posts += effects.posts
            if message.counted:
                self._count_money(message, effects.posts)
        if effects.moves:
            self.budgets.move(effects.moves)
        if effects.tallies:
            self._tallies += effects.tallies
        if effects.delays:
            self._delays += effects.delays
        if effects.status_changes or effects.fallback is not None:
            self.status_changes(message, effects.status_changes, effects.fallback)
        for notice in effects.notices:
            self._changes[notice.app].append(notice)

    def _count_money(self, message: Message, posts: Iterable[Post]) -> None:
        """What is booked counts for its declared campaign."""
        assert message.campaign is not None
        counts = self._counts[message.campaign]
        for post in posts:
            for measure in MONEY:
                counts[measure] += post.measures.get(measure, 0)

    def enqueue(self, message: Message, lane: tuple[str, str]) -> None:
        self._lanes[lane, message.app].append(message.id)

    def index(self, message: Message, identities: Iterable[str]) -> None:
        """The message is found by its person, whom it names by these, from now on."""
        self._indexed.append(indexed(message, identities))

    def post(self, post: Post) -> None:
        self._posts.append(post)

    def status_changes(
        self, message: Message, changes: Sequence[StatusChange], fallback: Fallback | None = None
    ) -> None:
        """Tells the message's app, through its events and its webhooks. To be called before
        `message`, because it counts what webhooks may be told."""
        if message.app in self._webhooks.apps:
            changes = self._told_to_webhooks(message, changes, fallback)
        self._changes[message.app].extend(changes)

    def _told_to_webhooks(
        self, message: Message, changes: Sequence[StatusChange], fallback: Fallback | None
    ) -> list[StatusChange]:
        """The changes, with their sequence, and the fallback where a webhook wants it."""
        told = []
        if fallback is not None:
            change = status_change_of(message, message.step, self._now_ms)
            told.append((replace(change, fallback=True), FALLBACK))
        told += [(change, "message." + change.status) for change in changes]
        numbered = []
        for change, event in told:
            message.sequence += 1
            wanted = self._webhooks.wants(message.app, event)
            if wanted or not change.fallback:
                numbered.append(replace(change, sequence=message.sequence))
            if wanted:
                self._events.append(event_of(numbered[-1]))
        return numbered

    def person(
        self, identity: str, person: Person, before: bytes | None, apart: Mapping[str, DedupeClaim]
    ) -> None:
        """The person's record, where it differs from the record `before`, and its claims that stand
        in records of their own: those that are `apart`, and the oldest of too many. One of these
        that changes hands goes into the person's record, which is what others watch."""
        if before is not None:  # of a new person nothing is over
            prune(person, self._policy, self._now_ms)
        if person.channels:
            reach.prune(person, self._now_ms)
        if person.reached:
            audience.prune(person, self._now_ms)
        for campaign, known in apart.items():
            claim = person.claims.get(campaign)
            if claim is None or claim.message != known.message:
                # In this place: it may be moved out again below.
                self._single.append(("DEL", self._keys.claim(identity, campaign)))
            else:
                del person.claims[campaign]
                if claim != known:
                    self._claim_apart(identity, person, campaign, claim)
        while len(person.claims) > self._retention.claims_max:
            oldest = next(iter(person.claims))
            self._claim_apart(identity, person, oldest, person.claims.pop(oldest))
        key, until_ms = self._keys.person(identity), person.until_ms
        if until_ms <= self._now_ms:
            if before is not None:
                self._deleted.append(key)
        elif (record := pack_person(person)) != before:
            self._single.append(("SET", key, record, "PX", until_ms - self._now_ms))

    def _claim_apart(
        self, identity: str, person: Person, campaign: str, claim: DedupeClaim
    ) -> None:
        until_ms = claim.until_ms or person.keep_ms
        person.apart_ms = max(person.apart_ms or 0, until_ms)
        key = self._keys.claim(identity, campaign)
        lives_ms = max(until_ms - self._now_ms, 1)
        self._single.append(("SET", key, claim_codec.encode(claim), "PX", lives_ms))

    def remember(self, key: str, answer: RememberedAnswer) -> None:
        record = remembered_codec.encode(answer)
        self._single.append(("SET", key, record, "PX", self._retention.idempotency_ms))

    def acknowledge(self, lane: str, entry: bytes) -> None:
        """The lane entry's outcome is recorded by this transaction: it leaves the lane."""
        self._acks[lane].append(entry)

    async def learn(self, redis: RedisClient) -> None:
        """To be called before `commands`: which campaigns of what is booked the totals keep apart,
        which lines the apps stand in, and that there are the queues in which something is held."""
        await self._campaigns.learn(redis, self._posts, self._day[:MONTH_CHARS])
        await self._lines.learn(redis, self._now_ms, {app for _, app in self._lanes})
        await self._queues.learn(redis, self._held, self._now_ms)

    def commands(self) -> list[Command]:
        out: list[Command] = []
        if self._live:
            records: Iterable[str | bytes] = chain.from_iterable(self._live.items())
            out.append(("MSET", *records))
        out.extend(self._single)
        if self._deleted:
            out.append(("DEL", *self._deleted))
        out.extend(_sorted_set_commands(self._keys.timers, self._timers))
        for queue, moments in self._held.items():
            out.extend(_sorted_set_commands(self._keys.held(queue), moments))
        for (lane, app), ids in self._lanes.items():
            key = self._keys.lane(*lane, self._lines.of(app, self._now_ms))
            out.extend([("XADD", key, "*", LANE_FIELD, id_) for id_ in ids])
        for key, entries in self._acks.items():
            out.append(("XACK", key, GROUP, *entries))
            out.append(("XDEL", key, *entries))
        if self._indexed:
            entry = pack(index_codec.encode(IndexEntry(self._indexed)))
            out.append(("XADD", self._keys.index, "*", BLOB_FIELD, entry))
        if self._closed:
            out.append(closed_command(self._keys, self._closed))
        for campaign, counts in self._counts.items():
            key = self._keys.campaign_counts(campaign)
            out.extend([("HINCRBY", key, state, n) for state, n in counts.items() if n])
        out.extend(self.budgets.commands())
        out.extend(self._ledger_commands())
        out.extend(self._counter_commands())
        for app, changes in self._changes.items():
            out.extend(event_commands(self._keys, app, changes, self._retention))
        if self._events:
            out.extend(outbox.commands(self._keys.outbox, self._events))
        return out

    def _counter_commands(self) -> Iterable[Command]:
        if self._tallies:
            yield from tally_commands(self._keys, self._tallies, self._now_ms)
        if self._delays:
            yield from delay_commands(self._keys, self._delays, self._now_ms)

    def _ledger_commands(self) -> Iterable[Command]:
        if not self._posts:
            return
        entry = LedgerEntry(self._now_ms, fold_counts(self._posts), self._policy.currency)
        yield ("XADD", self._keys.ledger, "*", BLOB_FIELD, pack(ledger_codec.encode(entry)))
        totals = self._keys.totals(self._day)
        yield ("SADD", self._keys.days, self._day)
        folded = self._campaigns.fold(entry.posts, self._day[:MONTH_CHARS])
        for field, amount in add_up(folded).items():
            yield ("HINCRBY", totals, field, amount)
        hourly = by_hour(folded, self._policy.days.hour_of(self._now_ms))
        if hourly:
            hours = self._keys.hours(self._day)
            yield from (("HINCRBY", hours, field, amount) for field, amount in hourly.items())
            yield ("PEXPIRE", hours, HOURS_KEPT_MS)


def closed_command(keys: Keys, ids: list[str]) -> Command:
    """Lists closed messages for the archive: each time their record is written."""
    return ("XADD", keys.closed, "*", BLOB_FIELD, pack(closed_codec.encode(ClosedMessages(ids))))


def event_of(change: StatusChange) -> WebhookEvent:
    """What webhooks are told of a change: by reference, and always under one id."""
    return WebhookEvent(
        f"{change.id}_{change.sequence or change.status}",
        FALLBACK if change.fallback else "message." + change.status,
        change.at_ms,
        change.app,
        change.id,
        change.sequence,
    )


def event_commands(
    keys: Keys, app: str, changes: list[StatusChange], retention: Retention
) -> Iterable[Command]:
    """Tells an app of what changed in a shard."""
    entry = pack(changes_codec.encode(StatusChanges(changes)))
    # An entry has a change at least: `event_marks` cuts by their number, and sooner.
    limit = retention.events_max
    yield ("XADD", keys.events(app), "MAXLEN", "~", limit, "*", BLOB_FIELD, entry)
    yield ("HINCRBY", keys.changed, app, len(changes))


def _sorted_set_commands(key: str, moments: Mapping[str, int]) -> Iterable[Command]:
    """Each message at its moment; one without is not in it any more."""
    due: list[int | str] = []
    stopped: list[str] = []
    for id_, at in moments.items():
        if at:
            due += (at, id_)
        else:
            stopped.append(id_)
    if due:
        yield ("ZADD", key, *due)
    if stopped:
        yield ("ZREM", key, *stopped)
