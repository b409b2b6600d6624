"""Who is one person: how identities that are seen together come to have one home. Pure.

Identities are nodes of a forest. An alias points to its home, or to an alias that was a home once;
a home points to nothing. Each record may lie in another shard, so each changes alone:

  - an alias is written before the home lists it, so an alias that no home lists is half of a join,
    finished by the next request that meets it;
  - a home lists an alias in the transaction that decides a request, which watches the home's
    record: nothing is taken under a record that became an alias meanwhile;
  - an alias is only ever pointed closer to its home, never away; and past a former home, which may
    hold things and knows others, only once the home lists that one.

No two requests can close a circle, whatever they read before: a home gives way only to one with a
record that stands before it in one fixed order, and an identity without a record only to a home
with one, or to one before it in that order.

An address that changes hands leaves its person: it becomes a home of its own, or the others take
another home. That is one write, and what was held then counts for both. Lists are set right after
it: who is listed and leads to another home has left, and no join brings it back by that list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns import audience
from gateway.core.people.reach import take_over
from gateway.core.records.person import Person

IDENTITIES_MAX = 16
LINK_SPARE_MS = 30 * 86_400_000  # how much longer than needed an alias stands, once it is written
_ORDER = {"p": 0, "e": 1, "u": 2}

PersonRecords = Mapping[str, Person | None]  # as read: None has no record


class Write(NamedTuple):
    """A record to write at `identity`, if `before` is what stands there still."""

    identity: str
    before: Person | None
    after: Person


class Join(msgspec.Struct, frozen=True):
    """What is to be written so that identities have one home, and what is known then.

    `final` False: more is to be done after these writes. `found` are the aliases of `home` as they
    stand after the writes, `listed` those that it listed before, `people` all who are one person
    then. `apart` are others that are not joined to it, because together they would have more than
    IDENTITIES_MAX identities: other homes, and `half`, who leads to it without being listed and is
    to be separated."""

    home: str
    writes: list[Write]
    final: bool = True
    found: dict[str, Person] = {}
    listed: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    half: tuple[str, ...] = ()


def unread(identities: Iterable[str], records: PersonRecords) -> set[str]:
    """What is still to be read to know everybody whom `identities` lead to."""
    missing: set[str] = set()
    seen: set[str] = set()
    todo = list(identities)
    while todo:
        identity = todo.pop()
        if identity in seen:
            continue
        seen.add(identity)
        if identity not in records:
            missing.add(identity)
        elif (record := records[identity]) is not None:
            todo += record.aliases
            if record.home:
                todo.append(record.home)
    return missing


def links(records: PersonRecords) -> dict[str, tuple[str, list[str]]]:
    """Who leads to whom. Records are read one after another, so what leads anywhere is read until
    it is the same twice: that is how it stood at one moment."""
    return {
        identity: (record.home, record.aliases)
        for identity, record in records.items()
        if record is not None and (record.home or record.aliases)
    }


def reached(identities: list[str], records: PersonRecords) -> list[str]:
    """Everybody whom `identities` lead to, in a steady order."""
    return _followed(identities, lambda i: _listed(i, records), records)


def _one_person(identities: list[str], records: PersonRecords, now_ms: int) -> list[str]:
    """Those who are one person with `identities`. Who is listed by one, but leads to another home,
    has left, unless aliases need not stand any more: then it may have begun anew."""
    group = reached(identities, records)
    if not any(_listed(identity, records) for identity in group):
        return group  # as most are at their first message
    roots = {identity: _root(identity, records) for identity in group}

    def staying(identity: str) -> list[str]:
        record = records[identity]
        if record is None or record.linked_ms <= now_ms:
            return _listed(identity, records)
        home = roots[identity]
        return [i for i in record.aliases if records[i] is None or roots[i] == home]

    return _followed(identities, staying, records)


def _followed(
    identities: list[str], listed: Callable[[str], list[str]], records: PersonRecords
) -> list[str]:
    found = dict.fromkeys(identities)
    todo = list(identities)
    while todo:
        at = todo.pop()
        record = records[at]
        for identity in (*listed(at), *([record.home] if record and record.home else [])):
            if identity not in found:
                found[identity] = None
                todo.append(identity)
    return list(found)


def join(identities: list[str], records: PersonRecords, now_ms: int, hold_ms: int) -> Join:
    """Decides on the home of identities that are seen together. `records` holds all that
    `unread` asks for; aliases must stand for `hold_ms` from now."""
    group = _one_person(identities, records, now_ms)
    roots = {_root(identity, records) for identity in group}
    people = tuple(group)
    if len(group) > IDENTITIES_MAX:
        return kept_apart(identities, records)
    with_record = [root for root in roots if records[root] is not None]
    home = min(with_record or roots, key=_rank)
    first = min(roots, key=_rank)
    linked_ms = now_ms + hold_ms + LINK_SPARE_MS
    if with_record and first.startswith("p:") and not home.startswith("p:"):
        # A phone becomes known: the home moves to it, in the shard where requests look first.
        made = Write(first, None, Person(linked_ms=linked_ms, apart_ms=0))
        return Join(first, [made], final=False, people=people)
    losers = [root for root in with_record if root != home]
    if losers:
        pointed = [_pointed(r, records, home, linked_ms) for r in losers]
        return Join(home, pointed, final=False, people=people)
    aliases = [identity for identity in group if identity != home]
    writes = [
        _pointed(identity, records, _towards(identity, records, home), linked_ms)
        for identity in aliases
        if (record := records[identity]) is None or record.linked_ms < now_ms + hold_ms
    ]
    after = {write.identity: write.after for write in writes}
    found = {i: after.get(i) or _known(records[i]) for i in aliases}
    return Join(home, writes, found=found, listed=tuple(_listed(home, records)), people=people)


def kept_apart(identities: list[str], records: PersonRecords) -> Join:
    """What is decided of identities that are too many to be one person: the first one's home, and
    the others are asked as well. Two processes that join people to one at once may leave some that
    lead there and find no room in its list."""
    home = _root(identities[0], records)
    known = {home, *_listed(home, records)}
    half = tuple(i for i in identities if i not in known and _root(i, records) == home)
    apart = {_root(identity, records) for identity in identities} - {home}
    return Join(home, [], apart=tuple(sorted(apart.union(half))), half=half)


def together(people: Iterable[str], joined: Mapping[str, Collection[str]]) -> set[str]:
    """These, with all whom `joined` says to be one person with one of them."""
    found: set[str] = set()
    todo = list(people)
    while todo:
        identity = todo.pop()
        if identity not in found:
            found.add(identity)
            todo += joined.get(identity, ())
    return found


def split(address: str, other: str, records: PersonRecords, now_ms: int) -> list[Write]:
    """What is to be written next, in this order, so that `address` is not of the person of `other`
    any more; to be asked again after that, until it is nothing. `records` holds all that `unread`
    asks for of both. The order: no record points to one that points back, and nobody loses the way
    to the others, whatever was written before."""
    group = reached([other, address], records)
    home = _root(address, records)
    if _root(other, records) != home:
        return _unlisted(group, records, now_ms)
    # Some may be of other homes: they are listed by somebody whom they left.
    rest = [i for i in group if i != address and _root(i, records) == home]
    if home != address:
        left = _sharing(address, rest, records, now_ms)
        left.home, left.aliases = "", []
        kept = _sharing(home, [address], records, now_ms)
        moved = _past(address, home, rest, records)
        first = Write(home, records[home], kept)
        return _changing([first, *moved, Write(address, records[address], left)])
    heir = min(rest, key=_rank)
    others = [i for i in rest if i != heir]
    before = _known(records[heir])
    if before.home != address:  # Then the others could not point to it.
        return [Write(heir, before, replace(before, home=address, aliases=others))]
    kept = _sharing(heir, [address], records, now_ms)
    kept.home, kept.aliases = "", others
    kept.linked_ms = (records[address] or Person()).linked_ms
    moved = _past(address, heir, others, records)
    return _changing([*moved, Write(heir, before, kept)])


def _unlisted(group: list[str], records: PersonRecords, now_ms: int) -> list[Write]:
    """Who has left is to be listed no more; one record after another. What was held meanwhile, by
    who lists and by whom it lists, counts for both before that: each may have been asked."""
    roots = {i: _root(i, records) for i in group}
    across = [(i, j) for i in group for j in _listed(i, records) if roots[i] != roots[j]]
    if not across:
        return []
    lists = across[0][0]
    gone = [j for i, j in across if i == lists]
    held = {roots[i]: [lists] for i in gone} | {roots[lists]: gone}
    after = {home: _sharing(home, those, records, now_ms) for home, those in held.items()}
    last = after.pop(lists, None) or replace(_known(records[lists]))
    last.aliases = [i for i in last.aliases if i not in gone]
    first = [Write(home, records[home], person) for home, person in after.items()]
    return _changing([*first, Write(lists, records[lists], last)])


def enlist(
    person: Person,
    home: str,
    found: Mapping[str, Person],
    listed: Collection[str],
    now_ms: int,
) -> bool:
    """Lists aliases that point to `home` in its record, and what they may hold still; returns
    whether that changed it. `listed` were in it when that was found out: whoever is not any more
    has left meanwhile, and who was not found had left before."""
    before = replace(person)
    found = {i: alias for i, alias in found.items() if i in person.aliases or i not in listed}
    person.aliases = [i for i in person.aliases if i in found or i not in listed]
    new = [i for i in found if i not in person.aliases]
    for i in new[max(IDENTITIES_MAX - 1 - len(person.aliases), 0) :]:
        del found[i]  # others came first
    person.aliases += [i for i in found if i not in person.aliases]
    if found:
        ends = [alias.linked_ms for alias in found.values()]
        if any(alias not in found for alias in person.aliases):
            ends.append(before.linked_ms)
        person.linked_ms = min(ends)
    holding = [i for i, alias in found.items() if alias.keep_ms > now_ms]
    person.former = [*person.former, *(i for i in holding if i not in person.former)]
    person.keep_ms = max([person.keep_ms, *(alias.keep_ms for alias in found.values())])
    take_over(person, found.values())
    assert home not in person.aliases
    return person != before


def _listed(identity: str, records: PersonRecords) -> list[str]:
    return [] if (record := records[identity]) is None else record.aliases


def _root(identity: str, records: PersonRecords) -> str:
    seen: set[str] = set()
    while (record := records[identity]) is not None and record.home:
        assert identity not in seen, "homes lead in a circle"
        seen.add(identity)
        identity = record.home
    return identity


def _rank(identity: str) -> tuple[int, str]:
    return _ORDER[identity[0]], identity


def _pointed(identity: str, records: PersonRecords, home: str, linked_ms: int) -> Write:
    before = records[identity]
    person = before or Person(apart_ms=0)
    after = replace(person, home=home, linked_ms=max(linked_ms, person.linked_ms))
    return Write(identity, before, after)


def _towards(identity: str, records: PersonRecords, home: str) -> str:
    """Where an alias that is written again leads: to the home, or to a former one that the home
    does not list yet."""
    record = records[identity]
    listed = (home, *_known(records[home]).aliases) if records[home] is not None else (home,)
    return record.home if record is not None and record.home not in ("", *listed) else home


def _past(address: str, home: str, among: list[str], records: PersonRecords) -> list[Write]:
    """Those who point to an address, pointed to `home`."""
    return [
        Write(i, record, replace(record, home=home))
        for i in among
        if (record := records[i]) is not None and record.home == address and i != home
    ]


def _changing(writes: list[Write]) -> list[Write]:
    """Those that change a record there is."""
    return [w for w in writes if w.before is not None and w.after != w.before]


def _sharing(identity: str, parted: Collection[str], records: PersonRecords, now_ms: int) -> Person:
    """A record where what is held under those that are parted from it counts as well; a claim that
    is live for as long as it may be, since nobody gives it back here."""
    person = replace(records[identity] or Person(apart_ms=0))
    slots = {(slot.message, slot.leg): slot for slot in person.slots}
    places = [*person.former]
    apart = []
    for place in parted:
        held = records[place]
        if held is None:
            continue
        audience.take_over(person, [held])
        if held.keep_ms <= now_ms:
            continue
        claims = {
            campaign: claim if claim.until_ms else replace(claim, until_ms=held.keep_ms)
            for campaign, claim in held.claims.items()
        }
        person.claims = claims | person.claims
        slots = {(slot.message, slot.leg): slot for slot in held.slots} | slots
        person.keep_ms = max(person.keep_ms, held.keep_ms)
        places += held.former
        if (held.keep_ms if held.apart_ms is None else held.apart_ms) > now_ms:
            apart.append(place)  # too many claims to be copied
    person.slots = list(slots.values())
    places = [place for place in places if place != identity and place not in parted]
    person.former = list(dict.fromkeys([*places, *apart]))
    return person


def _known(record: Person | None) -> Person:
    assert record is not None
    return record
