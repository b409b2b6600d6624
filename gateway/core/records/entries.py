"""What stands in Kaskad's streams: bookings, status changes, and receipts nobody knows yet."""

from __future__ import annotations

import msgspec
from msgspec import field
from msgspec.structs import replace

from gateway.core.records import schema2
from gateway.core.records.codec import Codec
from gateway.core.records.words import ReactionName
from providers.contract import Receipt

# The campaigns of an app that the totals do not keep apart (`[reports] campaigns_max`).
OTHER_CAMPAIGNS = "(other)"
NO_STEP = NO_HOUR = -1


class Group(msgspec.Struct, frozen=True, order=True, omit_defaults=True, gc=False):
    """The finest grouping a report can ask for (beside the day). Empty where it does not apply, and
    `step`, a place in the message's steps, is NO_STEP then. What was booked before there was
    such a field has none of it. `hour`, of the day, is in the totals of what people do alone: a
    booking says when it was."""

    app: str = field(name="a", default="")
    campaign: str = field(name="g", default="")
    category: str = field(name="c", default="")
    channel: str = field(name="h", default="")
    provider: str = field(name="p", default="")
    country: str = field(name="y", default="")
    route: str = field(name="r", default="")
    step: int = field(name="s", default=NO_STEP)
    variant: str = field(name="v", default="")
    hour: int = field(name="o", default=NO_HOUR)

    @property
    def among_others(self) -> Group:
        """Where it is added up when its campaign is not kept apart."""
        return replace(self, campaign=OTHER_CAMPAIGNS, variant="")

    @property
    def of_any_hour(self) -> Group:
        return self if self.hour == NO_HOUR else replace(self, hour=NO_HOUR)


class Total(Group, frozen=True, omit_defaults=True):
    """The name of one running total: a measure of a group."""

    measure: str = field(name="m", default="")

    @staticmethod
    def of(group: Group, measure: str, hour: int = NO_HOUR) -> Total:
        return Total(**(msgspec.structs.asdict(group) | {"hour": hour}), measure=measure)

    @property
    def group(self) -> Group:
        *group, _ = msgspec.structs.astuple(self)
        return Group(*group)


class Post(msgspec.Struct, omit_defaults=True, gc=False):
    """One booking: `measures` are added to the group's totals. `note` keeps both prices where a
    receipt had one. `invoice`: it makes our cost equal to that accepted invoice."""

    group: Group = field(name="g")
    measures: dict[str, int] = field(name="m")
    message: str | None = field(name="i", default=None)  # None: it only counts
    step: int = field(name="s", default=-1)
    note: dict[str, int] | None = field(name="n", default=None)
    metadata: dict[str, str] | None = field(name="k", default=None)  # of the first versions alone
    invoice: str = field(name="v", default="")


class LedgerEntry(msgspec.Struct, omit_defaults=True, gc=False):
    """One entry of the ledger stream: everything one commit booked, at one moment, in one currency.
    Where none is named it is the installation's, which cannot change once there is a ledger."""

    at_ms: int = field(name="t")
    posts: list[Post] = field(name="p")
    currency: str = field(name="c", default="")


class StatusChange(msgspec.Struct, omit_defaults=True, gc=False):
    """What an app is told of a message. `noted`: the message has metadata, which is told too and
    stands with the message alone, so that it goes where a person is erased. Entries from before
    hold it themselves. `reply`: no status changed, the person wrote back; the reply has this
    id. `fallback`: nor did it here, a step followed another, which webhooks alone are told.
    `sequence` is the change's place among the message's; 0: its app had no webhook."""

    app: str = field(name="a")
    id: str = field(name="i")
    campaign: str | None = field(name="g")
    status: str = field(name="s")
    channel: str | None = field(name="h")
    reason: str | None = field(name="r")
    at_ms: int = field(name="t")
    metadata: dict[str, str] | None = field(name="k", default=None)
    noted: bool = field(name="n", default=False)
    final: bool = field(name="f", default=False)
    reaction: ReactionName | None = field(name="p", default=None)
    reply: str = field(name="y", default="")
    fallback: bool = field(name="b", default=False)
    sequence: int = field(name="q", default=0)


class StatusChanges(msgspec.Struct, gc=False):
    """One entry of an app's stream: what one commit changed."""

    changes: list[StatusChange] = field(name="c")


class Indexed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message that was accepted: `buckets` are those of the identities it names."""

    message: str
    buckets: tuple[int, ...]
    campaign: str | None = None


class IndexEntry(msgspec.Struct, gc=False):
    """One entry of a shard's index of messages by person: what one commit accepted. `anew`: these
    were accepted before, and listed here once the entry that said so was archived."""

    items: list[Indexed] = field(name="i")
    anew: bool = field(name="n", default=False)


class ClosedMessages(msgspec.Struct, gc=False):
    """One entry of a shard's stream for the archive: the ids of closed messages whose records one
    commit wrote."""

    ids: list[str] = field(name="i")


class Clicked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Clicks of one link that were alike: how many, and when the first came. `who`: a person, a
    person by the picture, or why it was nobody, as `gateway.core.reactions.clicks` has it. A link
    that was made for itself has no message, channel and step."""

    link: str
    app: str
    at_ms: int
    device: str
    who: str
    clicks: int
    campaign: str | None = None
    channel: str = ""
    message: str | None = None
    step: int = NO_STEP


class ClickEntry(msgspec.Struct, gc=False):
    """One entry of a shard's stream for the archive: the clicks that one commit counted."""

    items: list[Clicked] = field(name="i")


class UnmatchedReceipt(msgspec.Struct, frozen=True):
    """A receipt nobody knows yet; equal ones are kept once."""

    provider: str = field(name="p")
    receipt: Receipt = field(name="r")
    since_ms: int = field(name="t")


def _entry_of_2(record: bytes) -> LedgerEntry:
    old = schema2.decode_ledger_entry(record)
    posts = [
        Post(Group(*p.group), p.measures, p.message, p.step, p.note, p.metadata) for p in old.posts
    ]
    return LedgerEntry(old.at_ms, posts)


def _total_of_2(record: bytes) -> Total:
    old = schema2.decode_total(record)
    return Total.of(Group(*old[:-1]), old[-1])


def _changes_of_2(record: bytes) -> StatusChanges:
    return StatusChanges(
        [
            StatusChange(
                e.app, e.id, e.campaign, e.status, e.channel, e.reason, e.at_ms, e.metadata
            )
            for e in schema2.decode_events(record)
        ]
    )


def _unmatched_of_2(record: bytes) -> UnmatchedReceipt:
    old = schema2.decode_parked(record)
    return UnmatchedReceipt(old.provider, schema2.receipt_of(old.receipt), old.since_ms)


ledger_codec = Codec(LedgerEntry, "ledger entry", _entry_of_2)
total_codec = Codec(Total, "running total", _total_of_2)
changes_codec = Codec(StatusChanges, "status change", _changes_of_2)
index_codec = Codec(IndexEntry, "index entry")
closed_codec = Codec(ClosedMessages, "list of closed messages")
clicked_codec = Codec(ClickEntry, "list of clicks")
unmatched_codec = Codec(UnmatchedReceipt, "unmatched receipt", _unmatched_of_2)
