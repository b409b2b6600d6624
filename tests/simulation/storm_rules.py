"""What holds after every storm: nothing lost, nothing twice, the ledger is the bill, no leftovers.

Reads the Redis in memory and the providers' books when everything has ended. Each rule is one
function that asserts; `judge` runs them all.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from gateway.core.campaigns.send_windows import opening_ms
from gateway.core.ids import shard_of_id
from gateway.core.records.entries import LedgerEntry, ledger_codec
from gateway.core.records.message import Message, StepStatus
from gateway.core.records.person import Person, claim_codec, unpack_person
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of, shard_of_identity
from gateway.store.money.sums import add_up
from tests.simulation.memory_streams import Stream
from tests.simulation.storm_audience import (
    each_is_written_to_by_day,
    who_hides_gets_one_leg,
    who_is_left_out_gets_nothing,
)
from tests.simulation.storm_campaigns import KNOWN_S
from tests.simulation.storm_people import covers, starts_of
from tests.worlds.cascade_world import DAYTIME, PRICES, T0
from tests.worlds.dispatch_limiter import most_in_a_second
from tests.worlds.key_table import fault_of, row_of

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

KINDS_IN_MEMORY: dict[str, tuple[type, ...]] = {
    "string": (bytes,),
    "hash": (dict,),
    "set": (dict,),
    "zset": (dict,),
    "stream": (Stream,),
}
CAP_MAX, CAP_S = 3, 23 * 3_600  # marketing messages a day, less what clocks may be apart
NEVER = frozenset((StepStatus.QUEUED, StepStatus.RETRYING, StepStatus.SENDING, StepStatus.SENT))


def judge(storm: Storm) -> None:
    messages = storm.messages()
    nothing_is_lost(storm, messages)
    nothing_is_sent_twice(storm, messages)
    the_ledger_is_the_bill(storm, messages)
    the_budgets_are_the_ledger(storm, messages)
    who_reacted_gets_no_further_step(storm, messages)
    what_must_not_start_does_not(storm, messages)
    nobody_gets_a_campaign_twice(storm, messages)
    claims_and_slots_are_those_of_messages(storm, messages)
    nothing_is_left(storm)
    every_key_is_in_the_table(storm)
    the_rate_was_kept(storm)
    if storm.plan.zones and storm.plan.timed:
        each_is_written_to_by_day(storm, messages)
    who_is_left_out_gets_nothing(storm, messages)
    who_hides_gets_one_leg(storm, messages)


def nothing_is_lost(storm: Storm, messages: dict[str, Message]) -> None:
    lost = storm.callers.promised.keys() - messages.keys()
    assert not lost, f"accepted and gone: {lost}"
    for message in messages.values():
        assert message.closed, f"not final: {message}"
        open_steps = [s for s in message.steps if s.status in NEVER]
        assert not open_steps, f"a step of a final message is open: {message}"


def nothing_is_sent_twice(storm: Storm, messages: dict[str, Message]) -> None:
    had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for book in storm.books.values():
        refs: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for text, letter in book.letters.items():
            message = messages.get(letter.ref.message_id)
            assert message is not None, f"{book.name} was sent {text}, which was never accepted"
            step = message.steps[letter.ref.step]
            assert book.name in map(step.provider_of, step.attempts)
            had[letter.ref.message_id, letter.ref.step].add(book.name)
            refs[letter.ref.message_id, letter.ref.step].append(text)
            if letter.times > 1:
                assert storm.plan.resend, f"{book.name} was sent {text} {letter.times} times"
        if storm.plan.resend:
            continue  # a lost answer was sent again and refused: the next try has a new reference
        twice = {step: texts for step, texts in refs.items() if len(texts) > 1}
        assert not twice, f"{book.name} has a step under two references: {twice}"
    both = {step: names for step, names in had.items() if len(names) > 1}
    assert not both, f"a step is with two providers: {both}"


def the_ledger_is_the_bill(storm: Storm, messages: dict[str, Message]) -> None:
    entries = booked(storm)
    added: Counter[bytes] = Counter()
    for entry in entries:
        added.update(add_up(entry.posts))
    totals: Counter[bytes] = Counter()
    for keys in every(storm):
        for day in storm.server.do_smembers(keys.days.encode()):
            hash_ = storm.server.value(keys.totals(day.decode()).encode()) or {}
            totals.update({field: int(amount) for field, amount in hash_.items()})
    assert +added == +totals, "the totals are not the sum of the ledger"
    sums: Counter[str] = Counter()
    for post in (post for entry in entries for post in entry.posts):
        sums.update(post.measures)
    arrived = [m for m in messages.values() if m.delivered_step >= 0]
    told = {name: book.delivered() for name, book in storm.books.items()}
    bill = sum(PRICES[name].cost * len(steps) for name, steps in told.items())
    assert sums["cost"] == bill, f"the ledger says {sums['cost']}, the providers {bill}"
    assert sums["accepted"] == len(messages)
    legs = sum(len({s.leg for s in m.steps if s.arrived}) for m in arrived)
    assert sums["delivered"] == legs
    if not storm.plan.react_s:
        assert legs == len(arrived), "nobody is waited for, so each message is one leg"
    assert sums["delivered"] + sums["double_delivered"] == sum(map(len, told.values()))
    assert sums["billed"] == sum(m.billed or 0 for m in messages.values())
    for message in arrived:
        billing = Counter(s.leg for s in message.steps if s.billed is not None)
        assert set(billing.values()) == {1}, f"a leg bills one delivery: {message}"
        assert message.billed == sum(s.sell * s.parts for s in message.steps if s.billed)
    assert {m.id for m in arrived} == {id_ for steps in told.values() for id_, _ in steps}


def booked(storm: Storm) -> list[LedgerEntry]:
    return [
        ledger_codec.decode(unpack(fields[1]))
        for keys in every(storm)
        for _, fields in storm.server.do_xrange(keys.ledger.encode(), b"-", b"+")
    ]


def the_budgets_are_the_ledger(storm: Storm, messages: dict[str, Message]) -> None:
    """Nothing is reserved any more, and what was used in each part of the window is what the ledger
    says; what left it long ago is forgotten."""
    for message in messages.values():
        assert not any(message.reserved.values()), f"it has money still: {message}"
    for budget in storm.policy.budgets:
        kept: Counter[str] = Counter()
        for fields in storm.budgets.hashes(budget):
            assert not fields.pop("reserved", 0), f"{budget.name} has something reserved"
            kept.update({part: amount for part, amount in fields.items() if part.isdigit()})
        spent: Counter[str] = Counter()
        for entry in booked(storm):
            for post in entry.posts:
                counts = budget.category in (None, post.group.category)
                if counts and budget.counts_on(post.group.channel):
                    spent[str(budget.part_end_ms(entry.at_ms))] += post.measures.get("cost", 0)
        expected = {part: amount for part, amount in spent.items() if amount and part in kept}
        assert +kept == expected, f"{budget.name} says {kept}, the ledger {spent}"
        now_ms = storm.server.now_us() // 1_000
        gone = [int(part) for part, amount in spent.items() if amount and part not in kept]
        late = [part for part in gone if part > budget.kept_since_ms(now_ms)]
        assert not late, f"{budget.name} forgot {late}"


def who_reacted_gets_no_further_step(storm: Storm, messages: dict[str, Message]) -> None:
    """What a dispatcher had claimed by then may still leave."""
    apart_ms = storm.plan.clocks_apart_s * 1_000
    for id_, at_s in storm.callers.reacted_s.items():
        for step in messages[id_].steps:
            for attempt in step.attempts:
                late_ms = attempt.claimed_ms - (T0 + at_s * 1_000)
                assert late_ms <= apart_ms + 1, f"{late_ms} ms after a reaction: {messages[id_]}"


def what_must_not_start_does_not(storm: Storm, messages: dict[str, Message]) -> None:
    """Nothing of a campaign that is paused or cancelled, but within the bound; nothing to who said
    STOP; nothing before its time or at night."""
    spare_ms = storm.plan.clocks_apart_s * 1_000 + 1
    campaigns = storm.campaigns
    still = [(s.name, s.heard_s + KNOWN_S, s.until_s) for s in campaigns.still]
    still += [(n, at_s + KNOWN_S, math.inf) for n, at_s in campaigns.cancelled_s.items()]
    for message in messages.values():
        for at_ms in starts_of(message):
            at_s = (at_ms - T0) / 1_000
            for name, from_s, until_s in still:
                held = from_s + spare_ms / 1_000 < at_s < until_s - spare_ms / 1_000
                assert message.campaign != name or not held, f"{at_s}: {name} is still: {message}"
            for phone, scope, from_s in storm.people.stopped:
                late_ms = at_ms - (T0 + from_s * 1_000)
                asked = message.addresses.phone == phone and scope in ("all", message.category)
                assert not asked or late_ms <= spare_ms, f"{late_ms} ms after STOP: {message}"
            assert at_ms > message.not_before_ms - spare_ms, f"before its time: {message}"
            if storm.plan.timed and not storm.plan.zones and message.category == "marketing":
                by_day = (opening_ms(DAYTIME, None, None, "", at) for at in nearby(at_ms, spare_ms))
                assert any(abs(open_ms - at_ms) <= spare_ms for open_ms in by_day if open_ms), (
                    f"at night: {message}"
                )


def nearby(at_ms: int, spare_ms: float) -> tuple[int, int]:
    return at_ms, at_ms - round(spare_ms)


def nobody_gets_a_campaign_twice(storm: Storm, messages: dict[str, Message]) -> None:
    """Nor more than a cap allows, under whatever they were known by then. A delivery that was
    reported after its message had been given up is the exception: nothing was held by then."""
    asked_s = storm.callers.asked_s
    kept = [m for m in messages.values() if m.delivered_step >= 0 and not m.ended_ms]
    kept = sorted((m for m in kept if m.id in asked_s), key=lambda m: asked_s[m.id])
    for place, message in enumerate(kept):
        since_s = asked_s[message.id][0]
        earlier = [
            m
            for m in kept[:place]
            if asked_s[m.id][1] < since_s and covers(storm, m, since_s) & {*message.identities}
        ]
        twice = [m.id for m in earlier if m.campaign and m.campaign == message.campaign]
        assert not twice, f"{message.id} is of a campaign that {twice} had brought"
        lately = [m for m in earlier if since_s - asked_s[m.id][1] < CAP_S]
        counted = [m for m in lately if m.category == "marketing"]
        full = message.category == "marketing" and len(counted) >= CAP_MAX
        assert not full, f"{message.id} is beyond the cap: {[m.id for m in counted]}"


def claims_and_slots_are_those_of_messages(storm: Storm, messages: dict[str, Message]) -> None:
    now_ms = storm.server.now_us() // 1000
    for key in storm.server.names():
        held = []
        if b"}p:" in key or b"}u:" in key:
            person = unpack_person(storm.server.data[key])
            held = [slot.message for slot in person.slots]
            held += [c.message for c in person.claims.values() if not 0 < c.until_ms <= now_ms]
        elif b"}c:" in key:
            claim = claim_codec.decode(storm.server.data[key])
            held = [claim.message] if not 0 < claim.until_ms <= now_ms else []
        for id_ in held:
            message = messages.get(id_)
            assert message is not None, f"{key!r} holds something for {id_}, which never was"
            # An address that leaves its person takes along what is held; nobody gives that back.
            taken_along = bool(storm.people.parted)
            assert message.delivered_step >= 0 or taken_along, f"{key!r} holds for {message}"
    for message in messages.values():
        if message.delivered_step < 0 or message.campaign is None:
            continue
        keys = keys_of(shard_of_id(message.id) or 0)
        person = unpack_person(storm.server.value(keys.person(message.holder).encode()))
        apart = storm.server.value(keys.claim(message.holder, message.campaign).encode())
        assert apart or message.campaign in person.claims, f"its claim was forgotten of {message}"
        for identity in message.identities:
            places = held_under(storm, identity)
            known = message.holder in places
            if not known and storm.people.parted:
                known = any(has_claim(storm, place, message.campaign) for place in places)
                # What arrives after an address left counts for one side alone: whose message it
                # was, which may be the address (seed 31121) or those it left (seed 601911).
                arrived_ms = message.steps[message.delivered_step].delivered_ms
                known |= storm.people.has_left(message.holder, message.updated_ms)
                known |= storm.people.has_left(identity, arrived_ms)
            assert known, f"{identity} forgot {message}"


def has_claim(storm: Storm, identity: str, campaign: str) -> bool:
    """Whether a record has a claim of the campaign: an address that left took it along."""
    keys = keys_of(shard_of_identity(identity, storm.plan.shards))
    person = unpack_person(storm.server.value(keys.person(identity).encode()))
    apart = storm.server.value(keys.claim(identity, campaign).encode())
    return campaign in person.claims or apart is not None


def held_under(storm: Storm, identity: str) -> dict[str, Person]:
    """The records in which it is looked for what the person of an identity holds."""
    found: dict[str, Person] = {}
    todo = [identity]
    while todo:
        place = todo.pop()
        if place not in found:
            keys = keys_of(shard_of_identity(place, storm.plan.shards))
            record = unpack_person(storm.server.value(keys.person(place).encode()))
            found[place] = record
            todo += [*record.former, *([record.home] if record.home else [])]
    return found


def nothing_is_left(storm: Storm) -> None:
    server = storm.server
    for message in storm.messages().values():
        assert message.content == b"", f"the content of {message.id} is left"
    for keys in every(storm):
        for name in (keys.timers, keys.unmatched_receipts):
            assert not server.value(name.encode()), f"{name} holds {server.value(name.encode())}"
    for key in server.names():
        assert b"}t:" not in key or key in server._expires
        if b"}lane:" in key:
            stream = server.data[key]
            assert not stream.entries, f"{key!r} holds {stream.entries}"
            pending = {i: p for g in stream.groups.values() for i, p in g.pending.items()}
            assert not pending, f"{key!r} has {pending} pending"
        assert b"}held:" not in key, f"{key!r} holds {server.data[key]}"
    assert not storm.campaigns.not_through()


def every_key_is_in_the_table(storm: Storm) -> None:
    """After days: each key has the type and the end that `gateway.store.keys` gives it."""
    server = storm.server
    faults = []
    for key in server.names():
        row = row_of(key.decode())
        kind = row.kind if row is not None else ""
        made = KINDS_IN_MEMORY.get(kind, ())
        kept = kind if isinstance(server.data[key], made) else type(server.data[key]).__name__
        lapses = key in server._expires
        if (fault := fault_of(key.decode(), kept, lapses=lapses)) is not None:
            faults.append(fault)
        if b"}m:" in key and not lapses:
            faults.append(f"{key!r} is final and never lapses")
    assert not faults, faults


def the_rate_was_kept(storm: Storm) -> None:
    for name, book in storm.books.items():
        if book.starts:
            assert most_in_a_second(book.starts) <= storm.RATES[name][0]


def every(storm: Storm) -> list[Keys]:
    return [keys_of(shard) for shard in range(storm.plan.shards)]
