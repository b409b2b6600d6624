"""The `/_sim` endpoints: knobs, bill, clicks, keys, browsers, stats, reset and flush, for tests,
the demo and benchmarks.

They need no key and meet no faults, or an outage could not be ended. Faults of a caller are problem
documents (RFC 9457) with the key that is wrong; nothing is changed then.
"""

from __future__ import annotations

from typing import Final

import msgspec

from providers.simulator.browsers import subscribed
from providers.simulator.knobs import KnobFault, changed, explained
from providers.simulator.mail.sendgrid import verification_key
from providers.simulator.replies import Reply, json_reply
from providers.simulator.runtime import Runtime

PREFIX: Final = "/_sim/"

Query = dict[str, list[str]]


async def answer(
    runtime: Runtime, method: str, path: str, query: Query, body: bytes, *, too_long: bool
) -> Reply:
    """Answers one control request."""
    if too_long:
        return _problem(413, "The body is too long.")
    match method, path:
        case "GET", "/_sim/knobs":
            if _flag(query, "explain"):
                return json_reply(200, explained(runtime.knobs))
            return json_reply(200, runtime.knobs)
        case "PUT", "/_sim/knobs":
            return _turn(runtime, body)
        case "GET", "/_sim/bill":
            return _bill(runtime, query)
        case "GET", "/_sim/clicks":
            return _clicks(runtime, query)
        case "GET", "/_sim/keys":
            return json_reply(200, {"sendgrid": verification_key(runtime.api_key)})
        case "GET", "/_sim/browsers":
            return json_reply(200, subscribed(query.get("name", ["anna"])[-1]))
        case "GET", "/_sim/stats":
            return json_reply(200, runtime.stats())
        case "POST", "/_sim/reset":
            await runtime.reset()
            return json_reply(200, runtime.knobs)
        case "POST", "/_sim/flush":
            await runtime.flush(everything=_flag(query, "all"))
            return json_reply(200, runtime.stats())
    return _problem(
        404,
        f"There is no {method} {path}: use GET or PUT knobs, GET bill, GET clicks, GET keys, "
        "GET browsers, GET stats, POST reset or POST flush.",
    )


def _turn(runtime: Runtime, body: bytes) -> Reply:
    try:
        patch = msgspec.json.decode(body)
    except msgspec.DecodeError as fault:
        return _problem(400, f"The body is not JSON: {fault}.")
    try:
        knobs = changed(runtime.knobs, patch)
    except KnobFault as fault:
        return _problem(422, fault.sentence, key=fault.key)
    runtime.turn(knobs, outage_begins="outage" in patch or "outage_ms" in patch)
    return json_reply(200, knobs)


def _bill(runtime: Runtime, query: Query) -> Reply:
    book = runtime.exchange.book
    if _flag(query, "full"):
        return json_reply(200, book.bill(limit=None))
    offset = _offset(query)
    return offset if isinstance(offset, Reply) else json_reply(200, book.bill(offset=offset))


def _clicks(runtime: Runtime, query: Query) -> Reply:
    offset = _offset(query)
    if isinstance(offset, Reply):
        return offset
    return json_reply(200, runtime.exchange.book.clicks(offset))


def _offset(query: Query) -> int | Reply:
    offset = query.get("offset", ["0"])[-1]
    if not offset.isdecimal():
        return _problem(422, "Write the next_offset of the page before.", key="offset")
    return int(offset)


def _flag(query: Query, name: str) -> bool:
    return query.get(name, ["0"])[-1] not in ("", "0", "false")


def _problem(status: int, detail: str, *, key: str = "") -> Reply:
    shape: dict[str, object] = {"type": "about:blank", "status": status, "detail": detail}
    if key:
        shape["key"] = key
    return Reply(status, msgspec.json.encode(shape), content_type=b"application/problem+json")
