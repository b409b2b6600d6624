"""Every Redis key Kaskad writes, with its type, lifetime and owner. No key is built elsewhere.

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
    {kN}feeder                 string  3 s: who releases what is held    dispatch
    {kN}index                  stream  newest: accepted messages, by     admission
                                       buckets of their persons
    {kN}closed                 stream  trimmed: closed messages, for     cascade, where there is an
                                       the archive                       archive
    {kN}ledger                 stream  for ever, or until it is          every commit that books
                                       archived (append-only)
    {kN}totals:<day>           hash    for ever: group, measure -> sum   the same commits
    {kN}days                   set     for ever: days with totals        the same commits
    {kN}rates:<period>         hash    360 d: channel, app -> exposures  cascade, for a route with
                                       and reactions of 30 days          order = "best"
    {kN}delays:<d or q><n>     hash    4 d, half an hour: bin, country,  cascade, for a step with
                                       provider -> deliveries            wait = "auto"
    {kN}invoices               hash    for ever: provider and days ->    `kaskad reconcile --accept`
                                       booked of what is nothing of ours
    {kN}verified               string  for ever: how far it was verified  `kaskad report verify`
    {kN}events:<app>           stream  newest events_max changes         every status change
    {kN}changed                hash    for ever: app -> changes so far   every status change
    {kN}marks                  hash    for ever: app -> places in events  dispatch
    {kN}outbox                 stream  moved to queues: what webhooks are  every status change that
                                       to be told                          one wants
    {kN}x:<provider>:<pid>     string  7 d: provider's id -> our ref,    dispatch
                                       and which part of how many; ref
                                       -> which parts arrived
    {kN}parked                 zset    unmatched receipts: matched, or   callbacks
                                       their retention is over
    {kN}quarantine             hash    repaired: what was set aside      every process that meets it
    {kN}t:<token>              string  60 s: a transaction was applied   every commit
    {kaskad}meta               hash    for ever: schema, shards,         the first start
                                       currency, last restore, since
                                       when messages are indexed, key of
                                       hashed opt-outs, users stored
    {kaskad}copying            string  a copy into it ended              `kaskad copy`
    {kaskad}archiver           string  15 s: who archives                `kaskad archive`
    {kaskad}archive            hash    for ever: which archive it is,    `kaskad archive`
                                       and how its last run went
    {kaskad}shared:<sha256>    string  its end: a report for all who     report calls
                                       have its link
    {kaskad}months             hash    for ever: closed month -> when    `kaskad close`
    {kaskad}month:<month>      string  for ever: a closed month's        `kaskad close`
                                       report
    {kaskad}countries          set     for ever: app:country it sent to  ingress
    {kaskad}keys               hash    revoked: sha256 -> app, scopes    `kaskad key`
    {kaskad}key_uses           zset    revoked: sha256 -> last used ms   ingress
    {kaskad}audit              stream  newest 100,000 of operators       what operators do
    {kaskad}audit_apps         stream  newest 100,000 of apps            what apps change
    {kaskad}outbox             stream  as {kN}outbox: what is no message's every such change
    {kaskad}webhooks           hash    deleted: app, name -> webhook      webhook calls
    {kaskad}senders            zset    pruned: dispatcher -> last seen ms dispatch
    {kaskad}sends:<what>       string  5 s: who sends to a webhook        dispatch
    {hook_<id>}queue           zset    told, or tries are over: event ->  dispatch
                                       when it is tried
    {hook_<id>}tries           hash    the same: event's id -> tries      dispatch
    {hook_<id>}attempts        stream  3 d: what tries came to            dispatch
    {hook_<id>}state           hash    30 d after the last change: since  dispatch
                                       when it fails, what was lost, how
                                       far it is recovered
    {kaskad}replies            stream  7 d: what people wrote back       ingress
    {kaskad}reply:<p>:<id>     string  7 d: a provider's reply is taken  ingress
    {kaskad}campaigns:<month>  set     62 d: campaigns in detail in totals  every commit that books
    {kaskad}alive:<consumer>   string  the lease                         dispatch
    {kaskad}place:<p>:<n>      string  10 s: who keeps the provider's    dispatch
                                       nth session
    {kaskad}place:<p>:wanted   string  10 s: a dispatcher has none       dispatch
    {kaskad}lines              hash    for ever: line -> when, app       whoever enqueues
    {kaskad}declared           hash    long over, and another needs the  campaign calls
                                       room: campaign -> what is declared
    {kaskad}said               hash    its declaration lapses: campaign  campaign calls
                                       -> content and variants
    {kaskad}declared_meta      hash    for ever: version, hold-out key   campaign calls
    {kaskad}cancelling         hash    for ever: shard, cancelled        dispatch
                                       campaign that is through there
    {kaskad}asked              hash    its queue is dropped: shard,      dispatch
                                       queue -> the change of its
                                       campaign it was asked after
    {kaskad}links              hash    for ever: key of codes; shard ->  admission, link calls
                                       ranges of links so far
    {kaskad}recipients         hash    its declaration lapses: campaign  ingress
                                       -> places that are taken
    {kaskad}budgets            hash    its budget is gone, and nothing       dispatch
                                       reserved: budget -> per cent of
                                       which it was warned
    {kaskad}leased:<budget>    hash    10 min: epoch -> what processes      who accepts
                                       may reserve of a budget
    {kaskad}queues             zset    pruned: queue -> last used ms     whoever holds messages
    {kaskad}paused             hash    resumed: provider -> why          dispatch
    {kaskad}rate:<provider>    string  its time is over: an operator's   operators
                                       rate for a while
    {kaskad}drain              string  ended: who has it drain           operators
    {kaskad}providers          zset    pruned: provider -> last had ms   every process
    {kaskad}t:<token>          string  60 s: a pause, a rate or a drain   every such change
                                       was changed
    {kaskad}processes          zset    pruned: process -> last seen ms   every process
    {kaskad}stats:<process>    string  10 s: the process's figures       every process
    {limit:<provider>}         hash    a few seconds                     ratelimit
    {quota:<app>}              hash    2 d: what an app has spent        ingress
    {pace:<campaign>}          hash    some seconds                      ratelimit
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import msgspec

GROUP = "dispatch"  # the lanes' consumer group
META = "{kaskad}meta"
INDEXED_FIELD = "indexed"  # of it: since when every message is in the index of persons
SHARDS_BEFORE_FIELD = "shards_before"  # of it: numbers with commas, once there was another
COPYING = "{kaskad}copying"
ARCHIVE = "{kaskad}archive"
ARCHIVER = "{kaskad}archiver"
API_KEYS = "{kaskad}keys"
CLOSED_MONTHS = "{kaskad}months"
COUNTRIES = "{kaskad}countries"
KEY_USES = "{kaskad}key_uses"
AUDIT = "{kaskad}audit"
AUDIT_APPS = "{kaskad}audit_apps"
LINES = "{kaskad}lines"
PAUSED = "{kaskad}paused"
DRAIN = "{kaskad}drain"
REPLIES = "{kaskad}replies"
PROCESSES = "{kaskad}processes"
PROVIDERS = "{kaskad}providers"
QUEUES = "{kaskad}queues"
CAMPAIGNS = "{kaskad}declared"
CAMPAIGNS_META = "{kaskad}declared_meta"
CAMPAIGN_WORDS = "{kaskad}said"
CANCELLING = "{kaskad}cancelling"
ASKED_AGAIN = "{kaskad}asked"
RECIPIENTS = "{kaskad}recipients"
BUDGETS = "{kaskad}budgets"
LINKS = "{kaskad}links"
OUTBOX = "{kaskad}outbox"
WEBHOOKS = "{kaskad}webhooks"
SENDERS = "{kaskad}senders"


def month_report(month: str) -> str:
    return "{kaskad}month:" + month


def campaigns_of(month: str) -> str:
    return "{kaskad}campaigns:" + month


def installation_token(token: str) -> str:
    return "{kaskad}t:" + token


def reply_token(provider: str, provider_id: str) -> str:
    return "{kaskad}reply:" + f"{provider}:{provider_id}"


def place(provider: str, name: str) -> str:
    """One of the sessions that a provider's account may have, or what is asked of them."""
    return "{kaskad}place:" + f"{provider}:{name}"


def sends(what: str) -> str:
    """Which dispatcher tells a webhook, or moves what stands in an outbox."""
    return "{kaskad}sends:" + what


def webhook(webhook_id: str, what: str) -> str:
    """One of the four keys of a webhook: queue, tries, attempts or state."""
    return "{hook_" + webhook_id + "}" + what


def temporary_rate(provider: str) -> str:
    return "{kaskad}rate:" + provider


def alive(consumer: str) -> str:
    return "{kaskad}alive:" + consumer


def limit(provider: str) -> str:
    return "{limit:" + provider + "}"


def quota(app: str) -> str:
    return "{quota:" + app + "}"


def pace(campaign: str) -> str:
    return "{pace:" + campaign + "}"


def leased(budget: str) -> str:
    return "{kaskad}leased:" + budget


def report_share(digest: str) -> str:
    """By the hash of its link's secret."""
    return "{kaskad}shared:" + digest


def stats(process: str) -> str:
    return "{kaskad}stats:" + process


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

    def rates(self, period: int) -> str:
        return f"{self.tag}rates:{period}"

    def delays(self, kind: str, number: int) -> str:
        """Of a day ("d") or a quarter of an hour ("q")."""
        return f"{self.tag}delays:{kind}{number}"

    def provider_id(self, provider: str, provider_id: str) -> str:
        return f"{self.tag}x:{provider}:{provider_id}"

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

    @property
    def feeder(self) -> str:
        return self.tag + "feeder"

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
