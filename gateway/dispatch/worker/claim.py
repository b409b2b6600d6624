"""From lane entries to submissions: the claim, and the judgement of entries in doubt.

A claim makes the step SENDING in the store before a byte leaves, so a crash afterwards is seen and
becomes a lost answer, never a second send. All entries of one call are of one shard. A call raises
RedisUnavailable when the shard did not answer: then the claims may or may not have been made, and
`resolve` tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import structlog

from gateway.core.campaigns.campaign_words import Version
from gateway.core.events import CURRENT, Claimed, Event, LostAnswer, PutBack, StepRefused
from gateway.core.links.tracking import LinkWriter
from gateway.core.people.unsubscribing import UnsubscribeWriter
from gateway.core.policy import SENDING_LIMIT_MS
from gateway.core.records.message import Message, StepStatus
from gateway.dispatch.worker.submission import NoContentError, SubmissionWriter
from gateway.failpoints import failpoint
from gateway.store.messages import reads
from gateway.store.messages.apply import Applied, Item, LaneEntry, is_sent_by_another
from gateway.store.people import unsubscribing
from gateway.store.store import Store
from providers.contract import Category, Fault, Submission

NO_CLAIM = -1
NO_CONTENT = Fault("no_content", "no_content", True)
UNREADABLE_CONTENT = Fault("unreadable_content", "unreadable_content", True)

_log = structlog.get_logger("dispatch")


class Entry(msgspec.Struct, frozen=True):
    """A lane entry this dispatcher has read: pending under its name until it is acknowledged."""

    message_id: str
    at: LaneEntry
    category: Category
    shard: int = 0
    line: int = 0


class ClaimedStep(msgspec.Struct, frozen=True):
    """A message's step, by its index, that we alone may send. `since` is trio's time of the
    claim, `series` its reference's, `user` whose the message is, as stored users are called;
    `trace` is the message's."""

    entry: Entry
    index: int
    claimed_ms: int
    since: float
    series: int
    submission: Submission
    user: str | None = None
    trace: str = ""

    def became(self, event: Event) -> Item:
        """The item that records its outcome: of this claim alone."""
        return Item(self.entry.message_id, event, self.entry.at, self.claimed_ms)


class ClaimResult(msgspec.Struct, frozen=True):
    """`claimed` may be sent. `busy` entries are of steps somebody else is sending right now: still
    ours, to look at again. `broken` items are to be committed. `postponed` entries stay pending
    under our name, for the next process: asked again at once, they would fail again. All others are
    acknowledged, but for those of a newer Kaskad's messages, which stay pending for it."""

    claimed: list[ClaimedStep]
    busy: list[Entry]
    broken: list[Item]
    postponed: list[Entry]


class Resolved(msgspec.Struct, frozen=True):
    """`queued` entries are to be claimed, `busy` ones looked at again; all others are acknowledged,
    or left pending where their message is a newer Kaskad's.

    `lost` and `put_back` count."""

    queued: list[Entry]
    busy: list[Entry]
    lost: int = 0
    put_back: int = 0


def by_shard(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """The entries of each shard, in their order."""
    found: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.shard].append(entry)
    return found


async def claim(
    store: Store,
    provider: str,
    sender: str,
    entries: Sequence[Entry],
    now_ms: int,
    since: float,
    *,
    away: frozenset[str] = frozenset(),
) -> ClaimResult:
    """Claims the current steps of entries of different messages, all of one provider's lanes.

    `away`: whoever is, this provider with them, so none of them may be sent."""
    by_id = {entry.message_id: entry for entry in entries}
    assert len(by_id) == len(entries), "a message stands twice in one batch"
    event = Claimed(CURRENT, provider=provider, away=away, restored_ms=store.restored_ms)
    result = ClaimResult([], [], [], [])
    found = await store.apply(
        [Item(entry.message_id, event, entry.at) for entry in entries], now_ms
    )
    named = {each.message.content_of for each in found if each.message is not None} - {b""}
    versions: Mapping[bytes, Version] = {}
    unsubscribe = await _unsubscribe_writer(store, found)
    if named:
        versions = await store.contents.read_versions(store.redis, entries[0].shard, named)
    writer = SubmissionWriter(sender, versions, unsubscribe)
    for applied in found:
        message, entry = applied.message, by_id[applied.item.message_id]
        if message is None:
            if applied.postponed:
                result.postponed.append(entry)
            continue
        if not applied.effects.submit:
            if is_sent_by_another(applied.item, message):
                result.busy.append(entry)
            continue
        if message.links is not None and writer.links is None:
            writer.links = LinkWriter(store.policy.links, await store.links.key(store.redis))
        submission = _submission(message, writer, now_ms)
        if isinstance(submission, Fault):
            refusal = StepRefused(message.current, submission)
            result.broken.append(Item(entry.message_id, refusal, entry.at, now_ms))
        else:
            user, series = message.named_user, message.step.series
            step = ClaimedStep(
                entry, message.current, now_ms, since, series, submission, user, message.trace
            )
            result.claimed.append(step)
    if unsubscribe is not None:
        await unsubscribing.keep(store, unsubscribe.used)
    failpoint("claimed")
    return result


async def _unsubscribe_writer(store: Store, found: Iterable[Applied]) -> UnsubscribeWriter | None:
    """Where one of the messages is marketing, and there is an address to unsubscribe at."""
    rules = store.policy.links
    if not rules.base_url or not any(
        each.message is not None and each.message.category == "marketing" for each in found
    ):
        return None
    return UnsubscribeWriter(rules.root, await store.links.key(store.redis))


def _submission(message: Message, writer: SubmissionWriter, now_ms: int) -> Submission | Fault:
    """What the provider of the current step is asked to send, or why it cannot be said."""
    try:
        return writer.write(message, now_ms)
    except NoContentError:
        return NO_CONTENT
    except Exception:
        _log.exception("content cannot be read", message=message.id)
        return UNREADABLE_CONTENT


async def resolve(
    store: Store,
    provider: str,
    entries: Sequence[Entry],
    now_ms: int,
    *,
    dead: bool = False,
    ours_ms: int | None = None,
) -> Resolved:
    """Judges entries by their messages' records. May be repeated.

    `dead`: their holder is, so a step that is being sent has lost its answer. `ours_ms`: when we
    tried to claim them and did not hear; such a claim was never used and is put back.
    """
    resolved = Resolved([], [])
    items: list[Item] = []
    lost = put_back = 0
    shard = entries[0].shard
    messages = await reads.messages(store, shard, [entry.message_id for entry in entries])
    for entry in entries:
        assert entry.shard == shard
        if entry.message_id not in messages:
            continue
        message = messages[entry.message_id]
        if message is None or not 0 <= message.current < len(message.steps):
            # Gone, or nothing that can be decided: either way its entry ends.
            items.append(Item(entry.message_id, LostAnswer(0), entry.at))
            continue
        step = message.step
        ours = step.provider == provider
        if ours and step.status == StepStatus.QUEUED:
            resolved.queued.append(entry)
            continue
        event: Event = LostAnswer(message.current)
        if ours and step.status == StepStatus.SENDING:
            if step.claimed_ms == ours_ms:
                event = PutBack(message.current)
                put_back += 1
            elif dead or now_ms - step.claimed_ms >= SENDING_LIMIT_MS:
                lost += 1
            else:
                resolved.busy.append(entry)
                continue
        # For a step that is not being sent, or not by this provider, this changes nothing and
        # acknowledges the entry.
        items.append(Item(entry.message_id, event, entry.at, step.claimed_ms if ours else NO_CLAIM))
    await store.apply(items, now_ms)
    return msgspec.structs.replace(resolved, lost=lost, put_back=put_back)
