"""What is done with the replies that a provider brings, by callback or over its session.

A stop word opts its sender out, START takes that back; both are the person's own. A provider's
event that somebody unsubscribed or complained opts out of marketing on its channel. Every reply is
kept, and told to the app whose message it answers: the newest that the provider sent. One that
wishes nothing is a reaction to the newest that had arrived. A reply that the provider repeats after
that is passed over.

Raises RedisUnavailable and NotNowError: what was done until then is done again when it is taken
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from gateway.core.addresses import one_identity
from gateway.core.channels import CHANNELS
from gateway.core.events import Reacted, Replied
from gateway.core.people.opt_outs import (
    AT_PROVIDER,
    BY_REPLY,
    EVERY_CHANNEL,
    PERSON,
    OptOut,
    Origin,
)
from gateway.core.people.stop_words import StopWish, wish_in
from gateway.core.reactions.reactions import answered_step, unheard_step
from gateway.core.records.message import Message
from gateway.core.records.reply import KeptReply
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs, replies
from gateway.store.people.replies import TEXT_CHARS_MAX
from gateway.store.store import Store
from providers.contract import Channel, PersonReply

# Of a message, the step on a channel that somebody may have answered at that moment.
FindStep = Callable[[Message, Channel, int], int | None]


class Wish(NamedTuple):
    """What somebody wants of those who write to it."""

    at_ms: int
    identity: str
    address: str
    what: StopWish | Literal["block", "unblock"]

    @property
    def opts_out(self) -> bool:
        return self.what not in ("start", "unblock")


class NotNowError(Exception):
    """A message that a reply answers cannot take it now; `newer`: a newer Kaskad wrote it."""

    def __init__(self, *, newer: bool) -> None:
        super().__init__("A message that a reply answers cannot take it now.")
        self.newer = newer


async def take_replies(
    store: Store,
    provider: str,
    channel: Channel,
    said: Sequence[PersonReply],
    now_ms: Callable[[], int],
) -> int:
    """Does what replies wish and keeps them; how many were new."""
    fresh = await replies.unknown(store, provider, said)
    await _grant_all(store, provider, channel, fresh, now_ms())
    texts = [reply for reply in fresh if reply.kind == "text"]
    if texts:
        wrote = {reply.id: identity_of(channel, reply) for reply in texts}
        answered = await replies.answered(
            store, set(wrote.values()), lambda message: was_sent_by(message, provider)
        )
        # Reactions count once, whereas what is kept again is there twice: they come first.
        await _note_reactions(store, provider, channel, texts, now_ms())
        taken = [
            _kept(provider, channel, reply, answered.get(wrote[reply.id]), now_ms())
            for reply in texts
        ]
        kept = await replies.keep(store, taken)
        await replies.tell(store, kept, {m.id: m for m in answered.values()})
    if fresh:
        await replies.note_taken(store, provider, fresh)
    return len(fresh)


async def _grant_all(
    store: Store, provider: str, channel: Channel, said: Sequence[PersonReply], now_ms: int
) -> None:
    """Wishes are told late and in any order; of what somebody wrote the last holds."""
    words = store.policy.stop_words
    wishes = [
        Wish(min(reply.at_ms or now_ms, now_ms), identity_of(channel, reply), reply.sender, what)
        for reply in said
        if (what := wish_in(reply.text, words) if reply.kind == "text" else reply.kind)
    ]
    wishes.sort(key=lambda wish: wish.at_ms)
    stops = [wish for wish in wishes if wish.opts_out]
    started = await _started(store, provider, stops) if stops else {}
    for wish in wishes:
        if not wish.opts_out or wish.at_ms >= started.get(wish.identity, 0):
            await _grant(store, channel, wish)


async def _started(store: Store, provider: str, stops: Sequence[Wish]) -> Mapping[str, int]:
    """When those who opt out wrote START to the provider, if that was told before. To pass a STOP
    over, the clock of another provider is not trusted."""
    who, words = {wish.identity for wish in stops}, store.policy.stop_words
    started: dict[str, int] = {}
    async for page in replies.pages(store, stops[0].at_ms):
        for kept in page:
            identity = kept.reply.identity
            theirs = kept.reply.provider == provider and identity in who
            if theirs and wish_in(kept.reply.text, words) == "start":
                started[identity] = max(kept.written_ms, started.get(identity, 0))
    return started


async def _note_reactions(
    store: Store, provider: str, channel: Channel, texts: Sequence[PersonReply], now_ms: int
) -> None:
    """A reply that wishes nothing is a reaction to the newest message that had arrived. Where a
    newer one is out of which that is not known yet, that one keeps it in mind."""
    words = store.policy.stop_words
    wrote = [
        (identity_of(channel, reply), min(reply.at_ms or now_ms, now_ms))
        for reply in texts
        if wish_in(reply.text, words) is None
    ]
    items: list[Item] = []
    unheard: list[tuple[str, int]] = []
    found = await _newest(store, provider, channel, wrote, (answered_step, unheard_step))
    for who, at_ms in wrote:
        if (message := found.get(who)) is None:
            continue
        if (step := answered_step(message, channel, at_ms)) is not None:
            items.append(Item(message.id, Reacted(step, "replied", at_ms)))
        elif (step := unheard_step(message, channel, at_ms)) is not None:
            items.append(Item(message.id, Replied(step, at_ms)))
            unheard.append((who, at_ms))
    found = await _newest(store, provider, channel, unheard, (answered_step,))
    for who, at_ms in unheard:
        message = found.get(who)
        step = None if message is None else answered_step(message, channel, at_ms)
        if message is not None and step is not None:
            items.append(Item(message.id, Reacted(step, "replied", at_ms)))
    for done in await store.apply(items, now_ms):
        if done.newer or done.postponed:
            raise NotNowError(newer=done.newer)


async def _newest(
    store: Store,
    provider: str,
    channel: Channel,
    wrote: Sequence[tuple[str, int]],
    steps: Sequence[FindStep],
) -> dict[str, Message]:
    """By who wrote, the newest message of the provider with a step that one of these finds."""

    def fits(message: Message) -> bool:
        return was_sent_by(message, provider) and any(
            find(message, channel, at_ms) is not None
            for who, at_ms in wrote
            if who in message.identities
            for find in steps
        )

    return await replies.answered(store, {who for who, _ in wrote}, fits) if wrote else {}


async def _grant(store: Store, channel: Channel, wish: Wish) -> None:
    redis, shards = store.redis, store.shards
    who, at_ms = wish.address, wish.at_ms
    match wish.what:
        case "block":
            told = Origin(PERSON, at_ms, AT_PROVIDER)
            await opt_outs.put(redis, shards, who, "marketing", told, channel)
        case "unblock":
            await opt_outs.drop(redis, shards, who, channel, until_ms=_latest(at_ms))
        case "start":
            await opt_outs.drop(redis, shards, who, until_ms=_latest(at_ms))
        case "stop" | "stop_all":
            scope: OptOut = "all" if wish.what == "stop_all" else "marketing"
            told = Origin(PERSON, at_ms, BY_REPLY)
            await opt_outs.put(redis, shards, who, scope, told, EVERY_CHANNEL)


def _latest(told_ms: int) -> int:
    """The last moment that it may have been. Some tell whole seconds alone."""
    return told_ms if told_ms % 1000 else told_ms + 999


def _kept(
    provider: str, channel: Channel, reply: PersonReply, message: Message | None, now_ms: int
) -> KeptReply:
    return KeptReply(
        provider,
        channel,
        identity_of(channel, reply),
        reply.to,
        reply.text[:TEXT_CHARS_MAX],
        reply.at_ms or now_ms,
        "" if message is None else message.app,
        "" if message is None else message.id,
    )


def identity_of(channel: Channel, reply: PersonReply) -> str:
    """Who wrote."""
    kind = CHANNELS[channel].address
    return one_identity(kind, reply.sender)


def was_sent_by(message: Message, provider: str) -> bool:
    """Whether the provider took a step of it, and not whether it arrived."""
    return any(
        attempt.sent_ms and step.candidates[attempt.candidate].provider == provider
        for step in message.steps
        for attempt in step.attempts
    )
