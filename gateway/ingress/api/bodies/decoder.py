"""An object of a request is read, and its faults are told: JSON pointers (RFC 6901), and sentences
that say the rule.

The rule is the one that stands at the key's type, so the OpenAPI document has the same words. The
types are called what JSON calls them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Set
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

import msgspec

from gateway.core.views.words import epoch_ms
from gateway.decoding import Collector, bare, choices_of, fields_of, rule_of
from gateway.ingress.api.bodies import repeated_keys
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import (
    FAULTS_MAX,
    Problem,
    Refusal,
    RequestFault,
    invalid,
    problem,
    refuse,
)
from gateway.ingress.http.request import Request

StructT = TypeVar("StructT", bound=msgspec.Struct)
Prepare = Callable[[dict[str, Any]], dict[str, Any]]

MOMENT_RULE = "A moment in RFC 3339 with its offset, such as 2026-11-21T10:00:00Z."
Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True, description=MOMENT_RULE)]
# Of one object, such as a message, which is read in one go: one of 2 MiB with all its faults in
# 0.1 s, one of 16 MiB in 14 s (2026-11-30).
OBJECT_BYTES_MAX = 2 * 1024 * 1024
KEYS_TWICE = "It has keys that are given more than once: give each once."
REASON_CHARS_MAX = 300  # of what is wrong with a value, which may say all of it
REASON_SHOWN = 100  # ... of one that is longer
POINTER_KEY_MAX = 64  # characters of an unknown key that are repeated to the caller

_JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_types = re.compile(r"`([^`]*)`").sub
_type = re.compile(rf"\b({'|'.join(_JSON_TYPES)})\b").sub
_decode = msgspec.json.Decoder().decode
# Escapes in JSON; the group is half of a surrogate pair without the other half.
_escapes = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL
).finditer


class JsonWords:
    def at(self, path: str, key: str | int) -> str:
        shown = str(key)[:POINTER_KEY_MAX].replace("~", "~0").replace("/", "~1")
        return f"{path}/{shown}"

    def unknown(self, key: str, known: Collection[str], owner: str) -> str:  # noqa: ARG002
        return f"Unknown key; there are: {', '.join(known)}."

    def missing(self, kind: Any) -> str:
        rule = _rule_of(kind)
        return f"Required: {rule}" if rule else "Required."

    def wrong(self, kind: Any, raw: Any, reason: str) -> str:  # noqa: ARG002 - may be personal
        if bare(kind) is datetime.datetime:
            return " ".join(dict.fromkeys([MOMENT_RULE, _rule_of(kind)])).rstrip()
        if len(reason) > REASON_CHARS_MAX:
            reason = f"{reason[:REASON_SHOWN]}…'"
        return f"{_types(_in_json, reason)}. {_rule_of(kind)}".rstrip()

    def no_choice(self, raw: str, known: Collection[str]) -> str:  # noqa: ARG002
        return f"Use one of: {', '.join(known)}."


def _rule_of(kind: Any) -> str:
    """With the words there are, where it does not name them."""
    rule, choices = rule_of(kind), choices_of(kind)
    if all(choice in rule for choice in choices):
        return rule
    return f"{rule} One of: {', '.join(choices)}.".lstrip()


def require_json(request: Request) -> None:
    """Raises Refusal of a body that is said to be something else."""
    if request.media_type != "application/json":
        raise refuse("media-type", "Send application/json.")


def read_object(kind: type[StructT], body: bytes, example: str, code: str = "invalid") -> StructT:
    """A body that is one small JSON object. Raises Refusal with every fault, as a problem of that
    code; `example` is shown to whoever sends something else."""
    return read_given(kind, body, example, code)[0]


def read_given(
    kind: type[StructT],
    body: bytes,
    example: str,
    code: str = "invalid",
    prepare: Prepare | None = None,
) -> tuple[StructT, Set[str]]:
    """The same, and which keys it gives; `prepare` makes of the JSON what is read."""
    found = _read(kind, body, example, code, prepare)
    if isinstance(found, Problem):
        raise Refusal(found)
    return kind(**found.values), found.values.keys()


def read_item(
    kind: type[StructT], raw: bytes, example: str, code: str = "invalid"
) -> StructT | Problem:
    """The same of one item among others: what is wrong with it is a problem of its own."""
    found = _read(kind, raw, example, code)
    return found if isinstance(found, Problem) else kind(**found.values)


def _read(
    kind: type[msgspec.Struct],
    raw: bytes,
    example: str,
    code: str,
    prepare: Prepare | None = None,
) -> ReadKeys | Problem:
    long = too_long(raw)
    if long is not None:
        return long
    try:
        found = read_keys(kind, raw, example, prepare)
    except NOT_JSON as error:
        return problem("malformed", not_json(raw, error))
    return invalid(found.faults, found.total, code) if found.faults else found


def too_long(raw: bytes) -> Problem | None:
    """Why an object is not read at all."""
    if len(raw) <= OBJECT_BYTES_MAX:
        return None
    told = f"One object may have {OBJECT_BYTES_MAX} bytes, this one has {len(raw)}: shorten it."
    return problem("too-large", told)


def moment_ms(at: datetime.datetime | None) -> int:
    """A moment as the core keeps it; 0: none was named, or one before 1970."""
    return max(epoch_ms(at), 0) if at is not None else 0


def not_json(raw: bytes, error: Exception) -> str:
    """What is wrong with it, for its sender: `error` is one of NOT_JSON."""
    if isinstance(error, RecursionError):
        return "The JSON is nested too deeply."
    half = next((each[1] for each in _escapes(raw) if each[1]), None)
    if half is not None:
        shown = half.decode(errors="replace")
        return (
            f"A text holds \\{shown}, half of a surrogate pair, without the other half: it was cut "
            "within a character, such as an emoji."
        )
    return f"This is not JSON in UTF-8: {error}."


class ReadKeys(NamedTuple):
    """What could be read of an object, by the name of its field and as its type, and what is wrong
    with the rest: the first faults, and how many there are. Of the keys in `unread` at least a part
    could not be read, or they are missing."""

    values: dict[str, Any]
    faults: list[RequestFault]
    total: int
    unread: frozenset[str] = frozenset()


def read_keys(
    kind: type[msgspec.Struct], raw: bytes, example: str, prepare: Prepare | None = None
) -> ReadKeys:
    """Reads JSON as a Struct, key by key. Raises what NOT_JSON names for what is none."""
    table = _decode(raw)
    if not isinstance(table, dict):
        return ReadKeys({}, [RequestFault("", f"Send an object such as {example}.")], 1)
    for field in fields_of(kind):
        value = table.get(field.encode_name)
        if not isinstance(value, float) or not value.is_integer():
            continue
        kind_of = bare(field.type)
        if int in (kind_of, *get_args(kind_of)):
            table[field.encode_name] = int(value)  # to JSON 300.0 is one
    words = JsonWords()
    faults = []
    paths, repeated = repeated_keys.paths(raw, table, FAULTS_MAX)
    for path in paths:
        pointer = ""
        for step in path:
            pointer = words.at(pointer, step)
        detail = "This key is given more than once: give it once." if path else KEYS_TWICE
        faults.append(RequestFault(pointer, detail))
    collector = Collector(words, FAULTS_MAX)
    values = collector.read_keys(kind, prepare(table) if prepare is not None else table)
    faults += (RequestFault(fault.key, fault.reason) for fault in collector.faults)
    unread = {fault.pointer.split("/")[1] for fault in faults if fault.pointer}
    for field in fields_of(kind):
        if field.name not in values and (field.required or field.encode_name in table):
            unread.add(field.encode_name)
    return ReadKeys(values, faults, repeated + collector.count, frozenset(unread))


def _in_json(quoted: re.Match[str]) -> str:
    """A type as msgspec calls it, `int | null`: `integer or null`."""
    named = _type(lambda name: _JSON_TYPES[name[0]], quoted[1])
    return f"`{named.replace(' | ', ' or ')}`"
