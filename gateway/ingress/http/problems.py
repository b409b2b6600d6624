"""What a client is told when it does not get what it asked for: RFC 9457 problem documents.

A kind's `type` is the place on our /docs page that explains it. No exception text of ours ever
becomes a `detail` unless it was written for the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

# What a client is told to wait when something we need is unavailable, and when a lane is too full:
# lanes empty more slowly than Redis restarts.
RETRY_AFTER_S = 2
AGAIN_SOON = (b"retry-after", b"%d" % RETRY_AFTER_S)
BACKLOG_RETRY_AFTER_S = 5
MEMORY_RETRY_AFTER_S = 30  # memory is freed as messages end
DRAINING_RETRY_AFTER_S = 30  # operators are people
FAULTS_MAX = 20  # of one request are told; beyond them their number


class RequestFault(msgspec.Struct, frozen=True):
    """One thing to repair in a request: `pointer` names the key (RFC 6901), "" the whole of it."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The document (RFC 9457). `errors` are at most 20; where there are more, `errors_total` is
    their number."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[RequestFault, ...] | msgspec.UnsetType = msgspec.UNSET
    errors_total: int | msgspec.UnsetType = msgspec.UNSET
    incident: str | msgspec.UnsetType = msgspec.UNSET


class ProblemKind(NamedTuple):
    """What a client can be told, and what it does then."""

    status: int
    title: str
    advice: str


# The code is the anchor on /docs and never changes.
KINDS: dict[str, ProblemKind] = {
    "malformed": ProblemKind(
        400,
        "The request cannot be read",
        "Send UTF-8 JSON, or NDJSON with one object a line, and the endpoint's headers.",
    ),
    "query": ProblemKind(
        400,
        "The address asks for something that cannot be",
        "Correct the parameter that `detail` names; it lists those there are.",
    ),
    "unauthorized": ProblemKind(
        401,
        "A valid API key is needed",
        "Send `Authorization: Bearer KEY` with a key that is neither revoked nor expired.",
    ),
    "forbidden": ProblemKind(
        403,
        "The API key may not do this",
        "Use a key with the scope that `detail` names, or ask whoever makes the keys.",
    ),
    "not-found": ProblemKind(
        404,
        "There is no such thing",
        "Check the address and the id. A message is kept for a month; only its own app sees it.",
    ),
    "method-not-allowed": ProblemKind(
        405,
        "This address does not take this method",
        "Use a method that the header `Allow` names.",
    ),
    "timeout": ProblemKind(
        408,
        "The request did not arrive in time",
        "Send the whole request at once, or faster; nothing of it was taken.",
    ),
    "final": ProblemKind(
        409,
        "What is there now does not allow it",
        "`detail` says what is there. Where a message is final nothing is left to do: read how it "
        "ended.",
    ),
    "too-large": ProblemKind(
        413,
        "The request is too large",
        "Send fewer or shorter messages in one request, or a stream, which has any length.",
    ),
    "media-type": ProblemKind(
        415,
        "This content type is not taken",
        "Set `Content-Type` to one that the endpoint takes.",
    ),
    "invalid": ProblemKind(
        422,
        "The request is not valid",
        "Correct what `errors` names, by its `pointer`. Sent again as it is, it fails again.",
    ),
    "idempotency-conflict": ProblemKind(
        422,
        "The idempotency key was used with another body",
        "Use a new key for another message; keep a key for the repetition of its own.",
    ),
    "backlog": ProblemKind(
        429,
        "Too many messages are waiting",
        "Wait as long as `Retry-After` says and send it again, with its `Idempotency-Key`.",
    ),
    "rate": ProblemKind(
        429,
        "The app sends more than its rate",
        "Wait as long as `Retry-After` says, and send more slowly than `rate` allows.",
    ),
    "day-max": ProblemKind(
        429,
        "The app's messages of the day are used up",
        "Send it again on the next day (UTC), or ask for a higher `day_max`.",
    ),
    "headers-too-large": ProblemKind(
        431,
        "The headers are too large",
        "Send fewer or shorter headers.",
    ),
    "internal": ProblemKind(
        500,
        "Something went wrong on our side",
        "Send it again later with its `Idempotency-Key`. Name the `incident` when you ask.",
    ),
    "draining": ProblemKind(
        503,
        "Kaskad takes no new messages for now",
        "Wait as long as `Retry-After` says and send it again, with its `Idempotency-Key`.",
    ),
    "memory": ProblemKind(
        503,
        "The store is nearly full",
        "Wait as long as `Retry-After` says and send it again. Marketing is refused first.",
    ),
    "unavailable": ProblemKind(
        503,
        "Kaskad cannot take this now",
        "Wait as long as `Retry-After` says and send it again, with its `Idempotency-Key`.",
    ),
}
RETRY_AFTER = {
    "unavailable": RETRY_AFTER_S,
    "backlog": BACKLOG_RETRY_AFTER_S,
    "memory": MEMORY_RETRY_AFTER_S,
    "draining": DRAINING_RETRY_AFTER_S,
}


def problem(code: str, detail: str) -> Problem:
    """A problem of one of KINDS."""
    kind = KINDS[code]
    return Problem(type=f"/docs#{code}", title=kind.title, status=kind.status, detail=detail)


def invalid(errors: Sequence[RequestFault], total: int = 0, code: str = "invalid") -> Problem:
    """Everything that is wrong with one request; `total`: how much that is, beside what `errors`
    has of it."""
    total = max(total, len(errors))
    first = errors[0]
    more = ""
    if total > FAULTS_MAX:
        more = f" ({total} faults in all, the first {FAULTS_MAX} in errors)"
    elif total > 1:
        more = f" ({total - 1} more in errors)"
    place = f"{first.pointer}: " if first.pointer else ""
    return msgspec.structs.replace(
        problem(code, f"{place}{first.detail}{more}"),
        errors=tuple(errors[:FAULTS_MAX]),
        errors_total=total if total > FAULTS_MAX else msgspec.UNSET,
    )


class Refusal(Exception):
    """Ends a request with a problem; raised by the parts of an endpoint, answered by the app."""

    def __init__(
        self, refusal: Problem, headers: Sequence[tuple[bytes, bytes]] = (), retry_after_s: int = 0
    ) -> None:
        super().__init__(refusal.detail)
        self.problem = refusal
        self.code = refusal.type.rpartition("#")[2]
        seconds = retry_after_s or RETRY_AFTER.get(self.code, 0)
        retry = [(b"retry-after", b"%d" % seconds)] if seconds else []
        self.headers = [*headers, *retry]


def refuse(code: str, detail: str, *headers: tuple[bytes, bytes]) -> Refusal:
    """A Refusal of one of KINDS, to be raised."""
    return Refusal(problem(code, detail), headers)


def unavailable() -> Refusal:
    """Redis is unavailable. Where and why is the operator's business and stands in the log."""
    return refuse(
        "unavailable",
        "The store is unavailable. Nothing was lost: send the same request again, with the same "
        "Idempotency-Key if it had one.",
    )
