"""Every Redis key of the whole installation, with its type, lifetime and owner; those of a shard
are in `keys`.

    key                        type    lives until                       written by
    {kaskad}meta               hash    for ever: schema, shards,         the first start
                                       currency, last restore, since
                                       when messages are indexed, keys of
                                       hashed opt-outs and of hashed
                                       identities, users stored
    {kaskad}copying            string  a copy into it ended              `kaskad copy`
    {kaskad}copied             hash    until it is taken back            `kaskad copy`, its source
    {kaskad}archiver           string  15 s: who archives                `kaskad archive`
    {kaskad}archive            hash    for ever: which archive it is,    `kaskad archive`
                                       and how its last run went
    {kaskad}forgotten          hash    for ever: hashed identity, app ->  erasing, where there is an
                                       when it was erased                archive
    {kaskad}reporter           string  60 s: who makes scheduled reports `kaskad report run`
    {kaskad}scheduled          hash    for ever: scheduled report -> up  `kaskad report run`
                                       to which day it was made, and how
                                       the last try went
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
    {kaskad}happened           stream  30 d, newest 10,000: what of it   every such change
                                       webhooks can be told once more
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
    {hook_<id>}t:<token>       string  60 s: a change of what was lost   dispatch
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

META = "{kaskad}meta"
INDEXED_FIELD = "indexed"  # of it: since when every message is in the index of persons
SHARDS_BEFORE_FIELD = "shards_before"  # of it: numbers with commas, once there was another
COPYING = "{kaskad}copying"
COPIED = "{kaskad}copied"
ARCHIVE = "{kaskad}archive"
ARCHIVER = "{kaskad}archiver"
FORGOTTEN = "{kaskad}forgotten"
REPORTER = "{kaskad}reporter"
SCHEDULED = "{kaskad}scheduled"
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
HAPPENED = "{kaskad}happened"
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
    """One of the keys of a webhook: queue, tries, attempts, state, or a token."""
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
