"""`POST /v1/reactions`: what people did with messages, as an app learned of it elsewhere.

Each counts once a message, kind and step, whether it comes late or again; the first one ends the
cascade. It is of the step on the named channel, else of the latest that arrived. Every item has an
answer of its own, in order, once it is durable.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from gateway.core.channels import ChannelName
from gateway.core.events import Reacted
from gateway.core.reactions.reactions import reacted_ms, reacted_step
from gateway.core.records.message import Message
from gateway.ingress.api.bodies.array_items import Items, answer_each, in_turns
from gateway.ingress.api.bodies.decoder import moment_ms, read_item
from gateway.ingress.api.results import message_after, outcome_of, own_message
from gateway.ingress.archived import ArchivedMessages
from gateway.ingress.http.fields import MESSAGE_ID
from gateway.ingress.http.problems import Problem, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.messages.apply import Applied, Item
from gateway.store.store import Store

REACTIONS_MAX = 1_000
EXAMPLE = {
    "message": MESSAGE_ID,
    "kind": "clicked",
    "at": "2026-11-21T10:00:00Z",
}
_SHOWN = msgspec.json.encode(EXAMPLE).decode()


class ReactionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person did with a message."""

    message: Annotated[str, msgspec.Meta(description="The message's id.")]
    kind: Annotated[Literal["seen", "clicked"], msgspec.Meta(description="seen or clicked.")]
    at: Annotated[
        datetime.datetime,
        msgspec.Meta(tz=True, description="When: RFC 3339, with its offset from UTC."),
    ]
    channel: (
        Annotated[
            ChannelName,
            msgspec.Meta(description="On which channel; else on the latest that arrived."),
        ]
        | None
    ) = None


class ReactionResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What one reaction came to; `index` in an array's answer.

    accepted: it counts. duplicate: it did already. rejected: `error` says why it cannot. error: we
    could not take it now, and it can be sent again.
    """

    index: int | msgspec.UnsetType = msgspec.UNSET
    outcome: Literal["accepted", "duplicate", "rejected", "error"]
    error: Problem | msgspec.UnsetType = msgspec.UNSET


class ReactionEndpoint:
    """Takes reactions. `now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        messages: ArchivedMessages,
        now_ms: Callable[[], int],
        body_bytes_max: int,
    ) -> None:
        self._store = store
        self._messages = messages
        self._now_ms = now_ms
        self._body_bytes_max = body_bytes_max

    async def take(self, request: Request) -> None:
        if request.media_type != "application/json":
            raise refuse("media-type", "Send application/json: one reaction or an array.")
        await answer_each(request, self._body_bytes_max, REACTIONS_MAX, "reaction", self._decide)

    async def _decide(self, app: str, raws: Items) -> list[ReactionResult]:
        """What each came to, in order."""
        asked = [read_item(ReactionRequest, raw, _SHOWN) async for raw in in_turns(raws)]
        ids = dict.fromkeys(each.message for each in asked if isinstance(each, ReactionRequest))
        messages = await self._messages.find(ids)
        found = [self._item(app, each, messages) for each in asked]
        items = [each for each in found if isinstance(each, Item)]
        applied = await self._store.apply(items, self._now_ms())
        decided = {id(done.item.event): done for done in applied}
        return [
            _failed(each) if isinstance(each, Problem) else _result(decided[id(each.event)])
            for each in found
        ]

    def _item(
        self,
        app: str,
        asked: ReactionRequest | Problem,
        messages: dict[str, Message | Exception],
    ) -> Item | Problem:
        if isinstance(asked, Problem):
            return asked
        message = own_message(messages.get(asked.message), app)
        if isinstance(message, Problem):
            return message
        step = reacted_step(message, asked.channel)
        if step is None:
            return _not_sent(asked.channel)
        at_ms = reacted_ms(message, step, moment_ms(asked.at), self._now_ms())
        return Item(message.id, Reacted(step, asked.kind, at_ms))


def _result(done: Applied) -> ReactionResult:
    message = message_after(done, "A reaction cannot be applied: it was set aside.")
    if isinstance(message, Problem):
        return _failed(message)
    if done.effects.refused is not None:
        return _failed(_not_sent(None))
    return ReactionResult(outcome="accepted" if done.effects.reaction else "duplicate")


def _failed(why: Problem) -> ReactionResult:
    return ReactionResult(outcome=outcome_of(why), error=why)


def _not_sent(channel: str | None) -> Problem:
    if channel is None:
        return invalid([RequestFault("/message", "Nothing of this message was sent yet.")])
    told = f"Nothing of this message was sent on {channel} yet."
    return invalid([RequestFault("/channel", told)])
