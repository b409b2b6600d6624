"""Every Redis key of one shard, with its type, lifetime and owner. Those of the whole installation
are in `shared_keys`; no key is built elsewhere.

All keys of a shard share one hash tag, so a transaction on them stays in one Redis Cluster slot. An
identity's shard is that of its value; a message's shard, which is that of its person's home when it
was accepted, is written in its id. A copy with another number of shards puts persons, and messages
with them, where that number says; where an id does not say it any more, a record in its place does.
Books and events stay in the shard in which they were written.

    key                        type    lives until                       written by
    {kN}m:<id>                 string  retention, once it is closed      admission, cascade
    {kN}p:<digits>             string  nothing held or remembered, no    admission, cascade
                                       alias needed
    {kN}e:<e-mail address>     string  the same                          admission, cascade
    {kN}u:<user>               string  the same, for the caller's id     admission, cascade
    {kN}su:<user>              string  for ever: a stored user           user calls
    {kN}so:<identity>          hash    for ever: app -> whose address    user calls
                                       it is ("": of every app)
    {kN}c:<n>:<identity>:<c>   string  the claim of campaign c is over,  admission, cascade
                                       or back in the person's record
    {kN}i:<app>:<key>          string  24 h (idempotency)                admission
    {kN}cv:<app>:<id>          string  90 d: what a conversion is put    conversion calls
                                       down to
    {kN}un:<code>              string  400 d: who unsubscribes by it     dispatch
    {kN}o                      hash    for ever: address -> scopes       opt-out calls
    {kN}om                     string  for ever: the key of those that   erasing
                                       are hashed
    {kN}oo                     hash    for ever: address -> who, when    opt-out calls
    {kN}lane:<provider>:<cat>  stream  an entry: its outcome             admission, cascade
                                       (line 0; others end in :<line>)
    {kN}timers                 zset    closed: id -> due_ms              admission, cascade
    {kN}held:<queue>           zset    released: id -> from when         admission, cascade
    {kN}counts:<campaign>      hash    its declaration lapses: state ->  admission, cascade
                                       messages, money
    {kN}budget:<budget>        hash    its budget is gone, and nothing       admission, cascade
                                       reserved: reserved; part of the
                                       window -> used; epoch -> reserved
    {kN}said:<version>         string  2 d longer than a message says    admission
                                       it: a version of a content
    {kN}l:<range>              hash    30 d and `links.ttl` at most:     admission
                                       place -> where a message's links
                                       lead; "" -> those of all
    {kN}li:<range>             string  30 d and `links.ttl` at most:     admission
                                       packed ids of its messages
    {kN}lc:<range>             hash    30 d and `links.ttl` after the    ingress
                                       last of them: link, hour, device,
                                       visitor -> clicks
    {kN}link:<code>            string  for ever: a link that was made    link calls
                                       for itself
    {kN}clicks:<code>          hash    for ever: the same of such a      ingress
                                       link
    {kN}feeder:<kinds>         string  3 s: who releases what is held,   dispatch
                                       of those that know so many kinds
                                       of queues
    {kN}index                  stream  newest: accepted messages, by     admission
                                       buckets of their persons
    {kN}closed                 stream  trimmed: closed messages, for     cascade, where there is an
                                       the archive                       archive
    {kN}clicked                stream  trimmed: clicks, for the archive  ingress, where there is an
                                                                         archive
    {kN}ledger                 stream  for ever, or until it is          every commit that books
                                       archived (append-only)
    {kN}totals:<day>           hash    for ever: group, measure -> sum   the same commits
    {kN}hours:<day>            hash    400 d after the last of them:     the same commits, of what
                                       group, measure, hour -> sum       people do
    {kN}days                   set     for ever: days with totals        the same commits
    {kN}rates:<period>         hash    360 d: channel, app -> exposures  cascade, for a route with
                                       and reactions of 30 days          order = "best"
    {kN}delays:<d or q><n>     hash    4 d, half an hour: bin, country,  cascade, for a step with
                                       provider -> deliveries            wait = "auto"
    {kN}invoices               hash    for ever: provider and days ->    `kaskad reconcile --accept`
                                       booked of what is nothing of ours
    {kN}verified               string  for ever: how far it was verified  `kaskad report verify`
    {kN}events:<app>           stream  newest events_max changes; all of  every status change
                                       it once no message of the app is
                                       kept
    {kN}changed                hash    with those: app -> changes so far  every status change
    {kN}marks                  hash    with those: app -> places in       dispatch
                                       events
    {kN}outbox                 stream  moved to queues: what webhooks are  every status change that
                                       to be told                          one wants
    {kN}x:<provider>:<pid>     string  7 d: provider's id -> our ref,    dispatch
                                       and which part of how many, or
                                       "+" and the ref it was refused
                                       under; ref -> which parts arrived
    {kN}raw:<id>               list    its end, by `raw_receipts`: a     callbacks, dispatch, where
                                       message's receipts as they came   that is set
    {kN}parked                 zset    unmatched receipts: matched, or   callbacks
                                       their retention is over
    {kN}quarantine             hash    repaired: what was set aside      every process that meets it
    {kN}t:<token>              string  60 s: a transaction was applied   every commit
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache

import msgspec

GROUP = "dispatch"  # the lanes' consumer group


def shard_of(value: str, shards: int) -> int:
    """The shard of a phone number's digits, an e-mail address, a user id or an idempotency key."""
    return 0 if shards == 1 else zlib.crc32(value.encode()) % shards


def shard_of_identity(identity: str, shards: int) -> int:
    return shard_of(identity[2:], shards)


def shard_of_provider_id(provider: str, provider_id: str, shards: int) -> int:
    """The shard of what is known by an id that a provider gave."""
    return shard_of(f"{provider}:{provider_id}", shards)


def shard_in(key: str) -> int:
    """The shard in the tag of a key that `Keys` built."""
    return int(key[2 : key.index("}")])


class Keys(msgspec.Struct, frozen=True):
    """The keys of one shard."""

    shard: int
    tag: str

    def message(self, message_id: str) -> str:
        return self.tag + "m:" + message_id

    def messages(self, message_ids: Iterable[str]) -> list[str]:
        prefix = self.tag + "m:"
        return [prefix + message_id for message_id in message_ids]

    def person(self, identity: str) -> str:
        """The record of a person by one identity, such as p:79161234567."""
        return self.tag + identity

    def user(self, user: str) -> str:
        """A stored user, by what `person_id` gives."""
        return self.tag + "su:" + user

    def owners(self, identity: str) -> str:
        """Which stored users an address belongs to, by identity."""
        return self.tag + "so:" + identity

    def claim(self, identity: str, campaign: str) -> str:
        """`n` in front is the identity's length, so that no two claims can share a key."""
        return f"{self.tag}c:{len(identity)}:{identity}:{campaign}"

    def idempotency(self, app: str, key: str) -> str:
        return f"{self.tag}i:{app}:{key}"

    def conversion(self, app: str, id_: str) -> str:
        return f"{self.tag}cv:{app}:{id_}"

    def unsubscriber(self, code: str) -> str:
        return f"{self.tag}un:{code}"

    def lane(self, provider: str, category: str, line: int = 0) -> str:
        """One line of a lane, which is one stream."""
        name = f"{self.tag}lane:{provider}:{category}"
        return f"{name}:{line}" if line else name

    def events(self, app: str) -> str:
        return self.tag + "events:" + app

    def totals(self, day: str) -> str:
        return self.tag + "totals:" + day

    def hours(self, day: str) -> str:
        return self.tag + "hours:" + day

    def rates(self, period: int) -> str:
        return f"{self.tag}rates:{period}"

    def delays(self, kind: str, number: int) -> str:
        """Of a day ("d") or a quarter of an hour ("q")."""
        return f"{self.tag}delays:{kind}{number}"

    def provider_id(self, provider: str, provider_id: str) -> str:
        return f"{self.tag}x:{provider}:{provider_id}"

    def raw_receipts(self, message_id: str) -> str:
        return self.tag + "raw:" + message_id

    def version(self, id_: bytes) -> str:
        """A version of a campaign's content, by its hash."""
        return f"{self.tag}said:{id_.hex()}"

    def link_range(self, number: int) -> str:
        return f"{self.tag}l:{number}"

    def link_ids(self, number: int) -> str:
        return f"{self.tag}li:{number}"

    def link_clicks(self, number: int) -> str:
        return f"{self.tag}lc:{number}"

    def own_clicks(self, code: str) -> str:
        return self.tag + "clicks:" + code

    def own_link(self, code: str) -> str:
        return self.tag + "link:" + code

    def token(self, token: str) -> str:
        return self.tag + "t:" + token

    @property
    def outbox(self) -> str:
        return self.tag + "outbox"

    @property
    def changed(self) -> str:
        return self.tag + "changed"

    @property
    def marks(self) -> str:
        return self.tag + "marks"

    @property
    def invoices(self) -> str:
        return self.tag + "invoices"

    @property
    def verified(self) -> str:
        return self.tag + "verified"

    @property
    def opt_outs(self) -> str:
        return self.tag + "o"

    @property
    def opt_outs_mark(self) -> str:
        return self.tag + "om"

    @property
    def opt_out_origins(self) -> str:
        return self.tag + "oo"

    def held(self, queue: str) -> str:
        return self.tag + "held:" + queue

    def campaign_counts(self, campaign: str) -> str:
        return self.tag + "counts:" + campaign

    def budget(self, name: str) -> str:
        return self.tag + "budget:" + name

    def feeder(self, kinds: int) -> str:
        return f"{self.tag}feeder:{kinds}"

    @property
    def timers(self) -> str:
        return self.tag + "timers"

    @property
    def index(self) -> str:
        return self.tag + "index"

    @property
    def closed(self) -> str:
        return self.tag + "closed"

    @property
    def clicked(self) -> str:
        return self.tag + "clicked"

    @property
    def ledger(self) -> str:
        return self.tag + "ledger"

    @property
    def days(self) -> str:
        return self.tag + "days"

    @property
    def unmatched_receipts(self) -> str:
        return self.tag + "parked"

    @property
    def quarantine(self) -> str:
        return self.tag + "quarantine"


@lru_cache(maxsize=2048)
def keys_of(shard: int) -> Keys:
    return Keys(shard=shard, tag="{k%d}" % shard)  # noqa: UP031  # braces are the tag
