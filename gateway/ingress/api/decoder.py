"""How the faults of a request are told: JSON pointers (RFC 6901), and sentences that say the rule.

The rule is the one that stands at the key's type, so the OpenAPI document has the same words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from gateway.decoding import Collector, rule_of
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse

StructT = TypeVar("StructT", bound=msgspec.Struct)

POINTER_KEY_MAX = 64  # characters of an unknown key that are repeated to the caller

_decode = msgspec.json.Decoder().decode


class JsonWords:
    """An object with a fault in it is left out: what it means cannot be judged."""

    keeps_faulty = False

    def at(self, path: str, key: str | int) -> str:
        shown = str(key)[:POINTER_KEY_MAX].replace("~", "~0").replace("/", "~1")
        return f"{path}/{shown}"

    def unknown(self, key: str, known: Collection[str], owner: str) -> str:  # noqa: ARG002
        return f"Unknown key; there are: {', '.join(known)}."

    def missing(self, kind: Any) -> str:
        return f"Required: {rule_of(kind)}"

    def wrong(self, kind: Any, raw: Any, reason: str) -> str:  # noqa: ARG002 - may be personal
        return f"{reason}. {rule_of(kind)}".rstrip()

    def no_choice(self, raw: str, known: Collection[str]) -> str:  # noqa: ARG002
        return f"Use one of: {', '.join(known)}."


def read_object(kind: type[StructT], body: bytes, example: str) -> StructT:
    """A body that is one small JSON object. Raises Refusal with every fault; `example` is shown to
    whoever sends something else."""
    try:
        table = _decode(body)
    except NOT_JSON as error:
        raise refuse("malformed", f"This is not JSON in UTF-8: {error}.") from None
    if not isinstance(table, dict):
        raise Refusal(invalid([RequestFault("", f"Send an object such as {example}.")]))
    values, faults = read_keys(kind, table)
    if faults:
        raise Refusal(invalid(faults))
    return kind(**values)


def read_keys(
    kind: type[msgspec.Struct], table: Mapping[str, Any]
) -> tuple[dict[str, Any], list[RequestFault]]:
    """The keys that can be read, each as its field's type, and a fault for every other."""
    collector = Collector(JsonWords())
    values = collector.read_keys(kind, table)
    return values, [RequestFault(fault.key, fault.reason) for fault in collector.faults]
