"""The records of persons as requests and separations change them, step by step: between two steps
of one anybody else may do anything, and whoever stops in between has died."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.people.identities import enlist, join, links, split, unread
from gateway.core.records.person import DedupeClaim, Person
from tests.worlds.cascade_world import DAY, T0

HOLD_MS = 40 * DAY
EVERYBODY = ["p:1", "p:2", "p:3", "e:a@x", "e:b@x", "u:1", "u:2", "u:3"]
SEEN = st.sets(st.sampled_from(EVERYBODY), min_size=1, max_size=4).map(
    lambda some: sorted(some, key=EVERYBODY.index)
)


class Forest:
    """The records of all shards; each read and each write is alone."""

    def __init__(self) -> None:
        self.records: dict[str, Person] = {}

    def root(self, identity: str) -> str:
        seen = [identity]
        while (record := self.records.get(seen[-1])) is not None and record.home:
            assert record.home not in seen, f"a circle: {seen}"
            seen.append(record.home)
        return seen[-1]

    def request(
        self, identities: list[str], hold_ms: int = HOLD_MS, campaign: str = ""
    ) -> Iterator[None]:
        """One request, step by step; its message takes a claim, if it names a campaign."""
        while True:
            read = yield from self._reading(identities)
            made = join(identities, read, T0, hold_ms)
            written = True
            for write in made.writes:
                yield
                stands = self.records.get(write.identity) == write.before
                written = written and stands
                if stands:
                    self.records[write.identity] = write.after
            yield
            person = replace(self.records.get(made.home, Person(apart_ms=0)))
            if not made.final or not written or person.home:
                continue
            enlist(person, made.home, made.found, made.listed, T0)
            person.keep_ms = T0 + DAY  # the message takes something
            if campaign:
                person.claims = person.claims | {campaign: DedupeClaim("m1", T0 + DAY)}
            self.records[made.home] = person
            if all(i in (made.home, *person.aliases) for i in identities):
                return

    def separation(self, address: str, other: str) -> Iterator[None]:
        """An address changes hands, step by step in the same way."""
        while writes := split(address, other, (yield from self._reading([address, other])), T0):
            for write in writes:
                yield
                if self.records.get(write.identity) != write.before:
                    break
                self.records[write.identity] = write.after

    def _reading(self, identities: list[str]) -> Generator[None, None, dict[str, Person | None]]:
        before: object = None
        while True:
            read: dict[str, Person | None] = {}
            while missing := unread(identities, read):
                for identity in sorted(missing):
                    read[identity] = self.records.get(identity)
                    yield
            if not (now := links(read)) or now == before:
                return read
            before = now


def settle(forest: Forest, *identities: str) -> str:
    for _ in forest.request(list(identities)):
        pass
    return forest.root(identities[0])


def part(forest: Forest, address: str, other: str) -> None:
    """An address changes hands by itself."""
    for _ in forest.separation(address, other):
        pass
