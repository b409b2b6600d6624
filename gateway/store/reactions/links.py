"""Links: numbers for those of messages, and where each leads.

The links of a message lead where those of others like it do: what they have in common (app,
campaign, channels, targets) is written once for a range of 256 messages, and a message takes 13
bytes in it, its packed id. Who says the same as nobody else has its targets for itself, in a range
that such messages share. A range belongs to one process, which takes its number from the shard's
counter; it is written to by the transactions that accept its messages, so that a message and its
links are there at once, and lapses as a whole.

A number becomes the code in a URL by `gateway.core.links.link_codes`, under a key of the
installation that the first process makes. A link that was made for itself has a number too, for its
code, or a slug instead, and stands under that. Raises RedisUnavailable, and msgspec.DecodeError or
NewerRecordError for what cannot be read.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from gateway.core.ids import PACKED_BYTES, packed_id, unpacked_id
from gateway.core.links.link_codes import (
    LINKS_A_PLACE,
    PLACES,
    RANGES,
    LinkPlace,
    number_at,
    number_of,
    place_of,
    places_for,
)
from gateway.core.money.days import DAY_MS
from gateway.core.records.links import (
    LinkTargets,
    OwnLink,
    StepLinks,
    Tracked,
    own_link_codec,
    targets_codec,
)
from gateway.core.records.message import Message
from gateway.redis.client import Command, RedisClient
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.shared_keys import LINKS
from gateway.store.transaction import values_in

KEY_FIELD = "key"
SHARED = ""  # the field of what all messages of a range have
ALIKE_MIN = 4  # messages that say the same, from which on they have a range of their own
OPEN_MAX = 4_096  # ranges that a process writes to, and shapes of which it counts messages
OPEN_MS = DAY_MS  # how long a range is written to
RANGES_ASKED = 16  # numbers of ranges that are taken at once

Shape = tuple[int, str, str | None, tuple[StepLinks, ...]]  # a shard and what messages share
_ALONE: Shape = (-1, "", None, ())


class _Range(msgspec.Struct):
    """One that this process writes to."""

    number: int
    until_ms: int  # from then on it takes no more
    place: int = 0  # the next
    lives_until_ms: int = 0


class Link(msgspec.Struct, frozen=True):
    """One link as it was found, at its `place`. Without that it was made for itself, and is `own`;
    else `message` is whose it is, and `step` the message's."""

    code: str
    app: str
    target: str
    campaign: str | None = None
    message: str | None = None
    step: int = 0
    channel: str = ""
    place: LinkPlace | None = None
    own: OwnLink | None = None


class Links:
    """What one process knows of them."""

    def __init__(self) -> None:
        self._key = b""
        self._numbers: defaultdict[int, list[int]] = defaultdict(list)  # unused ranges, by shard
        self._open: OrderedDict[Shape, _Range] = OrderedDict()
        self._alike: OrderedDict[int, int] = OrderedDict()  # by a shape's hash: messages so far

    async def key(self, redis: RedisClient) -> bytes:
        """Under which numbers become codes; without a round trip from the second call on."""
        if not self._key:
            made = ("HSETNX", LINKS, KEY_FIELD, secrets.token_bytes(32))
            _, key = await redis.call([made, ("HGET", LINKS, KEY_FIELD)])
            assert isinstance(key, bytes)
            self._key = key
        return self._key

    async def reserve(self, redis: RedisClient, shard: int, count: int) -> list[int]:
        """The numbers of so many unused ranges of the shard: the caller's, to be given back."""
        unused = self._numbers[shard]
        lacking = count - len(unused)
        if lacking > 0:
            asked = max(lacking, RANGES_ASKED)
            (last,) = await redis.call([("HINCRBY", LINKS, _counter(shard), asked)])
            assert isinstance(last, int)
            unused += range(last, last - asked, -1)
        granted = unused[-count:]
        del unused[-count:]
        return granted

    def give_back(self, shard: int, numbers: Iterable[int]) -> None:
        self._numbers[shard].extend(numbers)

    def place(
        self, shape: Shape, count: int, unused: list[int], now_ms: int
    ) -> tuple[_Range, bool]:
        """The range in which a message of that shape has its next `count` places, and whether it
        shares it with others like it. One more may be taken of the `unused`."""
        alike = self._count(shape) >= ALIKE_MIN
        whose = shape if alike else (shape[0], *_ALONE[1:])
        found = self._open.get(whose)
        if found is None or found.place + count > PLACES or found.until_ms <= now_ms:
            found = _Range(unused.pop() % RANGES, now_ms + OPEN_MS)
            self._open[whose] = found
        self._open.move_to_end(whose)
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)
        return found, alike

    def _count(self, shape: Shape) -> int:
        known = hash(shape)
        count = self._alike[known] = self._alike.pop(known, 0) + 1
        if len(self._alike) > OPEN_MAX:
            self._alike.popitem(last=False)
        return count


class ShardLinks:
    """The links of messages of one shard in one try at accepting a batch."""

    def __init__(self, links: Links, keys: Keys, ttl_ms: int, now_ms: int) -> None:
        self._links = links
        self._keys = keys
        self._ttl_ms = ttl_ms
        self._now_ms = now_ms
        self._unused: list[int] = []
        self._shared: dict[int, bytes] = {}  # by range: what its messages have in common
        self._ids: defaultdict[int, dict[int, bytes]] = defaultdict(dict)  # by range and place
        self._alone: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        self._lives: dict[int, int] = {}

    async def prepare(self, redis: RedisClient, messages: int) -> None:
        """To be called before so many messages take links."""
        self._unused = await self._links.reserve(redis, self._keys.shard, messages)

    def take(self, message: Message, steps: Sequence[StepLinks]) -> None:
        """Gives the message the links of its steps; none before `prepare`."""
        count = sum(len(step.targets) for step in steps)
        if not count or not self._unused:
            return
        shared = LinkTargets(message.app, tuple(steps), message.campaign)
        shape = self._keys.shard, shared.app, shared.campaign, shared.steps
        places = places_for(count)
        range_, alike = self._links.place(shape, places, self._unused, self._now_ms)
        number, first, id_ = range_.number, range_.place, packed_id(message.id)
        for place in range(first, first + places):
            if alike:
                self._ids[number][place] = id_
            else:
                before = (place - first) * LINKS_A_PLACE
                own = msgspec.structs.replace(shared, message=id_, before=before)
                self._alone[number][place] = targets_codec.encode(own)
        if alike:
            self._shared[number] = targets_codec.encode(shared)
        range_.place += places
        lives_ms = message.expires_ms + self._ttl_ms
        range_.lives_until_ms = max(range_.lives_until_ms, (lives_ms // DAY_MS + 1) * DAY_MS)
        self._lives[number] = range_.lives_until_ms
        begin = number_at(LinkPlace(self._keys.shard, number, first, 0))
        message.links = Tracked(begin, shared.counts)

    def writes(self) -> list[Command]:
        self._links.give_back(self._keys.shard, self._unused)
        commands: list[Command] = []
        for number, shared in self._shared.items():
            commands.append(("HSETNX", self._keys.link_range(number), SHARED, shared))
        for number, alone in self._alone.items():
            fields = (part for pair in alone.items() for part in pair)
            commands.append(("HSET", self._keys.link_range(number), *fields))
        for number, ids in self._ids.items():
            key = self._keys.link_ids(number)
            begin = min(ids)
            row = b"".join(ids[place] for place in sorted(ids))
            assert len(row) == (max(ids) + 1 - begin) * PACKED_BYTES, "places are in a row"
            commands.append(("SETRANGE", key, begin * PACKED_BYTES, row))
            commands.append(("PEXPIRE", key, self._lives[number] - self._now_ms))
        for number, lives_ms in self._lives.items():
            commands.append(("PEXPIRE", self._keys.link_range(number), lives_ms - self._now_ms))
        return commands


async def find(redis: RedisClient, links: Links, shards: int, code: str) -> Link | None:
    """The link of a code or slug; None where none is found."""
    number = number_of(code, await links.key(redis))
    commands: list[Command] = [("GET", own_key(code, shards))]
    if number is not None:
        at = place_of(number)
        keys, begin = keys_of(at.shard), at.place * PACKED_BYTES
        end = begin + PACKED_BYTES - 1
        commands.append(("HMGET", keys.link_range(at.range), SHARED, at.place))
        commands.append(("GETRANGE", keys.link_ids(at.range), begin, end))
    own, *found = await redis.call(commands)
    if isinstance(own, bytes):
        link = own_link_codec.decode(own)
        return Link(code, link.app, link.url, link.campaign, own=link)
    if number is None:
        return None
    shared, alone = values_in(found[0])
    if alone is not None:
        targets = targets_codec.decode(alone)
        return _of_message(code, at, targets, targets.message, targets.before + at.link)
    if shared is None or not isinstance(found[1], bytes) or not any(found[1]):
        return None
    targets = targets_codec.decode(shared)
    before = at.place % places_for(sum(targets.counts)) * LINKS_A_PLACE
    return _of_message(code, at, targets, found[1], before + at.link)


async def forget(redis: RedisClient, messages: Iterable[Message]) -> None:
    """Where the links of these lead is known no more, but for what others like them share."""
    commands: list[Command] = []
    for message in messages:
        if message.links is not None:
            at = place_of(message.links.first)
            last = at.place + places_for(sum(message.links.counts))
            commands.append(
                ("HDEL", keys_of(at.shard).link_range(at.range), *range(at.place, last))
            )
    if commands:
        await redis.call(commands)


async def was_there(redis: RedisClient, links: Links, code: str) -> bool:
    """Whether a code of which nothing is found is one of a link that lapsed, as far as its range
    tells."""
    number = number_of(code, await links.key(redis))
    if number is None:
        return False
    at = place_of(number)
    (last,) = await redis.call([("HGET", LINKS, _counter(at.shard))])
    return isinstance(last, bytes) and at.range <= int(last)


def own_key(code: str, shards: int) -> str:
    """Where a link that was made for itself stands."""
    return keys_of(shard_of(code, shards)).own_link(code)


def _of_message(
    code: str, at: LinkPlace, targets: LinkTargets, message: bytes, number: int
) -> Link | None:
    found = targets.link(number)
    if found is None:
        return None
    step, there, target = found
    id_ = unpacked_id(message)
    return Link(code, targets.app, target, targets.campaign, id_, step, there.channel, at)


def _counter(shard: int) -> str:
    return f"ranges:{shard}"
