"""The items of a JSON array in a body, each as it stands, so that one fault stays its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.ingress.api.json_array import split_array
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def is_array(body: bytes) -> bool:
    """Whether it begins as one."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def array_items(body: bytes, most: int, what: str, hint: str = "") -> Sequence[bytes | msgspec.Raw]:
    """The items, of which there may be so many; `what` is one of them. Raises Refusal."""
    items: Sequence[bytes | msgspec.Raw] | None
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
