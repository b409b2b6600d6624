"""`PUT`, `GET` and `DELETE /v1/optouts/{address}`: who does not want to be sent anything.

An opt-out counts for every app, from the next request on and for every message whose step has not
started. One that the person or another app set is theirs: taking it back or narrowing it needs the
scope `manage`. An address that cannot exist and a body that is none are Refusals that name the
fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from gateway.core.addresses import Addresses, OneAddress, read_one
from gateway.ingress.api.decoder import read_object
from gateway.ingress.api.results import Time
from gateway.ingress.http.asgi import rfc3339, to_json
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store import audit, opt_outs
from gateway.store.audit import Deed
from gateway.store.opt_outs import KeptOptOut, Origin
from gateway.store.store import Store

BODY_BYTES_MAX = 4_096
EXAMPLE = '{"scope": "marketing"}'
REASON_MAX = 200

OptOutScope = Literal["marketing", "all"]


class OptOutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person does not want."""

    scope: Annotated[OptOutScope, msgspec.Meta(description="marketing or all.")]
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


class OptOutView(OneAddress, frozen=True, kw_only=True):
    """A person's opt-out. `by`: the app that set it, "person" where that was
    the person, null where it was not kept. An app sees its own reasons."""

    scope: OptOutScope
    by: str | None
    at: Time | None
    reason: str | None


class OptOutEndpoints:
    """Answers for opt-outs, by address. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def put(self, request: Request) -> None:
        addresses = _addresses(request)
        if request.media_type != "application/json":
            raise refuse("media-type", "Send application/json.")
        wanted = read_object(OptOutRequest, await request.body(BODY_BYTES_MAX), EXAMPLE)
        kept = await self._find(addresses)
        own = Origin(request.principal.app, self._now_ms(), wanted.reason or "")
        if kept is None or _may_change(kept, request.principal):
            await self._put(request, addresses, wanted.scope, own)
            kept = KeptOptOut(wanted.scope, own)
        elif kept.scope != "all" and wanted.scope == "all":
            # It stays theirs, and is as wide as asked for now.
            origin = kept.origin or Origin()
            await self._put(request, addresses, wanted.scope, origin)
            kept = KeptOptOut(wanted.scope, origin)
        elif kept.scope != wanted.scope:
            raise _not_yours()
        await request.respond(200, to_json(view_of(addresses, kept, request.principal.app)))

    async def get(self, request: Request) -> None:
        addresses = _addresses(request)
        kept = await self._find(addresses)
        if kept is None:
            raise refuse("not-found", "This person has not opted out of anything.")
        await request.respond(200, to_json(view_of(addresses, kept, request.principal.app)))

    async def delete(self, request: Request) -> None:
        addresses = _addresses(request)
        kept = await self._find(addresses)
        if kept is not None:
            if not _may_change(kept, request.principal):
                raise _not_yours()
            await opt_outs.drop(self._store.redis, self._store.shards, addresses.first)
            await self._note(request, "optout.drop", kept.scope)
        await request.respond(204)

    async def _find(self, addresses: Addresses) -> KeptOptOut | None:
        return await opt_outs.find(self._store.redis, self._store.shards, addresses.first)

    async def _put(
        self, request: Request, addresses: Addresses, scope: OptOutScope, origin: Origin
    ) -> None:
        redis, shards = self._store.redis, self._store.shards
        await opt_outs.put(redis, shards, addresses.first, scope, origin)
        await self._note(request, "optout.set", scope)

    async def _note(self, request: Request, action: str, detail: str) -> None:
        deed = Deed(self._now_ms(), request.principal.named, action, detail=detail)
        await self._store.redis.call([audit.command(deed, of_app=True)])


def view_of(addresses: Addresses, kept: KeptOptOut, app: str) -> OptOutView:
    """The opt-out of an address as an app sees it."""
    origin = kept.origin
    return OptOutView(
        scope=kept.scope,
        by=None if origin is None else origin.app or "person",
        at=rfc3339(origin.at_ms) if origin is not None and origin.at_ms else None,
        reason=origin.why or None if origin is not None and origin.app == app else None,
        **addresses.named(),
    )


def _may_change(kept: KeptOptOut, principal: Principal) -> bool:
    """Whether the app may take an opt-out back or narrow it. Whose it is was not kept always."""
    own = kept.origin is None or kept.origin.app == principal.app
    return own or "manage" in principal.scopes


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
