"""`PUT`, `GET` and `DELETE /v1/optouts/{phone}`: who does not want to be sent anything.

An opt-out counts for every app, from the next request on and for every message whose step has not
started. A number that cannot exist and a body that is none are Refusals that name the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from gateway.core import phones
from gateway.core.phones import Phone, PhoneError
from gateway.ingress.api.decoder import read_object
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store import audit, reads
from gateway.store.audit import Deed
from gateway.store.store import Store

BODY_BYTES_MAX = 4_096
EXAMPLE = '{"scope": "marketing"}'


class OptOutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person does not want."""

    scope: Annotated[Literal["marketing", "all"], msgspec.Meta(description="marketing or all.")]


class OptOutView(msgspec.Struct, frozen=True):
    """A person's opt-out."""

    phone: str
    scope: Literal["marketing", "all"]


class OptOutEndpoints:
    """Answers for opt-outs, by phone. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def put(self, request: Request) -> None:
        phone = _phone(request)
        if request.media_type != "application/json":
            raise refuse("media-type", "Send application/json.")
        wanted = read_object(OptOutRequest, await request.body(BODY_BYTES_MAX), EXAMPLE)
        await reads.set_opt_out(self._store, phone.digits, wanted.scope)
        await self._note(request, "optout.set", wanted.scope)
        await request.respond(200, to_json(OptOutView(phone.e164, wanted.scope)))

    async def get(self, request: Request) -> None:
        phone = _phone(request)
        scope = await reads.opt_out(self._store, phone.digits)
        if scope is None:
            raise refuse("not-found", "This person has not opted out of anything.")
        await request.respond(200, to_json(OptOutView(phone.e164, scope)))

    async def delete(self, request: Request) -> None:
        await reads.drop_opt_out(self._store, _phone(request).digits)
        await self._note(request, "optout.drop")
        await request.respond(204)

    async def _note(self, request: Request, action: str, detail: str = "") -> None:
        """In the audit, which has no numbers."""
        deed = Deed(self._now_ms(), request.principal.named, action, detail=detail)
        await audit.note(self._store.redis, deed)


def _phone(request: Request) -> Phone:
    """The number in the address. Raises Refusal."""
    try:
        return phones.parse(request.parameters["phone"])
    except PhoneError as error:
        raise Refusal(invalid([RequestFault("/phone", str(error))])) from None
