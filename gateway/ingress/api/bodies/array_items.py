"""The items of a JSON array in a body, each as it stands and with an answer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from typing import Protocol

import msgspec

from gateway.ingress.api.bodies.json_array import DamagedArray, split_array
from gateway.ingress.api.bodies.turns import LoopTurns
from gateway.ingress.http.asgi import NOT_JSON, to_json
from gateway.ingress.http.problems import Problem, Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request

Items = Sequence[bytes | msgspec.Raw]


class ItemResult(Protocol):
    """What one item came to; `index` in an array's answer."""

    index: int | msgspec.UnsetType
    error: Problem | msgspec.UnsetType


COUNTED_BYTES_MAX = 1024 * 1024  # of an array whose items are counted where they are too many

_NONE = msgspec.Raw()
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def is_array(body: bytes) -> bool:
    """Whether it begins as one."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


async def answer_each(
    request: Request,
    body_bytes_max: int,
    most: int,
    what: str,
    decide: Callable[[str, Items], Awaitable[Sequence[ItemResult]]],
) -> None:
    """Answers with what one item came to, or each of an array of at most so many, in order;
    `decide` is given the app. Raises Refusal, also where the one item failed."""
    body = await request.body(body_bytes_max)
    app = request.principal.app
    if not is_array(body):
        (result,) = await decide(app, [body])
        if isinstance(result.error, Problem):
            raise Refusal(result.error)
        await request.respond(200, to_json(result))
        return
    results = await decide(app, await array_items(body, most, what))
    for index, result in enumerate(results):
        result.index = index
    await request.respond(200, to_json(results))


async def array_items(body: bytes, most: int, what: str, hint: str = "") -> Items:
    """The items, of which there may be so many; `what` is one of them. Raises Refusal."""
    items: Items
    try:
        items = _split(body) if len(body) <= COUNTED_BYTES_MAX else _at_most(most).of(body)
    except msgspec.ValidationError:
        raise _too_many(most, "more", what, hint) from None
    except NOT_JSON as error:
        items = []
        try:
            for found in split_array(body):
                items += found
                if len(items) > most:
                    raise _too_many(most, "more", what, hint) from None
                await asyncio.sleep(0)
        except DamagedArray:
            raise refuse("malformed", f"This is not a JSON array in UTF-8: {error}.") from None
    if len(items) > most:
        raise _too_many(most, str(len(items)), what, hint)
    if not items:
        raise Refusal(invalid([RequestFault("", f"The array is empty: give 1 {what} at least.")]))
    return items


async def in_turns(items: Items) -> AsyncIterator[bytes]:
    """Each item as it stands, and others have their turns in between."""
    turns = LoopTurns()
    for item in items:
        await turns.give()
        yield bytes(item)


def _too_many(most: int, has: str, what: str, hint: str) -> Refusal:
    return refuse(
        "too-large", f"An array may have {most} {what}s, this one has {has}: split it{hint}."
    )


class _AtMost:
    """Cuts an array, and stops at the first item too many: it is read as a Struct of so many
    fields. As a list, 16 MiB of `{},` took 0.4 s and 200 MB (2026-11-30)."""

    def __init__(self, most: int) -> None:
        fields = [(f"i{number}", msgspec.Raw, _NONE) for number in range(most)]
        kind = msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(kind).decode

    def of(self, body: bytes) -> list[msgspec.Raw]:
        """Raises msgspec.ValidationError of more."""
        return [each for each in msgspec.structs.astuple(self._decode(body)) if each is not _NONE]


_at_most = cache(_AtMost)
