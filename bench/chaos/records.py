"""What Redis holds, read without the product: keys by their documented names, records as a byte of
schema and a map.

The short names of the fields are those of the records' definitions; a record of another schema is a
BenchFailed. It judges nothing.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import redis

from bench.processes import BenchFailed

PAGE = 1_000
# Of one form: a message that had something reserved of a budget is of the second, and one with
# parts that cost without their text of the third.
SCHEMAS = (3, 5, 6)
FINAL_FROM = 2  # a message's statuses: queued 0, sent 1, then those that may be final
STATUSES = (
    "queued", "sent", "delivered", "seen", "undelivered", "suppressed", "expired", "cancelled",
    "clicked",
)  # fmt: skip
STEP_SENDING, STEP_UNKNOWN, STEP_SKIPPED, STEP_DELIVERED = 10, 30, 38, 50


class Step(NamedTuple):
    provider: str
    channel: str
    status: int
    attempts: int
    look_ups: int  # since its answer was lost last
    lost: int
    sent_ms: int
    charged: int
    leg: int = 0
    billed: int | None = None
    skipped: str = ""  # why
    ids: tuple[str, ...] = ()  # that its providers gave it, as far as they are known


class Record(NamedTuple):
    """One message. `final`: no further step can start, and nothing of it is waited for; `counted`:
    its declared campaign counts it."""

    id: str
    to: str
    category: str
    created_ms: int
    steps: list[Step]
    status: int
    due_ms: int
    billed: int
    delivered_step: int
    user: str | None
    campaign: str | None
    content: bytes
    person: str | None
    route: str
    reason: str | None
    final: bool
    reaction: int
    counted: bool


class Booked(NamedTuple):
    """The ledger added up: by measure, billed by message, how often each was billed, and which were
    delivered after they had been given up."""

    sums: Counter[str]
    billed: Counter[str]
    times: Counter[str]
    revived: set[str]
    entries: int


def message(id_: str, blob: bytes) -> Record:
    fields = decode(blob)
    return Record(
        id_,
        fields["t"]["p"],
        fields["c"],
        fields["b"],
        [_step(step) for step in fields["s"]],
        fields.get("z", 0),
        fields.get("d", 0),
        fields.get("l", 0),
        fields.get("v", -1),
        fields.get("u"),
        fields.get("g"),
        fields.get("n", b""),
        fields.get("p"),
        fields["r"],
        fields.get("o"),
        fields.get("e", False) and not fields.get("d", 0) and fields.get("z", 0) >= FINAL_FROM,
        fields.get("R", 0),
        fields.get("D", False),
    )


def _step(fields: dict[str, Any]) -> Step:
    attempts = fields.get("a", [])
    last = attempts[-1] if attempts else {}
    return Step(
        fields["o"][max(fields.get("h", -1), 0)]["p"],
        fields["c"],
        fields.get("s", 0),
        sum(a.get("n", 0) - a.get("b", 0) for a in attempts),
        last.get("q", 0),
        last.get("l", 0),
        last.get("w", 0),
        sum(a.get("c", 0) + a.get("g", 0) for a in attempts),
        fields.get("l", 0),
        fields.get("b"),
        fields["f"]["c"] if fields.get("s") == STEP_SKIPPED else "",
        tuple(id_ for a in attempts for id_ in ([a["i"]] if "i" in a else []) + a.get("x", [])),
    )


def decode(blob: bytes) -> dict[str, Any]:
    """The map of any record."""
    if blob[0] not in SCHEMAS:
        raise BenchFailed(f"A record has schema {blob[0]}, the bench reads {SCHEMAS}.")
    fields: dict[str, Any] = msgspec.msgpack.decode(blob[1:])
    return fields


def keys_by_kind(client: redis.Redis) -> dict[str, list[bytes]]:
    """All keys of the installation: kind (the letters after the hash tag) -> keys."""
    kinds: dict[str, list[bytes]] = {}
    for key in client.scan_iter(count=PAGE):
        name = key.decode()
        tag, _, rest = name.partition("}")
        kind = f"{tag}}}" if tag == "{kaskad" else rest.partition(":")[0]
        if tag.startswith(("{limit:", "{pace:")):
            kind = tag[1:].partition(":")[0]
        kinds.setdefault(kind, []).append(key)
    return kinds


def values(client: redis.Redis, keys: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """Key (without its tag and kind) and value of every string; what lapsed meanwhile is left
    out."""
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        for key, value in zip(page, client.mget(page), strict=True):
            if value is not None:
                yield key.decode().partition("}")[2].partition(":")[2], value


def ledger(client: redis.Redis) -> Booked:
    """Adds the whole ledger up."""
    booked = Booked(Counter(), Counter(), Counter(), set(), client.xlen("{k0}ledger"))
    after = "-"
    while page := client.xrange("{k0}ledger", after, "+", PAGE):
        for _, fields in page:
            for post in decode(inflated(fields[b"d"]))["p"]:
                _add(booked, post["m"], post.get("i"))
        after = "(" + page[-1][0].decode()
    return booked


def inflated(entry: bytes) -> bytes:
    """A stream entry's record: larger ones are kept deflated."""
    return zlib.decompress(entry) if entry.startswith(b"\x78") else entry


def _add(booked: Booked, measures: dict[str, int], message_id: str | None) -> None:
    booked.sums.update(measures)
    if message_id is not None:
        booked.billed[message_id] += measures.get("billed", 0)
        booked.times[message_id] += "billed" in measures
        if measures.get("undelivered", 0) < 0:
            booked.revived.add(message_id)


def counted(client: redis.Redis, campaign: str) -> dict[str, int]:
    """What a declared campaign counts, by state."""
    found = client.hgetall("{k0}counts:" + campaign)
    return {state.decode(): int(count) for state, count in found.items() if int(count)}


def left(client: redis.Redis) -> dict[str, int]:
    """What must be empty once everything is over: how much is still there, by name."""
    found: dict[str, int] = {}
    for key in client.scan_iter("{k0}lane:*"):
        name = key.decode().partition("}")[2]
        found[name] = client.xlen(key)
        pending = sum(group["pending"] for group in client.xinfo_groups(key))
        found[f"{name} pending"] = pending
    for kind in ("timers", "parked"):
        found[kind] = client.zcard("{k0}" + kind)
    for key in client.scan_iter("{k0}held:*"):
        found[key.decode().partition("}")[2]] = client.zcard(key)
    found["sync"] = client.scard("{k0}sync")
    return {name: count for name, count in found.items() if count}
