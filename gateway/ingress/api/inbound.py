"""What people write back: `GET /v1/inbound`, and what is done with a reply that a provider brings.

A stop word opts its sender out, START takes that back; both are the person's own. A provider's
event that somebody unsubscribed or complained opts out of marketing on its channel. Every reply is
kept, and told to the app whose message it answers: the newest that the provider sent. One that
wishes nothing is a reaction to the newest that had arrived.
All of it is durable before the provider's callback is answered; a reply that it repeats after that
is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from gateway.core.addresses import one_identity
from gateway.core.channels import CHANNELS, ChannelName
from gateway.core.events import Reacted
from gateway.core.opt_outs import EVERY_CHANNEL, PERSON, OptOut, Origin
from gateway.core.records.message import Message
from gateway.core.records.reply import KeptReply
from gateway.core.stop_words import wish_in
from gateway.ingress.api.parameters import read_page
from gateway.ingress.api.results import Time, newer_record
from gateway.ingress.http.asgi import rfc3339, to_json
from gateway.ingress.http.problems import Refusal, unavailable
from gateway.ingress.http.request import Request
from gateway.store import opt_outs, replies
from gateway.store.apply import Item
from gateway.store.replies import KEPT_MS, TEXT_CHARS_MAX
from gateway.store.store import Store
from providers.contract import Channel, PersonReply

ANSWER_MS = 72 * 3_600_000  # so long after it arrived a message is answered

_cursor = re.compile(r"[0-9]{1,18}-[0-9]{1,18}").fullmatch


class ReplyView(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a person wrote back. `message` is what it was sent last from there; null where nobody
    knows, which only who manages is shown."""

    id: str
    at: Time
    channel: ChannelName
    provider: str
    from_: str
    to: str
    text: str
    message: str | None


class RepliesPage(msgspec.Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after it."""

    items: list[ReplyView]
    next: str | None


class InboundEndpoints:
    """Takes and shows replies. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def get(self, request: Request) -> None:
        limit, cursor = read_page(request.query, lambda text: _cursor(text) is not None)
        principal = request.principal
        apps = {principal.app, *([""] if "manage" in principal.scopes else [])}
        oldest_ms = self._now_ms() - KEPT_MS
        found, more = await replies.newest(self._store, apps, limit, oldest_ms, cursor)
        page = RepliesPage([view_of(kept.id, kept.reply) for kept in found], more)
        await request.respond(200, to_json(page))

    async def take(self, provider: str, channel: Channel, said: Sequence[PersonReply]) -> int:
        """Does what replies wish and keeps them; how many were new. Raises RedisUnavailable, and
        Refusal where a message that one answers cannot take it now: what was done until then is
        done again when the provider repeats it."""
        store = self._store
        fresh = await replies.unknown(store, provider, said)
        for reply in fresh:
            await self._grant(channel, reply)
        texts = [reply for reply in fresh if reply.kind == "text"]
        if texts:
            wrote = {reply.id: identity_of(channel, reply) for reply in texts}
            answered = await replies.answered(
                store, set(wrote.values()), lambda message: was_sent_by(message, provider)
            )
            # Reactions count once, whereas what is kept again is there twice: they come first.
            await self._note_reactions(provider, channel, texts)
            taken = [
                self._kept(provider, channel, reply, answered.get(wrote[reply.id]))
                for reply in texts
            ]
            kept = await replies.keep(store, taken)
            await replies.tell(store, kept, {m.id: m for m in answered.values()})
            await replies.note_taken(store, provider, texts)
        return len(fresh)

    async def _note_reactions(
        self, provider: str, channel: Channel, texts: Sequence[PersonReply]
    ) -> None:
        """A reply that wishes nothing is a reaction to the newest message that had arrived."""
        now_ms, words = self._now_ms(), self._store.policy.stop_words
        reacting = [
            (identity_of(channel, reply), min(reply.at_ms or now_ms, now_ms))
            for reply in texts
            if wish_in(reply.text, words) is None
        ]
        if not reacting:
            return

        def arrived(message: Message) -> bool:
            return was_sent_by(message, provider) and any(
                identity in message.identities
                and answered_step(message, channel, at_ms) is not None
                for identity, at_ms in reacting
            )

        found = await replies.answered(self._store, {who for who, _ in reacting}, arrived)
        items = []
        for identity, at_ms in reacting:
            message = found.get(identity)
            step = None if message is None else answered_step(message, channel, at_ms)
            if message is not None and step is not None:
                items.append(Item(message.id, Reacted(step, "replied", at_ms)))
        for done in await self._store.apply(items, self._now_ms()):
            if done.newer:
                raise Refusal(newer_record())
            if done.postponed:
                raise unavailable()

    async def _grant(self, channel: Channel, reply: PersonReply) -> None:
        redis, shards = self._store.redis, self._store.shards
        wish = wish_in(reply.text, self._store.policy.stop_words)
        origin = Origin(PERSON, self._now_ms())
        if reply.kind == "block":
            await opt_outs.put(redis, shards, reply.sender, "marketing", origin, channel)
        elif reply.kind == "unblock":
            await opt_outs.drop(redis, shards, reply.sender, channel)
        elif wish == "start":
            await opt_outs.drop(redis, shards, reply.sender)
        elif wish is not None:
            scope: OptOut = "all" if wish == "stop_all" else "marketing"
            await opt_outs.put(redis, shards, reply.sender, scope, origin, EVERY_CHANNEL)

    def _kept(
        self, provider: str, channel: Channel, reply: PersonReply, message: Message | None
    ) -> KeptReply:
        return KeptReply(
            provider,
            channel,
            identity_of(channel, reply),
            reply.to,
            reply.text[:TEXT_CHARS_MAX],
            reply.at_ms or self._now_ms(),
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


def answered_step(message: Message, channel: Channel, at_ms: int) -> int | None:
    """The step that a reply answers: the latest that had arrived on its channel, not too long
    before."""
    arrived = [
        (step.delivered_ms, index)
        for index, step in enumerate(message.steps)
        if step.channel == channel and step.delivered_ms and at_ms - step.delivered_ms <= ANSWER_MS
    ]
    return max(arrived)[1] if arrived else None


def view_of(id_: str, reply: KeptReply) -> ReplyView:
    """A reply as its app sees it."""
    address = reply.identity[2:]
    return ReplyView(
        id=id_,
        at=rfc3339(reply.at_ms),
        channel=reply.channel,
        provider=reply.provider,
        from_="+" + address if reply.identity.startswith("p:") else address,
        to=reply.to,
        text=reply.text,
        message=reply.message or None,
    )
