"""The items of a JSON array in a body, each as it stands and with an answer of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from gateway.ingress.api.bodies.json_array import split_array
from gateway.ingress.http.asgi import NOT_JSON, to_json
from gateway.ingress.http.problems import Problem, Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request

Items = Sequence[bytes | msgspec.Raw]


class ItemResult(Protocol):
    """What one item came to; `index` in an array's answer."""

    index: int | msgspec.UnsetType
    error: Problem | msgspec.UnsetType


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
    results = await decide(app, array_items(body, most, what))
    for index, result in enumerate(results):
        result.index = index
    await request.respond(200, to_json(results))


def array_items(body: bytes, most: int, what: str, hint: str = "") -> Items:
    """The items, of which there may be so many; `what` is one of them. Raises Refusal."""
    items: Items | None
    try:
        items = _split(body)
    except NOT_JSON as error:
        items = split_array(body)
        if items is None:
            raise refuse("malformed", f"This is not a JSON array in UTF-8: {error}.") from None
    if len(items) > most:
        raise refuse(
            "too-large",
            f"An array may have {most} {what}s, this one has {len(items)}: split it{hint}.",
        )
    if not items:
        raise Refusal(invalid([RequestFault("", f"The array is empty: give 1 {what} at least.")]))
    return items
