"""`PUT`, `GET` and `DELETE /v1/optouts/{phone}`: who does not want to be sent anything.

Owns the reading of the calls only. An opt-out counts for every app, from the next request on and
for every message whose step has not started; that is admission's and the cascade's work.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.core import phones
from gateway.core.phones import Phone, PhoneError
from gateway.ingress.api.decoder import read_keys
from gateway.ingress.http.asgi import NOT_JSON, media_type, read_body, to_json
from gateway.ingress.http.auth import Authority
from gateway.ingress.http.problems import Fault, Refusal, invalid, refuse
from gateway.store import reads
from gateway.store.store import Store

BODY_BYTES_MAX = 4_096


class OptOutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person does not want."""

    scope: Annotated[Literal["marketing", "all"], msgspec.Meta(description="marketing or all.")]


class OptOutView(msgspec.Struct, frozen=True):
    """A person's opt-out."""

    phone: str
    scope: Literal["marketing", "all"]


_decode = msgspec.json.Decoder().decode


class OptOutEndpoints:
    """Answers for opt-outs, by phone."""

    def __init__(self, store: Store, authority: Authority) -> None:
        self._store = store
        self._authority = authority

    async def put_opt_out(self, request: Request) -> Response:
        phone = await self._phone(request)
        if media_type(request.scope) != "application/json":
            raise refuse("media-type", "Send application/json.")
        body = await read_body(request.scope, request.receive, BODY_BYTES_MAX)
        wanted = _read(body)
        await reads.set_opt_out(self._store, phone.digits, wanted.scope)
        return _answer(phone, wanted.scope)

    async def get_opt_out(self, request: Request) -> Response:
        phone = await self._phone(request)
        scope = await reads.opt_out(self._store, phone.digits)
        if scope is None:
            raise refuse("not-found", "This person has not opted out of anything.")
        return _answer(phone, scope)

    async def delete_opt_out(self, request: Request) -> Response:
        phone = await self._phone(request)
        await reads.drop_opt_out(self._store, phone.digits)
        return Response(status_code=204)

    async def _phone(self, request: Request) -> Phone:
        await self._authority.require(request.scope["headers"], "send")
        try:
            return phones.parse(request.path_params["phone"])
        except PhoneError as error:
            raise Refusal(invalid([Fault("/phone", str(error))])) from None


def _read(body: bytes) -> OptOutRequest:
    try:
        table = _decode(body)
    except NOT_JSON as error:
        raise refuse("malformed", f"This is not JSON in UTF-8: {error}.") from None
    if not isinstance(table, dict):
        raise Refusal(invalid([Fault("", 'Send an object such as {"scope": "marketing"}.')]))
    values, faults = read_keys(OptOutRequest, table)
    if faults:
        raise Refusal(invalid(faults))
    return OptOutRequest(**values)


def _answer(phone: Phone, scope: Literal["marketing", "all"]) -> Response:
    return Response(to_json(OptOutView(phone.e164, scope)), media_type="application/json")
