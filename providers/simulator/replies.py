"""An HTTP answer as a value, shared by the provider's endpoints and the control endpoints."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Reply(NamedTuple):
    """`outcome` is what the request counts as, where that is not its status."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"
    outcome: str = ""


def json_reply(status: int, shape: object) -> Reply:
    return Reply(status, msgspec.json.encode(shape))
