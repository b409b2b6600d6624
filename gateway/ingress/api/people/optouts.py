"""`PUT`, `GET` and `DELETE /v1/optouts/{address}`: who does not want to be sent anything.

An opt-out counts for every app, from the next request on and for every message whose step has not
started; on one channel where it names one. One that the person or another app set is theirs: taking
it back or narrowing it needs the scope `manage`. An address that cannot exist and a body that is
none are Refusals that name the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from gateway.core.addresses import Addresses, OneAddress, read_one
from gateway.core.channels import CHANNELS, ChannelName
from gateway.core.people.opt_outs import (
    EVERY_CHANNEL,
    PERSON,
    KeptOptOut,
    KeptOptOuts,
    NotTheirsError,
    Origin,
)
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.api.bodies.decoder import read_object, require_json
from gateway.ingress.api.bodies.parameters import read_parameters
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.people import opt_outs
from gateway.store.store import Store

BODY_BYTES_MAX = 4_096
EXAMPLE = '{"scope": "marketing"}'
REASON_MAX = 200
PARAMETERS_MAX = 8
CHANNEL_RULE = f"One of: {', '.join(CHANNELS)}."

OptOutScope = Literal["marketing", "all"]


class OptOutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person does not want."""

    scope: Annotated[OptOutScope, msgspec.Meta(description="marketing or all.")]
    channel: (
        Annotated[ChannelName, msgspec.Meta(description=f"{CHANNEL_RULE} Left out: every channel.")]
        | None
    ) = None
    reason: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=REASON_MAX,
                description=f"Why, in at most {REASON_MAX} characters: for people to read.",
            ),
        ]
        | None
    ) = None


class OneOptOut(msgspec.Struct, frozen=True):
    """An opt-out. `by`: the app that set it, "person" where that was the person, null where it was
    not kept. `reason` is the app's own, or of a person how it was said: stop_word,
    unsubscribe_link or at_provider; another app's is null."""

    scope: OptOutScope
    by: str | None
    at: Time | None
    reason: str | None


class OptOutView(OneAddress, frozen=True, kw_only=True):
    """What a person opted out of: on every channel (`scope` null: nothing), and on single ones. An
    answer about one channel names it, and tells of it alone."""

    channel: ChannelName | msgspec.UnsetType = msgspec.UNSET
    scope: OptOutScope | None
    by: str | None
    at: Time | None
    reason: str | None
    channels: dict[str, OneOptOut] | msgspec.UnsetType = msgspec.UNSET


class OptOutEndpoints:
    """Answers for opt-outs, by address. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def put(self, request: Request) -> None:
        addresses = _addresses(request)
        require_json(request)
        wanted = read_object(OptOutRequest, await request.body(BODY_BYTES_MAX), EXAMPLE)
        if wanted.channel is not None and wanted.channel not in CHANNELS:
            raise Refusal(invalid([RequestFault("/channel", CHANNEL_RULE)]))
        origin = Origin(request.principal.app, self._now_ms(), wanted.reason or "")
        try:
            kept = await opt_outs.put(
                self._store.redis,
                self._store.shards,
                addresses.first,
                wanted.scope,
                origin,
                wanted.channel or EVERY_CHANNEL,
                manages=_manages(request),
            )
        except NotTheirsError:
            raise _not_yours() from None
        await self._note(request, "optout.set", wanted.scope, wanted.channel or EVERY_CHANNEL)
        await self._respond(request, addresses, kept, wanted.channel)

    async def get(self, request: Request) -> None:
        addresses, channel = _addresses(request), _channel_asked(request)
        kept = await opt_outs.find(self._store.redis, self._store.shards, addresses.first)
        if not kept or channel not in (None, *kept):
            raise refuse("not-found", "This person has not opted out of anything.")
        await self._respond(request, addresses, kept, channel)

    async def delete(self, request: Request) -> None:
        addresses, channel = _addresses(request), _channel_asked(request)
        redis, shards, address = self._store.redis, self._store.shards, addresses.first
        app, manages = request.principal.app, _manages(request)
        try:
            gone = await opt_outs.drop(redis, shards, address, channel, app=app, manages=manages)
        except NotTheirsError:
            raise _not_yours() from None
        for name, one in gone.items():
            await self._note(request, "optout.drop", one.scope, name)
        await request.respond(204)

    async def _respond(
        self, request: Request, addresses: Addresses, kept: KeptOptOuts, channel: str | None
    ) -> None:
        view = view_of(addresses, kept, request.principal.app, channel)
        await request.respond(200, to_json(view))

    async def _note(self, request: Request, action: str, scope: str, channel: str) -> None:
        detail = f"{scope} on {channel}" if channel else scope
        deed = Deed(self._now_ms(), request.principal.named, action, detail=detail)
        await audit.note(self._store.redis, deed)


def view_of(
    addresses: Addresses, kept: KeptOptOuts, app: str, channel: str | None = None
) -> OptOutView:
    """The opt-outs of an address as an app sees them; with `channel` that one."""
    views = {name: _one(opt_out, app) for name, opt_out in kept.items()}
    shown = views.pop(channel or EVERY_CHANNEL, None)
    return OptOutView(
        channel=channel or msgspec.UNSET,
        channels=msgspec.UNSET if channel else views,
        scope=shown.scope if shown else None,
        by=shown.by if shown else None,
        at=shown.at if shown else None,
        reason=shown.reason if shown else None,
        **addresses.named(),
    )


def _one(kept: KeptOptOut, app: str) -> OneOptOut:
    origin = kept.origin
    return OneOptOut(
        scope=kept.scope,
        by=None if origin is None else origin.app or "person",
        at=rfc3339(origin.at_ms) if origin is not None and origin.at_ms else None,
        reason=origin.why or None if origin is not None and origin.app in (app, PERSON) else None,
    )


def _manages(request: Request) -> bool:
    return "manage" in request.principal.scopes


def _channel_asked(request: Request) -> str | None:
    """The channel in the query; None: it has none. Raises Refusal."""
    asked = [value for _, value in read_parameters(request.query, PARAMETERS_MAX, keep_blank=True)]
    if not asked:
        return None
    if len(asked) > 1 or asked[0] not in CHANNELS:
        raise refuse("query", f"`channel` cannot be that: give it once. {CHANNEL_RULE}")
    return asked[0]


def _not_yours() -> Refusal:
    return refuse(
        "forbidden",
        "The person or another app set this opt-out: taking it back needs the scope `manage`.",
    )


def _addresses(request: Request) -> Addresses:
    """The phone or e-mail address in the path. Raises Refusal."""
    found = read_one(request.parameters["address"])
    if isinstance(found, list):
        raise Refusal(invalid([RequestFault("/address", fault.detail) for fault in found]))
    return found.addresses
